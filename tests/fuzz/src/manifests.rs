//! `plugin.yaml`: valid manifests with their meaning, and damaged ones.

use crate::{
    bytes::{changed, changes},
    documents::{Node, SLIPS, bomb, noise},
    hunt::hunt,
    sentences::{assert_line, assert_sentence},
    target,
};
use distillery_core::{
    auth::Access,
    call::{CallName, OnDisconnect, Refusal},
    limits::Limits,
    size::Size,
};
use distillery_plugin::{
    manifest::{Manifest, Stderr},
    params::{CallSpec, ParamSpec},
};
use proptest::{collection::vec, option, prelude::*, sample::select, string::string_regex};
use regex::Regex;
use std::{collections::BTreeMap, path::Path, time::Duration};

const FILE: &str = "plugins/echo/plugin.yaml";

fn read(text: &str) -> Result<Manifest, String> {
    Manifest::read(text, Path::new(FILE), &"echo".parse().unwrap()).map_err(|error| error.to_string())
}

/// Patterns of plugins, and some that are hard to read.
const PATTERNS: &[&str] = &[
    "[a-z][a-z0-9-]{0,30}",
    "[0-9]{1,4}",
    "a|bc",
    "(x|yy)+",
    "[^/\u{0}]*",
    ".?",
    "\\d+(\\.\\d+)?",
    "(?i)on|off",
    "ä+",
    "\\s*\\S+",
    "",
];

/// Rules for one parameter, as they are written, without contradictions.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    name: String,
    description: Option<String>,
    pattern: Option<&'static str>,
    choices: Vec<String>,
    default: Option<String>,
    required: Option<bool>,
    secret: bool,
    rest: bool,
}

fn matching(pattern: Option<&'static str>) -> BoxedStrategy<String> {
    let pattern = pattern.unwrap_or("[a-zä \n\"#:-]{0,9}").replace("(?i)", "");
    string_regex(&pattern).unwrap().prop_filter("no argument holds a NUL", |it| !it.contains('\0')).boxed()
}

/// The position of a parameter decides whether it can be absent.
#[derive(Clone, Copy, Debug)]
enum Place {
    Required,
    Defaulted,
    Absent,
}

fn rule(place: Place, at: usize) -> impl Strategy<Value = Rule> {
    option::of(select(PATTERNS)).prop_flat_map(move |pattern| {
        let description = option::of(any::<String>());
        let choices = prop_oneof![2 => Just(Vec::new()), 1 => vec(matching(pattern), 1..4)];
        let parts = (description, choices, matching(pattern), any::<proptest::sample::Index>(), any::<(bool, bool)>());
        parts.prop_map(move |(description, mut choices, value, index, (said, secret))| {
            choices.sort();
            choices.dedup();
            let value = if choices.is_empty() { value } else { index.get(&choices).clone() };
            let (default, required) = match place {
                Place::Required => (None, said.then_some(true)),
                Place::Defaulted => (Some(value), said.then_some(false)),
                Place::Absent => (None, Some(false)),
            };
            let (name, secret) = (format!("param {at}"), secret && choices.is_empty());
            Rule { name, description, pattern, choices, default, required, secret, rest: false }
        })
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    (0..3usize, 0..3usize, 0..3usize, any::<bool>()).prop_flat_map(|(required, defaulted, absent, rest)| {
        let places = [(Place::Required, required), (Place::Defaulted, defaulted), (Place::Absent, absent)];
        let places = places.into_iter().flat_map(|(place, many)| vec![place; many]);
        let rules: Vec<_> = places.enumerate().map(|(at, place)| rule(place, at)).collect();
        rules.prop_map(move |mut rules| {
            if let Some(last) = rules.last_mut() {
                last.rest = rest;
            }
            rules
        })
    })
}

impl Rule {
    fn node(&self) -> Node {
        let mut members = vec![("name".to_owned(), Node::text(&self.name))];
        let mut say = |key: &str, node: Option<Node>| members.extend(node.map(|node| (key.to_owned(), node)));
        say("description", self.description.as_ref().map(Node::text));
        say("pattern", self.pattern.map(Node::text));
        say("choices", (!self.choices.is_empty()).then(|| Node::texts(&self.choices)));
        say("default", self.default.as_ref().map(Node::text));
        say("required", self.required.map(Node::word));
        say("secret", self.secret.then(|| Node::word(true)));
        say("rest", self.rest.then(|| Node::word(true)));
        Node::Map(members)
    }

    fn allows(&self, value: &str) -> bool {
        // Independent of the server's own expression: the pattern must match the whole value.
        let whole = |pattern: &str| {
            let longest = Regex::new(&format!("^(?:{pattern})$")).unwrap();
            longest.find(value).is_some_and(|found| found.len() == value.len())
        };
        !value.contains('\0')
            && self.pattern.is_none_or(whole)
            && (self.choices.is_empty() || self.choices.iter().any(|choice| choice == value))
    }

    fn is_required(&self) -> bool {
        self.required.unwrap_or(self.default.is_none())
    }

    #[track_caller]
    fn assert_read(&self, spec: &ParamSpec) {
        assert_eq!(spec.name, self.name);
        assert_eq!(spec.description, self.description.clone().unwrap_or_default());
        assert_eq!(spec.pattern.as_ref().map(|pattern| pattern.as_str()), self.pattern);
        assert_eq!((&spec.choices, &spec.default), (&self.choices, &self.default));
        assert_eq!((spec.required, spec.secret, spec.rest), (self.is_required(), self.secret, self.rest));
    }
}

#[derive(Clone, Debug)]
struct Call {
    description: Option<String>,
    public: Option<bool>,
    detach: Option<bool>,
    params: Option<Vec<Rule>>,
}

fn call() -> impl Strategy<Value = Call> {
    let flags = (option::of(any::<bool>()), option::of(any::<bool>()));
    (option::of(any::<String>()), flags, option::of(rules())).prop_map(|(description, (public, detach), params)| Call {
        description,
        public,
        detach,
        params,
    })
}

impl Call {
    fn node(&self) -> Node {
        let mut members = Vec::new();
        let mut say = |key: &str, node: Option<Node>| members.extend(node.map(|node| (key.to_owned(), node)));
        say("description", self.description.as_ref().map(Node::text));
        say("access", self.public.map(|public| Node::word(if public { "public" } else { "scoped" })));
        say("on_disconnect", self.detach.map(|detach| Node::word(if detach { "detach" } else { "cancel" })));
        say("params", self.params.as_ref().map(|params| Node::List(params.iter().map(Rule::node).collect())));
        Node::Map(members)
    }

    #[track_caller]
    fn assert_read(&self, spec: &CallSpec) {
        assert_eq!(spec.description, self.description.clone().unwrap_or_default());
        assert_eq!(spec.access == Access::Public, self.public == Some(true));
        assert_eq!(spec.on_disconnect == OnDisconnect::Detach, self.detach == Some(true));
        match (&spec.params, &self.params) {
            (None, None) => {}
            (Some(specs), Some(rules)) => {
                assert_eq!(specs.len(), rules.len());
                rules.iter().zip(specs).for_each(|(rule, spec)| rule.assert_read(spec));
            }
            (specs, rules) => panic!("{specs:?} of {rules:?}"),
        }
    }
}

/// A valid manifest.
#[derive(Clone, Debug)]
struct Written {
    description: Option<String>,
    component: Option<String>,
    build: Option<String>,
    arguments: Vec<String>,
    forward: Option<bool>,
    calls: BTreeMap<String, Call>,
    memory: Option<u32>,
    time: Option<u32>,
    output: Option<u32>,
    params: Option<u16>,
    processes: Option<u32>,
    grace: Option<u32>,
    cleanup: Option<bool>,
    env: Vec<String>,
    scratch: Option<u32>,
}

fn written() -> impl Strategy<Value = Written> {
    let argument = any::<String>().prop_map(|text| text.replace('\0', ""));
    let component = "[a-z0-9ä_ -]{1,8}(/[a-z.]{1,4}x)?\\.(wasm|wat)";
    let texts = (option::of(any::<String>()), option::of(component), option::of(any::<String>()), vec(argument, 0..4));
    let calls = proptest::collection::btree_map("[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}", call(), 0..3);
    let limits = (
        option::of(1..u32::MAX),
        option::of(1..u32::MAX),
        option::of(1..u32::MAX),
        option::of(any::<u16>()),
        option::of(1..u32::MAX),
    );
    let cancel = (option::of(any::<u32>()), option::of(any::<bool>()));
    let env = proptest::collection::btree_set("[A-Z_][A-Z0-9_]{0,8}", 0..3);
    (texts, option::of(any::<bool>()), calls, limits, cancel, env, option::of(1..u32::MAX)).prop_map(
        |(texts, forward, calls, limits, (grace, cleanup), env, scratch)| {
            let (description, component, build, arguments) = texts;
            let (memory, time, output, params, processes) = limits;
            Written {
                description,
                component,
                build,
                arguments,
                forward,
                calls,
                memory,
                time,
                output,
                params,
                processes,
                grace,
                cleanup,
                env: env.into_iter().collect(),
                scratch,
            }
        },
    )
}

impl Written {
    fn node(&self) -> Node {
        fn map(members: Vec<(&str, Option<Node>)>) -> Option<Node> {
            let members: Vec<_> = members.into_iter().filter_map(|(key, node)| Some((key.to_owned(), node?))).collect();
            (!members.is_empty()).then_some(Node::Map(members))
        }
        let calls = self.calls.iter().map(|(name, call)| (name.clone(), call.node())).collect::<Vec<_>>();
        let limits = map(vec![
            ("memory", self.memory.map(|size| Node::word(format!("{size}KiB")))),
            ("time", self.time.map(|seconds| Node::word(format!("{seconds}s")))),
            ("output", self.output.map(Node::word)),
            ("params", self.params.map(Node::word)),
            ("processes", self.processes.map(Node::word)),
        ]);
        let cancel = map(vec![
            ("grace", self.grace.map(|millis| Node::word(format!("{millis}ms")))),
            ("cleanup", self.cleanup.map(Node::word)),
        ]);
        let capabilities = map(vec![
            ("env", (!self.env.is_empty()).then(|| Node::texts(&self.env))),
            ("scratch", self.scratch.map(|size| Node::word(format!("{size}B")))),
        ]);
        map(vec![
            ("description", self.description.as_ref().map(Node::text)),
            ("component", self.component.as_ref().map(Node::text)),
            ("build", self.build.as_ref().map(Node::text)),
            ("arguments", (!self.arguments.is_empty()).then(|| Node::texts(&self.arguments))),
            ("stderr", self.forward.map(|forward| Node::word(if forward { "forward" } else { "log" }))),
            ("calls", (!calls.is_empty()).then_some(Node::Map(calls))),
            ("limits", limits),
            ("cancel", cancel),
            ("capabilities", capabilities),
        ])
        .unwrap_or(Node::Map(Vec::new()))
    }

    fn assert_read(&self, manifest: &Manifest) {
        assert_eq!(manifest.description, self.description.clone().unwrap_or_default());
        assert_eq!(manifest.component.as_deref(), self.component.as_ref().map(Path::new));
        assert_eq!((&manifest.build, &manifest.arguments), (&self.build, &self.arguments));
        assert_eq!(manifest.stderr == Stderr::Forward, self.forward == Some(true));
        if self.calls.is_empty() {
            assert_eq!(manifest.calls.keys().map(CallName::as_str).collect::<Vec<_>>(), ["echo"]);
        } else {
            assert_eq!(manifest.calls.len(), self.calls.len());
            self.calls.iter().for_each(|(name, call)| call.assert_read(&manifest.calls[name.as_str()]));
        }
        let limits = &manifest.limits;
        assert_eq!(limits.memory, self.memory.map(|size| Size::kib(size.into())));
        assert_eq!(limits.time, self.time.map(|seconds| Duration::from_secs(seconds.into())));
        assert_eq!(limits.output, self.output.map(|size| Size::bytes(size.into())));
        assert_eq!((limits.params, limits.processes), (self.params.map(usize::from), self.processes));
        assert_eq!(manifest.cancel.grace, self.grace.map(|millis| Duration::from_millis(millis.into())));
        assert_eq!(manifest.cancel.cleanup, self.cleanup == Some(true));
        assert_eq!(manifest.capabilities.env.iter().map(|it| it.as_str()).collect::<Vec<_>>(), self.env);
        assert_eq!(manifest.capabilities.scratch.map(|it| it.0), self.scratch.map(|size| Size::bytes(size.into())));
    }
}

/// Holds for every text: it is a manifest without contradictions, or the error is one line that names the place.
fn is_read_or_refused(text: &str) {
    let manifest = match read(text) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert_line(&error);
            let rest = error.strip_prefix(FILE).unwrap_or_else(|| panic!("does not begin with the file: {error}"));
            let line = rest.strip_prefix(':').and_then(|rest| rest.split(':').next());
            let placed = line.is_some_and(|line| line.parse::<usize>().is_ok_and(|line| line > 0));
            assert!(placed || text.matches("---").count() > 0, "names no place: {error}");
            return;
        }
    };
    assert!(!manifest.calls.is_empty());
    for (name, spec) in &manifest.calls {
        assert_eq!(*name, spec.name);
        is_consistent(spec);
    }
}

/// Checks that the rules of a plugin can be followed, and that its own values follow them.
fn is_consistent(spec: &CallSpec) {
    let limits = Limits { params: 1 << 20, params_size: Size::mib(1 << 20), ..Limits::default() };
    let Some(params) = &spec.params else { return };
    let defaults = params.iter().map_while(|param| param.default.clone().or_else(|| param.choices.first().cloned()));
    let given: Vec<String> = defaults.collect();
    let needed = params.iter().filter(|param| param.required).count();
    if given.len() >= needed {
        let filled =
            spec.check(given.clone(), &limits).expect("the values of the manifest follow its rules").into_inner();
        assert!(filled.starts_with(&given));
        assert_eq!(spec.check(filled.clone(), &limits).unwrap().into_inner(), filled);
    }
}

const KEYS: &[&str] = &[
    "description",
    "component",
    "build",
    "arguments",
    "stderr",
    "calls",
    "limits",
    "cancel",
    "capabilities",
    "params",
    "pattern",
    "choices",
    "default",
    "required",
    "secret",
    "rest",
    "access",
    "public",
    "echo",
    "x.wasm",
    "memory",
    "64MiB",
    "5m",
    "grace",
    "mounts",
    "name",
    "at",
    "/tmp",
    "https://a.example",
    "(x{1000}){1000}",
    "\\p{L}{500}",
    "[a-z",
    "((((((((((",
    "x{99999}",
    "(?i:a|)*",
];

#[test]
fn valid_manifest_is_read_as_written() {
    hunt(target!("manifests", 400), (written(), 0..7usize), |(written, depth)| {
        let text = written.node().written(depth);
        match read(&text) {
            Ok(manifest) => {
                written.assert_read(&manifest);
                manifest.calls.values().for_each(is_consistent);
            }
            Err(error) => panic!("{error}\n{text}"),
        }
    });
}

#[test]
fn damaged_manifest_is_read_or_refused_with_its_place() {
    hunt(target!("slips", 400), (written(), 0..7usize, changes(3, SLIPS)), |(written, depth, changes)| {
        is_read_or_refused(&String::from_utf8_lossy(&changed(written.node().written(depth).into_bytes(), &changes)));
    });
}

#[test]
fn noise_is_refused_as_a_manifest() {
    hunt(target!("noise", 800), noise(KEYS), |text| is_read_or_refused(&text));
}

#[test]
fn manifest_cannot_expand_beyond_its_bound() {
    hunt(target!("bombs", 40), bomb(), |text| is_read_or_refused(&text));
}

/// Values for the parameters of `rules`, most of which are valid.
fn given(rules: &[Rule]) -> BoxedStrategy<Vec<String>> {
    let of = |rule: Option<&Rule>| -> BoxedStrategy<String> {
        let pattern = rule.and_then(|rule| rule.pattern);
        let choices = rule.map(|rule| rule.choices.clone()).unwrap_or_default();
        let good = if choices.is_empty() { matching(pattern) } else { select(choices).boxed() };
        prop_oneof![12 => good, 1 => any::<String>(), 1 => Just("a\0b".to_owned()), 1 => matching(pattern).prop_map(|it| it + "\n")].boxed()
    };
    let last = rules.last().filter(|rule| rule.rest);
    let values: Vec<_> = (0..rules.len() + 2).map(|at| of(rules.get(at).or(last))).collect();
    (values, any::<proptest::sample::Index>())
        .prop_map(|(mut values, many)| {
            values.truncate(many.index(values.len() + 1));
            values
        })
        .boxed()
}

/// Applies the rules to `given`, independently of the server.
fn ruled(rules: &[Rule], given: &[String]) -> Option<Vec<String>> {
    let rest = rules.last().filter(|rule| rule.rest);
    if !given.iter().enumerate().all(|(at, value)| rules.get(at).or(rest).is_some_and(|rule| rule.allows(value))) {
        return None;
    }
    let mut params = given.to_vec();
    for rule in rules.iter().skip(given.len()) {
        match &rule.default {
            Some(default) => params.push(default.clone()),
            None if rule.is_required() => return None,
            None => break,
        }
    }
    Some(params)
}

#[test]
fn call_runs_exactly_if_its_params_are_valid() {
    let rules = rules().prop_flat_map(|rules| (given(&rules), Just(rules)));
    hunt(target!("params", 400), rules, |(given, rules)| {
        let params = Node::List(rules.iter().map(Rule::node).collect());
        let call = Node::Map(vec![("params".into(), params)]);
        let text = Node::Map(vec![("calls".into(), Node::Map(vec![("x".into(), call)]))]).written(9);
        let manifest = read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let checked = manifest.calls["x"].check(given.clone(), &Limits::default());
        match (checked, ruled(&rules, &given)) {
            (Ok(params), ruled) => assert_eq!(Some(params.into_inner()), ruled),
            (Err(_), Some(ruled)) => panic!("{given:?} should run as {ruled:?}"),
            (Err(bad), None) => assert_sentence(&Refusal::BadParams(bad.to_string()).to_string()),
        }
    });
}
