//! A call over plain HTTP: turns a request into a session whose client is this one exchange.

use super::sockets::Sockets;
use crate::{
    api::{auth::Authenticated, calls::asked::Asked},
    exchange,
    session::{
        Session,
        protocol::{Protocol, exchange::Exchange},
    },
};
use axum::{
    extract::FromRequestParts,
    http::header::EXPECT,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Runs a call, and returns its answer once the first output or the outcome is known.
pub(super) async fn run(sockets: Arc<Sockets>, asked: Asked) -> Response {
    let Asked { mut parts, body, call, form, answers } = asked;
    let Ok(Authenticated(caller)) = Authenticated::from_request_parts(&mut parts, &()).await;
    let (held, hang_up) = match sockets.hold(&mut parts, &caller) {
        Ok(held) => held,
        Err(refused) => return refused.into_response(),
    };
    let waits = parts.headers.get(EXPECT).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let (exchange, answer) = exchange::open(body, waits, form, hang_up);
    let protocol = if answers { Exchange::answering(call) } else { Exchange::new(call, form) };
    let protocol = Protocol::Exchange(Box::new(protocol));
    let mut session = Session::new(exchange, protocol, caller, sockets.dispatcher.clone(), sockets.timing.clone());
    let drain = sockets.drain.signal();
    drop(sockets);
    tokio::spawn(async move {
        // As a whole: a block that only names a field drops the guards at once.
        let held = held;
        session.run(drain, held.revoked.clone()).await;
    });
    answer.begun().await
}
