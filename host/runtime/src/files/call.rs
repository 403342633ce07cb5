//! System calls on files. They can block for as long as the disk, so they run on dedicated threads
//! ([`ThreadClass::Files`]). Their processor time is part of the guest's turn.

use distillery_core::control::{Control, ThreadClass};
use std::{future::pending, sync::Arc};

/// A guest that works on files.
#[derive(Clone)]
pub struct Worker {
    control: Arc<Control>,
    /// The number of the guest within its process.
    guest: u32,
}

/// A guard for a system call in progress.
struct Underway<'a>(&'a Worker);

impl Worker {
    /// Returns the guest of this process that runs now.
    pub fn new(control: &Arc<Control>) -> Self {
        Self::of(control, control.residence.guest())
    }

    /// Returns the guest with the number `guest` of this process.
    pub fn of(control: &Arc<Control>, guest: u32) -> Self {
        Self { control: control.clone(), guest }
    }

    /// Runs `call` on a file thread. Checks before and after it whether the guest was stopped meanwhile, in which case
    /// the guest goes no further.
    pub async fn file_call<T>(&self, call: impl Future<Output = T>) -> T {
        self.control.residence.reach(ThreadClass::Files).await;
        let underway = Underway::begin(self);
        self.stay_if_over().await;
        let done = call.await;
        drop(underway);
        self.stay_if_over().await;
        done
    }

    /// Runs `call` if the guest is on a file thread. Otherwise returns `None`, and the guest moves there after its
    /// turn.
    pub fn try_file_call<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        if !self.is_on_file_thread() {
            self.control.residence.want(ThreadClass::Files);
            return None;
        }
        let _underway = Underway::begin(self);
        (!self.is_over()).then(call)
    }

    pub fn is_on_file_thread(&self) -> bool {
        self.control.residence.is_on(ThreadClass::Files)
    }

    fn is_over(&self) -> bool {
        self.control.is_over(self.guest)
    }

    async fn stay_if_over(&self) {
        if self.is_over() {
            pending::<()>().await;
        }
    }
}

impl<'a> Underway<'a> {
    fn begin(worker: &'a Worker) -> Self {
        worker.control.residence.note_file_call(worker.guest, true);
        Self(worker)
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.control.residence.note_file_call(self.0.guest, false);
    }
}
