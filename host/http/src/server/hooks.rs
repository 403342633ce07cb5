//! The requests of other services that run calls: reads a delivery, lets [`crate::hooks`] verify it, and runs its call
//! as the configured user.

use super::{exchanges, sockets::Sockets};
use crate::{
    answer::ApiError,
    api::{
        calls::asked::{self, Asked},
        request::raw_body,
    },
    extensions::ClientAddress,
    hooks::{Entry, Hooks, Rejection, Reserved},
    wire::exchange::{Form, MESSAGE, PROCESS},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderValue, Method, StatusCode,
        header::{ALLOW, CONTENT_LENGTH, RETRY_AFTER},
        request::Parts,
    },
    response::{IntoResponse, Response},
    routing::any,
};
use distillery_core::auth::Caller;
use distillery_observe::metrics::hooks::Rejected;
use distillery_store::identity::standing::Credential;
use std::{net::IpAddr, sync::Arc};

/// The root of all webhooks.
const ROOT: &str = "/hooks/";

#[derive(Clone)]
struct Shared {
    hooks: Arc<Hooks>,
    sockets: Arc<Sockets>,
}

/// Returns the routes of all webhooks, present and future.
pub(super) fn router(hooks: Arc<Hooks>, sockets: Arc<Sockets>) -> Router {
    Router::new().route("/hooks/{*path}", any(deliver)).with_state(Shared { hooks, sockets })
}

/// A verified delivery.
struct Verified {
    entry: Arc<Entry>,
    asked: Asked,
    reserved: Reserved,
}

async fn deliver(State(shared): State<Shared>, request: Request) -> Response {
    if *request.method() != Method::POST {
        let what = format!("{} is not allowed here: a webhook is sent with POST", request.method());
        let mut answer = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, what).into_response();
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    let address = request.extensions().get::<ClientAddress>().map(|ClientAddress(address)| *address);
    let path = request.uri().path().strip_prefix(ROOT).unwrap_or_default().to_owned();
    let entry = match shared.hooks.find(&path) {
        Ok(entry) => entry,
        Err(rejection) => return shared.reject("", &rejection, address),
    };
    let verified = match shared.verify(entry.clone(), request).await {
        Ok(verified) => verified,
        Err(rejection) => return shared.reject(entry.name(), &rejection, address),
    };
    let waits = entry.hook.wait;
    let running = shared.run(verified, address);
    if waits {
        return running.await;
    }
    // A service that does not wait for the answer has delivered all the same.
    match tokio::spawn(running).await {
        Ok(answer) => answer,
        Err(error) => ApiError::of_server(&error).into_response(),
    }
}

impl Shared {
    fn reject(&self, hook: &str, rejection: &Rejection, address: Option<IpAddr>) -> Response {
        self.hooks.note_rejected(hook, rejection, address);
        let status = match rejection.reason {
            Rejected::UnknownHook => StatusCode::NOT_FOUND,
            Rejected::NoSignature | Rejected::BadSignature | Rejected::Expired => StatusCode::UNAUTHORIZED,
            Rejected::Replayed => StatusCode::CONFLICT,
            Rejected::BadBody | Rejected::BadParameter => StatusCode::BAD_REQUEST,
            Rejected::UnknownUser | Rejected::CallRefused | Rejected::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut answer = ApiError::new(status, rejection.why.clone()).into_response();
        if rejection.reason == Rejected::Busy {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }

    async fn verify(&self, entry: Arc<Entry>, request: Request) -> Result<Verified, Rejection> {
        let most = entry.hook.body.as_usize();
        let (mut parts, body) = request.into_parts();
        if length(&parts).is_some_and(|length| length > most as u64) {
            let why =
                format!("the body has more than {}: raise the setting if the service sends such", entry.hook.body);
            return Err(Rejection::new(Rejected::BadBody, why));
        }
        let permit = self.hooks.admit()?;
        let body = raw_body(Request::new(body), most).await;
        let body = body.map_err(|error| Rejection::new(Rejected::BadBody, error.message))?;
        let (call, reserved) = self.hooks.verify(&entry, &parts.headers, &body)?;
        drop(permit);
        let caller = self.caller(&entry).await?;
        parts.extensions.insert(Credential::Forwarded(entry.hook.user.clone()));
        parts.extensions.insert(caller);
        let form = if entry.hook.wait { asked::form(&parts.headers) } else { Form::Id };
        Ok(Verified { entry, asked: Asked { parts, body: Body::from(body), call, form, answers: false }, reserved })
    }

    /// Returns the user of a webhook, who must exist.
    async fn caller(&self, entry: &Entry) -> Result<Caller, Rejection> {
        let user = &entry.hook.user;
        let known = self.sockets.identity.user(user).await.map_err(|error| {
            tracing::error!(%error, "cannot answer a webhook");
            Rejection::new(Rejected::UnknownUser, "users cannot be looked up at the moment: the server's log says why")
        })?;
        known.ok_or_else(|| {
            let why = "the user of this webhook does not exist: make the user with `distillery user add`";
            Rejection::new(Rejected::UnknownUser, why)
        })
    }

    /// Runs the call of a delivery, and remembers the delivery if the call has started.
    async fn run(self, Verified { entry, asked, reserved }: Verified, address: Option<IpAddr>) -> Response {
        let answer = exchanges::run(self.sockets, asked).await;
        if answer.headers().contains_key(PROCESS) {
            self.hooks.note_accepted(reserved);
        } else {
            let why = answer.headers().get(MESSAGE).and_then(|message| message.to_str().ok());
            let rejection = Rejection::new(Rejected::CallRefused, why.unwrap_or("the call was not started"));
            self.hooks.note_rejected(entry.name(), &rejection, address);
        }
        answer
    }
}

/// Returns the announced length of a body.
fn length(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
