//! The threads for guests that compute: as many as there are processors, with a lower priority than those that serve
//! sockets. The guests take turns there.

use crate::runtime::{End, Guest};
use parking_lot::Mutex;
use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// How long a guest computes before the next one has its turn.
const TURN: Duration = Duration::from_millis(1);
/// A guest goes back to its socket when it waits after it computed at most this much.
const CALM: Duration = Duration::from_micros(300);
/// ... and at the earliest this long after it came, so that none goes back and forth all the time.
const STAY: Duration = Duration::from_millis(20);
/// How much nicer than sockets these threads are; ten steps are about a tenth of the share of a busy processor.
const NICE: i32 = 10;

pub struct ComputeThreads {
    runtime: Option<Runtime>,
}

/// A guest that is on the compute threads, as its owner sees it.
pub struct Away(Arc<Place>);

/// How a guest comes back.
pub enum Returned {
    /// It waits, and has not computed much.
    Calm(Guest),
    Ended(End),
}

struct Place {
    guest: Mutex<Option<Guest>>,
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
            .thread_name("guests")
            .enable_all()
            .on_thread_start(lower_priority)
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Goes on with `guest` here, and wakes `owner` when it comes back.
    pub fn take_over(&self, guest: Guest, owner: &Context<'_>) -> Away {
        let place = Arc::new(Place {
            guest: Mutex::new(Some(guest)),
            returned: Mutex::new(Returns { returned: None, owner: Some(owner.waker().clone()) }),
        });
        let came = Instant::now();
        let working = place.clone();
        self.runtime().spawn(poll_fn(move |cx| working.work(came, cx)));
        Away(place)
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

impl Place {
    fn work(&self, came: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut guest) = self.guest.try_lock() else {
            // Its owner is taking it away.
            return Poll::Ready(());
        };
        let Some(returned) = turn(&mut guest, came, cx) else {
            let Some(control) = guest.as_ref().map(|guest| guest.control().clone()) else {
                return Poll::Ready(());
            };
            drop(guest);
            // Whoever killed it while it had its turn could not drop it, and counts on this look.
            return if control.is_killed() { self.end_killed() } else { Poll::Pending };
        };
        drop(guest);
        self.give_back(returned)
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

/// Gives the guest its turn; nothing when it stays.
fn turn(place: &mut Option<Guest>, came: Instant, cx: &mut Context<'_>) -> Option<Returned> {
    let guest = place.as_mut()?;
    let control = guest.control().clone();
    let before = control.cpu();
    match guest.poll(TURN, cx) {
        Poll::Ready(end) => {
            *place = None;
            Some(Returned::Ended(end))
        }
        Poll::Pending => {
            let computes = control.used_its_turn() || control.cpu() - before > CALM;
            if computes || came.elapsed() < STAY || control.is_killed() {
                return None;
            }
            place.take().map(Returned::Calm)
        }
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

    /// Drops the guest unless it is computing at this moment. Says whether it would have gone on computing, rather
    /// than wait.
    pub fn drop_if_idle(&mut self) -> Option<bool> {
        let mut place = self.0.guest.try_lock()?;
        let guest = place.take()?;
        drop(place);
        let computing = guest.control().used_its_turn();
        drop(guest);
        Some(computing)
    }
}

fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "the threads that run guests keep the priority of the others");
    }
}
