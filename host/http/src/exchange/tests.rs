use super::*;
use crate::wire::exchange::{ended, refused};
use axum::body::HttpBody;
use distillery_core::call::{Outcome, Refusal};
use futures_util::{FutureExt, future::poll_fn};
use http_body_util::BodyExt;
use std::task::Waker;

const SUCCESS: Outcome = Outcome::Exited { status: 0, last_words: None };

fn opened(body: impl Into<Body>, form: Form) -> (Exchange, Answer) {
    open(body.into(), false, form, HangUp::default())
}

#[tokio::test]
async fn output_is_followed_by_the_outcome_in_trailers() {
    let (mut exchange, answer) = opened("", Form::Text);
    assert!(exchange.poll_flush(&Context::from_waker(Waker::noop())).is_ready());
    exchange.send_frame(Frame::Binary("out".into()));
    let answer = answer.begun().await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[TRAILER], FIELDS);
    exchange.send_frame(ended(&Outcome::Exited { status: 3, last_words: None }, None));
    drop(exchange);
    let whole = answer.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["distillery-exit-status"], "3");
    assert_eq!(whole.to_bytes(), "out");
}

#[tokio::test]
async fn outcome_without_output_is_the_status() {
    let (mut exchange, answer) = opened("", Form::Text);
    exchange.send_frame(refused(&Refusal::UnknownCall("x".into())));
    let answer = answer.begun().await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(answer.headers()["distillery-outcome"], "refused");
    assert_eq!(answer.body().size_hint().exact(), Some(45));
    let whole = answer.into_body().collect().await.unwrap();
    assert!(whole.trailers().is_none());
    assert_eq!(whole.to_bytes(), r#"{"status":404,"message":"unknown call \"x\""}"#);

    let (mut exchange, answer) = opened("", Form::Bytes);
    exchange.send_frame(ended(&SUCCESS, Some("1")));
    let answer = answer.begun().await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["distillery-value"], "1");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
}

#[tokio::test]
async fn unread_answer_holds_the_session_back() {
    let (mut exchange, answer) = opened("", Form::Bytes);
    let cx = Context::from_waker(Waker::noop());
    let mut sent = 0;
    while exchange.poll_ready(&cx).is_ready() {
        exchange.send_frame(Frame::Binary(vec![b'x'; 1 << 10].into()));
        sent += 1;
    }
    assert_eq!((sent, exchange.written()), (64, 0));
    let mut body = answer.begun().await.into_body();
    body.frame().await.unwrap().unwrap();
    assert!(exchange.poll_ready(&cx).is_ready() && exchange.poll_flush(&cx).is_pending());
    assert_eq!(exchange.written(), 1 << 10);
    drop(body);
    assert!(matches!(exchange.poll_ready(&cx), Poll::Ready(Err(Lost))));
}

#[tokio::test]
async fn session_without_an_end_breaks_off_the_answer() {
    let (mut exchange, answer) = opened("", Form::Bytes);
    exchange.send_frame(Frame::Binary("out".into()));
    let body = answer.begun().await.into_body();
    drop(exchange);
    assert!(body.collect().await.is_err());
    let (exchange, answer) = opened("", Form::Bytes);
    drop(exchange);
    assert_eq!(answer.begun().await.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn body_ends_breaks_off_or_is_skipped() {
    let (mut exchange, answer) = opened("in", Form::Text);
    let next = |exchange: &mut Exchange| poll_fn(|cx| exchange.poll_read(cx)).now_or_never();
    assert!(matches!(next(&mut exchange), Some(Incoming::Binary(data)) if data == "in"));
    assert!(matches!(next(&mut exchange), Some(Incoming::Ended)));
    assert!(next(&mut exchange).is_none());
    drop(answer);
    assert!(matches!(next(&mut exchange), Some(Incoming::Lost)));

    let broken = futures_util::stream::iter([Ok("in"), Err(std::io::Error::other("lost"))]);
    let (mut exchange, _answer) = opened(Body::from_stream(broken), Form::Text);
    assert!(matches!(next(&mut exchange), Some(Incoming::Binary(_))));
    assert!(matches!(next(&mut exchange), Some(Incoming::Lost)));

    let (mut exchange, _answer) = opened("unread", Form::Text);
    assert!(poll_fn(|cx| exchange.poll_close(cx)).now_or_never().is_some());
    assert_eq!(exchange.received(), 6);
    let endless = || Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
    let (mut exchange, _answer) = opened(endless(), Form::Text);
    assert!(poll_fn(|cx| exchange.poll_close(cx)).now_or_never().is_none());
    // The client of this one waits for a permission that never comes.
    let (mut exchange, _answer) = open(endless(), true, Form::Text, HangUp::default());
    assert!(poll_fn(|cx| exchange.poll_close(cx)).now_or_never().is_some());
}
