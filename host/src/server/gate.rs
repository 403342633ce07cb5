//! What every request passes on its way to a route: what pages of other origins may, a span of it where it is traced, and
//! who is asking.
//!
//! These are calls from one to the next and not layers: a layer goes around each route, and each request then copies all
//! that are around its own.

use super::{
    authority::Target,
    handshake,
    sockets::{self, Sockets},
};
use crate::{
    api::{
        self,
        auth::{Door, identify},
        cross_origin::{self, Origins},
        error::ApiError,
    },
    auth::Caller,
    traces::Tracer,
};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header::ALLOW},
    response::{IntoResponse, Response},
};
use hyper::ext::Protocol;
use std::sync::Arc;
use tower::Service;

/// The way in of those who come over one socket.
pub(super) struct Gate {
    pub router: Router,
    /// Nothing where the API is off.
    pub open: Option<Open>,
    /// Whose pages may read answers and change things.
    pub origins: Arc<Origins>,
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
    pub async fn answer(&self, mut request: Request) -> Response {
        // Before anything is told of the request.
        if let Some(tokens) = handshake::take_tokens(request.headers_mut())
            && handshake::asks(&request)
        {
            request.extensions_mut().insert(tokens);
        }
        let target = request.extensions().get::<Target>().cloned();
        let target = target.as_ref().map(|Target(target)| target);
        cross_origin::check(&self.origins, target, request, |request| self.traced(request)).await
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
        let method = request.method().clone();
        if let Some(answer) = of_no_route(&request) {
            return answer;
        }
        let answer = match self.router.clone().call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        with_options(&method, answer)
    }
}

/// All methods that any route may have.
const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,POST,DELETE,OPTIONS");

/// The answer to what is asked of the server, and of no route: `OPTIONS *`, and tunnels.
fn of_no_route(request: &Request) -> Option<Response> {
    let protocol = request.extensions().get::<Protocol>().filter(|_| !handshake::asks(request));
    let refused = |status, what: String| ApiError::new(status, what).into_response();
    let mut answer = match *request.method() {
        Method::CONNECT => match protocol {
            Some(protocol) => {
                let what = format!("{:?} is not spoken here: only websocket is", protocol.as_str());
                return Some(refused(StatusCode::NOT_IMPLEMENTED, what));
            }
            None if handshake::asks(request) => return None,
            None => refused(StatusCode::METHOD_NOT_ALLOWED, "this server is no proxy".into()),
        },
        Method::OPTIONS if request.uri().path() == "*" => StatusCode::NO_CONTENT.into_response(),
        _ => return None,
    };
    answer.headers_mut().insert(ALLOW, METHODS);
    Some(answer)
}

/// Answers OPTIONS at every route by what else is allowed there: also where pages of other origins ask before they ask.
fn with_options(method: &Method, answer: Response) -> Response {
    let allowed = answer.headers().get(ALLOW).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if answer.status() != StatusCode::METHOD_NOT_ALLOWED || allowed.split(',').any(|it| it.trim() == "OPTIONS") {
        return answer;
    }
    let allow = [allowed, "OPTIONS"].iter().filter(|it| !it.is_empty()).copied().collect::<Vec<_>>().join(",");
    let mut answer = if *method == Method::OPTIONS { StatusCode::NO_CONTENT.into_response() } else { answer };
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        answer.headers_mut().insert(ALLOW, allow);
    }
    answer
}
