//! The plugins and their generations: state, events, reload and rollback.

use super::{Api, auth::needs, json_of, moment, operation::Operation, request::Segment, route::Route};
use crate::answer::ApiError;
use crate::api::auth::Authenticated;
use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use distillery_core::call::{CallName, Refusal};
use distillery_plugin::{
    Catalog, Plugin, Snapshot, State as PluginState,
    generation::{Change, Failure, What},
    granted::Granted,
    loading::Claims,
    watch::{Holder, NoWayBack, RolledBack},
};
use distillery_process::history::Seen;
use distillery_store::identity::standing::{Credential, Standing};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, LazyLock},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

/// The time that a request waits for a reload: compiling takes long, and a directory can keep changing.
const RELOAD: Duration = Duration::from_secs(180);
/// The maximum number of listed processes of a generation with revoked rights.
const HOLDERS: usize = 100;
/// The interval of heartbeats on a silent stream.
const ALIVE: Duration = Duration::from_secs(15);

const READ: &str = "plugins:read";
const WRITE: &str = "plugins:write";

pub(super) fn routes() -> Vec<Route> {
    let digest = "6f".repeat(32);
    let plugin = json!({
        "name": "echo", "state": "serving", "generation": 2, "digest": digest, "loaded": "2026-01-31T12:00:00Z",
        "kind": "WASI 0.2 component", "description": "Says it again", "calls": ["echo"],
        "interpreter": null, "files": {"at": "/plugin", "count": 3, "size": 4096}, "env": {"MODE": "loud"},
        "grants": {"mounts": [], "http": [], "env": [], "secrets": [], "systems": null, "scratch": null, "commands": []},
        "error": null, "processes": 1, "previous": null,
        "generations": [{
            "generation": 2, "digest": digest, "at": "2026-01-31T12:00:00Z", "state": "serving", "processes": 1,
        }],
    });
    let events = format!(
        "event: plugins\ndata: []\n\nevent: serving\ndata: {}\n\n",
        json!({"plugin": "echo", "generation": 2, "digest": digest, "at": "2026-01-31T12:00:00Z"})
    );
    let list_operation = Operation::new("listPlugins", "plugins", "Lists the plugins and their generations")
        .needs(READ)
        .answers::<Vec<Shown<'_>>>(200, "The plugins, by name.", json!([plugin]))
        .with(
            200,
            &["Cache-Control"],
            json!({
                "rollBackPlugin": {"operationId": "rollBackPlugin", "parameters": {"name": "$response.body#/0/name"}},
            }),
        );
    let events_operation = Operation::new("followPlugins", "plugins", "Streams changes of plugins")
        .described(
            "Server-sent events, until the client disconnects or the server ends. The first event is `plugins`, with the \
             same content as the list; it is repeated for a client that was too slow and missed changes. Each change is \
             one event: `serving`, `retired`, `freed`, `failed` or `removed`, with a PluginChange. A comment every 15 \
             seconds is a heartbeat. If the presented token or session becomes invalid, the last event is `revoked`.",
        )
        .needs(READ)
        .speaks_of::<ShownChange<'_>>()
        .answers_with::<String>(200, "The events.", "text/event-stream", Some(json!(events)));
    let reload_operation =
        Operation::new("reloadPlugins", "plugins", "Reloads the configuration and all plugins")
            .described(
                "Renews the rights of served plugins under the current configuration; a plugin that loses its rights stops \
                 serving. The answer comes when all plugins have been checked and changed ones are loaded. Running processes \
                 keep their rights: `holders` names those with more rights than the configuration grants. DELETE ends \
                 such a process.",
            )
            .needs(WRITE)
            .error(503, "The server is ending, or there are too many connections.")
            .error(504, "Plugins are still loading after 3 minutes; the list of plugins shows the result.")
            .answers::<ShownReload<'_>>(
                200,
                "The result of the reload.",
                json!({
                    "changed": ["plugins.grants"], "restart": [], "error": null, "plugins": [plugin],
                    "holders": [{
                        "plugin": "echo", "generation": 1, "rights": ["the old value of KEY"],
                        "processes": 1, "ids": ["019c1a2b-3c4d-7e5f-8a9b-0c1d2e3f4a5b"],
                    }],
                }),
            );
    let roll_back_operation =
        Operation::new("rollBackPlugin", "plugins", "Rolls a plugin back to its previous generation")
            .described("Lasts until the directory of the plugin changes again, even after a restart.")
            .needs(WRITE)
            .segment("name", "The name of the plugin", json!({"type": "string"}), json!("echo"))
            .error(404, "There is no such plugin.")
            .error(409, "There is no previous generation.")
            .error(503, "The server is ending, or there are too many connections.")
            .answers::<ShownRollback<'_>>(
                200,
                "The generation that is served from now on.",
                json!({"plugin": "echo", "generation": 1}),
            );
    vec![
        Route::at("/plugins").get(list, list_operation),
        Route::at("/plugins/events").get(events_stream, events_operation),
        Route::at("/plugins/reload").post(reload, reload_operation),
        Route::at("/plugins/{name}/rollback").post(roll_back, roll_back_operation),
    ]
}

/// A plugin, in the API's representation.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Plugin")]
struct Shown<'a> {
    name: &'a str,
    /// The state: `serving`; `loading` until it is loaded at the start; `failed` if it never served; or `removed` if
    /// only processes are left.
    #[schemars(extend("enum" = ["serving", "loading", "failed", "removed"]))]
    state: &'static str,
    /// The generation that is served.
    generation: Option<u64>,
    digest: Option<&'a str>,
    #[schemars(extend("format" = "date-time"))]
    loaded: Option<String>,
    kind: Option<String>,
    description: &'a str,
    calls: Vec<&'a str>,
    /// The interpreter that runs its scripts; null if it has a module or a command.
    interpreter: Option<&'a str>,
    /// The files that the plugin brings along; null if there are none.
    files: Option<ShownFiles<'a>>,
    /// The constants in the environment of its processes.
    env: BTreeMap<&'a str, &'a str>,
    /// The granted resources outside the sandbox.
    grants: Option<&'a Granted>,
    /// The reason why the version in the directory is not served.
    error: Option<&'a str>,
    /// The number of running processes of all generations.
    processes: usize,
    /// The generation that a rollback would serve.
    previous: Option<u64>,
    /// The generations, newest first.
    generations: Vec<ShownGeneration>,
}

/// The files of a plugin.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Files")]
struct ShownFiles<'a> {
    /// The guest's path of them.
    at: &'a str,
    /// The number of files and links.
    count: usize,
    /// The size of all of them together, in bytes.
    size: u64,
}

/// A generation of a plugin.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Generation")]
struct ShownGeneration {
    generation: u64,
    digest: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// The state in words: serving, the number of remaining processes, or the reason of a failure.
    state: String,
    processes: usize,
}

impl ShownGeneration {
    fn of(plugin: &Plugin, state: String) -> Self {
        Self {
            generation: plugin.generation,
            digest: Some(plugin.digest.clone()),
            at: moment(plugin.loaded),
            state,
            processes: plugin.running(),
        }
    }

    fn failed(failure: &Failure) -> Self {
        Self {
            generation: failure.generation,
            digest: failure.digest.clone(),
            at: moment(failure.at),
            state: format!("failed: {}", failure.why),
            processes: 0,
        }
    }
}

/// All plugins at one moment.
struct Now {
    snapshot: Arc<Snapshot>,
    loading: Arc<Claims>,
}

impl Now {
    fn of(catalog: &Catalog) -> Self {
        // Read first: a plugin that is loaded in between is in the snapshot.
        let loading = catalog.loading.claims();
        Self { snapshot: catalog.snapshot(), loading }
    }
}

static NO_PLUGIN: LazyLock<PluginState> = LazyLock::new(PluginState::default);

impl<'a> Shown<'a> {
    fn new(name: &'a str, plugin: &'a PluginState) -> Self {
        let serving = plugin.serving.as_deref();
        let retired = plugin.retired();
        let mut generations: Vec<_> = serving.map(|it| ShownGeneration::of(it, "serving".into())).into_iter().collect();
        generations.extend(retired.iter().map(|it| ShownGeneration::of(it, retired_with(it.running()))));
        generations.extend(plugin.error.as_ref().map(ShownGeneration::failed));
        generations.sort_by_key(|it| std::cmp::Reverse(it.generation));
        let manifest = serving.map(|it| &it.manifest);
        Self {
            name,
            state: match (&plugin.serving, &plugin.error) {
                (Some(_), _) => "serving",
                (None, Some(_)) => "failed",
                (None, None) => "removed",
            },
            generation: serving.map(|it| it.generation),
            digest: serving.map(|it| it.digest.as_str()),
            loaded: serving.map(|it| moment(it.loaded)),
            kind: serving.map(|it| it.program.kind().to_string()),
            description: manifest.map_or("", |it| &it.description),
            calls: manifest.map(|it| it.calls.keys().map(|call| call.as_str()).collect()).unwrap_or_default(),
            interpreter: manifest.and_then(|it| it.interpreter.as_ref()).map(CallName::as_str),
            files: serving.and_then(|it| {
                let ((count, size), at) = (it.files()?, it.manifest.files.at.as_str());
                Some(ShownFiles { at, count, size: size.get() })
            }),
            env: manifest
                .into_iter()
                .flat_map(|it| &it.env)
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            grants: serving.map(|it| &it.granted),
            error: plugin.error.as_ref().map(|failure| failure.why.as_str()),
            processes: generations.iter().map(|it| it.processes).sum(),
            previous: plugin.previous.as_ref().map(|it| it.generation),
            generations,
        }
    }

    /// Returns a plugin of the first load that is not loaded yet.
    fn loading(name: &'a str) -> Self {
        Self { state: "loading", ..Self::new(name, &NO_PLUGIN) }
    }

    fn all(Now { snapshot, loading }: &'a Now) -> Vec<Self> {
        let all = snapshot.plugins().iter().map(|(name, state)| Self::new(name, state));
        // A removed plugin is listed only while any of its processes runs.
        let all = all.filter(|it| !it.generations.is_empty());
        let loading = loading.keys().filter(|name| !snapshot.plugins().contains_key(*name)).map(|it| Self::loading(it));
        let mut all: Vec<_> = all.chain(loading).collect();
        all.sort_by_key(|it| it.name);
        all
    }
}

fn retired_with(processes: usize) -> String {
    match processes {
        1 => "retired with 1 process".into(),
        several => format!("retired with {several} processes"),
    }
}

async fn list(State(state): State<Api>, Authenticated(caller): Authenticated) -> Result<Response, ApiError> {
    needs(&caller, READ)?;
    json_of(&Shown::all(&Now::of(&state.catalog)))
}

/// The result of a rollback.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Rollback")]
struct ShownRollback<'a> {
    plugin: &'a str,
    generation: u64,
    /// The reason why a restart will forget the rollback, such as a full disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    forgotten: Option<String>,
}

async fn roll_back(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    Segment(name): Segment,
) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    match state.plugins.roll_back(&name).await {
        Ok(RolledBack { generation, forgotten }) => json_of(&ShownRollback { plugin: &name, generation, forgotten }),
        Err(error) => {
            let status = match error {
                NoWayBack::Unknown(_) => StatusCode::NOT_FOUND,
                NoWayBack::NothingKept(_) | NoWayBack::Refused(_) => StatusCode::CONFLICT,
                NoWayBack::Ending => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(ApiError::new(status, error.to_string()))
        }
    }
}

/// The result of a reload.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Reload")]
struct ShownReload<'a> {
    /// The keys of the configuration whose new values apply from now on.
    changed: Vec<&'static str>,
    /// The keys whose new values apply after the next start.
    restart: Vec<&'static str>,
    /// The reason why the configuration is unchanged.
    error: Option<String>,
    plugins: Vec<Shown<'a>>,
    /// The generations whose processes hold more rights than the configuration now grants. The processes keep these
    /// rights until they end.
    holders: Vec<ShownHolder<'a>>,
}

/// A generation whose processes hold revoked rights.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Holder")]
struct ShownHolder<'a> {
    plugin: &'a str,
    generation: u64,
    /// The revoked rights, in words.
    rights: &'a [String],
    processes: usize,
    /// The ids of some of these processes, newest first.
    ids: Vec<String>,
}

impl<'a> ShownHolder<'a> {
    /// Returns `None` if no process is left.
    fn new(holder: &'a Holder, running: &[Seen]) -> Option<Self> {
        let Holder { plugin, rights } = holder;
        let own = running.iter().map(|seen| &seen.begun);
        let own = own.filter(|begun| begun.plugin == plugin.name && begun.generation == plugin.generation);
        let ids = own.take(HOLDERS).map(|begun| begun.id.to_string()).collect();
        let processes = plugin.running();
        (processes > 0).then_some(Self { plugin: &plugin.name, generation: plugin.generation, rights, processes, ids })
    }
}

async fn reload(State(state): State<Api>, Authenticated(caller): Authenticated) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let reloaded = match tokio::time::timeout(RELOAD, state.plugins.reload()).await {
        Ok(Ok(reloaded)) => reloaded,
        Ok(Err(_)) => return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NoWayBack::Ending.to_string())),
        Err(_) => {
            let what = "plugins are still loading: see the list of plugins in a while";
            return Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, what));
        }
    };
    let now = Now::of(&state.catalog);
    let running = if reloaded.holders.is_empty() { Vec::new() } else { state.history.running(|_| true) };
    json_of(&ShownReload {
        changed: reloaded.changed,
        restart: reloaded.restart,
        error: reloaded.error,
        plugins: Shown::all(&now),
        holders: reloaded.holders.iter().filter_map(|holder| ShownHolder::new(holder, &running)).collect(),
    })
}

/// A change, as an event of the stream. The name of the event tells the kind of change.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PluginChange")]
struct ShownChange<'a> {
    plugin: &'a str,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[schemars(extend("format" = "date-time"))]
    at: String,
}

impl<'a> From<&'a Change> for ShownChange<'a> {
    fn from(Change { plugin, generation, what }: &'a Change) -> Self {
        let at = moment(OffsetDateTime::now_utc());
        let shown = Self { plugin, generation: *generation, digest: None, processes: None, error: None, at };
        match what {
            What::Serving { digest } => Self { digest: Some(digest), ..shown },
            What::Retired { processes } => Self { processes: Some(*processes), ..shown },
            What::Failed { why } => Self { error: Some(why), ..shown },
            What::Removed | What::Freed => shown,
        }
    }
}

/// A client that follows plugin events.
struct Follower {
    state: Api,
    changes: Receiver<Change>,
    /// Whether the client needs the complete list before the next change.
    behind: bool,
    draining: CancellationToken,
    /// `None` if the caller needs no credential.
    standing: Option<Standing>,
    over: bool,
}

/// Streams all plugins and then every change, until the client disconnects or the server ends.
async fn events_stream(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    credential: Option<Extension<Credential>>,
) -> Result<Response, ApiError> {
    needs(&caller, READ)?;
    let draining = state.drain.signal();
    let standing = credential.map(|Extension(credential)| state.door.identity.watch(credential, &caller));
    let changes = state.catalog.changes();
    let follower = Follower { changes, behind: true, draining, standing, over: false, state };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let keep_alive = KeepAlive::new().interval(ALIVE);
    Ok(([("x-content-type-options", "nosniff")], Sse::new(events).keep_alive(keep_alive)).into_response())
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        while !self.behind {
            let change = tokio::select! {
                biased;
                () = revoked(self.standing.as_ref()) => {
                    self.over = true;
                    return event("revoked", &json!({"message": Refusal::Revoked.to_string()}));
                }
                change = self.changes.recv() => change,
                () = self.draining.cancelled() => return None,
            };
            match change {
                Ok(change) => return event(change.what.name(), &ShownChange::from(&change)),
                // The client was too slow and missed changes, so the complete list follows.
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
        self.behind = false;
        event("plugins", &Shown::all(&Now::of(&self.state.catalog)))
    }
}

/// Waits until the caller's credential becomes invalid.
async fn revoked(standing: Option<&Standing>) {
    match standing {
        Some(standing) => standing.revoked().cancelled().await,
        None => std::future::pending().await,
    }
}

fn event(name: &str, data: &impl Serialize) -> Option<Event> {
    Some(Event::default().event(name).data(serde_json::to_string(data).ok()?))
}
