//! The checks of every request on its way to a route: cross-origin rules, a trace span if traced, and authentication.
//!
//! These are nested calls and not layers: a layer wraps each route, and each request then copies all layers of its own
//! route.

use super::{
    authority::Target,
    sockets::{self, Sockets},
};
use crate::{
    answer::ApiError,
    api::{
        self,
        auth::{Door, identify},
        cross_origin::{self, Origins},
    },
    handshake,
};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header::ALLOW},
    response::{IntoResponse, Response},
};
use distillery_core::auth::Caller;
use distillery_observe::traces::Tracer;
use hyper::ext::Protocol;
use std::sync::Arc;
use tower::Service;

/// The checks for requests over one socket.
pub(super) struct Gate {
    pub router: Router,
    /// `None` if the API is off.
    pub open: Option<Open>,
    /// The origins whose pages are allowed to read answers and make changes.
    pub origins: Arc<Origins>,
    pub tracer: Option<Arc<Tracer>>,
}

/// The services that are available over the socket.
pub(super) struct Open {
    pub who: Who,
    pub sockets: Arc<Sockets>,
}

/// The authentication of callers on a socket.
pub(super) enum Who {
    Operator,
    /// By credentials, for requests to the API. Pages are served without authentication: they get their data from the
    /// API.
    Anyone(Door),
}

impl Gate {
    pub async fn answer(&self, mut request: Request) -> Response {
        // Must precede any log or trace of the request.
        if let Some(tokens) = handshake::take_tokens(request.headers_mut())
            && handshake::asks(&request)
        {
            request.extensions_mut().insert(tokens);
        }
        let target = request.extensions().get::<Target>().cloned();
        let target = target.as_ref().map(|Target(target)| target);
        cross_origin::check(&self.origins, target, request, |request| self.traced(request)).await
    }

    /// Records a span for a traced request. The span of a websocket ends with the upgrade; its calls have child spans.
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
        // Each call begins with such a request. Bypassing the router saves copying its state.
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

/// All methods of any route.
const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,POST,DELETE,OPTIONS");

/// Answers requests to the server itself and to no route: `OPTIONS *`, and tunnels.
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

/// Answers OPTIONS at every route with its allowed methods, including preflight requests.
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
