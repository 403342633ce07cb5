//! The websocket upgrade: turns a request into a session.

use super::{
    activity::Activity,
    authority::Target,
    connection::{Connections, Guard},
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
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use distillery_core::{drain::Drain, size::Size};
use distillery_process::dispatch::Dispatcher;
use distillery_store::identity::{Identity, standing::Credential};
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;

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
    let (Some(Connection { guard, activity, hang_up }), Some(on_upgrade)) = (parts.extensions.remove(), on_upgrade)
    else {
        return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "its connection is not known").into_response();
    };
    // A client behind a proxy counts by its own address while its socket is open.
    let seat = match parts.extensions.get() {
        Some(ClientAddress(address)) if guard.is_of_proxy() => match sockets.connections.sit(*address) {
            Ok(seat) => Some(seat),
            Err(refused) => return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, refused.to_string()).into_response(),
        },
        _ => None,
    };
    let (busy, drain) = (sockets.drain.busy(), sockets.drain.signal());
    let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    let offered = offered.flat_map(|list| list.split(',')).map(str::trim);
    let is_pow = parts.uri.path().starts_with(api::pow::ROOT);
    let (name, protocol) = Protocol::choose(offered.filter(|name| !is_pow || *name == POW_1), sockets.early);
    if is_pow && name.is_none() {
        return ApiError::new(StatusCode::BAD_REQUEST, "offer the subprotocol pow-1, or use /api/v1/ws")
            .into_response();
    }
    let credential = parts.extensions.remove::<Credential>();
    let standing = credential.map(|credential| sockets.identity.watch(credential, &caller));
    let (answer, opening) = socket::accept(&parts, on_upgrade, hang_up, name, sockets.max_frame);
    let open = activity.work();
    tokio::spawn(async move {
        let socket = match opening.await {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%error, "websocket not opened"),
        };
        let revoked = standing.as_ref().map(|standing| standing.revoked().clone());
        let _held = (guard, seat, busy, standing, open);
        let (dispatcher, timing) = (sockets.dispatcher.clone(), sockets.timing.clone());
        drop(sockets);
        let mut session = Session::new(socket, protocol, caller, dispatcher, timing);
        session.run(drain, revoked).await;
    });
    answer
}
