//! What every request passes on its way to a route: what pages of other origins may, a span of it where it is traced, and
//! who is asking.
//!
//! These are calls from one to the next and not layers: a layer goes around each route, and each request then copies all
//! that are around its own.

use super::sockets::{self, Sockets};
use crate::{
    api::{
        self,
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
    /// Nothing where the API is off.
    pub open: Option<Open>,
    /// Whose pages may read answers and change things.
    pub origins: Arc<[String]>,
    pub tracer: Option<Arc<Tracer>>,
}

/// What is open to them.
pub(super) struct Open {
    pub who: Who,
    pub sockets: Arc<Sockets>,
}

/// Who they are.
pub(super) enum Who {
    Operator,
    /// It shows in what they bring, if they want something of the API. Pages they get as they are: what those show, they
    /// ask the API for.
    Anyone(Door),
}

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
        span.set_path(request.uri().path());
        let answer = self.identified(request).await;
        span.set("http.response.status_code", u64::from(answer.status().as_u16()));
        if answer.status().is_server_error() {
            span.fail(answer.status().to_string());
        }
        answer
    }

    async fn identified(&self, mut request: Request) -> Response {
        let Some(Open { who, sockets }) = &self.open else { return self.routed(request).await };
        let caller = match who {
            Who::Operator => Some(Caller::operator()),
            Who::Anyone(door) if request.uri().path().starts_with(api::ROOT) => {
                match identify(door, &mut request).await {
                    Ok(caller) => Some(caller),
                    Err(turned_away) => return turned_away,
                }
            }
            Who::Anyone(_) => None,
        };
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        // Each call begins with such a request: it goes by the route, and no copy is made of all that lies there.
        if sockets::asked_for(&request) {
            return sockets::upgrade(State(sockets.clone()), request).await;
        }
        self.routed(request).await
    }

    async fn routed(&self, request: Request) -> Response {
        match self.router.clone().call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}
