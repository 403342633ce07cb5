//! One HTTP exchange that carries a call: the body of the request, and the answer as it comes into being.
//!
//! The session has one side, [`Exchange`], and the HTTP library the other, [`Answer`]. A bounded queue lies between them,
//! so a client that reads slowly slows down the process. The module knows no calls.

mod answer;

use crate::{
    socket::{HangUp, Incoming, Lost},
    wire::{
        Frame,
        exchange::{Begin, End, FIELDS, Form, Part},
    },
};
pub use answer::Answer;
use answer::{Head, Shared};
use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, TRAILER, X_CONTENT_TYPE_OPTIONS},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Pieces of a body that are skipped at a time at the end.
const SKIPPED: usize = 64;

/// The session's side of an exchange.
pub struct Exchange {
    form: Form,
    /// `None` once the body has ended.
    body: Option<axum::body::BodyDataStream>,
    received: u64,
    /// Whether more of the body can still arrive: not if the client waits for permission to send it.
    unread: bool,
    shared: Arc<Shared>,
    /// The headers with the process, until the head is sent.
    headers: HeaderMap,
    /// Whether the head is sent.
    begun: bool,
    hang_up: HangUp,
}

/// Returns both sides of an exchange. `waits` tells whether the client waits for permission to send its body.
pub fn open(body: Body, waits: bool, form: Form, hang_up: HangUp) -> (Exchange, Answer) {
    let shared = Arc::<Shared>::default();
    let exchange = Exchange {
        form,
        body: Some(body.into_data_stream()),
        received: 0,
        unread: !waits,
        shared: shared.clone(),
        headers: HeaderMap::new(),
        begun: false,
        hang_up,
    };
    (exchange, Answer::new(shared))
}

impl Exchange {
    /// Returns how many bytes of the answer the HTTP library has taken.
    pub fn written(&self) -> u64 {
        self.shared.taken()
    }

    /// Returns how many bytes of the body have arrived.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Tells whether the client has closed its side of a connection that is not read at the moment. The answer is that
    /// of the last look: this one comes when the HTTP library flushes next.
    pub fn has_hung_up(&self) -> bool {
        self.hang_up.ask();
        self.shared.wake_client();
        self.hang_up.is_found()
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if self.shared.poll_gone(cx).is_ready() {
            return Poll::Ready(Incoming::Lost);
        }
        loop {
            let Some(body) = &mut self.body else { return Poll::Pending };
            self.unread = true;
            match ready!(body.poll_next_unpin(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.received += data.len() as u64;
                    return Poll::Ready(Incoming::Binary(data));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the body of a call broke off");
                    self.body = None;
                    return Poll::Ready(Incoming::Lost);
                }
                None => {
                    self.body = None;
                    return Poll::Ready(Incoming::Ended);
                }
            }
        }
    }

    /// Becomes ready when more of the answer can be sent.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), Lost>> {
        self.shared.poll_room(cx)
    }

    /// Becomes ready when the HTTP library has taken everything.
    pub fn poll_flush(&self, cx: &Context<'_>) -> Poll<Result<(), Lost>> {
        self.shared.poll_empty(cx)
    }

    pub fn send_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Binary(bytes) => self.send(bytes),
            Frame::Text(message) => self.send(self.form.message(&message)),
            Frame::Part(part) => match *part {
                Part::Begin(Begin { headers, message }) => {
                    self.headers = headers;
                    self.send(self.form.message(&message));
                }
                Part::End(end) => self.end(end),
            },
        }
    }

    fn send(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.begin();
        self.shared.push(bytes);
    }

    /// Sends the head of an answer whose end is not known yet.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let mut headers = head(self.form.media());
        headers.insert(TRAILER, HeaderValue::from_static(FIELDS));
        headers.extend(std::mem::take(&mut self.headers));
        self.shared.begin(Head { status: StatusCode::OK, headers });
    }

    fn end(&mut self, end: End) {
        let End { status, headers, body, message, fields } = end;
        if self.begun {
            self.send(self.form.message(&message));
            return self.shared.end(Some(fields));
        }
        self.begun = true;
        let mut all = head(if body.is_empty() { self.form.media() } else { "application/json" });
        for more in [std::mem::take(&mut self.headers), headers, fields] {
            all.extend(more);
        }
        self.shared.begin(Head { status, headers: all });
        if !body.is_empty() {
            self.shared.push(body);
        }
        self.shared.end(None);
    }

    /// Skips the rest of the body. A connection that is closed earlier would be reset, and the client could lose the
    /// answer. Becomes ready when the body has ended, or does not come.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.unread {
            return Poll::Ready(());
        }
        for _ in 0..SKIPPED {
            let Some(body) = &mut self.body else { return Poll::Ready(()) };
            match ready!(body.poll_next_unpin(cx)) {
                Some(Ok(data)) => self.received += data.len() as u64,
                Some(Err(_)) | None => self.body = None,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Exchange {
    /// Breaks off an answer that has not ended.
    fn drop(&mut self) {
        self.shared.leave();
    }
}

fn head(media: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(media)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ])
}

#[cfg(test)]
mod tests;
