//! The registry of detached processes: the running ones, and the last ones that ended, for a while.

use super::{Detached, Ending, Reader, Shared, drive};
use crate::{Process, history::History};
use distillery_core::{
    auth::{Caller, Owner, Who},
    call::Outcome,
    drain::Drain,
    size::Size,
    stream::Ring,
};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Bounds of what the registry keeps.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Time that a process is kept after its end.
    pub time: Duration,
    /// Maximum output of each of the two streams of a process.
    pub output: Size,
    /// Maximum number of ended processes.
    pub processes: usize,
}

pub struct Registry {
    bounds: Bounds,
    history: Arc<History>,
    drain: Drain,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    all: HashMap<Uuid, Arc<Detached>>,
    /// Ended processes, the oldest end first.
    ended: VecDeque<(Instant, Arc<Detached>)>,
}

impl Registry {
    pub fn new(bounds: Bounds, history: Arc<History>, drain: Drain) -> Self {
        Self { bounds, history, drain, state: Mutex::default(), changed: Notify::new() }
    }

    /// Drives a process that `caller` has just started. Its output is raw, and the returned view applies back-pressure
    /// until it is dropped. Calls `ended` when the process has ended.
    pub fn keep(
        self: &Arc<Self>,
        process: Process,
        caller: &Caller,
        ended: impl FnOnce(&Process, &Outcome) + Send + 'static,
    ) -> Reader {
        let control = process.control().clone();
        let begun = self.history.begun(control.id).expect("a process is in the history from its beginning on");
        let ring = || Ring::new(self.bounds.output.as_usize());
        let detached = Arc::new(Detached {
            control,
            begun,
            owner: Owner::new(caller),
            who: caller.who(),
            started: process.started(),
            shared: Mutex::new(Shared {
                rings: [ring(), ring()],
                waited: 0,
                ended: None,
                views: HashMap::new(),
                next_view: 0,
                holder: None,
            }),
            driver: AtomicWaker::new(),
        });
        let view = detached.holding_view();
        self.state.lock().all.insert(detached.id(), detached.clone());
        let (registry, busy, draining) = (self.clone(), self.drain.busy(), self.drain.signal());
        tokio::spawn(async move {
            let _busy = busy;
            drive(process, &detached, draining, ended).await;
            registry.note_end(detached);
        });
        view
    }

    /// Returns a token that is cancelled when the server accepts no new work.
    pub fn draining(&self) -> CancellationToken {
        self.drain.signal()
    }

    pub fn get(&self, id: Uuid) -> Option<Arc<Detached>> {
        self.state.lock().all.get(&id).cloned()
    }

    /// Returns the processes that pass `may`.
    pub fn all(&self, may: impl Fn(&Detached) -> bool) -> Vec<Arc<Detached>> {
        self.state.lock().all.values().filter(|detached| may(detached)).cloned().collect()
    }

    fn note_end(&self, detached: Arc<Detached>) {
        let mut state = self.state.lock();
        state.ended.push_back((Instant::now(), detached));
        while state.ended.len() > self.bounds.processes {
            state.forget_one();
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Forgets expired processes until the server accepts no new work. After that, no client can ask for them.
    pub async fn expire(self: Arc<Self>) {
        let draining = self.drain.retired();
        loop {
            let next = self.forget_old(Instant::now());
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified(), if next.is_none() => {}
                () = draining.cancelled() => return,
            }
        }
    }

    /// Forgets expired processes, and returns when the next one expires.
    fn forget_old(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        loop {
            let due = state.ended.front()?.0 + self.bounds.time;
            if due > now {
                return Some(due);
            }
            state.forget(0);
        }
    }
}

impl State {
    fn forget(&mut self, at: usize) {
        if let Some((_, detached)) = self.ended.remove(at) {
            self.all.remove(&detached.id());
        }
    }

    /// Forgets the oldest process of the caller with the most, so that no caller can displace those of others.
    fn forget_one(&mut self) {
        let mut counts: HashMap<&Who, usize> = HashMap::new();
        for (_, detached) in &self.ended {
            *counts.entry(&detached.who).or_default() += 1;
        }
        let most = counts.values().copied().max();
        let at = self.ended.iter().position(|(_, detached)| counts.get(&detached.who).copied() == most);
        self.forget(at.unwrap_or_default());
    }
}

impl Ending {
    /// Returns the outcome in one word.
    pub fn word(&self) -> &'static str {
        if self.outcome.is_success() { "success" } else { self.outcome.kind() }
    }
}
