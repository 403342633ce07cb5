//! Calls whose question waits for an answer in another request.

use super::{answer::Collected, run::Run};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// The maximum number of calls that wait.
const CALLS: usize = 256;
/// The time for an answer. Then the call is cancelled.
const TIME: Duration = Duration::from_secs(600);

/// A call and its output so far.
pub(super) struct Call {
    pub name: String,
    /// Only this user can answer.
    pub user: String,
    pub run: Run,
    pub output: Collected,
}

/// The calls that wait, by the state that their client sends back.
#[derive(Default)]
pub(super) struct Paused(Mutex<HashMap<String, Waiting>>);

struct Waiting {
    call: Call,
    /// Removes the call when its time is over.
    _timer: AbortOnDropHandle<()>,
}

impl Paused {
    /// Keeps a call until its answer. Returns the state for the client; `None` if too many calls wait, and then the
    /// call is cancelled.
    pub fn keep(self: &Arc<Self>, call: Call) -> Option<String> {
        let mut calls = self.0.lock();
        if calls.len() >= CALLS {
            return None;
        }
        let state = Uuid::new_v4().to_string();
        let (paused, expired) = (Arc::downgrade(self), state.clone());
        let timer = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(TIME).await;
            if let Some(paused) = paused.upgrade() {
                paused.0.lock().remove(&expired);
            }
        }));
        calls.insert(state.clone(), Waiting { call, _timer: timer });
        Some(state)
    }

    /// Takes the call of this name and user that a client answers.
    pub fn take(&self, state: &str, name: &str, user: &str) -> Option<Call> {
        let mut calls = self.0.lock();
        calls.get(state).filter(|Waiting { call, .. }| call.name == name && call.user == user)?;
        calls.remove(state).map(|waiting| waiting.call)
    }
}
