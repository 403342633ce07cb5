//! What a process wrote, byte for byte, while it runs and after its end.
//!
//! An answer never spans bytes that are not kept. Its headers say where it begins and how much there is in all, so that
//! a client knows what it got.

use super::{
    Api,
    operation::Operation,
    processes::{id_of, seen},
    request::{self, Segment},
    route::Route,
};
use crate::answer::ApiError;
use crate::api::auth::Authenticated;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use distillery_core::{
    auth::{ALL_PROCESSES, Permission, may},
    stream::Stream,
};
use distillery_process::history::{Cursor, Outputs, Piece, RUNNING};
use distillery_store::database::StoreError;
use futures_util::stream::try_unfold;
use serde_json::json;
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// The offset of the first byte of the body.
const OFFSET: HeaderName = HeaderName::from_static("distillery-offset");
/// The number of bytes that the process had written when the answer began.
const TOTAL: HeaderName = HeaderName::from_static("distillery-total");
/// Maximum time that an answer waits for more output. The caller's credentials are checked with the next request.
const FOLLOW: Duration = Duration::from_secs(30);
/// Interval between looks for more output.
const LOOK: Duration = Duration::from_millis(250);
/// Maximum number of answers that wait for more output.
const FOLLOWERS: usize = 256;
static FOLLOWING: AtomicUsize = AtomicUsize::new(0);

pub(super) fn routes() -> Vec<Route> {
    let output = id_of(Operation::new("readOutput", "processes", "Reads what a process wrote"))
        .described(
            "The bytes of one stream from an offset on, unchanged. The answer ends before bytes that are not kept: if \
             Distillery-Offset is larger than `from`, those in between are lost. With `follow`, the answer goes on \
             while the process runs, for 30 s; read on from the offset behind its last byte. The stderr of a plugin \
             with `stderr: log` needs the scope `processes:*`.",
        )
        .query("stream", "The stream", json!({"enum": ["stdout", "stderr"], "default": "stdout"}), json!("stdout"))
        .query("from", "The offset of the first byte", json!({"type": "integer", "minimum": 0, "default": 0}), json!(0))
        .query("follow", "Whether to wait for more", json!({"type": "boolean", "default": false}), json!(false))
        .error(410, "The output is no longer kept, or the call has `output: none`.")
        .error(429, "Too many requests follow the output of processes.")
        .answers_with::<String>(200, "The bytes.", "application/octet-stream", None)
        .with(200, &["Cache-Control", "Distillery-Offset", "Distillery-Total"], json!({}));
    vec![Route::at("/processes/{id}/output").get(read, output)]
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    stream: Stream,
    from: u64,
    follow: bool,
}

fn wanted(uri: &Uri) -> Result<Wanted, String> {
    let mut wanted = Wanted { stream: Stream::Stdout, from: 0, follow: false };
    for (name, value) in request::query(uri) {
        match &*name {
            "stream" => {
                let stream = Stream::BOTH.into_iter().find(|stream| stream.name() == value);
                wanted.stream = stream.ok_or("stream: write stdout or stderr")?;
            }
            "from" => {
                let from = value.parse().ok().filter(|from| i64::try_from(*from).is_ok());
                wanted.from = from.ok_or("from: write the offset of a byte, from 0 on")?;
            }
            "follow" => wanted.follow = value.parse().map_err(|_| "follow: write true or false".to_owned())?,
            other => return Err(format!("{other:?} is not known here: use stream, from and follow")),
        }
    }
    Ok(wanted)
}

async fn read(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Response, ApiError> {
    let Wanted { stream, from, follow } = wanted(&uri).map_err(|what| ApiError::new(StatusCode::BAD_REQUEST, what))?;
    let seen = seen(&state, &caller, &id).await?;
    let id = seen.begun.id;
    let gone = || ApiError::new(StatusCode::GONE, "the output of this process is not kept");
    let outputs = state.history.outputs.as_ref().ok_or_else(gone)?;
    let ends = outputs.ends(id).await.map_err(|error| ApiError::of_server(&error))?;
    if ends.is_none() && seen.used.bytes_out > 0 {
        return Err(gone());
    }
    let total = ends.unwrap_or_default()[stream as usize];
    let follower = follow.then(|| Follower::new().ok_or_else(too_many)).transpose()?;
    let operator = may(&caller, Permission::Use(ALL_PROCESSES));
    let mut reading = Reading {
        cursor: Cursor::new(id, stream, operator, from),
        pieces: VecDeque::new(),
        follower,
        until: Instant::now() + FOLLOW,
        state,
    };
    let first = reading.next().await.map_err(|error| ApiError::of_server(&error))?;
    // For others than operators, a stderr that went to the log does not exist.
    let hidden = first.is_none() && stream == Stream::Stderr && !operator;
    let total = if hidden { from } else { total.max(reading.cursor.offset) };
    let offset = first.as_ref().map_or(total.max(from), |piece| piece.offset);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (OFFSET, HeaderValue::from(offset)),
        (TOTAL, HeaderValue::from(total)),
    ];
    let body = Body::from_stream(try_unfold((first, reading), |(piece, mut reading)| async move {
        let Some(piece) = piece else { return Ok::<_, StoreError>(None) };
        let next = reading.next().await?;
        let end = piece.offset + piece.bytes.len() as u64;
        let next = next.filter(|next| next.offset == end);
        Ok(Some((Bytes::from(piece.bytes), (next, reading))))
    }));
    Ok((headers, body).into_response())
}

fn too_many() -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many requests follow output: try again, or leave out follow")
}

/// A request that waits for more output.
struct Follower;

impl Follower {
    fn new() -> Option<Self> {
        let one_more = |count| (count < FOLLOWERS).then_some(count + 1);
        FOLLOWING.fetch_update(SeqCst, SeqCst, one_more).is_ok().then(|| Self)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        FOLLOWING.fetch_sub(1, SeqCst);
    }
}

/// An answer that is being read.
struct Reading {
    state: Api,
    cursor: Cursor,
    pieces: VecDeque<Piece>,
    /// `None` if the answer ends with what is stored.
    follower: Option<Follower>,
    until: Instant,
}

impl Reading {
    /// Returns the next bytes. With a follower, waits for them while the process runs.
    async fn next(&mut self) -> Result<Option<Piece>, StoreError> {
        let state = self.state.clone();
        let Some(outputs) = &state.history.outputs else { return Ok(None) };
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(piece));
            }
            // Asked before the last look, which then finds everything.
            let more_to_come = self.follower.is_some() && self.runs(self.cursor.process).await?;
            if self.follower.is_some() {
                outputs.written().await;
            }
            if self.look(outputs).await? {
                continue;
            }
            let drained = state.drain.signal();
            if !more_to_come || drained.is_cancelled() || Instant::now() > self.until {
                return Ok(None);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = drained.cancelled() => {}
            }
        }
    }

    /// Reads the next part. Returns whether there was one.
    async fn look(&mut self, outputs: &Outputs) -> Result<bool, StoreError> {
        let found = outputs.next(&mut self.cursor).await?;
        let any = found.is_some();
        self.pieces.extend(found.into_iter().flatten());
        Ok(any)
    }

    async fn runs(&self, process: Uuid) -> Result<bool, StoreError> {
        Ok(self.state.history.one(process).await?.is_some_and(|seen| seen.outcome() == RUNNING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_of_output_is_parsed_or_has_a_precise_error() {
        let read = |query: &str| wanted(&format!("/x?{query}").parse().unwrap());
        assert_eq!(read("").unwrap(), Wanted { stream: Stream::Stdout, from: 0, follow: false });
        let all = read("stream=stderr&from=7&follow=true").unwrap();
        assert_eq!(all, Wanted { stream: Stream::Stderr, from: 7, follow: true });
        for wrong in ["stream=x", "from=-1", "from=99999999999999999999", "from=9223372036854775808", "follow=2", "x=1"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn followers_are_bounded() {
        let all: Vec<_> = (0..FOLLOWERS).map_while(|_| Follower::new()).collect();
        assert!(all.len() <= FOLLOWERS && Follower::new().is_none());
        drop(all);
        assert!(Follower::new().is_some());
    }
}
