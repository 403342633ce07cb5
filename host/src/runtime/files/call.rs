//! A system call on a file. It can take as long as the disk takes, so that it is made on the threads for that
//! ([`ThreadClass::Files`]). Its time on the processor is part of the guest's turn.

use crate::{
    control::{Control, ThreadClass},
    runtime::state::State,
};
use std::{future::pending, sync::Arc};

/// A guest that works on files.
#[derive(Clone)]
pub struct Worker {
    control: Arc<Control>,
    /// Its number among the guests of the process.
    guest: u32,
}

/// From before the system call until after it.
struct Underway<'a>(&'a Worker);

impl Worker {
    pub fn new(control: &Arc<Control>) -> Self {
        Self { control: control.clone(), guest: control.residence.guest() }
    }

    /// Calls `call` on a file thread. Whether the guest is stopped meanwhile is looked at before and after it: the guest gets
    /// no further then.
    pub async fn file_call<T>(&self, call: impl Future<Output = T>) -> T {
        self.control.residence.reach(ThreadClass::Files).await;
        let underway = Underway::begin(self);
        self.stay_if_over().await;
        let done = call.await;
        drop(underway);
        self.stay_if_over().await;
        done
    }

    /// Calls `call` if the guest is on a file thread. If not, the guest goes there after its turn.
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

impl State {
    pub fn worker(&self) -> Worker {
        Worker { control: self.control.clone(), guest: self.guest }
    }
}
