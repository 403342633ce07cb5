//! Webhooks: which deliveries are accepted, and as which calls. The module knows no sockets and runs nothing.

mod deliveries;
mod payload;
mod signature;

use arc_swap::ArcSwap;
use axum::http::HeaderMap;
use deliveries::Deliveries;
pub use deliveries::Reserved;
use distillery_config::{self as config, Hook, SecretSource};
use distillery_core::{one_line::OneLine, secret::Secret};
use distillery_observe::metrics::hooks::{HookMetrics, Rejected};
use distillery_plugin::granted::read_secret;
use distillery_process::dispatch::Request;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The maximum number of deliveries whose bodies are in memory before they are verified.
const UNVERIFIED: usize = 64;
/// The time before a rejection of the same webhook for the same reason is logged again.
const LOGGED_AGAIN: Duration = Duration::from_secs(60);
/// The maximum length of an explanation in the log.
const EXPLANATION: usize = 300;

/// The webhooks of a configuration, with their secrets.
#[derive(Debug, Default)]
pub struct Table(BTreeMap<String, Arc<Entry>>);

/// A webhook with its secret.
#[derive(Debug)]
pub struct Entry {
    pub hook: Hook,
    name: String,
    secret: Secret,
}

/// A webhook that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the secret of hooks.{hook}: {why}: put it there, or change hooks.{hook}.secret in distillery.yaml")]
pub struct BadHook {
    hook: String,
    why: String,
}

/// The webhooks of a server, which a reload replaces.
pub struct Hooks {
    table: ArcSwap<Table>,
    /// The accepted deliveries, by webhook. They outlive a reload.
    deliveries: Mutex<HashMap<String, Arc<Deliveries>>>,
    unverified: Semaphore,
    logged: Mutex<HashMap<(String, Rejected), Instant>>,
    metrics: Arc<HookMetrics>,
}

/// A rejected delivery.
#[derive(Debug)]
pub struct Rejection {
    pub reason: Rejected,
    /// What is wrong, and what to do, for the log and the service.
    pub why: String,
}

impl Rejection {
    pub fn new(reason: Rejected, why: impl Into<String>) -> Self {
        Self { reason, why: why.into() }
    }

    /// Returns the setting that decides, below that of the webhook.
    fn setting(&self) -> Option<&'static str> {
        match self.reason {
            Rejected::NoSignature => Some("format"),
            Rejected::BadSignature => Some("secret"),
            Rejected::Expired => Some("window"),
            Rejected::BadBody => Some("body"),
            Rejected::BadParameter => Some("params"),
            Rejected::UnknownUser => Some("user"),
            Rejected::CallRefused => Some("call"),
            Rejected::UnknownHook | Rejected::Replayed | Rejected::Busy => None,
        }
    }
}

impl Table {
    /// Reads the secrets of all webhooks. One that is missing or empty is an error, as it would let everyone in.
    pub fn open(hooks: &config::Hooks) -> Result<Self, BadHook> {
        let entries = hooks.hooks.iter().map(|(name, hook)| {
            let bad = |why: String| BadHook { hook: name.clone(), why };
            let (secret, place) = match &hook.secret {
                SecretSource::File(path) => (read_secret(path), path.display().to_string()),
                SecretSource::Env(variable) => {
                    let value = hooks.environment.get(variable).cloned();
                    (value.ok_or_else(|| "it is not set in the environment of the server".to_owned()), variable.clone())
                }
            };
            let secret = secret.map_err(|why| bad(format!("{place}: {why}")))?;
            if secret.reveal().trim().is_empty() {
                return Err(bad(format!("{place}: it is empty")));
            }
            Ok((name.clone(), Arc::new(Entry { hook: hook.clone(), name: name.clone(), secret })))
        });
        entries.collect::<Result<_, _>>().map(Self)
    }
}

impl Entry {
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Hooks {
    pub fn new(table: Table, metrics: Arc<HookMetrics>) -> Self {
        Self {
            table: ArcSwap::from_pointee(table),
            deliveries: Mutex::default(),
            unverified: Semaphore::new(UNVERIFIED),
            logged: Mutex::default(),
            metrics,
        }
    }

    /// Replaces the webhooks. Deliveries of those that remain stay known.
    pub fn replace(&self, table: Table) {
        self.deliveries.lock().retain(|name, _| table.0.contains_key(name));
        self.table.store(Arc::new(table));
    }

    /// Returns the webhook at a path below `/hooks/`.
    pub fn find(&self, path: &str) -> Result<Arc<Entry>, Rejection> {
        let found = self.table.load().0.get(path.strip_suffix('/').unwrap_or(path)).cloned();
        found.ok_or_else(|| {
            Rejection::new(
                Rejected::UnknownHook,
                format!("there is no webhook at /hooks/{path}: see hooks in distillery.yaml"),
            )
        })
    }

    /// Returns the permission to hold the body of a delivery that is not verified yet.
    pub fn admit(&self) -> Result<SemaphorePermit<'_>, Rejection> {
        self.unverified
            .try_acquire()
            .map_err(|_| Rejection::new(Rejected::Busy, "too many deliveries at once: try again in a moment"))
    }

    /// Verifies a delivery. Returns the call that it asks for, and its reservation.
    pub fn verify(&self, entry: &Entry, headers: &HeaderMap, body: &[u8]) -> Result<(Request, Reserved), Rejection> {
        let hook = &entry.hook;
        let now = SystemTime::now();
        let id = signature::verify(hook.format, &entry.secret, hook.window, headers, body, now).map_err(|reason| {
            let why = match reason {
                Rejected::NoSignature => "the header with the signature is not there exactly once",
                Rejected::Expired => "the delivery is too old, or a clock is wrong",
                _ => "the signature does not match: use the same secret on both sides",
            };
            Rejection::new(reason, why)
        })?;
        let params =
            payload::arguments(&hook.params, body).map_err(|why| Rejection::new(Rejected::BadParameter, why))?;
        let deliveries = self.deliveries.lock().entry(entry.name.clone()).or_default().clone();
        let reserved = deliveries.reserve(id).ok_or_else(|| {
            Rejection::new(Rejected::Replayed, "this delivery was accepted before, and runs no second time")
        })?;
        Ok((Request { call: hook.call.as_str().to_owned(), params }, reserved))
    }

    /// Counts a delivery that has started its call.
    pub fn note_accepted(&self, reserved: Reserved) {
        reserved.accept();
        self.metrics.accepted();
    }

    /// Counts and logs a rejected delivery. `hook` is empty if there is no such webhook.
    pub fn note_rejected(&self, hook: &str, rejection: &Rejection, address: Option<IpAddr>) {
        self.metrics.rejected(rejection.reason);
        let now = Instant::now();
        {
            let mut logged = self.logged.lock();
            logged.retain(|_, at| now.duration_since(*at) < LOGGED_AGAIN);
            if logged.insert((hook.to_owned(), rejection.reason), now).is_some() {
                return;
            }
        }
        let setting = match (hook, rejection.setting()) {
            ("", _) => "hooks".to_owned(),
            (hook, None) => format!("hooks.{hook}"),
            (hook, Some(setting)) => format!("hooks.{hook}.{setting}"),
        };
        tracing::warn!(
            hook,
            reason = rejection.reason.name(),
            setting,
            address = address.map(tracing::field::display),
            why = %OneLine { text: &rejection.why, most: EXPLANATION },
            "webhook delivery rejected"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distillery_config::{HookFormat, HookParams};
    use distillery_core::size::Size;

    fn hook(secret: SecretSource) -> config::Hooks {
        let hook = Hook {
            call: "deploy".parse().unwrap(),
            user: "ci".parse().unwrap(),
            format: HookFormat::Gitlab,
            secret,
            params: HookParams::Named([("slug".to_owned(), "/name".to_owned())].into()),
            window: Duration::from_secs(300),
            body: Size::mib(1),
            wait: false,
        };
        let environment = [("SET", "swordfish"), ("EMPTY", "")];
        let environment = environment.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())));
        config::Hooks { hooks: [("ci/deploy".to_owned(), hook)].into(), environment: environment.into() }
    }

    fn opened(source: SecretSource) -> Hooks {
        Hooks::new(Table::open(&hook(source)).unwrap(), Arc::default())
    }

    fn signed() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-gitlab-token", "swordfish".parse().unwrap());
        headers.insert("idempotency-key", "1".parse().unwrap());
        headers
    }

    #[test]
    fn webhook_without_a_secret_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in [("empty", ""), ("blank", " \n"), ("line", "\n"), ("set", "swordfish\n")] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let file = |name: &str| SecretSource::File(directory.path().join(name));
        let variable = |name: &str| SecretSource::Env(name.to_owned());
        for source in
            [file("empty"), file("blank"), file("line"), file("nowhere"), variable("EMPTY"), variable("UNSET")]
        {
            let error = Table::open(&hook(source.clone())).unwrap_err().to_string();
            assert!(error.contains("hooks.ci/deploy.secret in distillery.yaml"), "{source:?}: {error}");
        }
        for source in [file("set"), variable("SET")] {
            let table = Table::open(&hook(source)).unwrap();
            assert_eq!(table.0["ci/deploy"].secret.reveal(), "swordfish");
            assert!(!format!("{table:?}").contains("swordfish"));
        }
    }

    #[test]
    fn delivery_becomes_a_call_once() {
        let hooks = opened(SecretSource::Env("SET".into()));
        let entry = hooks.find("ci/deploy/").unwrap();
        assert_eq!(hooks.find("ci").unwrap_err().reason, Rejected::UnknownHook);
        let verify = |headers: &HeaderMap, body: &[u8]| hooks.verify(&entry, headers, body).map_err(|it| it.reason);
        let (request, reserved) = verify(&signed(), br#"{"name": "coins"}"#).unwrap();
        let params = distillery_plugin::arguments::Arguments::Named(vec![("slug".into(), "coins".into())]);
        assert_eq!(request, Request { call: "deploy".into(), params });
        assert_eq!(verify(&signed(), b"{}").unwrap_err(), Rejected::Replayed, "it is being handled");
        hooks.note_accepted(reserved);
        assert_eq!(verify(&signed(), b"{}").unwrap_err(), Rejected::Replayed);
        assert_eq!(verify(&HeaderMap::new(), b"{}").unwrap_err(), Rejected::NoSignature);
        // A reload forgets no delivery.
        hooks.replace(Table::open(&hook(SecretSource::Env("SET".into()))).unwrap());
        assert_eq!(verify(&signed(), b"{}").unwrap_err(), Rejected::Replayed);
        hooks.replace(Table::default());
        assert!(hooks.find("ci/deploy").is_err());
    }

    #[test]
    fn unverified_deliveries_are_bounded() {
        let hooks = opened(SecretSource::Env("SET".into()));
        let held: Vec<_> = (0..UNVERIFIED).map(|_| hooks.admit().unwrap()).collect();
        assert_eq!(hooks.admit().err().map(|it| it.reason), Some(Rejected::Busy));
        drop(held);
        assert!(hooks.admit().is_ok());
    }
}
