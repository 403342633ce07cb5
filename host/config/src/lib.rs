//! The configuration of the server: `distillery.yaml` and the environment, checked once and never changed.
//!
//! Every value in a [`Config`] is valid: later code need not check that a limit is above zero or a name well-formed.
//! This module does not know how values are used. Only this module reads the environment; the caller passes it in, so
//! that tests need none.
//!
//! The shipped `distillery.yaml` documents the meaning, unit and default of every key; a test compares it with the
//! code.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod changes;
mod commands;
mod form;
mod grants;
mod hooks;
pub mod reference;
mod schedules;
mod secrets;
mod service;
mod source;
mod systems;
mod yaml;

pub use changes::Changes;
pub use commands::{CommandGrant, CommandLimits, CommandPaths, CommandValue};
pub use grants::{Grant, Mount, SystemsGrant};
pub use hooks::{Hook, HookFormat, HookParams, Hooks};
pub use schedules::{MISSED, Missed, OVERLAPS, Overlap, RunAs, Schedule};
pub use secrets::SecretSource;
pub use service::Service;
pub use source::ConfigError;
pub use systems::{BadSlug, Parts as SystemParts, SLUG_FORM, SLUG_PATTERN, Slug, System, TAGLINE, URL_PATTERN};

use distillery_core::{
    auth::Scope, call::Span, hosts::HostPattern, limits::Limits, network::Network, secret::Secret, size::Size,
    yaml::encoding,
};
use source::{Section, Source, Variables};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// The file to read if no other is named, relative to the working directory.
pub const DEFAULT_FILE: &str = "distillery.yaml";

/// All settings of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub http: Http,
    pub plugins: Plugins,
    pub limits: ServerLimits,
    pub cancel: Cancel,
    pub auth: Auth,
    pub history: History,
    /// Calls that run at set times, by the name of the schedule.
    pub schedules: BTreeMap<String, Schedule>,
    pub ops: Ops,
    pub traces: Traces,
    /// The webhooks.
    pub hooks: Hooks,
    /// Settings from the service manager; environment only.
    pub service: Service,
    /// The directory of data that must outlive the server.
    pub data: PathBuf,
    /// The directory of compiled code. It can be deleted at any time.
    pub cache: PathBuf,
    pub log: Log,
    /// The public systems.
    pub systems: Vec<System>,
    /// The directory of news: each Markdown file is one item. A missing directory means no news.
    pub news: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    pub listen: SocketAddr,
    /// Whether the API is served.
    pub api: bool,
    /// Whether the console is served at `/`.
    pub console: bool,
    /// Origins whose pages can open sockets, in addition to the server's own; `*` allows every origin.
    pub origins: Vec<String>,
    /// Hosts that the server answers for, in addition to its own names and addresses.
    pub hosts: Vec<HostPattern>,
    /// The time from the opening of a socket to its call message.
    pub call_timeout: Duration,
    /// The time that a client has to read what the server sent.
    pub write_timeout: Duration,
    pub ping_interval: Duration,
    /// The time without a sign of life after which a client counts as disconnected; longer than the ping interval.
    pub silence_timeout: Duration,
    /// The time from the opening of a connection to the end of the headers of its request.
    pub header_timeout: Duration,
    /// The largest frame, and the largest message, that a client can send.
    pub max_frame: Size,
    /// The maximum number of open sockets.
    pub connections: usize,
    /// The maximum number of open sockets from one address.
    pub connections_per_address: usize,
    /// If set, the server accepts TLS connections only.
    pub tls: Option<Tls>,
    /// The networks of proxies whose `Forwarded` and `X-Forwarded-*` headers are trusted.
    pub trusted_proxies: Vec<Network>,
}

/// The server's TLS identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file of certificates, the server's own first.
    pub certificate: PathBuf,
    /// The PEM file of the secret key.
    pub key: PathBuf,
}

/// The operator's HTTP listener, for health and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ops {
    /// `None` if there is no such listener.
    pub listen: Option<SocketAddr>,
}

/// Tracing of single calls, for an OTLP collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The collector's address for OTLP over HTTP; `None` disables tracing.
    pub endpoint: Option<String>,
    /// One in this many calls is traced if its client does not decide.
    pub one_in: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugins {
    /// The directory with one directory for each plugin.
    pub directory: PathBuf,
    /// The directory with one directory for each interpreter.
    pub interpreters: PathBuf,
    pub watch: Watch,
    /// The condition for readiness after a start.
    pub ready: Ready,
    /// The resources that each plugin can use, by its name.
    pub grants: BTreeMap<String, Grant>,
    /// Files of public keys. If there are any, a plugin must be signed with one of them to load.
    pub keys: Vec<PathBuf>,
    /// The environment variables that grants name and that are set.
    pub environment: BTreeMap<String, Secret>,
}

/// The way in which changes of plugins are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The operating system reports changes.
    Events,
    /// The server polls: for file systems without change events, such as network mounts.
    Poll,
    /// Plugins load only at the start.
    Off,
}

/// The plugins that must be loaded before a starting server is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Every plugin is loaded, or is known not to load.
    All,
    /// At least one.
    Any,
}

/// The limits of the server, and of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// The limits of one process, which a plugin can lower. `processes` is always `None` here: only a plugin sets it.
    pub process: Limits,
    /// The maximum number of concurrent processes; `None` means as many as the kernel supports.
    pub processes: Option<u32>,
    /// The maximum number of concurrent processes of one caller; `None` means as many as the server runs.
    pub processes_per_caller: Option<u32>,
    /// The maximum number of calls that wait for a process.
    pub queue: usize,
    /// The time that a call waits for a process; zero means that it is refused at once.
    pub queue_time: Duration,
    /// The time for which the output and outcome of a detached process are kept after its end.
    pub kept_time: Duration,
    /// The size that is kept of each stream of a detached process.
    pub kept_output: Size,
    /// The number of ended detached processes that are kept.
    pub kept_processes: usize,
    /// The maximum size of a module file.
    pub module: Size,
    /// The maximum number of files, links and directories that a plugin brings along.
    pub files: usize,
    /// The maximum size of all files of a plugin together.
    pub files_size: Size,
    /// The maximum time for the compilation of a module.
    pub compile_time: Duration,
    /// The maximum memory for the compilation of a module.
    pub compile_memory: Size,
}

/// The time between the request to stop and the end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// The grace period if the plugin does not set one.
    pub grace: Duration,
    /// The longest grace period that a plugin can set.
    pub grace_max: Duration,
    /// The time limit of a cleanup.
    pub cleanup_time: Duration,
    /// The time that the server waits for running calls at shutdown, whatever their grace period.
    pub shutdown_grace: Duration,
    /// The time for which running calls continue undisturbed after another server has taken over.
    pub takeover_grace: Duration,
}

/// Authentication and the rights of anonymous callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The scopes of anonymous callers.
    pub anonymous: Vec<Scope>,
    /// The lifetime of a session.
    pub session_time: Duration,
    /// Whether browsers send the session cookie over TLS only.
    pub secure_cookies: bool,
    /// Whether a user named by a trusted proxy is authenticated.
    pub forwarded_users: bool,
}

/// The retention of the history of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The maximum age.
    pub keep: Duration,
    /// The maximum number of processes.
    pub max: u64,
    /// The maximum size of all output on disk; nothing is kept if it is 0.
    pub output: Size,
    /// The maximum size of the output of one process.
    pub output_each: Size,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// A filter: levels, and modules with levels.
    pub level: String,
    /// Whether log output on a terminal can have colours; the variable `NO_COLOR` disables them.
    pub color: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: Http::default(),
            plugins: Plugins::default(),
            limits: ServerLimits::default(),
            cancel: Cancel::default(),
            auth: Auth::default(),
            history: History::default(),
            schedules: BTreeMap::new(),
            ops: Ops::default(),
            traces: Traces::default(),
            hooks: Hooks::default(),
            service: Service::default(),
            data: "data".into(),
            cache: "data/cache".into(),
            log: Log::default(),
            systems: Vec::new(),
            news: "news".into(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            api: false,
            console: true,
            origins: Vec::new(),
            hosts: Vec::new(),
            call_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(20),
            silence_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(10),
            max_frame: Size::mib(1),
            connections: 16_384,
            // Equal to the total: behind a reverse proxy, and on the machine itself, all clients share one address.
            connections_per_address: 16_384,
            tls: None,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            directory: "plugins".into(),
            interpreters: "interpreters".into(),
            watch: Watch::Events,
            ready: Ready::All,
            grants: BTreeMap::new(),
            keys: Vec::new(),
            environment: BTreeMap::new(),
        }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            process: Limits::default(),
            processes: None,
            processes_per_caller: None,
            queue: 1024,
            queue_time: Duration::from_secs(5),
            kept_time: Duration::from_secs(3600),
            kept_output: Size::mib(1),
            kept_processes: 1000,
            module: Size::mib(128),
            files: 20_000,
            files_size: Size::mib(256),
            compile_time: Duration::from_secs(120),
            compile_memory: Size::mib(2048),
        }
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(2),
            grace_max: Duration::from_secs(60),
            cleanup_time: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(10),
            takeover_grace: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            anonymous: Vec::new(),
            session_time: Duration::from_secs(7 * 24 * 3600),
            secure_cookies: false,
            forwarded_users: false,
        }
    }
}

impl Default for History {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(30 * 24 * 3600),
            max: 100_000,
            output: Size::mib(1024),
            output_each: Size::mib(16),
        }
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self { endpoint: None, one_in: 1 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into(), color: true }
    }
}

impl Config {
    /// Loads the configuration of the file at `path`, overridden by the variables of `environment`.
    ///
    /// Without a path, the variable `DISTILLERY_CONFIG` names the file. Without the variable, the file is
    /// [`DEFAULT_FILE`], which need not exist. A file that is named must exist.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::load_or(path, Path::new(DEFAULT_FILE), environment)
    }

    fn load_or(
        path: Option<&Path>,
        default: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let environment: Vec<_> = environment.into_iter().collect();
        let color = !environment.iter().any(|(name, value)| name == "NO_COLOR" && !value.is_empty());
        let variables = Variables::new(environment.iter().cloned())?;
        let named = path.or_else(|| variables.get("CONFIG").map(Path::new));
        if named.is_some_and(|file| file.as_os_str().is_empty()) {
            let what = "nothing is not a path: write the path of a file, or unset the variable";
            return Err(ConfigError::new("DISTILLERY_CONFIG", what));
        }
        let file = named.unwrap_or(default);
        let text = match std::fs::read(file) {
            Ok(bytes) => utf8(file, bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => String::new(),
            Err(error) => return Err(ConfigError::new(file.display(), format!("cannot be read: {error}"))),
        };
        let mut config = Self::read(&Source::new(file, &text, &variables), base(file))?;
        config.log.color = color;
        config.service = Service::read(&environment, std::process::id());
        config.hooks.take(&environment);
        config.plugins.environment = grants::named_in(&config.plugins.grants, environment);
        Ok(config)
    }

    fn read(source: &Source<'_>, base: &Path) -> Result<Self, ConfigError> {
        let default = Self::default();
        let mut root = source.root()?;
        let data = base.join(root.get_or("data", default.data, form::path)?);
        let cache = root.get("cache", form::path)?.map_or_else(|| data.join("cache"), |cache| base.join(cache));
        let config = Self {
            http: Http::read(root.section("http")?, base)?,
            plugins: Plugins::read(root.section("plugins")?, base)?,
            limits: ServerLimits::read(root.section("limits")?)?,
            cancel: Cancel::read(root.section("cancel")?)?,
            auth: Auth::read(root.section("auth")?)?,
            history: History::read(root.section("history")?)?,
            schedules: root.node("schedules")?.map_or_else(|| Ok(BTreeMap::new()), schedules::read)?,
            ops: Ops::read(root.section("ops")?)?,
            traces: Traces::read(root.section("traces")?)?,
            hooks: root.node("hooks")?.map_or_else(|| Ok(default.hooks), |node| Hooks::read(node, base))?,
            service: default.service,
            data,
            cache,
            log: Log::read(root.section("log")?)?,
            systems: root.node("systems")?.map_or_else(|| Ok(Vec::new()), systems::read)?,
            news: base.join(root.get_or("news", default.news, form::path)?),
        };
        if config.auth.forwarded_users && config.http.trusted_proxies.is_empty() {
            let what = "whom to believe is not said: set http.trusted_proxies to the addresses of your proxies";
            return Err(ConfigError::new("auth.forwarded_users", what));
        }
        root.finish()?;
        source.finish()?;
        Ok(config)
    }
}

/// Returns the directory that relative paths start from: the file's directory.
fn base(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

fn utf8(file: &Path, bytes: Vec<u8>) -> Result<String, ConfigError> {
    match encoding::decode(bytes) {
        Ok(text) => Ok(encoding::without_mark(&text).to_owned()),
        Err(error) => Err(ConfigError::new(format_args!("{}:{}", file.display(), error.line()), error.to_string())),
    }
}

impl Http {
    fn read(mut section: Section<'_>, base: &Path) -> Result<Self, ConfigError> {
        let default = Self::default();
        let s = &mut section;
        let http = Self {
            listen: s.get_or("listen", default.listen, form::address)?,
            api: s.get_or("api", default.api, form::switch)?,
            console: s.get_or("console", default.console, form::switch)?,
            origins: s.list_of("origins", form::origin_or_all)?,
            hosts: s.list_of("hosts", form::host)?,
            call_timeout: s.get_or("call_timeout", default.call_timeout, form::wait)?,
            write_timeout: s.get_or("write_timeout", default.write_timeout, form::wait)?,
            ping_interval: s.get_or("ping_interval", default.ping_interval, form::wait)?,
            silence_timeout: s.get_or("silence_timeout", default.silence_timeout, form::wait)?,
            header_timeout: s.get_or("header_timeout", default.header_timeout, form::wait)?,
            max_frame: s.get_or("max_frame", default.max_frame, form::size(Size::kib(1)..=HELD))?,
            connections: s.get_or("connections", default.connections, form::count(1..=1_000_000))?,
            connections_per_address: s.get_or(
                "connections_per_address",
                default.connections_per_address,
                form::count(1..=1_000_000),
            )?,
            tls: Tls::read(s, base)?,
            trusted_proxies: s.list_of("trusted_proxies", form::network)?,
        };
        if http.silence_timeout <= http.ping_interval {
            let (silence, ping) = (Span(http.silence_timeout), Span(http.ping_interval));
            let what = format!("a silence_timeout of {silence} must be longer than the ping_interval of {ping}");
            return Err(section.refuse(&["silence_timeout", "ping_interval"], what));
        }
        section.finish()?;
        Ok(http)
    }
}

impl Tls {
    /// Reads the two files. `None` if neither is set; one alone is an error.
    fn read(section: &mut Section<'_>, base: &Path) -> Result<Option<Self>, ConfigError> {
        let certificate = section.get_or("tls_certificate", None, form::or_word("off", form::path))?;
        let key = section.get_or("tls_key", None, form::or_word("off", form::path))?;
        let (missing, there) = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                return Ok(Some(Self { certificate: base.join(certificate), key: base.join(key) }));
            }
            (None, None) => return Ok(None),
            (Some(_), None) => ("tls_key too: the file of its secret key", "tls_certificate"),
            (None, Some(_)) => ("tls_certificate too: the file of its certificate", "tls_key"),
        };
        Err(section.refuse(&[there], format!("set {missing}")))
    }
}

impl Ops {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let ops = Self { listen: section.get_or("listen", None, form::or_word("off", form::address))? };
        section.finish()?;
        Ok(ops)
    }
}

impl Traces {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let traces = Self {
            endpoint: section.get_or("endpoint", default.endpoint, form::or_word("off", form::url))?,
            one_in: section.get_or("one_in", default.one_in, form::count(1..=1_000_000))?,
        };
        section.finish()?;
        Ok(traces)
    }
}

/// The maximum of a size that the server holds in memory as a whole.
const HELD: Size = Size::mib(1024);
/// The maximum of a size on disk.
const DISK: Size = Size::mib(1024 * 1024);

impl Plugins {
    fn read(mut section: Section<'_>, base: &Path) -> Result<Self, ConfigError> {
        let default = Self::default();
        let watch = form::word(&[
            ("events", Watch::Events),
            ("poll", Watch::Poll),
            ("off", Watch::Off),
            ("true", Watch::Events),
            ("false", Watch::Off),
        ]);
        let plugins = Self {
            directory: base.join(section.get_or("directory", default.directory, form::path)?),
            interpreters: base.join(section.get_or("interpreters", default.interpreters, form::path)?),
            watch: section.get_or("watch", default.watch, watch)?,
            ready: section.get_or("ready", default.ready, form::word(&[("all", Ready::All), ("any", Ready::Any)]))?,
            grants: match section.node("grants")? {
                Some(node) => grants::read(node, base)?,
                None => default.grants,
            },
            keys: section.list_of("keys", form::path)?.into_iter().map(|key| base.join(key)).collect(),
            environment: default.environment,
        };
        section.finish()?;
        Ok(plugins)
    }
}

impl ServerLimits {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let process = default.process;
        let s = &mut section;
        let limits = Self {
            process: Limits {
                memory: s.get_or("memory", process.memory, form::size(Size::kib(64)..=Size::mib(1 << 20)))?,
                time: s.get_or("time", process.time, form::wait)?,
                cpu: s.get_or("cpu", process.cpu, form::wait)?,
                output: s.get_or("output", process.output, output)?,
                input: s.get_or("input", process.input, form::size(Size::bytes(1)..=HELD))?,
                input_idle: s.get_or("input_idle", process.input_idle, form::wait)?,
                line: s.get_or("line", process.line, form::size(Size::bytes(1)..=HELD))?,
                params: s.get_or("params", process.params, form::count(0..=65_536))?,
                params_size: s.get_or("params_size", process.params_size, form::size(Size::bytes(0)..=HELD))?,
                tables: s.get_or("tables", process.tables, form::count(0..=100_000_000))?,
                instances: s.get_or("instances", process.instances, form::count(1..=10_000))?,
                stack: s.get_or("stack", process.stack, form::size(Size::kib(64)..=Size::mib(16)))?,
                resources: s.get_or("resources", process.resources, form::count(1..=1_000_000))?,
                processes: None,
            },
            processes: s.get_or("processes", default.processes, form::or_word("auto", form::count(1..=1_000_000)))?,
            processes_per_caller: s.get_or(
                "processes_per_caller",
                default.processes_per_caller,
                form::or_word("none", form::count(1..=1_000_000)),
            )?,
            queue: s.get_or("queue", default.queue, form::count(0..=1_000_000))?,
            queue_time: s.get_or("queue_time", default.queue_time, form::duration)?,
            kept_time: s.get_or("kept_time", default.kept_time, form::duration)?,
            kept_output: s.get_or("kept_output", default.kept_output, form::size(Size::kib(1)..=HELD))?,
            kept_processes: s.get_or("kept_processes", default.kept_processes, form::count(0..=1_000_000))?,
            module: s.get_or("module", default.module, form::size(Size::kib(1)..=Size::mib(4096)))?,
            files: s.get_or("files", default.files, form::count(0..=1_000_000))?,
            files_size: s.get_or("files_size", default.files_size, form::size(Size::bytes(0)..=Size::mib(1 << 20)))?,
            compile_time: s.get_or("compile_time", default.compile_time, form::wait)?,
            compile_memory: s.get_or(
                "compile_memory",
                default.compile_memory,
                form::size(Size::mib(64)..=Size::mib(1 << 20)),
            )?,
        };
        section.finish()?;
        Ok(limits)
    }
}

/// Parses the limit of output; 0 and `none` leave the limit to back-pressure.
fn output(value: &yaml::Value) -> form::Formed<Option<Size>> {
    let size = form::or_word("none", form::size(Size::bytes(0)..=Size::bytes(u64::MAX)))(value)?;
    Ok(size.filter(|size| *size > Size::bytes(0)))
}

impl Cancel {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let cancel = Self {
            grace: section.get_or("grace", default.grace, form::duration)?,
            grace_max: section.get_or("grace_max", default.grace_max, form::duration)?,
            cleanup_time: section.get_or("cleanup_time", default.cleanup_time, form::wait)?,
            shutdown_grace: section.get_or("shutdown_grace", default.shutdown_grace, form::duration)?,
            takeover_grace: section.get_or("takeover_grace", default.takeover_grace, form::duration)?,
        };
        if cancel.grace > cancel.grace_max {
            let (grace, max) = (Span(cancel.grace), Span(cancel.grace_max));
            let what = format!("a grace of {grace} must not be longer than the grace_max of {max}");
            return Err(section.refuse(&["grace", "grace_max"], what));
        }
        section.finish()?;
        Ok(cancel)
    }
}

impl Auth {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let auth = Self {
            anonymous: section.list_of("anonymous", form::scope)?,
            session_time: section.get_or("session_time", default.session_time, form::wait)?,
            secure_cookies: section.get_or("secure_cookies", default.secure_cookies, form::switch)?,
            forwarded_users: section.get_or("forwarded_users", default.forwarded_users, form::switch)?,
        };
        section.finish()?;
        Ok(auth)
    }
}

impl History {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let history = Self {
            keep: section.get_or("keep", default.keep, form::wait)?,
            max: section.get_or("max", default.max, form::count(1..=10_000_000))?,
            output: section.get_or("output", default.output, form::size(Size::bytes(0)..=DISK))?,
            output_each: section.get_or("output_each", default.output_each, form::size(Size::kib(1)..=HELD))?,
        };
        section.finish()?;
        Ok(history)
    }
}

impl Log {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let formats = form::word(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
        let log = Self {
            format: section.get_or("format", default.format, formats)?,
            level: section.get_or("level", default.level, form::filter)?,
            color: default.color,
        };
        section.finish()?;
        Ok(log)
    }
}

#[cfg(test)]
mod tests;
