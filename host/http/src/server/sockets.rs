//! The websocket upgrade: turns a request into a session.

use super::{
    activity::{Activity, Use},
    authority::Target,
    connection::{Connections, Guard, Refused},
};
use crate::{answer::ApiError, extensions::ClientAddress, handshake};
use crate::{
    api::{self, auth::Authenticated, cross_origin::Origins},
    session::{
        Session, Timing,
        protocol::{POW_1, Protocol},
    },
    socket::{self, HangUp},
};
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use distillery_core::{
    auth::Caller,
    drain::{Busy, Drain},
    size::Size,
};
use distillery_process::dispatch::Dispatcher;
use distillery_store::identity::{
    Identity,
    standing::{Credential, Standing},
};
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The paths of the server's own protocols.
pub(super) const PATHS: [&str; 2] = ["/api/v1/ws", "/api/v1/ws/"];

/// The state of the websocket route.
pub(super) struct Sockets {
    pub dispatcher: Arc<Dispatcher>,
    pub timing: Arc<Timing>,
    pub origins: Arc<Origins>,
    pub max_frame: Size,
    /// The maximum of data before a call.
    pub early: Size,
    pub identity: Arc<Identity>,
    pub connections: Arc<Connections>,
    pub drain: Drain,
}

/// The connection of a request.
#[derive(Clone)]
pub(super) struct Connection {
    pub guard: Guard,
    pub activity: Activity,
    /// Where its sockets ask whether the client has gone.
    pub hang_up: HangUp,
}

/// The guards of a session that is served.
pub(super) struct Held {
    /// Cancelled when the caller's credential becomes invalid. `None` if the caller has shown none.
    pub revoked: Option<CancellationToken>,
    _guards: (Guard, Option<Guard>, Busy, Option<Standing>, Use),
}

impl Sockets {
    /// Keeps the connection of a request in use, and watches the credential of its caller.
    pub fn hold(&self, parts: &mut Parts, caller: &Caller) -> Result<(Held, HangUp), ApiError> {
        let Connection { guard, activity, hang_up } = parts.extensions.remove().ok_or_else(not_known)?;
        // A client behind a proxy counts by its own address while its session is served.
        let seat = match parts.extensions.get() {
            Some(ClientAddress(address)) if guard.is_of_proxy() => {
                let full = |refused: Refused| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, refused.to_string());
                Some(self.connections.sit(*address).map_err(full)?)
            }
            _ => None,
        };
        let credential = parts.extensions.remove::<Credential>();
        let standing = credential.map(|credential| self.identity.watch(credential, caller));
        let revoked = standing.as_ref().map(|standing| standing.revoked().clone());
        let guards = (guard, seat, self.drain.busy(), standing, activity.work());
        Ok((Held { revoked, _guards: guards }, hang_up))
    }
}

fn not_known() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "its connection is not known")
}

/// Returns whether a client asks for a websocket at a path of the server's own protocols.
pub(super) fn asked_for(request: &Request) -> bool {
    PATHS.contains(&request.uri().path()) && handshake::asks(request)
}

/// Upgrades a request, or passes it on: each path of `pow-1` accepts websockets in addition to requests.
pub(super) async fn or_request(State(sockets): State<Arc<Sockets>>, request: Request, next: Next) -> Response {
    if handshake::asks(&request) { upgrade(State(sockets), request).await } else { next.run(request).await }
}

pub(super) async fn upgrade(State(sockets): State<Arc<Sockets>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    if let Err(wrong) = handshake::check(&mut parts) {
        return wrong.into_response();
    }
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let target = parts.extensions.get::<Target>().map(|Target(target)| target);
    if !sockets.origins.allow(&parts.headers, target) {
        return ApiError::new(StatusCode::FORBIDDEN, "this origin may not open a websocket: list it in http.origins")
            .into_response();
    }
    let Ok(Authenticated(caller)) = Authenticated::from_request_parts(&mut parts, &()).await;
    let Some(on_upgrade) = on_upgrade else { return not_known().into_response() };
    let drain = sockets.drain.signal();
    let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    let offered = offered.flat_map(|list| list.split(',')).map(str::trim);
    let is_pow = parts.uri.path().starts_with(api::pow::ROOT);
    let (name, protocol) = Protocol::choose(offered.filter(|name| !is_pow || *name == POW_1), sockets.early);
    if is_pow && name.is_none() {
        return ApiError::new(StatusCode::BAD_REQUEST, "offer the subprotocol pow-1, or use /api/v1/ws")
            .into_response();
    }
    let (held, hang_up) = match sockets.hold(&mut parts, &caller) {
        Ok(held) => held,
        Err(refused) => return refused.into_response(),
    };
    let (answer, opening) = socket::accept(&parts, on_upgrade, hang_up, name, sockets.max_frame);
    tokio::spawn(async move {
        // As a whole: a block that only names a field drops the guards at once.
        let held = held;
        let socket = match opening.await {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%error, "websocket not opened"),
        };
        let (dispatcher, timing) = (sockets.dispatcher.clone(), sockets.timing.clone());
        drop(sockets);
        let mut session = Session::new(socket, protocol, caller, dispatcher, timing);
        session.run(drain, held.revoked.clone()).await;
    });
    answer
}
