//! The answer of an exchange: its head, then its body as the session produces it, then its trailers.

use crate::{answer::ApiError, socket::Lost};
use axum::{
    body::Body,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use distillery_core::stream::remember;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// Waiting bytes above which the session sends no more.
const FULL: usize = 64 << 10;

/// The part of an answer before its body.
pub(super) struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// The client's side of an exchange. Dropping it tells the session that the client has gone.
pub struct Answer(Arc<Shared>);

#[derive(Default)]
pub(super) struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    head: Option<Head>,
    waiting: VecDeque<Bytes>,
    /// Bytes that wait, and bytes that the HTTP library has taken.
    size: usize,
    taken: u64,
    ended: bool,
    trailers: Option<HeaderMap>,
    /// The session has left.
    left: bool,
    /// The client has gone.
    gone: bool,
    session: Option<Waker>,
    client: Option<Waker>,
}

impl Shared {
    pub fn begin(&self, head: Head) {
        self.change(|state| state.head = Some(head));
    }

    pub fn push(&self, bytes: Bytes) {
        self.change(|state| {
            state.size += bytes.len();
            state.waiting.push_back(bytes);
        });
    }

    /// Ends the answer after what waits.
    pub fn end(&self, trailers: Option<HeaderMap>) {
        self.change(|state| (state.ended, state.trailers) = (true, trailers));
    }

    /// Ends the session's part. An answer without its end is broken off.
    pub fn leave(&self) {
        self.change(|state| state.left = true);
    }

    /// Changes the state, and wakes the client's side.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        let client = state.client.take();
        drop(state);
        client.into_iter().for_each(Waker::wake);
    }

    pub fn wake_client(&self) {
        self.change(|_| {});
    }

    pub fn taken(&self) -> u64 {
        self.0.lock().taken
    }

    pub fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_session(cx, |state| state.gone).map(drop)
    }

    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<(), Lost>> {
        self.poll_session(cx, |state| state.gone || state.size < FULL)
    }

    pub fn poll_empty(&self, cx: &Context<'_>) -> Poll<Result<(), Lost>> {
        self.poll_session(cx, |state| state.gone || state.size == 0)
    }

    fn poll_session(&self, cx: &Context<'_>, ready: impl Fn(&State) -> bool) -> Poll<Result<(), Lost>> {
        let mut state = self.0.lock();
        if ready(&state) {
            return Poll::Ready(if state.gone { Err(Lost) } else { Ok(()) });
        }
        remember(&mut state.session, cx);
        Poll::Pending
    }
}

impl Answer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Waits for the head, and returns the answer with its body to come.
    pub async fn begun(self) -> Response {
        let head = poll_fn(|cx| {
            let mut state = self.0.0.lock();
            if state.head.is_none() && !state.left {
                remember(&mut state.client, cx);
                return Poll::Pending;
            }
            Poll::Ready(state.head.take())
        });
        let Some(Head { status, headers }) = head.await else {
            let what = "the call has no answer: the server's log says why";
            return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, what).into_response();
        };
        let mut answer = Response::new(Body::new(self));
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        answer
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.gone = true;
        state.waiting.clear();
        let session = state.session.take();
        drop(state);
        session.into_iter().for_each(Waker::wake);
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut state = self.0.0.lock();
        if let Some(bytes) = state.waiting.pop_front() {
            state.size -= bytes.len();
            state.taken += bytes.len() as u64;
            let session = state.session.take();
            drop(state);
            session.into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if state.ended {
            return Poll::Ready(state.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if state.left {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        remember(&mut state.client, cx);
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.0.lock();
        state.ended && state.waiting.is_empty() && state.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.0.0.lock();
        if state.ended && state.trailers.is_none() {
            SizeHint::with_exact(state.size as u64)
        } else {
            SizeHint::default()
        }
    }
}
