//! Admission: the number of processes that run at once, and the queue for slots.
//!
//! A call needs a slot of the server, of its plugin and of its caller. A call that lacks one of the three waits in one
//! queue with all others. A released slot goes to the first call in the queue that now finds all three, so a full
//! plugin or caller delays no other. Plugins are counted by name, over all generations.

use distillery_core::{auth::Who, call::Full};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::oneshot;

/// Bounds on the number of processes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub processes: u32,
    /// Maximum number of processes of one caller. As many of its calls can wait.
    pub per_caller: Option<u32>,
    /// Maximum number of calls that wait.
    pub queue: usize,
    /// Longest wait of each call.
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
    /// Counted only if there is a bound.
    by_caller: HashMap<Who, u32>,
    waiting_by_caller: HashMap<Who, u32>,
    /// Waiting calls by ticket: first come, first served.
    queue: BTreeMap<u64, Waiting>,
    next_ticket: u64,
}

/// A request for a process slot.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub caller: Who,
    pub plugin: Arc<str>,
    /// Maximum number of processes of the plugin, if it has a bound of its own.
    pub most_of_plugin: Option<u32>,
}

struct Waiting {
    wanted: Wanted,
    give: oneshot::Sender<Permit>,
}

/// A process slot, released when dropped.
pub struct Permit {
    shared: Arc<Shared>,
    caller: Who,
    plugin: Arc<str>,
}

/// The answer to a request for a slot.
pub enum Asked {
    Admitted(Permit),
    /// The call can wait.
    Wait(Ticket),
    /// The call cannot wait, as something is full.
    Full(Full),
}

/// A ticket in the queue, which leaves the queue when dropped. It resolves to a [`Permit`] when there is one.
pub struct Ticket {
    shared: Arc<Shared>,
    wanted: Wanted,
    ticket: u64,
    given: oneshot::Receiver<Permit>,
}

impl Admission {
    pub fn new(bounds: Bounds) -> Self {
        Self { shared: Arc::new(Shared { bounds, state: Mutex::default() }) }
    }

    pub fn queue_time(&self) -> Duration {
        self.shared.bounds.queue_time
    }

    /// Returns the number of slots in use.
    pub fn running(&self) -> u32 {
        self.shared.state.lock().running
    }

    /// Returns the total number of slots.
    pub fn most(&self) -> u32 {
        self.shared.bounds.processes
    }

    /// Returns the number of calls that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().queue.len()
    }

    /// Requests a slot of the server, of the plugin and of the caller.
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
        Asked::Wait(Ticket { shared: shared.clone(), wanted, ticket, given })
    }
}

impl Shared {
    /// Returns the bound that leaves no slot for `wanted` now.
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

    fn take(self: &Arc<Self>, state: &mut State, wanted: &Wanted) -> Permit {
        state.running += 1;
        *state.by_plugin.entry(wanted.plugin.clone()).or_default() += 1;
        if self.bounds.per_caller.is_some() {
            *state.by_caller.entry(wanted.caller.clone()).or_default() += 1;
        }
        Permit { shared: self.clone(), caller: wanted.caller.clone(), plugin: wanted.plugin.clone() }
    }

    /// Removes a call from the queue, if it is still there.
    fn leave(&self, state: &mut State, ticket: u64) -> Option<Waiting> {
        let waiting = state.queue.remove(&ticket)?;
        count_down(&mut state.waiting_by_caller, &waiting.wanted.caller);
        Some(waiting)
    }

    /// Gives free slots to waiting calls.
    fn give(self: &Arc<Self>, state: &mut State) {
        while state.running < self.bounds.processes {
            let next = state.queue.iter().find(|(_, waiting)| self.full(state, &waiting.wanted).is_none());
            let Some(ticket) = next.map(|(ticket, _)| *ticket) else { return };
            let waiting = self.leave(state, ticket).expect("it was found in the queue");
            let permit = self.take(state, &waiting.wanted);
            // A dropped ticket leaves the queue first, under this lock: the receiver is still there.
            let given = waiting.give.send(permit);
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

impl Ticket {
    /// Returns the bound that leaves no slot for the call now, or the server's if a slot is free again.
    pub fn full(&self) -> Full {
        self.shared.full(&self.shared.state.lock(), &self.wanted).unwrap_or(Full::Server)
    }
}

impl Ticket {
    /// Returns the position in the queue, from 1. The call can overtake some that wait for another slot.
    pub fn position(&self) -> usize {
        self.shared.state.lock().queue.range(..=self.ticket).count()
    }
}

impl Future for Ticket {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        Pin::new(&mut self.given).poll(cx).map(|given| given.expect("a turn is polled while it is in the queue"))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let waiting = self.shared.leave(&mut self.shared.state.lock(), self.ticket);
        drop(waiting);
    }
}

impl Drop for Permit {
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
        let caller = Who::User(distillery_core::principal::Principal::Forwarded(caller.into()));
        Wanted { caller, plugin: plugin.into(), most_of_plugin }
    }

    fn admitted(asked: Asked) -> Permit {
        let Asked::Admitted(permit) = asked else { panic!("there is no place") };
        permit
    }

    fn waits(asked: Asked) -> Ticket {
        let Asked::Wait(turn) = asked else { panic!("it does not wait") };
        turn
    }

    fn full(asked: Asked) -> Full {
        let Asked::Full(full) = asked else { panic!("nothing is full") };
        full
    }

    #[tokio::test]
    async fn released_slot_goes_to_a_waiting_call() {
        let admission = admission(1, None, 1);
        let any = || admission.ask(wanted("a", "x", None));
        let permit = admitted(any());
        let turn = waits(any());
        assert_eq!(full(any()), Full::Server);
        drop(permit);
        let permit = turn.await;
        assert_eq!(admission.running(), 1);
        drop(permit);
        assert_eq!(admission.running(), 0);
    }

    #[tokio::test]
    async fn dropped_ticket_makes_room_in_the_queue() {
        let admission = admission(1, None, 1);
        let any = || admission.ask(wanted("a", "x", None));
        let permit = admitted(any());
        drop(waits(any()));
        let turn = waits(any());
        drop(permit);
        // The ticket has a slot that was never taken.
        drop(turn);
        assert_eq!(admission.running(), 0);
        let at_once = Admission::new(Bounds { processes: 0, per_caller: None, queue: 1, queue_time: Duration::ZERO });
        assert_eq!(full(at_once.ask(wanted("a", "x", None))), Full::Server);
    }

    #[tokio::test]
    async fn full_plugin_does_not_block_others() {
        let admission = admission(2, None, 8);
        let first = admitted(admission.ask(wanted("a", "x", Some(1))));
        let second = waits(admission.ask(wanted("a", "x", Some(1))));
        assert_eq!((second.full(), second.position()), (Full::Plugin, 1));
        let other = admitted(admission.ask(wanted("a", "y", None)));
        assert_eq!(second.full(), Full::Server);
        let third = waits(admission.ask(wanted("a", "y", None)));
        assert_eq!(third.position(), 2);
        drop(other);
        // The slot goes past the earlier call of the full plugin.
        drop(third.await);
        drop(first);
        drop(second.await);
        assert_eq!(admission.running(), 0);
        assert!(admission.shared.state.lock().by_plugin.is_empty());
    }

    #[tokio::test]
    async fn caller_has_a_bound_on_running_and_waiting_calls() {
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
