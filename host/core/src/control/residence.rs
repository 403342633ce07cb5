//! The class of threads that a guest runs on, and the class that it needs next.
//!
//! A guest asks for other threads from within a host call ([`Residence::reach`]). The side that polls the guest checks
//! [`Residence::wanted`] after each turn and moves the guest.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::SeqCst},
    task::Poll,
};

/// A class of threads, by how long a guest can hold one of them at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThreadClass {
    /// Threads that serve sockets: a fraction of a millisecond.
    Sockets,
    /// Threads for guests that compute: as long as one instruction takes, such as a large `memory.fill`.
    Compute,
    /// Threads for guests that work on files: as long as a disk takes.
    Files,
}

impl ThreadClass {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Sockets,
            1 => Self::Compute,
            _ => Self::Files,
        }
    }
}

#[derive(Debug, Default)]
pub struct Residence {
    now: AtomicU8,
    wanted: AtomicU8,
    /// Single instructions of the guest can take long: it never runs on socket threads again.
    heavy: AtomicBool,
    /// The guest can have files open.
    has_files: AtomicBool,
    /// The guest is in a system call on a file.
    in_file_call: AtomicBool,
    /// The number of the guest among those of the process: the one that cleans up is the second.
    guest: AtomicU32,
}

impl Residence {
    /// Notes that the guest begins a turn on a thread of `class`.
    pub fn begin_turn(&self, class: ThreadClass) {
        self.now.store(class as u8, Relaxed);
        self.wanted.store(ThreadClass::Sockets as u8, Relaxed);
    }

    /// Returns the lowest class of threads that the guest can continue on.
    pub fn wanted(&self) -> ThreadClass {
        let least = if self.is_heavy() { ThreadClass::Compute } else { ThreadClass::Sockets };
        ThreadClass::of(self.wanted.load(Relaxed)).max(least)
    }

    /// Returns whether the turn that just ended did so because the guest needs other threads.
    pub fn has_to_move(&self) -> bool {
        self.wanted() > ThreadClass::of(self.now.load(Relaxed))
    }

    pub fn is_on(&self, class: ThreadClass) -> bool {
        ThreadClass::of(self.now.load(Relaxed)) >= class
    }

    /// Asks for threads of `class` without waiting for them.
    pub fn want(&self, class: ThreadClass) {
        self.wanted.fetch_max(class as u8, Relaxed);
    }

    /// Waits, within a turn of the guest, until the guest runs on threads of at least `class`.
    pub async fn reach(&self, class: ThreadClass) {
        poll_fn(|cx| {
            if self.is_on(class) {
                return Poll::Ready(());
            }
            self.want(class);
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    pub fn is_heavy(&self) -> bool {
        self.heavy.load(Relaxed)
    }

    pub fn note_heavy(&self) {
        self.heavy.store(true, Relaxed);
    }

    /// Returns whether the guest can have files open, which can take long to close.
    pub fn has_files(&self) -> bool {
        self.has_files.load(Relaxed)
    }

    /// Returns the number of the guest that runs now.
    pub fn guest(&self) -> u32 {
        self.guest.load(SeqCst)
    }

    /// Hands the process to the next guest. The previous one is gone, or stays behind in a system call.
    pub fn next_guest(&self) {
        self.guest.fetch_add(1, SeqCst);
        self.in_file_call.store(false, SeqCst);
        self.heavy.store(false, SeqCst);
        self.has_files.store(false, SeqCst);
    }

    pub fn note_file_call(&self, guest: u32, begins: bool) {
        if self.guest() == guest {
            self.has_files.store(true, Relaxed);
            self.in_file_call.store(begins, SeqCst);
        }
    }

    /// Returns whether the guest is in a system call on a file, which nothing can interrupt.
    pub fn is_in_file_call(&self) -> bool {
        self.in_file_call.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    #[test]
    fn guest_waits_for_the_threads_that_it_needs() {
        let residence = Residence::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut reaching = pin!(residence.reach(ThreadClass::Compute));
        residence.begin_turn(ThreadClass::Sockets);
        assert!(reaching.as_mut().poll(&mut cx).is_pending());
        assert!(residence.has_to_move());
        assert_eq!(residence.wanted(), ThreadClass::Compute);
        residence.begin_turn(ThreadClass::Files);
        assert!(reaching.as_mut().poll(&mut cx).is_ready());
        assert!(!residence.has_to_move());
    }

    #[test]
    fn heavy_guest_stays_away_from_the_sockets() {
        let residence = Residence::default();
        residence.begin_turn(ThreadClass::Compute);
        assert_eq!(residence.wanted(), ThreadClass::Sockets);
        residence.note_heavy();
        assert_eq!(residence.wanted(), ThreadClass::Compute);
        residence.next_guest();
        assert_eq!(residence.wanted(), ThreadClass::Sockets);
    }

    #[test]
    fn guest_left_behind_changes_nothing_for_the_next() {
        let residence = Residence::default();
        residence.note_file_call(0, true);
        assert!(residence.is_in_file_call());
        residence.next_guest();
        assert!(!residence.is_in_file_call());
        residence.note_file_call(1, true);
        residence.note_file_call(0, false);
        assert!(residence.is_in_file_call());
    }
}
