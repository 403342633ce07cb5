//! A detached process, which outlives the connection that started it. A task of its own drives it, and its output goes
//! into rings. Any number of views read the rings, each at its own position.
//!
//! The view of the client that started it applies back-pressure: while it is behind, the guest waits, so that this
//! client loses nothing. Other views are not waited for; a slow one learns how much it lost. The module knows nothing
//! of sockets.

pub mod registry;

use crate::Process;
use bytes::{Buf, Bytes};
use distillery_core::{
    auth::{Caller, Owner, Who, may_use},
    call::{CancelReason, Outcome},
    control::Control,
    stream::{Found, Output, Ring, Stream},
    timer::poll_due,
};
use distillery_store::processes::Begun;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    future::poll_fn,
    ops::Range,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Maximum polls of a process before the task yields.
const ROUNDS: usize = 16;

pub struct Detached {
    pub control: Arc<Control>,
    pub begun: Begun,
    pub owner: Owner,
    /// The caller that the process counts for.
    who: Who,
    pub started: Instant,
    shared: Mutex<Shared>,
    driver: AtomicWaker,
}

struct Shared {
    rings: [Ring; 2],
    /// Bytes written to stdout when the guest last waited for input.
    waited: u64,
    ended: Option<Arc<Ending>>,
    views: HashMap<u64, Option<Waker>>,
    next_view: u64,
    /// The view that applies back-pressure, and its positions.
    holder: Option<(u64, [u64; 2])>,
}

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub outcome: Outcome,
    /// The value of the call, as JSON.
    pub value: Option<Box<str>>,
}

/// A reader of a process, until it is dropped.
pub struct Reader {
    detached: Arc<Detached>,
    id: u64,
    at: [u64; 2],
    /// The stream to read next, so that neither starves the other.
    turn: usize,
}

/// An item that a view reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Bytes(Stream, u64, Bytes),
    /// These bytes are no longer kept.
    Lost(Stream, Range<u64>),
    /// The view has read everything.
    Ended(Arc<Ending>),
}

impl Detached {
    pub fn id(&self) -> Uuid {
        self.control.id
    }

    /// Returns whether `caller`, with `key`, is allowed to attach to the process, write to its input, and cancel it.
    pub fn is_open_to(&self, caller: &Caller, key: Option<&str>) -> bool {
        may_use(caller, &self.owner, key)
    }

    /// Returns a view from these positions on, or from the oldest byte that is kept.
    pub fn view(self: &Arc<Self>, from: [Option<u64>; 2]) -> Reader {
        let mut shared = self.shared.lock();
        let at = [0, 1].map(|stream| {
            let Range { start, end } = shared.rings[stream].range();
            from[stream].unwrap_or(start).min(end)
        });
        shared.view(self, at)
    }

    /// Returns a view from the beginning on that applies back-pressure.
    fn holding_view(self: &Arc<Self>) -> Reader {
        let mut shared = self.shared.lock();
        let view = shared.view(self, [0, 0]);
        shared.holder = Some((view.id, view.at));
        view
    }

    /// Returns the range of bytes of a stream that are kept.
    pub fn range(&self, stream: Stream) -> Range<u64> {
        self.shared.lock().rings[stream as usize].range()
    }

    /// Reads the bytes of a stream that are kept from a position on.
    pub fn read(&self, stream: Stream, at: u64) -> Found {
        self.shared.lock().rings[stream as usize].read(at, usize::MAX)
    }

    /// Returns how the process ended. `None` until it has ended and all of its output is in the rings.
    pub fn ending(&self) -> Option<Arc<Ending>> {
        self.shared.lock().ended.clone()
    }

    /// Cancels the process, unless it has ended.
    pub fn cancel(&self, reason: CancelReason) {
        if self.ending().is_none() {
            self.control.cancel(reason);
        }
    }

    /// Moves the guest's output into the rings, as far as there is room. `waiting` holds the bytes without room.
    /// Returns whether any bytes were moved.
    fn take(&self, waiting: &mut [Bytes; 2]) -> bool {
        let mut shared = self.shared.lock();
        let mut any = false;
        for (stream, output) in self.outputs() {
            let bytes = &mut waiting[stream as usize];
            loop {
                if bytes.is_empty() {
                    *bytes = output.take();
                }
                if bytes.is_empty() {
                    break;
                }
                let held = shared.holder.map(|(_, at)| at[stream as usize]);
                let taken = shared.rings[stream as usize].push(bytes, held);
                if taken == 0 {
                    break;
                }
                bytes.advance(taken);
                any = true;
            }
        }
        let waited = self.control.output.waited();
        if any || std::mem::replace(&mut shared.waited, waited) != waited {
            shared.wake();
        }
        any
    }

    fn outputs(&self) -> impl Iterator<Item = (Stream, &Output)> {
        let stderr = self.control.stderr.whole().map(|output| (Stream::Stderr, output));
        [(Stream::Stdout, &self.control.output)].into_iter().chain(stderr)
    }

    fn end(&self, ending: Ending) {
        // Later input has no reader.
        self.control.input.end();
        let mut shared = self.shared.lock();
        shared.rings.iter_mut().for_each(Ring::finish);
        shared.ended = Some(Arc::new(ending));
        shared.wake();
    }
}

impl Shared {
    fn view(&mut self, detached: &Arc<Detached>, at: [u64; 2]) -> Reader {
        let id = self.next_view;
        self.next_view += 1;
        self.views.insert(id, None);
        Reader { detached: detached.clone(), id, at, turn: 0 }
    }

    fn wake(&mut self) {
        self.views.values_mut().filter_map(Option::take).for_each(Waker::wake);
    }
}

impl Reader {
    pub fn detached(&self) -> &Arc<Detached> {
        &self.detached
    }

    /// Becomes ready with the next `most` bytes of either stream, or with the end after them. Wakes `cx` when there is
    /// more to read, and on any other event of the process.
    pub fn poll_next(&mut self, most: usize, cx: &Context<'_>) -> Poll<Item> {
        let mut shared = self.detached.shared.lock();
        for at in [self.turn, 1 - self.turn] {
            let stream = Stream::BOTH[at];
            let permit = &mut self.at[at];
            let mut most = most;
            if stream == Stream::Stdout && shared.waited > *permit {
                // Bytes from before the guest waited form a separate item from later ones.
                most = most.min((shared.waited - *permit) as usize);
            }
            let sight = match shared.rings[at].read(*permit, most) {
                Found::Nothing => continue,
                Found::Bytes(bytes) => {
                    let from = *permit;
                    *permit += bytes.len() as u64;
                    Item::Bytes(stream, from, bytes)
                }
                Found::Lost(lost) => {
                    *permit = lost.end;
                    Item::Lost(stream, lost)
                }
            };
            self.turn = 1 - at;
            if let Some((_, at)) = shared.holder.as_mut().filter(|(id, _)| *id == self.id) {
                *at = self.at;
                self.detached.driver.wake();
            }
            return Poll::Ready(sight);
        }
        if let Some(ending) = &shared.ended {
            return Poll::Ready(Item::Ended(ending.clone()));
        }
        if let Some(waker) = shared.views.get_mut(&self.id) {
            distillery_core::stream::remember(waker, cx);
        }
        Poll::Pending
    }

    /// Returns whether the guest waits for input, and the view has read all earlier stdout.
    pub fn is_prompted(&self) -> bool {
        self.detached.shared.lock().waited == self.at[0]
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut shared = self.detached.shared.lock();
        shared.views.remove(&self.id);
        if shared.holder.is_some_and(|(id, _)| id == self.id) {
            shared.holder = None;
            self.detached.driver.wake();
        }
    }
}

/// Runs the process to its end, and stores its output. Calls `ended` when the process has ended, even if output still
/// waits for room.
async fn drive(
    mut process: Process,
    detached: &Arc<Detached>,
    drain: CancellationToken,
    ended: impl FnOnce(&Process, &Outcome),
) {
    let mut draining = pin!(drain.cancelled());
    let mut told = false;
    let mut waiting = [Bytes::new(), Bytes::new()];
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let outcome = poll_fn(|cx| {
        detached.driver.register(cx.waker());
        if draining.as_mut().poll(cx).is_ready() {
            process.control().cancel(CancelReason::Shutdown);
        }
        for _ in 0..ROUNDS {
            if let Poll::Ready(outcome) = process.poll(Instant::now(), cx) {
                // A client that learns of the end can then read the last output.
                detached.take(&mut waiting);
                return Poll::Ready(outcome);
            }
            if process.control().cancelled().is_some() && !std::mem::replace(&mut told, true) {
                detached.shared.lock().wake();
            }
            if detached.take(&mut waiting) {
                continue;
            }
            let away = process.is_away() && waiting.iter().all(Bytes::is_empty);
            if away && detached.outputs().any(|(_, output)| output.poll_lines(cx).is_ready()) {
                continue;
            }
            let Some(due) = process.deadline() else { return Poll::Pending };
            if poll_due(timer.as_mut(), due, cx).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    ended(&process, &outcome);
    drop(process);
    poll_fn(|cx| {
        detached.driver.register(cx.waker());
        detached.take(&mut waiting);
        if waiting.iter().all(Bytes::is_empty) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    detached.end(Ending { outcome, value: detached.control.value() });
}
