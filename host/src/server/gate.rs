//! What every request passes on its way to a route: what pages of other origins may, a span of it where it is traced, and
//! who is asking.
//!
//! These are calls from one to the next and not layers: a layer goes around each route, and each request then copies all
//! that are around its own.

use super::sockets::{self, Sockets};
use crate::{
    api::{
        auth::{Door, identify},
        cross_origin,
    },
    auth::Caller,
    traces::Tracer,
};
use axum::{
    Router,
    extract::{Request, State},
    response::Response,
};
use std::sync::Arc;
use tower::Service;

/// The way in of those who come over one socket.
pub(super) struct Gate {
    pub router: Router,
    /// What the websockets need, where they are open.
    pub sockets: Option<Arc<Sockets>>,
    pub who: Who,
    /// Whose pages may read answers and change things.
    pub origins: Arc<[String]>,
    pub tracer: Option<Arc<Tracer>>,
}

/// Who they are.
pub(super) enum Who {
    Operator,
    /// It shows in what they bring, if they want something of the API.
    Anyone(Door),
    /// There is nothing for which it matters.
    Nobody,
}

/// Below it is what depends on who asks. Pages do not: what they show, they ask the API for.
const API: &str = "/api";

impl Gate {
    pub async fn answer(&self, request: Request) -> Response {
        cross_origin::check(&self.origins, request, |request| self.traced(request)).await
    }

    /// Tells how a request went, where it is traced. That of a websocket is over with the upgrade; what runs over it is
    /// below.
    async fn traced(&self, mut request: Request) -> Response {
        let above = request.headers().get("traceparent").and_then(|it| it.to_str().ok());
        let Some(mut span) = self.tracer.as_ref().and_then(|tracer| tracer.request("request", above)) else {
            return self.identified(request).await;
        };
        if let Some(context) = span.context() {
            request.extensions_mut().insert(context);
        }
        span.set("http.request.method", request.method().as_str());
        span.set("url.path", request.uri().path());
        let answer = self.identified(request).await;
        span.set("http.response.status_code", u64::from(answer.status().as_u16()));
        if answer.status().is_server_error() {
            span.fail(answer.status().to_string());
        }
        answer
    }

    async fn identified(&self, mut request: Request) -> Response {
        let caller = match &self.who {
            Who::Operator => Some(Caller::operator()),
            Who::Anyone(door) if request.uri().path().starts_with(API) => match identify(door, &mut request).await {
                Ok(caller) => Some(caller),
                Err(turned_away) => return turned_away,
            },
            Who::Anyone(_) | Who::Nobody => None,
        };
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        // Each call begins with such a request: it goes by the route, and no copy is made of all that lies there.
        if let Some(sockets) = self.sockets.as_ref().filter(|_| sockets::asked_for(&request)) {
            return sockets::upgrade(State(sockets.clone()), request).await;
        }
        match self.router.clone().call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}
