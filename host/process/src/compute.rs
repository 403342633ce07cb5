//! Threads for guests that compute, one for each processor, and threads for guests that work on files. The guests take
//! turns there. All have a lower priority than the threads that serve sockets.
//!
//! A guest goes to a file thread for each turn in which it works on a file. A slow disk then delays no guest that
//! computes, and CPU time for files counts as CPU time of the guest. If the guest is stopped while the disk does not
//! answer, it is abandoned: its process ends, and the thread drops the guest when the disk has answered.

use distillery_core::control::{Control, ThreadClass};
use distillery_runtime::{End, Guest};
use parking_lot::Mutex;
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::runtime::{Handle, Runtime};

/// The turn of a guest, after which the next one computes.
const TURN: Duration = Duration::from_millis(1);
/// A guest that waits goes back to its socket if its last turn computed at most this much.
const CALM: Duration = Duration::from_micros(300);
/// The shortest stay of a guest here, so that it does not move to and fro all the time.
const STAY: Duration = Duration::from_millis(20);
/// The nice value of these threads; ten steps are about a tenth of the share of a busy processor.
const NICE: i32 = 10;

/// Maximum number of guests that work on files at once. The others wait for a thread.
const FILE_THREADS: usize = 32;

pub struct ComputeThreads {
    runtime: Option<Runtime>,
}

/// The owner's handle of a guest on the compute threads.
pub struct Away(Arc<Permit>);

/// The return of a guest to its owner.
pub enum Returned {
    /// The guest waits, and has not computed much.
    Calm(Guest),
    Ended(End),
}

struct Permit {
    guest: Mutex<Option<Guest>>,
    control: Arc<Control>,
    threads: Handle,
    came: Instant,
    /// A file thread has the guest, or will have it soon.
    on_file_thread: AtomicBool,
    /// The process has ended without its guest.
    abandoned: AtomicBool,
    returned: Mutex<Returns>,
}

#[derive(Default)]
struct Returns {
    returned: Option<Returned>,
    owner: Option<Waker>,
}

impl ComputeThreads {
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(FILE_THREADS)
            .thread_name("guests")
            .enable_all()
            .on_thread_start(lower_priority)
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs `guest` here, and wakes `owner` when it comes back.
    pub fn take_over(&self, guest: Guest, owner: &Context<'_>) -> Away {
        let permit = Arc::new(Permit {
            control: guest.control().clone(),
            guest: Mutex::new(Some(guest)),
            threads: self.runtime().handle().clone(),
            came: Instant::now(),
            on_file_thread: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            returned: Mutex::new(Returns { returned: None, owner: Some(owner.waker().clone()) }),
        });
        let working = permit.clone();
        self.runtime().spawn(poll_fn(move |cx| working.work(cx)));
        Away(permit)
    }

    /// Drops a guest whose owner serves a socket.
    pub fn discard(&self, guest: Guest) {
        discard_by(self.runtime().handle(), guest);
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken only when dropped")
    }
}

impl Drop for ComputeThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Permit {
    fn work(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.on_file_thread.load(SeqCst) {
            // The file thread wakes this task when the turn is over.
            return Poll::Pending;
        }
        let Some(mut guest) = self.guest.try_lock() else {
            // Its owner is taking it away.
            return Poll::Ready(());
        };
        if guest.is_none() {
            return Poll::Ready(());
        }
        if self.control.residence.wanted() == ThreadClass::Files && !self.abandoned.load(SeqCst) {
            drop(guest);
            self.on_file_thread.store(true, SeqCst);
            let (permit, waker) = (self.clone(), cx.waker().clone());
            self.threads.spawn_blocking(move || permit.work_on_files(waker));
            return Poll::Pending;
        }
        let returned = self.turn(&mut guest, ThreadClass::Compute, cx);
        let is_here = guest.is_some();
        drop(guest);
        match returned {
            Some(returned) => self.give_back(returned),
            None if !is_here => Poll::Ready(()),
            // The thread that killed the guest during its turn could not drop it, and relies on this check.
            None if self.control.is_killed() => self.end_killed(),
            None => Poll::Pending,
        }
    }

    /// Gives the guest a turn on a file thread: the current thread.
    fn work_on_files(&self, task: Waker) {
        let mut guest = self.guest.lock();
        let returned = self.turn(&mut guest, ThreadClass::Files, &mut Context::from_waker(&task));
        drop(guest);
        if let Some(returned) = returned {
            _ = self.give_back(returned);
        }
        self.on_file_thread.store(false, SeqCst);
        task.wake();
    }

    /// Gives the guest its turn. `None` if the guest stays.
    fn turn(&self, permit: &mut Option<Guest>, class: ThreadClass, cx: &mut Context<'_>) -> Option<Returned> {
        let before = self.control.cpu();
        let polled = match self.abandoned.load(SeqCst) {
            false => permit.as_mut()?.poll(TURN, class, cx),
            true => Poll::Pending,
        };
        if self.abandoned.load(SeqCst) {
            *permit = None;
            return None;
        }
        match polled {
            Poll::Ready(end) => {
                *permit = None;
                Some(Returned::Ended(end))
            }
            Poll::Pending => {
                let computes = self.control.used_its_turn() || self.control.cpu() - before > CALM;
                let stays = self.control.residence.wanted() > ThreadClass::Sockets || self.control.is_killed();
                if computes || stays || self.came.elapsed() < STAY {
                    return None;
                }
                permit.take().map(Returned::Calm)
            }
        }
    }

    fn end_killed(&self) -> Poll<()> {
        match self.guest.lock().take() {
            Some(guest) => {
                let end = if guest.control().used_its_turn() { End::Interrupted } else { End::Dropped };
                drop(guest);
                self.give_back(Returned::Ended(end))
            }
            None => Poll::Ready(()),
        }
    }

    fn give_back(&self, returned: Returned) -> Poll<()> {
        let mut returns = self.returned.lock();
        returns.returned = Some(returned);
        let owner = returns.owner.take();
        drop(returns);
        if let Some(owner) = owner {
            owner.wake();
        }
        Poll::Ready(())
    }
}

impl Away {
    pub fn poll_returned(&mut self, cx: &Context<'_>) -> Poll<Returned> {
        let mut returns = self.0.returned.lock();
        match returns.returned.take() {
            Some(returned) => Poll::Ready(returned),
            None => {
                match &mut returns.owner {
                    Some(waker) => waker.clone_from(cx.waker()),
                    owner => *owner = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Drops the guest unless it is computing at this moment. Abandons it if it waits for a disk.
    ///
    /// Returns whether the guest would have continued to compute rather than wait. `None` if the guest is not dropped.
    pub fn drop_if_idle(&mut self) -> Option<bool> {
        let permit = &self.0;
        let Some(mut guest) = permit.guest.try_lock() else {
            if !permit.control.residence.is_in_file_call() {
                return None;
            }
            permit.abandoned.store(true, SeqCst);
            return Some(false);
        };
        let taken = guest.take()?;
        drop(guest);
        let computing = permit.control.used_its_turn();
        discard_by(&permit.threads, taken);
        Some(computing)
    }
}

/// Drops a guest. Releasing much memory takes long, and closing a file can take as long as a disk.
fn discard_by(threads: &Handle, guest: Guest) {
    let residence = &guest.control().residence;
    if residence.has_files() {
        drop(threads.spawn_blocking(move || drop(guest)));
    } else if residence.is_heavy() {
        drop(threads.spawn(async move { drop(guest) }));
    }
}

fn lower_priority() {
    if let Err(error) = crate::platform::lower_priority_of_thread(NICE) {
        tracing::warn!(%error, "cannot lower the priority of the threads that run guests");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distillery_core::limits::Limits;
    use distillery_runtime::testing::{guest, guest_of, works_on_files};
    use std::sync::mpsc;

    /// Reports the thread that drops it.
    struct Dropped(mpsc::Sender<&'static str>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            _ = self.0.send("dropped");
        }
    }

    fn owner() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn abandoned_guest_gets_no_further() {
        let threads = ComputeThreads::start(1).unwrap();
        let control = Arc::new(Control::new(&Limits::default()));
        let (disk, answers) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let running = {
            let (control, dropped) = (control.clone(), Dropped(tell.clone()));
            async move {
                let _dropped = dropped;
                let waits = tell.clone();
                works_on_files(&control, move || {
                    waits.send("waits").unwrap();
                    _ = answers.recv();
                })
                .await;
                tell.send("went on").unwrap();
                End::Exited(0)
            }
        };
        let mut away = threads.take_over(guest(running, control.clone()), &owner());
        assert_eq!(told.recv().unwrap(), "waits");
        control.kill();
        assert_eq!(away.drop_if_idle(), Some(false));
        // A fresh guest cleans up meanwhile.
        control.begin_cleanup();
        drop(away);
        disk.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), "dropped");
    }

    #[test]
    fn file_work_counts_as_time_of_the_guest() {
        let threads = ComputeThreads::start(1).unwrap();
        let control = Arc::new(Control::new(&Limits::default()));
        let (tell, told) = mpsc::channel();
        let running = {
            let control = control.clone();
            async move {
                works_on_files(&control, || {
                    let began = std::time::Instant::now();
                    while began.elapsed() < Duration::from_millis(50) {
                        std::hint::spin_loop();
                    }
                    tell.send(control.residence.is_on(ThreadClass::Files)).unwrap();
                })
                .await;
                End::Exited(0)
            }
        };
        let mut guest = guest(running, control.clone());
        assert!(guest.poll(TURN, ThreadClass::Sockets, &mut owner()).is_pending());
        assert!(control.residence.has_to_move());
        let mut away = threads.take_over(guest, &owner());
        assert!(told.recv().unwrap());
        let returned = loop {
            match away.poll_returned(&owner()) {
                Poll::Ready(returned) => break returned,
                Poll::Pending => std::thread::yield_now(),
            }
        };
        assert!(matches!(returned, Returned::Ended(End::Exited(0))));
        assert!(control.cpu() > Duration::ZERO);
    }

    #[test]
    fn guest_with_much_memory_leaves_the_sockets_first() {
        for (memory, grown, leaves) in [(80, 0, true), (1, 100, true), (1, 10, false), (60, 0, false)] {
            let control = Arc::new(Control::new(&Limits::default()));
            let code = format!(
                "(module (memory (export \"memory\") {memory})
                   (func (export \"_start\") (drop (memory.grow (i32.const {grown})))
                     (memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 65536)))))"
            );
            let mut guest = guest_of(&code, control.clone());
            let polled = guest.poll(Duration::from_secs(9), ThreadClass::Sockets, &mut owner());
            assert_eq!(polled.is_pending(), leaves, "{memory} {grown}");
            assert_eq!(control.residence.has_to_move(), leaves, "{memory} {grown}");
            if leaves {
                let polled = guest.poll(Duration::from_secs(9), ThreadClass::Compute, &mut owner());
                assert_eq!(polled, Poll::Ready(End::Exited(0)));
                assert_eq!(control.residence.wanted(), ThreadClass::Compute);
            }
        }
    }

    #[test]
    fn guest_with_large_tables_leaves_the_sockets() {
        let control = Arc::new(Control::new(&Limits::default()));
        let code = "(module (memory (export \"memory\") 1) (table 1 funcref)
            (func (export \"_start\") (drop (table.grow (ref.null func) (i32.const 100000)))))";
        let mut guest = guest_of(code, control.clone());
        assert!(guest.poll(Duration::from_secs(9), ThreadClass::Sockets, &mut owner()).is_pending());
        assert!(control.residence.has_to_move());
    }
}
