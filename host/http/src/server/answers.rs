//! Limits the answers that wait on one HTTP/2 connection, in size and time: a client can send many requests and read
//! none of the answers.
//!
//! hyper asks for the next piece of an answer when the client's flow-control window has room. Each stream is a hyper
//! task. A stream whose client reads nothing for too long is reset, and the others continue.

use super::activity::{Activity, Use};
use crate::extensions::SharedBody;
use axum::{
    body::Body,
    http::{Method, Request, Response},
};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep_until},
};

/// The maximum size of all answers that wait on one connection, in KiB; beyond that its next requests wait.
const WAITING_KIB: u32 = 1024;
/// The assumed size of an answer until its size is known: large for a read, small for a change.
const QUESTION_KIB: u32 = WAITING_KIB / 2;
const CHANGE_KIB: u32 = 16;
/// The size of the pieces that hyper gets. hyper buffers a whole piece even if the client reads one byte of it.
const PIECE: usize = 16 << 10;

/// The answers of one connection.
#[derive(Clone)]
pub(super) struct Answers {
    room: Arc<Semaphore>,
    activity: Activity,
}

impl Answers {
    pub fn new(activity: Activity) -> Self {
        Self { room: Arc::new(Semaphore::new(WAITING_KIB as usize)), activity }
    }

    /// Answers `request` once the client has read enough of the earlier answers.
    pub async fn answer<B, Answering>(
        &self,
        request: Request<B>,
        answer: impl FnOnce(Request<B>) -> Answering,
    ) -> Response<Body>
    where
        Answering: Future<Output = Response<Body>>,
    {
        let guessed = if is_question(request.method()) { QUESTION_KIB } else { CHANGE_KIB };
        let mut room = self.take(guessed).await;
        let work = self.activity.work();
        let answer = answer(request).await;
        drop(work);
        self.settle(&mut room, &answer);
        answer.map(|body| {
            Body::new(Pieces {
                body,
                rest: Bytes::new(),
                activity: self.activity.clone(),
                _held: (room, self.activity.send()),
            })
        })
    }

    async fn take(&self, kib: u32) -> OwnedSemaphorePermit {
        self.room.clone().acquire_many_owned(kib).await.expect("the room is never closed")
    }

    /// Resizes the permit to the size of `answer`, as far as there is room: the answer is already in memory.
    fn settle(&self, room: &mut OwnedSemaphorePermit, answer: &Response<Body>) {
        let exact = answer.body().size_hint().exact();
        let kib = match exact {
            _ if answer.extensions().get::<SharedBody>().is_some() => 0,
            Some(size) => u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX),
            // A streamed answer holds one piece at a time; events come at any time.
            None => CHANGE_KIB,
        };
        let held = u32::try_from(room.num_permits()).unwrap_or(u32::MAX);
        if kib < held {
            drop(room.split((held - kib) as usize));
        } else if kib > held {
            let more = (kib - held).min(self.room.available_permits() as u32);
            if let Ok(more) = self.room.clone().try_acquire_many_owned(more) {
                room.merge(more);
            }
        }
    }
}

fn is_question(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// A body in pieces, to keep the buffers of a stream small.
struct Pieces {
    body: Body,
    rest: Bytes,
    activity: Activity,
    _held: (OwnedSemaphorePermit, Use),
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // hyper asks for more once the client has read the last piece.
        offer(None);
        self.activity.moved();
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return other,
            }
        }
        let piece = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(piece);
        offer(Some(Instant::now()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        let (lower, upper) = (hint.lower() + rest, hint.upper().map(|upper| upper + rest));
        hint = SizeHint::new();
        hint.set_lower(lower);
        if let Some(upper) = upper {
            hint.set_upper(upper);
        }
        hint
    }
}

/// The time since which a piece of an answer waits for its client.
#[derive(Clone, Default)]
struct Offered(Arc<Mutex<Option<Instant>>>);

impl Offered {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock() = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock()
    }
}

tokio::task_local! {
    /// The time of the stream that runs in this task.
    static OFFERED: Offered;
}

/// Sets the time since which the stream of this task waits for its client.
fn offer(since: Option<Instant>) {
    // Outside of a stream's task there is nothing to record.
    let _ = OFFERED.try_with(|offered| offered.set(since));
}

/// Runs the streams of connections, each as long as its client reads.
#[derive(Clone)]
pub(super) struct Streams {
    /// The time for which a client is allowed to read nothing of an answer.
    pub patience: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let offered = Offered::default();
        let stream =
            Stream { stream: Some(Box::pin(stream)), offered: offered.clone(), patience: self.patience, timer: None };
        tokio::spawn(OFFERED.scope(offered, stream));
    }
}

/// A stream that is given up when its client reads nothing for too long. Dropping it resets the stream.
struct Stream<F> {
    stream: Option<Pin<Box<F>>>,
    offered: Offered,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(()) };
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = self.offered.since() else {
            self.timer = None;
            return Poll::Pending;
        };
        let until = tokio::time::Instant::from_std(since + self.patience);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        tracing::debug!("stream reset: the client does not read the answer");
        self.stream = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    fn answers() -> Answers {
        Answers::new(Activity::new(Arc::default()))
    }

    async fn answered(answers: &Answers, method: Method, answer: Response<Body>) -> Response<Body> {
        let request = Request::builder().method(method).body(()).unwrap();
        answers.answer(request, |_| async { answer }).await
    }

    fn large() -> Response<Body> {
        Response::new(Body::from(vec![b'x'; 5 << 20]))
    }

    #[tokio::test]
    async fn unread_answer_delays_later_answers() {
        let answers = answers();
        let first = answered(&answers, Method::GET, large()).await;
        assert!(answered(&answers, Method::GET, large()).now_or_never().is_none());
        drop(first);
        assert!(answered(&answers, Method::GET, large()).now_or_never().is_some());
    }

    #[tokio::test]
    async fn small_and_shared_answers_delay_no_other() {
        let answers = answers();
        let mut held = Vec::new();
        for _ in 0..64 {
            held.push(
                answered(&answers, Method::GET, Response::new(Body::from("small"))).now_or_never().expect("room"),
            );
            let mut shared = large();
            shared.extensions_mut().insert(SharedBody);
            held.push(answered(&answers, Method::GET, shared).now_or_never().expect("room"));
        }
    }

    #[tokio::test]
    async fn answer_is_sent_completely_in_pieces() {
        let offered = Offered::default();
        let whole = OFFERED.scope(offered, async {
            let mut answer = answered(&answers(), Method::GET, large()).await.into_body();
            assert_eq!(answer.size_hint().exact(), Some(5 << 20));
            let mut whole = 0;
            while let Some(piece) = answer.frame().await {
                let piece = piece.unwrap().into_data().unwrap();
                assert!((1..=PIECE).contains(&piece.len()));
                whole += piece.len();
            }
            whole
        });
        assert_eq!(whole.await, 5 << 20);
    }

    #[tokio::test]
    async fn stream_of_a_client_that_does_not_read_is_reset() {
        let offered = Offered::default();
        offered.set(Some(Instant::now()));
        let stream = Box::pin(std::future::pending::<()>());
        let stream = Stream { stream: Some(stream), offered, patience: Duration::from_millis(5), timer: None };
        stream.await;
    }
}
