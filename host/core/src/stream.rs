//! Streams between a client and a guest: lines in, lines out, and the log's lines.
//!
//! Plain buffers with a lock and wakers. They know nothing of sockets, of wasm, or of why a process ends.

mod input;
mod last_words;
mod lines;
mod output;
pub mod recording;
mod ring;
mod stderr;

pub use input::{Input, Offered, Read, Room};
pub use lines::{Lines, before_cut, lines};
pub use output::{Output, Written};
pub use ring::{Found, Ring};
pub use stderr::Stderr;

use std::task::{Context, Waker};

/// An output stream of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Wakes `waker` unless it belongs to the running task, which checks again before it sleeps.
fn wake_other(waker: Option<Waker>, running: Option<&Context<'_>>) {
    if let Some(waker) = waker
        && !running.is_some_and(|cx| cx.waker().will_wake(&waker))
    {
        waker.wake();
    }
}

/// Stores the waker of `cx` in `slot`, without a clone if it is there already.
pub fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
