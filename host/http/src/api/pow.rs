//! `pow-1` over requests: a call without a socket, polled by its client. Its processes are detached ones.
//!
//! Its clients expect plain text instead of JSON, so it has its own answers.

mod document;

use super::request;
use crate::answer::ApiError;
use crate::api::auth::Authenticated;
use crate::wire::pow1::{Call, pending, result};
use axum::{
    Router,
    extract::{Path, Request, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use distillery_core::{
    auth::Caller,
    call::{CancelReason, Refusal},
    size::Size,
    stream::{Found, Offered, Stream, before_cut},
};
use distillery_process::{
    Process,
    detached::Detached,
    dispatch::{Admitted, Dispatcher, Queued},
};
use serde::Serialize;
use std::{future::poll_fn, sync::Arc, time::Instant};

/// The root of all its paths.
pub const ROOT: &str = "/api/v1/pow";
/// The default number of lines if the client gives no offset.
const LINES: usize = 1000;

#[derive(Clone)]
struct Pow {
    dispatcher: Arc<Dispatcher>,
    /// The maximum size of a body.
    body: usize,
}

/// Returns the routes at and below [`ROOT`]. `body` is the maximum size of a request's body.
pub fn router(dispatcher: Arc<Dispatcher>, body: Size) -> Router {
    let mut router = Router::new()
        .route(ROOT, any(nothing))
        .route(&format!("{ROOT}/"), any(nothing))
        .route(&format!("{ROOT}/{{*path}}"), any(nothing));
    for slash in ["", "/"] {
        router = router
            .route(&format!("{ROOT}/new{slash}"), post(new))
            .route(&format!("{ROOT}/status/{{id}}{slash}"), get(status))
            .route(&format!("{ROOT}/input/{{id}}{slash}"), post(input))
            .route(&format!("{ROOT}/closeInput/{{id}}{slash}"), post(close_input))
            .route(&format!("{ROOT}/cancel/{{id}}{slash}"), post(cancel))
            .route(&format!("{ROOT}/openapi.json{slash}"), get(document::json))
            .route(&format!("{ROOT}/docs{slash}"), get(document::page));
    }
    router.with_state(Pow { dispatcher, body: body.as_usize() })
}

async fn nothing(uri: Uri) -> Words {
    Words(StatusCode::NOT_FOUND, format!("there is nothing at {}: see {ROOT}/docs", uri.path()))
}

/// An answer in plain text.
struct Words(StatusCode, String);

impl Words {
    fn ok(words: &str) -> Self {
        Self(StatusCode::OK, words.to_owned())
    }
}

impl From<ApiError> for Words {
    fn from(error: ApiError) -> Self {
        Self(error.status, error.message)
    }
}

impl IntoResponse for Words {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (self.0, headers, self.1).into_response()
    }
}

fn refused(refusal: &Refusal) -> Words {
    let status = match refusal {
        Refusal::UnknownCall(_) => StatusCode::NOT_FOUND,
        Refusal::NotAuthorized(_) | Refusal::Revoked => StatusCode::FORBIDDEN,
        Refusal::Full(_)
        | Refusal::Loading(_)
        | Refusal::RightsChanged(_)
        | Refusal::ShuttingDown
        | Refusal::Cancelled(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::BadParams(_) | Refusal::ProtocolError(_) | Refusal::NoCall(_) | Refusal::NoProcess(_) => {
            StatusCode::BAD_REQUEST
        }
    };
    Words(status, refusal.to_string())
}

async fn new(
    State(pow): State<Pow>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> Result<Response, Words> {
    let body = request::raw_body(request, pow.body).await?;
    let bad = || Words(StatusCode::BAD_REQUEST, "failed to decode call message".into());
    let call = Call::read(&body).ok_or_else(bad)?;
    let registry = pow.dispatcher.registry.as_ref().ok_or_else(|| refused(&Refusal::ShuttingDown))?;
    let draining = registry.draining();
    if draining.is_cancelled() {
        return Err(refused(&Refusal::ShuttingDown));
    }
    let admitted = pow.dispatcher.admit(&caller, call.into_message().into()).map_err(|refusal| refused(&refusal))?;
    admitted.raw_output();
    let started = match admitted {
        Admitted::Now(process) => Ok(process),
        Admitted::Later(queued) => tokio::select! {
            started = place(queued) => started,
            () = draining.cancelled() => Err(Refusal::ShuttingDown),
        },
    };
    let process = started.map_err(|refusal| refused(&refusal))?;
    // The process has no connected client, so its output is not held back.
    let view = pow.dispatcher.keep(registry, process, &caller);
    let detached = view.detached();
    let id = match &detached.owner.key {
        Some(key) => format!("{}.{key}", detached.id()),
        None => detached.id().to_string(),
    };
    Ok(super::json_of(&id)?)
}

/// Waits for a process slot, up to the time limit of the queue.
async fn place(mut queued: Queued) -> Result<Process, Refusal> {
    let until = queued.until;
    match tokio::time::timeout_at(until.into(), poll_fn(|cx| queued.poll(Instant::now(), cx))).await {
        Ok(started) => started,
        Err(_) => poll_fn(|cx| queued.poll(until, cx)).await,
    }
}

/// Returns the process with this id, which contains its key if the process has no owner. The error does not tell
/// whether the process exists.
fn process(pow: &Pow, caller: &Caller, id: &str) -> Result<Arc<Detached>, Words> {
    let (id, key) = id.split_once('.').map_or((id, None), |(id, key)| (id, Some(key)));
    let detached = pow.dispatcher.detached(caller, id, key);
    detached.ok_or_else(|| Words(StatusCode::NOT_FOUND, "process not found".into()))
}

/// A part of a stream.
struct Shown {
    text: String,
    /// The offset of its end.
    offset: u64,
    /// The number of requested bytes that are no longer kept.
    lost: u64,
}

/// Returns the stream's content after `from`, or else its last lines.
fn shown(detached: &Detached, stream: Stream, from: Option<u64>, ended: bool) -> Shown {
    let (mut at, mut lost) = (from.unwrap_or_default(), 0);
    let bytes = loop {
        match detached.read(stream, at) {
            Found::Lost(gone) => {
                lost += gone.end - gone.start;
                at = gone.end;
            }
            Found::Bytes(bytes) => break bytes,
            Found::Nothing => return Shown { text: String::new(), offset: at.min(detached.range(stream).end), lost },
        }
    };
    // An incomplete character is left for the next answer.
    let whole = if ended { bytes.len() } else { before_cut(&bytes) };
    let text = String::from_utf8_lossy(&bytes[..whole]);
    let offset = at + whole as u64;
    if from.is_some() {
        return Shown { text: text.into_owned(), offset, lost };
    }
    let lines: Vec<_> = text.lines().collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(LINES));
    lost += before.iter().map(|line| line.len() as u64 + 1).sum::<u64>();
    Shown { text: last.join("\n"), offset, lost }
}

/// The status of a process, without its result.
#[derive(Serialize)]
struct Status {
    #[serde(skip_serializing_if = "String::is_empty")]
    buffer: String,
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    stderr: String,
    stderr_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    stderr_lost: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

async fn status(
    State(pow): State<Pow>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Words> {
    let detached = process(&pow, &caller, &id)?;
    let [mut stdout, mut stderr] = [None, None];
    for (name, value) in request::query(&uri) {
        let place = match &*name {
            "offset" => &mut stdout,
            "stderr_offset" => &mut stderr,
            _ => continue,
        };
        let bad = || Words(StatusCode::BAD_REQUEST, format!("{name}: write a whole number"));
        *place = Some(value.parse::<u64>().map_err(|_| bad())?);
    }
    // Read first: once there is a result, the output is complete.
    let ending = detached.ending();
    let [out, err] = [(Stream::Stdout, stdout), (Stream::Stderr, stderr)]
        .map(|(stream, from)| shown(&detached, stream, from, ending.is_some()));
    let status = Status {
        buffer: out.text,
        offset: out.offset,
        lost: out.lost,
        stderr: err.text,
        stderr_offset: err.offset,
        stderr_lost: err.lost,
    };
    let status = serde_json::to_string(&status).expect("text and numbers are always JSON");
    let result = ending.map_or_else(pending, |ending| result(&ending.outcome, ending.value.as_deref()));
    // The result is passed on verbatim: its value can be nested more deeply than the parser allows.
    let open = status.strip_suffix('}').expect("a struct is an object");
    Ok(super::json(StatusCode::OK, format!(r#"{open},"result":{result}}}"#)))
}

async fn input(
    State(pow): State<Pow>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    request: Request,
) -> Result<Words, Words> {
    let detached = process(&pow, &caller, &id)?;
    let body = request::raw_body(request, pow.body).await?;
    match detached.control.input.offer(&body, Instant::now()) {
        Offered::Taken => Ok(Words::ok("input sent")),
        Offered::Full if body.len() as u64 > detached.control.input.limit().get() => {
            let what = format!("more than the {} that may wait for the process", detached.control.input.limit());
            Err(Words(StatusCode::PAYLOAD_TOO_LARGE, what))
        }
        Offered::Full => {
            let what = "the process has not read what was sent before: try again when it has";
            Err(Words(StatusCode::CONFLICT, what.into()))
        }
        Offered::Ended => Err(Words(StatusCode::CONFLICT, "the process takes no more input".into())),
    }
}

async fn close_input(
    State(pow): State<Pow>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Words, Words> {
    process(&pow, &caller, &id)?.control.input.finish();
    Ok(Words::ok("input closed"))
}

/// Tells the process to stop; a second request ends it at once.
async fn cancel(
    State(pow): State<Pow>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Words, Words> {
    let detached = process(&pow, &caller, &id)?;
    // An ended process stays as it is.
    match detached.control.cancelled() {
        None => detached.cancel(CancelReason::Client),
        Some(_) => detached.control.force(),
    }
    Ok(Words::ok("process cancelled"))
}
