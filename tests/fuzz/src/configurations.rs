//! `distillery.yaml` and the variables that overrule it: valid ones with their meaning, and damaged ones.

use crate::{
    bytes::{changed, changes},
    documents::{Node, SLIPS, bomb, noise},
    hunt::hunt,
    sentences::assert_line,
    target,
};
use distillery_config::Config;
use distillery_core::size::Size;
use proptest::{collection::vec, prelude::*, sample::select};
use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};
use tempfile::TempDir;

/// A value as it is written, with its meaning.
#[derive(Clone, Copy, Debug)]
enum Value {
    Switch(bool),
    Count(u32),
    Kib(u32),
    Millis(u32),
}

/// A key, with the type of its value and its place in the config.
struct Key {
    section: &'static str,
    name: &'static str,
    kind: Kind,
    set: fn(&mut Config, Value),
}

#[derive(Clone, Copy)]
enum Kind {
    Switch,
    Count(u32, u32),
    Size(u32, u32),
    /// At least this many milliseconds.
    Time(u32),
}

impl Value {
    fn node(self) -> Node {
        match self {
            Self::Switch(it) => Node::word(it),
            Self::Count(it) => Node::word(it),
            Self::Kib(it) if it.is_multiple_of(2) => Node::word(format!("{it}KiB")),
            Self::Kib(it) => Node::word(u64::from(it) << 10),
            Self::Millis(it) if it.is_multiple_of(2) => Node::text(format!("{it}ms")),
            Self::Millis(it) => Node::word(format!("{}s {}ms", it / 1000, it % 1000)),
        }
    }

    fn switch(self) -> bool {
        matches!(self, Self::Switch(true))
    }

    fn count(self) -> u32 {
        if let Self::Count(it) = self { it } else { panic!("{self:?} is not a count") }
    }

    fn size(self) -> Size {
        if let Self::Kib(it) = self { Size::kib(it.into()) } else { panic!("{self:?} is not a size") }
    }

    fn time(self) -> Duration {
        if let Self::Millis(it) = self { Duration::from_millis(it.into()) } else { panic!("{self:?} is not a time") }
    }
}

const fn key(section: &'static str, name: &'static str, kind: Kind, set: fn(&mut Config, Value)) -> Key {
    Key { section, name, kind, set }
}

const GIB: u32 = 1 << 20;

const KEYS: &[Key] = &[
    key("http", "api", Kind::Switch, |config, it| config.http.api = it.switch()),
    key("http", "call_timeout", Kind::Time(1), |config, it| config.http.call_timeout = it.time()),
    key("http", "write_timeout", Kind::Time(1), |config, it| config.http.write_timeout = it.time()),
    key("http", "ping_interval", Kind::Time(1), |config, it| config.http.ping_interval = it.time()),
    key("http", "silence_timeout", Kind::Time(1), |config, it| config.http.silence_timeout = it.time()),
    key("http", "max_frame", Kind::Size(1, GIB), |config, it| config.http.max_frame = it.size()),
    key("http", "connections", Kind::Count(1, 1_000_000), |config, it| config.http.connections = it.count() as usize),
    key("limits", "memory", Kind::Size(64, 4 * GIB - 1), |config, it| config.limits.process.memory = it.size()),
    key("limits", "time", Kind::Time(1), |config, it| config.limits.process.time = it.time()),
    key("limits", "output", Kind::Size(1, GIB), |config, it| config.limits.process.output = Some(it.size())),
    key("limits", "line", Kind::Size(1, GIB), |config, it| config.limits.process.line = it.size()),
    key("limits", "params", Kind::Count(0, 65_536), |config, it| config.limits.process.params = it.count() as usize),
    key("limits", "processes", Kind::Count(1, 1_000_000), |config, it| config.limits.processes = Some(it.count())),
    key("limits", "queue_time", Kind::Time(0), |config, it| config.limits.queue_time = it.time()),
    key("cancel", "grace", Kind::Time(0), |config, it| config.cancel.grace = it.time()),
    key("cancel", "grace_max", Kind::Time(0), |config, it| config.cancel.grace_max = it.time()),
];

/// A key with a value in the file, in a variable, or in both with different values.
#[derive(Clone, Debug)]
struct Setting {
    key: usize,
    value: Value,
    variable: Option<Value>,
}

fn value(kind: Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Switch => any::<bool>().prop_map(Value::Switch).boxed(),
        Kind::Count(least, most) => (least..=most).prop_map(Value::Count).boxed(),
        Kind::Size(least, most) => (least..=most).prop_map(Value::Kib).boxed(),
        Kind::Time(least) => prop_oneof![least..100_000, least..u32::MAX].prop_map(Value::Millis).boxed(),
    }
}

fn settings() -> impl Strategy<Value = Vec<Setting>> {
    let setting = (0..KEYS.len()).prop_flat_map(|key| {
        let of = || value(KEYS[key].kind);
        (of(), proptest::option::of(of())).prop_map(move |(value, variable)| Setting { key, value, variable })
    });
    vec(setting, 0..12).prop_map(|mut settings| {
        settings.sort_by_key(|setting| setting.key);
        settings.dedup_by_key(|setting| setting.key);
        settings
    })
}

fn document(settings: &[Setting]) -> Node {
    let mut sections: BTreeMap<&str, Vec<(String, Node)>> = BTreeMap::new();
    for setting in settings {
        let key = &KEYS[setting.key];
        sections.entry(key.section).or_default().push((key.name.to_owned(), setting.value.node()));
    }
    Node::Map(sections.into_iter().map(|(name, keys)| (name.to_owned(), Node::Map(keys))).collect())
}

fn variables(settings: &[Setting], capitals: bool) -> Vec<(String, String)> {
    let overruled = settings.iter().filter_map(|setting| Some((&KEYS[setting.key], setting.variable?)));
    let named = overruled.map(|(key, value)| {
        let name = format!("DISTILLERY_{}__{}", key.section, key.name);
        (if capitals { name.to_uppercase() } else { name }, value.node().written(0).trim_end().to_owned())
    });
    named.collect()
}

/// A file to read configurations from; removed when the test ends.
struct File {
    _directory: TempDir,
    path: PathBuf,
}

impl File {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("distillery.yaml"), _directory: directory }
    }

    fn load(&self, text: &[u8], variables: Vec<(String, String)>) -> Result<Config, String> {
        fs::write(&self.path, text).unwrap();
        Config::load(Some(&self.path), variables).map_err(|error| error.to_string())
    }

    /// Holds for every file and every environment.
    fn is_read_or_refused(&self, text: &[u8], variables: Vec<(String, String)>) {
        match self.load(text, variables.clone()) {
            Ok(config) => assert_fits(&config),
            Err(error) => {
                assert_line(&error);
                let file = self.path.to_str().unwrap();
                let of_file = error.strip_prefix(file).is_some_and(|rest| rest.starts_with(':'));
                let of_variable = variables.iter().any(|(name, _)| {
                    let name: String = name
                        .chars()
                        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
                        .collect();
                    error.starts_with(&name)
                });
                assert!(of_file || of_variable, "names neither the file nor a variable: {error}");
            }
        }
    }
}

/// Limits that the server relies on, for any input.
fn assert_fits(config: &Config) {
    assert!(config.http.silence_timeout > config.http.ping_interval);
    assert!(config.cancel.grace <= config.cancel.grace_max);
    let limits = &config.limits;
    let waits = [config.http.call_timeout, config.http.write_timeout, limits.process.time, limits.process.cpu];
    assert!(waits.into_iter().all(|wait| !wait.is_zero()));
    assert!(limits.process.memory >= Size::kib(64) && limits.process.line > Size::bytes(0));
    assert!(limits.processes != Some(0) && limits.process.processes.is_none());
    assert!(limits.process.output != Some(Size::bytes(0)));
}

const WORDS: &[&str] = &[
    "http",
    "listen",
    "api",
    "origins",
    "plugins",
    "directory",
    "watch",
    "grants",
    "limits",
    "memory",
    "cancel",
    "grace",
    "auth",
    "data",
    "log",
    "level",
    "format",
    "systems",
    "slug",
    "url",
    "last_edit",
    "news",
    "secrets",
    "mounts",
    "env",
    "file",
    "path",
    "127.0.0.1:0",
    "https://a.example",
    "[::1]:80",
    "1h 30m",
    "30s",
    "256MiB",
    "2026-01-31T12:00:00Z",
    "info,distillery=debug",
    "[x{y=\"",
    "events",
    "auto",
];

fn environment() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        4 => (0..KEYS.len()).prop_map(|key| format!("DISTILLERY_{}__{}", KEYS[key].section, KEYS[key].name).to_uppercase()),
        2 => (select(WORDS), select(WORDS)).prop_map(|(section, key)| format!("DISTILLERY_{section}__{key}").to_uppercase()),
        2 => vec(select(&["DISTILLERY_", "distillery_", "HTTP", "__", "_", "API", "ä", "\n", "=", "LIMITS__MEMORY"][..]), 0..6)
            .prop_map(|parts| parts.concat()),
    ];
    // DISTILLERY_CONFIG would name another file.
    let name = name.prop_filter("names the file", |name| !name.eq_ignore_ascii_case("DISTILLERY_CONFIG"));
    let value = prop_oneof![2 => noise(WORDS), 2 => select(WORDS).prop_map(str::to_owned), 1 => bomb(), 1 => Just("1s".to_owned())];
    vec((name, value), 0..3)
}

#[test]
fn variables_overrule_the_configuration_file() {
    let file = File::new();
    let strategy = (settings(), 0..3usize, any::<bool>());
    hunt(target!("configurations", 200), strategy, |(settings, depth, capitals)| {
        let mut expected = file.load(b"", Vec::new()).unwrap();
        for setting in &settings {
            (KEYS[setting.key].set)(&mut expected, setting.variable.unwrap_or(setting.value));
        }
        let fits = expected.http.silence_timeout > expected.http.ping_interval
            && expected.cancel.grace <= expected.cancel.grace_max;
        let (text, variables) = (document(&settings).written(depth), variables(&settings, capitals));
        match file.load(text.as_bytes(), variables) {
            Ok(config) => assert_eq!((config, fits), (expected, true)),
            Err(error) => assert!(!fits, "{error}\n{text}"),
        }
    });
}

#[test]
fn damaged_configuration_is_read_or_refused_in_one_line() {
    let file = File::new();
    let strategy = (settings(), 0..3usize, changes(3, SLIPS));
    hunt(target!("configuration_slips", 400), strategy, |(settings, depth, changes)| {
        let text = changed(document(&settings).written(depth).into_bytes(), &changes);
        file.is_read_or_refused(&text, variables(&settings, true));
    });
}

#[test]
fn noise_is_refused_as_a_configuration() {
    let file = File::new();
    let text = prop_oneof![6 => noise(WORDS), 1 => bomb()];
    hunt(target!("configuration_noise", 200), (text, environment()), |(text, environment)| {
        file.is_read_or_refused(text.as_bytes(), environment);
    });
}
