//! How many processes run at once, and who waits for a place.
//!
//! A place is one of the server's, of its plugin's and of its caller's. A call for which one of the three is missing
//! waits in one queue with all others; a place that is given back goes to the first in the queue that now finds all
//! three, so that a plugin or a caller that is full holds up nobody else. Plugins are counted by name, over all
//! generations.

use crate::{auth::Who, call::Full};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::oneshot;

/// What bounds the number of processes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub processes: u32,
    /// How many of them one caller may have. As many of its calls may wait.
    pub per_caller: Option<u32>,
    /// How many calls wait at most.
    pub queue: usize,
    /// How long each of them waits at most.
    pub queue_time: Duration,
}

pub struct Admission {
    shared: Arc<Shared>,
}

struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: u32,
    by_plugin: HashMap<Arc<str>, u32>,
    /// Counted only where there is a bound for it.
    by_caller: HashMap<Who, u32>,
    waiting_by_caller: HashMap<Who, u32>,
    /// By ticket: who came first is first.
    queue: BTreeMap<u64, Waiting>,
    next_ticket: u64,
}

/// Who wants to run a process of what.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub caller: Who,
    pub plugin: Arc<str>,
    /// How many processes the plugin may have, where it has a number of its own.
    pub most_of_plugin: Option<u32>,
}

struct Waiting {
    wanted: Wanted,
    give: oneshot::Sender<Place>,
}

/// The right to run one process, given back when dropped.
pub struct Place {
    shared: Arc<Shared>,
    caller: Who,
    plugin: Arc<str>,
}

/// What a call finds that wants to run.
pub enum Asked {
    Admitted(Place),
    /// It may wait.
    Wait(Turn),
    /// It may not, as something is full.
    Full(Full),
}

/// A place in the queue, left when dropped. It becomes a [`Place`] when there is one.
pub struct Turn {
    shared: Arc<Shared>,
    wanted: Wanted,
    ticket: u64,
    given: oneshot::Receiver<Place>,
}

impl Admission {
    pub fn new(bounds: Bounds) -> Self {
        Self { shared: Arc::new(Shared { bounds, state: Mutex::default() }) }
    }

    pub fn queue_time(&self) -> Duration {
        self.shared.bounds.queue_time
    }

    /// How many processes have a place.
    pub fn running(&self) -> u32 {
        self.shared.state.lock().running
    }

    /// How many there can be.
    pub fn most(&self) -> u32 {
        self.shared.bounds.processes
    }

    /// How many calls wait for one.
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().queue.len()
    }

    /// Asks for a place on the server, among those of the plugin, and among those of the caller.
    pub fn ask(&self, wanted: Wanted) -> Asked {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let Some(full) = shared.full(&state, &wanted) else {
            return Asked::Admitted(shared.take(&mut state, &wanted));
        };
        if shared.bounds.queue_time.is_zero() || state.queue.len() >= shared.bounds.queue {
            return Asked::Full(full);
        }
        if let Some(most) = shared.bounds.per_caller {
            let waiting = state.waiting_by_caller.entry(wanted.caller.clone()).or_default();
            if *waiting >= most {
                return Asked::Full(Full::Caller);
            }
            *waiting += 1;
        }
        let (give, given) = oneshot::channel();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queue.insert(ticket, Waiting { wanted: wanted.clone(), give });
        Asked::Wait(Turn { shared: shared.clone(), wanted, ticket, given })
    }
}

impl Shared {
    /// What has no place for `wanted` now.
    fn full(&self, state: &State, wanted: &Wanted) -> Option<Full> {
        let reached =
            |most: Option<u32>, now: Option<&u32>| most.is_some_and(|most| now.is_some_and(|now| *now >= most));
        if state.running >= self.bounds.processes {
            Some(Full::Server)
        } else if reached(wanted.most_of_plugin, state.by_plugin.get(&wanted.plugin)) {
            Some(Full::Plugin)
        } else if reached(self.bounds.per_caller, state.by_caller.get(&wanted.caller)) {
            Some(Full::Caller)
        } else {
            None
        }
    }

    fn take(self: &Arc<Self>, state: &mut State, wanted: &Wanted) -> Place {
        state.running += 1;
        *state.by_plugin.entry(wanted.plugin.clone()).or_default() += 1;
        if self.bounds.per_caller.is_some() {
            *state.by_caller.entry(wanted.caller.clone()).or_default() += 1;
        }
        Place { shared: self.clone(), caller: wanted.caller.clone(), plugin: wanted.plugin.clone() }
    }

    /// Takes a call out of the queue, if it is still in there.
    fn leave(&self, state: &mut State, ticket: u64) -> Option<Waiting> {
        let waiting = state.queue.remove(&ticket)?;
        count_down(&mut state.waiting_by_caller, &waiting.wanted.caller);
        Some(waiting)
    }

    /// Gives places to those that wait, as far as there are any.
    fn give(self: &Arc<Self>, state: &mut State) {
        while state.running < self.bounds.processes {
            let next = state.queue.iter().find(|(_, waiting)| self.full(state, &waiting.wanted).is_none());
            let Some(ticket) = next.map(|(ticket, _)| *ticket) else { return };
            let waiting = self.leave(state, ticket).expect("it was found in the queue");
            let place = self.take(state, &waiting.wanted);
            // Whoever gives up its turn leaves the queue first, under this lock: it is still there.
            let given = waiting.give.send(place);
            debug_assert!(given.is_ok(), "the turn is there as long as its ticket is in the queue");
        }
    }
}

fn count_down<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Turn {
    /// What has no place for the call now; the server itself if it has one again.
    pub fn full(&self) -> Full {
        self.shared.full(&self.shared.state.lock(), &self.wanted).unwrap_or(Full::Server)
    }
}

impl Turn {
    /// How many calls are before this one in the queue, and itself. It may go past some that wait for something else.
    pub fn position(&self) -> usize {
        self.shared.state.lock().queue.range(..=self.ticket).count()
    }
}

impl Future for Turn {
    type Output = Place;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Place> {
        Pin::new(&mut self.given).poll(cx).map(|given| given.expect("a turn is polled while it is in the queue"))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let waiting = self.shared.leave(&mut self.shared.state.lock(), self.ticket);
        drop(waiting);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.running -= 1;
        count_down(&mut state.by_plugin, &self.plugin);
        count_down(&mut state.by_caller, &self.caller);
        self.shared.give(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(processes: u32, per_caller: Option<u32>, queue: usize) -> Admission {
        Admission::new(Bounds { processes, per_caller, queue, queue_time: Duration::from_secs(5) })
    }

    fn wanted(caller: &str, plugin: &str, most_of_plugin: Option<u32>) -> Wanted {
        let caller = Who::User(crate::principal::Principal::Forwarded(caller.into()));
        Wanted { caller, plugin: plugin.into(), most_of_plugin }
    }

    fn admitted(asked: Asked) -> Place {
        let Asked::Admitted(place) = asked else { panic!("there is no place") };
        place
    }

    fn waits(asked: Asked) -> Turn {
        let Asked::Wait(turn) = asked else { panic!("it does not wait") };
        turn
    }

    fn full(asked: Asked) -> Full {
        let Asked::Full(full) = asked else { panic!("nothing is full") };
        full
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_goes_to_who_waits() {
        let admission = admission(1, None, 1);
        let any = || admission.ask(wanted("a", "x", None));
        let place = admitted(any());
        let turn = waits(any());
        assert_eq!(full(any()), Full::Server);
        drop(place);
        let place = turn.await;
        assert_eq!(admission.running(), 1);
        drop(place);
        assert_eq!(admission.running(), 0);
    }

    #[tokio::test]
    async fn whoever_leaves_the_queue_makes_room_in_it() {
        let admission = admission(1, None, 1);
        let any = || admission.ask(wanted("a", "x", None));
        let place = admitted(any());
        drop(waits(any()));
        let turn = waits(any());
        drop(place);
        // It has been given a place that it never took.
        drop(turn);
        assert_eq!(admission.running(), 0);
        let at_once = Admission::new(Bounds { processes: 0, per_caller: None, queue: 1, queue_time: Duration::ZERO });
        assert_eq!(full(at_once.ask(wanted("a", "x", None))), Full::Server);
    }

    #[tokio::test]
    async fn a_full_plugin_keeps_no_other_from_running() {
        let admission = admission(2, None, 8);
        let first = admitted(admission.ask(wanted("a", "x", Some(1))));
        let second = waits(admission.ask(wanted("a", "x", Some(1))));
        assert_eq!((second.full(), second.position()), (Full::Plugin, 1));
        let other = admitted(admission.ask(wanted("a", "y", None)));
        assert_eq!(second.full(), Full::Server);
        let third = waits(admission.ask(wanted("a", "y", None)));
        assert_eq!(third.position(), 2);
        drop(other);
        // The place goes past the one of the full plugin, which came earlier.
        drop(third.await);
        drop(first);
        drop(second.await);
        assert_eq!(admission.running(), 0);
        assert!(admission.shared.state.lock().by_plugin.is_empty());
    }

    #[tokio::test]
    async fn a_caller_has_its_number_of_processes_and_as_many_that_wait() {
        let admission = admission(8, Some(2), 8);
        let ask = |caller| admission.ask(wanted(caller, "x", None));
        let running = [admitted(ask("a")), admitted(ask("a"))];
        let waiting = [waits(ask("a")), waits(ask("a"))];
        assert_eq!(waiting[0].full(), Full::Caller);
        assert_eq!(full(ask("a")), Full::Caller);
        let other = admitted(ask("b"));
        drop(running);
        for turn in waiting {
            drop(turn.await);
        }
        drop(other);
        let state = admission.shared.state.lock();
        assert!(state.by_caller.is_empty() && state.waiting_by_caller.is_empty() && state.queue.is_empty());
    }
}
