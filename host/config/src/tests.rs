//! Tests of the accepted values, and of the errors for wrong ones.

use super::{reference::SHIPPED, *};
use std::collections::BTreeSet;
use time::macros::datetime;

fn read_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let variables = Variables::new(environment)?;
    Config::read(&Source::new(Path::new("distillery.yaml"), text, &variables), Path::new(""))
}

fn read(text: &str) -> Config {
    read_with(text, &[]).unwrap()
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    assert_eq!(read_with(text, &[]).unwrap_err().to_string(), expected);
}

#[track_caller]
fn refused_variable(name: &str, value: &str, expected: &str) {
    assert_eq!(read_with("", &[(name, value)]).unwrap_err().to_string(), expected);
}

#[test]
fn empty_file_means_the_defaults() {
    for text in ["", "# only comments\n", "http:\nplugins:\nlimits:\nauth:\n", "auth: {}\nsystems: []\n", "{}"] {
        assert_eq!(read(text), Config::default(), "{text:?}");
    }
}

#[test]
fn every_value_is_read() {
    let config = read(
        "http:
  listen: '[::1]:9000'
  api: true
  console: false
  origins: [https://a.example, 'http://localhost:3000']
  hosts: [calls.example, '*.example.org']
  call_timeout: 1s
  write_timeout: 2s
  ping_interval: 3s
  silence_timeout: 4s
  header_timeout: 5s
  max_frame: 64KiB
  connections: 6
  connections_per_address: 7
  tls_certificate: c.pem
  tls_key: /k.pem
  trusted_proxies: [127.0.0.1, 'fd00::/8']
limits:
  {memory: 64MiB, time: 1h 30m, cpu: 8s, output: 1GiB, input: 9KiB, input_idle: 24s, line: 10KiB, params: 11, params_size: 12KiB,
   tables: 13, instances: 14, stack: 1MiB, resources: 15, processes: 16, processes_per_caller: 17, queue: 0,
   queue_time: 0s, kept_time: 10m, kept_output: 64KiB, kept_processes: 9, module: 18MiB, files: 26, files_size: 27KiB, compile_time: 19s, compile_memory: 100MiB}
cancel: {grace: 0s, grace_max: 20s, cleanup_time: 21s, shutdown_grace: 22s, takeover_grace: 23s}
history: {keep: 24h, max: 25, output: 28MiB, output_each: 29KiB}
ops: {listen: '127.0.0.1:9090'}
traces: {endpoint: 'http://localhost:4318/v1/traces', one_in: 10}
data: /var/lib/distillery
auth: {anonymous: ['plugins:read', 'call:demo-*'], session_time: 23m, secure_cookies: true, forwarded_users: true}
log: {format: json, level: 'warn,distillery=debug'}
news: /srv/news
",
    );
    let seconds = Duration::from_secs;
    let expected = Config {
        http: Http {
            listen: "[::1]:9000".parse().unwrap(),
            api: true,
            console: false,
            origins: vec!["https://a.example".into(), "http://localhost:3000".into()],
            hosts: ["calls.example", "*.example.org"].map(|it| it.parse().unwrap()).to_vec(),
            call_timeout: seconds(1),
            write_timeout: seconds(2),
            ping_interval: seconds(3),
            silence_timeout: seconds(4),
            header_timeout: seconds(5),
            max_frame: Size::kib(64),
            connections: 6,
            connections_per_address: 7,
            tls: Some(Tls { certificate: "c.pem".into(), key: "/k.pem".into() }),
            trusted_proxies: vec!["127.0.0.1".parse().unwrap(), "fd00::/8".parse().unwrap()],
        },
        limits: ServerLimits {
            process: Limits {
                memory: Size::mib(64),
                time: seconds(5400),
                cpu: seconds(8),
                output: Some(Size::mib(1024)),
                input: Size::kib(9),
                input_idle: seconds(24),
                line: Size::kib(10),
                params: 11,
                params_size: Size::kib(12),
                tables: 13,
                instances: 14,
                stack: Size::mib(1),
                resources: 15,
                processes: None,
            },
            processes: Some(16),
            processes_per_caller: Some(17),
            queue: 0,
            queue_time: seconds(0),
            kept_time: Duration::from_secs(600),
            kept_output: Size::kib(64),
            kept_processes: 9,
            module: Size::mib(18),
            files: 26,
            files_size: Size::kib(27),
            compile_time: seconds(19),
            compile_memory: Size::mib(100),
        },
        cancel: Cancel {
            grace: seconds(0),
            grace_max: seconds(20),
            cleanup_time: seconds(21),
            shutdown_grace: seconds(22),
            takeover_grace: seconds(23),
        },
        auth: Auth {
            anonymous: vec![Scope("plugins:read".into()), Scope("call:demo-*".into())],
            session_time: seconds(23 * 60),
            secure_cookies: true,
            forwarded_users: true,
        },
        history: History { keep: seconds(24 * 3600), max: 25, output: Size::mib(28), output_each: Size::kib(29) },
        ops: Ops { listen: Some("127.0.0.1:9090".parse().unwrap()) },
        traces: Traces { endpoint: Some("http://localhost:4318/v1/traces".into()), one_in: 10 },
        data: "/var/lib/distillery".into(),
        cache: "/var/lib/distillery/cache".into(),
        log: Log { format: LogFormat::Json, level: "warn,distillery=debug".into(), color: true },
        news: "/srv/news".into(),
        ..Config::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn some_values_can_be_words() {
    for (written, watch) in [
        ("events", Watch::Events),
        ("poll", Watch::Poll),
        ("off", Watch::Off),
        ("true", Watch::Events),
        ("false", Watch::Off),
    ] {
        assert_eq!(read(&format!("plugins: {{watch: {written}}}")).plugins.watch, watch);
    }
    assert_eq!(read("limits: {output: 0}").limits.process.output, None);
    assert_eq!(read("limits: {output: none}").limits.process.output, None);
    assert_eq!(read("limits: {processes: auto, processes_per_caller: none}").limits, ServerLimits::default());
    assert_eq!(read("http: {origins: ['*']}").http.origins, ["*"]);
}

#[test]
fn webhooks_are_typed() {
    let config = read(
        "hooks:
  github/deploy: {call: deploy, user: ci, format: github, secret: {file: secrets/github}, params: {slug: /repository/name}}
  pay: {call: book, user: till, format: stripe, secret: {env: PAY}, params: [/id, /a~1b], window: 1m, body: 2MiB, wait: true}
",
    );
    let hook = Hook {
        call: "deploy".parse().unwrap(),
        user: "ci".parse().unwrap(),
        format: HookFormat::Github,
        secret: SecretSource::File("secrets/github".into()),
        params: HookParams::Named([("slug".into(), "/repository/name".into())].into()),
        window: Duration::from_secs(300),
        body: Size::mib(1),
        wait: false,
    };
    let pay = Hook {
        call: "book".parse().unwrap(),
        user: "till".parse().unwrap(),
        format: HookFormat::Stripe,
        secret: SecretSource::Env("PAY".into()),
        params: HookParams::Ordered(vec!["/id".into(), "/a~1b".into()]),
        window: Duration::from_secs(60),
        body: Size::mib(2),
        wait: true,
    };
    assert_eq!(config.hooks.hooks, [("github/deploy".into(), hook), ("pay".into(), pay)].into());
    let mut hooks = config.hooks;
    hooks.take(&[("PAY".into(), "swordfish".into()), ("HOME".into(), "/root".into())]);
    assert_eq!(hooks.environment, [("PAY".into(), Secret::new("swordfish".into()))].into());
}

#[test]
fn webhook_needs_a_secret_and_a_valid_form() {
    let hook = |text: &str| format!("hooks:\n  a: {{call: b, user: c, format: github{text}}}\n");
    refused(
        &hook(""),
        "distillery.yaml:2:6: hooks.a: secret is missing: a webhook without a secret would run the call for everyone",
    );
    let with = |text: &str| hook(&format!(", secret: {{env: S}}, {text}"));
    refused(
        &with("window: 1m"),
        "distillery.yaml:2:67: hooks.a.window: only deliveries of the format stripe have a time: remove it",
    );
    refused(
        &with("params: [name]"),
        "distillery.yaml:2:67: hooks.a.params: \"name\" is not a JSON pointer: write a path into the body, such as \
         /repository/name",
    );
    for (text, part) in [
        ("hooks: {a: {call: b, user: c}}", "format is missing"),
        ("hooks: {a: {call: b, user: c, format: github, secret: {}}}", "comes from nowhere"),
        ("hooks: {a: {call: b, user: operator, format: github, secret: {env: S}}}", "choose another name"),
        ("hooks: {a: {call: 'b c', user: c, format: github, secret: {env: S}}}", "is not the name of a call"),
        ("hooks: {../a: {}}", "is not a path below /hooks/"),
        ("hooks: {a//b: {}}", "is not a path below /hooks/"),
        ("hooks: {'': {}}", "is not a path below /hooks/"),
        ("hooks: {a: {secrets: x, format: github}}", "missing"),
    ] {
        let error = read_with(text, &[]).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn grants_are_typed() {
    let config = read(
        "plugins:
  grants:
    echo:
    provision:
      mounts:
        instances: {path: /srv/instances, write: true, create: true}
        themes: {path: themes}
      http: [https://api.example.org]
      env: [LANG]
      secrets: {API_KEY: {file: secrets/key}, API_USER: {env: USER}}
      systems: write
      scratch: 64MiB
",
    );
    let provision = Grant {
        mounts: BTreeMap::from([
            ("instances".to_owned(), Mount { path: "/srv/instances".into(), write: true, create: true }),
            ("themes".to_owned(), Mount { path: "themes".into(), write: false, create: false }),
        ]),
        http: vec!["https://api.example.org".into()],
        env: vec!["LANG".into()],
        secrets: BTreeMap::from([
            ("API_KEY".to_owned(), SecretSource::File("secrets/key".into())),
            ("API_USER".to_owned(), SecretSource::Env("USER".into())),
        ]),
        systems: Some(SystemsGrant::Write),
        scratch: Some(Size::mib(64)),
        commands: BTreeMap::new(),
    };
    let expected = [("echo".to_owned(), Grant::default()), ("provision".to_owned(), provision)];
    assert_eq!(config.plugins.grants, BTreeMap::from(expected));
}

#[test]
fn systems_need_a_slug_and_a_url() {
    let config = read("systems: [{slug: a, url: 'https://a.example'}]");
    let expected = System {
        slug: "a".parse().unwrap(),
        url: "https://a.example".into(),
        tagline: String::new(),
        entity_count: 0,
        bundle_count: 0,
        last_edit: None,
    };
    assert_eq!(config.systems, [expected]);
    refused("systems:\n  - slug: a\n", "distillery.yaml:2:5: systems[0]: url is missing: it has no default");
}

#[test]
fn error_names_position_key_and_allowed_values() {
    refused(
        "http:\n  api: true\nlimits:\n  memory: 12 potatoes\n",
        "distillery.yaml:4:11: limits.memory: \"12 potatoes\" is not a size: write a whole number of bytes, KiB, MiB, \
         GiB or TiB, such as 256MiB",
    );
    refused(
        "http: {call_timeout: 5}",
        "distillery.yaml:1:22: http.call_timeout: 5 is not a duration: write a number with a unit, such as 30s, 5m or \
         1h 30m",
    );
    refused(
        "http:\n  listen: localhost\n",
        "distillery.yaml:2:11: http.listen: \"localhost\" is not an address: write an IP address and a port, such as \
         127.0.0.1:8080 or \"[::1]:8080\"",
    );
    refused("http:\n  api: yes\n", "distillery.yaml:2:8: http.api: \"yes\" is not a switch: write true or false");
    refused(
        "http:\n  origins:\n    - https://a.example\n    - https://a.example/\n",
        "distillery.yaml:4:7: http.origins[1]: \"https://a.example/\" is not an origin: write scheme, host and perhaps \
         port, such as https://a.example or http://localhost:3000, or \"*\" for every origin",
    );
    refused(
        "http:\n  origins: https://a.example\n",
        "distillery.yaml:2:12: http.origins: \"https://a.example\" is not a list: write [a, b], or each value on a line \
         of its own after a dash",
    );
    refused(
        "plugins:\n  watch: sometimes\n",
        "distillery.yaml:2:10: plugins.watch: \"sometimes\" is not allowed: write one of events, poll, off, true, false",
    );
    refused(
        "limits:\n  processes: 0\n",
        "distillery.yaml:2:14: limits.processes: 0 is not a count that is allowed: write a whole number from 1 to \
         1000000, or auto",
    );
    refused("data: 2026\n", "distillery.yaml:1:7: data: 2026 is not a path: write it in quotes");
    refused("data:\n", "distillery.yaml:1:6: data: nothing is not a path: write the path of a file or a directory");
    refused(
        "log:\n  level: verbose\n",
        "distillery.yaml:2:10: log.level: \"verbose\" is not a log level: write off, error, warn, info, debug or trace, \
         or a list of these for parts of the program, such as info,distillery=debug",
    );
    refused(
        "log:\n  format: xml\n",
        "distillery.yaml:2:11: log.format: \"xml\" is not allowed: write one of text, json",
    );
    refused("http: on\n", "distillery.yaml:1:7: http: \"on\" is not a section: write its keys below it");
    refused("- a\n", "distillery.yaml:1:1: a list is not a section: write its keys below it");
}

#[test]
fn unknown_key_error_suggests_a_similar_key() {
    refused(
        "cancel:\n  grase: 3s\n",
        "distillery.yaml:2:3: cancel.grase: unknown key: did you mean grace? (allowed: grace, grace_max, cleanup_time, \
         shutdown_grace, takeover_grace)",
    );
    refused(
        "htpp:\n  listen: 1\n",
        "distillery.yaml:1:1: htpp: unknown key: did you mean http? (allowed: data, cache, http, plugins, limits, \
         cancel, auth, history, schedules, ops, traces, hooks, log, systems, news)",
    );
    refused("log:\n  colour: 1\n", "distillery.yaml:2:3: log.colour: unknown key (allowed: format, level)");
    refused(
        "auth:\n  tokens: 1\n",
        "distillery.yaml:2:3: auth.tokens: unknown key (allowed: anonymous, session_time, secure_cookies, \
         forwarded_users)",
    );
    refused(
        "auth:\n  anonymous: [plugin:read]\n",
        "distillery.yaml:2:15: auth.anonymous[0]: \"plugin:read\" is not a scope: write call:<name>, systems:write, \
         news:write, tokens:write, plugins:read, plugins:write, schedules:read, processes:*, or the beginning of one with * behind \
         it",
    );
    refused(
        "systems: [{slug: a, url: 'https://a.example', Tagline: x}]\n",
        "distillery.yaml:1:47: systems[0].Tagline: unknown key: did you mean tagline? (allowed: slug, url, tagline, \
         entity_count, bundle_count, last_edit)",
    );
    refused(
        "8080: x\n",
        "distillery.yaml:1:1: 8080: unknown key (allowed: data, cache, http, plugins, limits, cancel, auth, history, schedules, ops, traces, hooks, log, systems, news)",
    );
}

#[test]
fn error_is_always_one_line() {
    refused(
        "log: {\"a\\nb\\e[1m\": 1}\n",
        "distillery.yaml:1:7: log.a\\nb\\u{1b}[1m: unknown key (allowed: format, level)",
    );
}

#[test]
fn duplicate_key_error_names_the_second_position() {
    refused(
        "http:\n  api: true\n  max_frame: 1KiB\n  api: false\n",
        "distillery.yaml:4:3: http.api: written twice: leave one of them out",
    );
    refused("http:\nlog:\nhttp:\n", "distillery.yaml:3:1: http: written twice: leave one of them out");
}

#[test]
fn syntax_error_names_its_line() {
    refused(
        "http:\n  listen: a: b\n",
        "distillery.yaml:2:12: not YAML: mapping values are not allowed in this context",
    );
    refused(
        "http:\n  origins: [a\n",
        "distillery.yaml:3:1: not YAML: did not find expected ',' or ']', while parsing a flow sequence at line 2 column 12",
    );
    refused(
        "a: 1\n---\nb: 2\n",
        "distillery.yaml: not YAML: deserializing from YAML containing more than one document is not supported",
    );
}

#[test]
fn conflict_error_names_the_key_that_is_set() {
    refused(
        "http:\n  ping_interval: 1m\n",
        "distillery.yaml:2:18: http.ping_interval: a silence_timeout of 1m must be longer than the ping_interval of 1m",
    );
    refused(
        "http:\n  ping_interval: 10s\n  silence_timeout: 5s\n",
        "distillery.yaml:3:20: http.silence_timeout: a silence_timeout of 5s must be longer than the ping_interval of 10s",
    );
    refused(
        "cancel:\n  grace: 2m\n",
        "distillery.yaml:2:10: cancel.grace: a grace of 2m must not be longer than the grace_max of 1m",
    );
    refused(
        "cancel:\n  grace_max: 1s\n",
        "distillery.yaml:2:14: cancel.grace_max: a grace of 2s must not be longer than the grace_max of 1s",
    );
}

#[test]
fn incomplete_access_settings_are_refused() {
    refused(
        "http: {tls_certificate: c.pem}",
        "distillery.yaml:1:25: http.tls_certificate: set tls_key too: the file of its secret key",
    );
    refused(
        "http: {tls_key: k.pem}",
        "distillery.yaml:1:17: http.tls_key: set tls_certificate too: the file of its certificate",
    );
    let form = "an address or a network, such as 127.0.0.1, 10.0.0.0/8 or \"fd00::/8\"";
    refused(
        "http: {trusted_proxies: [everyone]}",
        &format!("distillery.yaml:1:26: http.trusted_proxies[0]: \"everyone\" is not a network: write {form}"),
    );
    let form =
        "the name or address of a host without its port, such as calls.example.org, 192.0.2.7 or \"*.example.org\"";
    refused(
        "http: {hosts: ['a.example:80']}",
        &format!("distillery.yaml:1:16: http.hosts[0]: \"a.example:80\" is not a host: write {form}"),
    );
    refused(
        "auth: {forwarded_users: true}",
        "auth.forwarded_users: whom to believe is not said: set http.trusted_proxies to the addresses of your proxies",
    );
}

#[test]
fn value_that_would_block_all_calls_is_refused() {
    for key in ["call_timeout", "write_timeout", "ping_interval", "silence_timeout", "header_timeout"] {
        let column = key.len() + 5;
        refused(
            &format!("http:\n  {key}: 0s\n"),
            &format!("distillery.yaml:2:{column}: http.{key}: \"0s\" is too short: write more than 0s"),
        );
    }
    for key in ["time", "cpu", "compile_time"] {
        assert!(read_with(&format!("limits: {{{key}: 0s}}"), &[]).is_err(), "{key}");
    }
    for key in ["memory", "input", "line", "instances", "stack", "resources", "processes_per_caller", "module"] {
        assert!(read_with(&format!("limits: {{{key}: 0}}"), &[]).is_err(), "{key}");
    }
    refused(
        "limits:\n  stack: 17MiB\n",
        "distillery.yaml:2:10: limits.stack: \"17MiB\" is out of range: write a size from 64KiB to 16MiB",
    );
}

#[test]
fn only_granted_variables_are_kept_and_hidden() {
    let text = "plugins: {grants: {a: {env: [LANG, UNSET], secrets: {KEY: {env: API_KEY}}}}}";
    let directory = directory();
    let file = directory.path().join("distillery.yaml");
    std::fs::write(&file, text).unwrap();
    let environment = [("LANG", "eo"), ("API_KEY", "swordfish"), ("HOME", "/root")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(Some(&file), environment).unwrap();
    let kept: Vec<_> = config.plugins.environment.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(kept, [("API_KEY", "swordfish"), ("LANG", "eo")]);
    assert!(!format!("{config:?}").contains("swordfish"));
}

#[test]
fn granted_command_is_typed() {
    let text = "plugins:
  grants:
    instances:
      commands:
        compose:
          run: [docker, compose, --project-directory, \"/srv/instances/{slug}\", \"{verb}\"]
          params: {slug: {pattern: \"[a-z][a-z0-9-]{0,30}\"}, verb: {choices: [up, down, ps], leading_dash: true}}
          directory: /srv/instances
          env: {HOME: /var/lib/distillery, TOKEN: {file: token}, USER: {env: API_USER}}
          timeout: 10m
          output: 16MiB
          concurrent: 2
          paths: {read: [/usr], write: [srv]}
        plain: {run: [id]}
";
    let config = read(text);
    let commands = &config.plugins.grants["instances"].commands;
    let compose = &commands["compose"];
    let filled = compose.line.fill(&[("verb", "up"), ("slug", "coins")]).unwrap();
    assert_eq!((compose.line.program(), filled[2].as_str()), ("docker", "/srv/instances/coins"));
    assert!(compose.line.params()[1].leading_dash && !compose.line.params()[0].leading_dash);
    assert_eq!(
        compose.env.values().collect::<Vec<_>>(),
        [
            &CommandValue::Text("/var/lib/distillery".into()),
            &CommandValue::Secret(SecretSource::File("token".into())),
            &CommandValue::Secret(SecretSource::Env("API_USER".into())),
        ]
    );
    assert_eq!((compose.timeout, compose.output, compose.concurrent), (Duration::from_secs(600), Size::mib(16), 2));
    assert_eq!(compose.paths, Some(CommandPaths { read: vec!["/usr".into()], write: vec!["srv".into()] }));
    let environment = ["API_USER", "OTHER"].map(|name| (name.to_owned(), String::new())).to_vec();
    let named = grants::named_in(&config.plugins.grants, environment);
    assert_eq!(named.keys().collect::<Vec<_>>(), ["API_USER"]);
    let plain = &commands["plain"];
    assert_eq!((plain.directory.as_path(), plain.env.len(), plain.concurrent), (Path::new("/"), 0, 4));
    assert_eq!((plain.limits, plain.paths.is_none()), (CommandLimits::default(), true));
}

#[test]
fn wrong_command_has_a_precise_error() {
    let refused = |command: &str, what: &str| {
        let text = format!("plugins: {{grants: {{a: {{commands: {{c: {command}}}}}}}}}");
        let error = read_with(&text, &[]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refused("{}", "no program: write its name or its path first");
    refused("{run: [tar, 1]}", "commands.c.run[1]: 1 is not text: write it in quotes");
    refused("{run: [tar, '{x}']}", "commands.c.run: {x} is no parameter: add \"x\" to params");
    refused("{run: [tar], params: {x: {}}}", "no argument has {x}");
    refused("{run: [tar, '{x}'], params: {x: {pattern: '['}}}", "commands.c.params.x: pattern [ is not a regular");
    refused("{run: [tar, '{x}'], params: {x: {rest: true}}}", "commands.c.params.x.rest: unknown key");
    refused("{run: [tar, '{x}'], params: {x y: {}}}", "is not a name for a parameter");
    refused("{run: [tar], shell: true}", "commands.c.shell: unknown key");
    refused("{run: [tar], env: {A: 1}}", "commands.c.env.A: 1 is not text");
    refused("{run: [tar], env: {A: {}}}", "comes from nowhere");
    refused("{run: [tar], cpu: 1500ms}", "is not a number of whole seconds");
    refused("{run: [tar], concurrent: 0}", "is not a count that is allowed");
    refused("{run: [tar], timeout: 0s}", "is too short");
}

#[test]
fn wrong_grant_has_a_precise_error() {
    let grants = |text: &str| format!("plugins:\n  grants:\n    {text}\n");
    refused(
        &grants("../x: {}"),
        "distillery.yaml:3:5: plugins.grants.../x: \"../x\" is not the name of a plugin: write 1 to 64 letters, digits, \
         dots, underscores or dashes, beginning with a letter or a digit",
    );
    refused(
        &grants("echo: {mount: {}}"),
        "distillery.yaml:3:12: plugins.grants.echo.mount: unknown key: did you mean mounts? (allowed: mounts, http, env, \
         secrets, systems, scratch, commands)",
    );
    refused(
        &grants("echo: {mounts: {a: {write: true}}}"),
        "distillery.yaml:3:24: plugins.grants.echo.mounts.a: path is missing: it has no default",
    );
    refused(
        &grants("echo: {mounts: {a b: {path: /a}}}"),
        "distillery.yaml:3:21: plugins.grants.echo.mounts.a b: \"a b\" is not a name for a mount: write 1 to 64 letters, \
         digits, dots, underscores or dashes",
    );
    refused(
        &grants("echo: {secrets: {KEY: {file: a, env: B}}}"),
        "distillery.yaml:3:27: plugins.grants.echo.secrets.KEY: comes from two places: write either {file: path} or \
         {env: VARIABLE}",
    );
    refused(
        &grants("echo: {secrets: {KEY: {}}}"),
        "distillery.yaml:3:27: plugins.grants.echo.secrets.KEY: comes from nowhere: write either {file: path} or {env: \
         VARIABLE}",
    );
    refused(
        &grants("echo: {env: [DISTILLERY_USER]}"),
        "distillery.yaml:3:18: plugins.grants.echo.env[0]: \"DISTILLERY_USER\" is set by the server: write a name that \
         does not begin with DISTILLERY_",
    );
    refused(
        &grants("echo: {systems: all}"),
        "distillery.yaml:3:21: plugins.grants.echo.systems: \"all\" is not allowed: write one of read, write",
    );
}

#[test]
fn wrong_system_has_a_precise_error() {
    let url = "url: 'https://a.example'";
    refused(
        &format!("systems:\n  - {{slug: a, {url}}}\n  - {{slug: a, {url}}}\n"),
        "distillery.yaml:3:12: systems[1].slug: \"a\" is taken: write another",
    );
    refused(
        "systems:\n  - slug: My System\n",
        "distillery.yaml:2:11: systems[0].slug: \"My System\" is not a slug: write 1 to 63 lowercase letters, digits or \
         dashes, beginning with a letter",
    );
    refused(
        "systems:\n  - {slug: a, url: a.example}\n",
        "distillery.yaml:2:20: systems[0].url: \"a.example\" is not an address of the web: write an address that begins \
         with https:// or http://, such as https://a.example/",
    );
    refused(
        &format!("systems:\n  - {{slug: a, {url}, last_edit: 2026-01-31}}\n"),
        "distillery.yaml:2:52: systems[0].last_edit: \"2026-01-31\" is not a time: write date, time and zone as RFC 3339 \
         does, such as 2026-01-31T12:00:00Z",
    );
    refused(
        &format!("systems:\n  - {{slug: a, {url}, entity_count: -1}}\n"),
        "distillery.yaml:2:55: systems[0].entity_count: -1 is not a count that is allowed: write a whole number from 0 \
         to 9223372036854775807",
    );
}

#[test]
fn variable_overrides_the_file() {
    let text = "http: {listen: '127.0.0.1:1', api: false}\ndata: here\n";
    let environment = [
        ("DISTILLERY_HTTP__LISTEN", "127.0.0.1:2"),
        ("distillery_http__Api", "true"),
        ("DISTILLERY_HTTP__ORIGINS", "[https://a.example]"),
        ("DISTILLERY_LIMITS__PROCESSES", "12"),
        ("DISTILLERY_LOG__LEVEL", "info,distillery=debug"),
        ("DISTILLERY_PLUGINS__GRANTS", "{echo: {env: [LANG]}}"),
        ("DISTILLERY_SYSTEMS", "[{slug: a, url: 'https://a.example'}]"),
        ("DISTILLERY_DATA", "there"),
        ("DISTILLERY_NEWS", "/news"),
    ];
    let config = read_with(text, &environment).unwrap();
    assert_eq!(config.http.listen, "127.0.0.1:2".parse().unwrap());
    assert!(config.http.api);
    assert_eq!(config.http.origins, ["https://a.example"]);
    assert_eq!(config.limits.processes, Some(12));
    assert_eq!(config.log.level, "info,distillery=debug");
    assert_eq!(config.plugins.grants["echo"].env, ["LANG"]);
    assert_eq!(config.systems.len(), 1);
    assert_eq!((config.data, config.cache, config.news), ("there".into(), "there/cache".into(), "/news".into()));
}

#[test]
fn foreign_variables_are_ignored() {
    let environment = [("DISTILLERY_PORT", "tcp://10.0.0.1:80"), ("DISTILLERY_SERVICE_HOST", "x"), ("PATH", "/bin")];
    assert_eq!(read_with("", &environment).unwrap(), Config::default());
}

#[test]
fn error_in_a_variable_names_it() {
    refused_variable(
        "DISTILLERY_HTTP__LISTEN",
        "8080",
        "DISTILLERY_HTTP__LISTEN: http.listen: 8080 is not an address: write an IP address and a port, such as \
         127.0.0.1:8080 or \"[::1]:8080\"",
    );
    refused_variable(
        "distillery_http__call_timeout",
        "",
        "distillery_http__call_timeout: http.call_timeout: nothing is not a duration: write a number with a unit, such \
         as 30s, 5m or 1h 30m",
    );
    refused_variable(
        "DISTILLERY_HTTP__ORIGINS",
        "[*]",
        "DISTILLERY_HTTP__ORIGINS: http.origins: not YAML: did not find expected alphabetic or numeric character, while \
         scanning an alias at line 1 column 2: put it in quotes",
    );
    refused_variable(
        "DISTILLERY_CANCEL__GRACE",
        "2m",
        "DISTILLERY_CANCEL__GRACE: cancel.grace: a grace of 2m must not be longer than the grace_max of 1m",
    );
    refused_variable(
        "DISTILLERY_PLUGINS__GRANTS",
        "{echo: {scratch: big}}",
        "DISTILLERY_PLUGINS__GRANTS: plugins.grants.echo.scratch: \"big\" is not a size: write a whole number of bytes, \
         KiB, MiB, GiB or TiB, such as 256MiB",
    );
}

#[test]
fn variable_without_a_key_is_refused() {
    refused_variable(
        "DISTILLERY_CANCEL__GRASE",
        "1s",
        "DISTILLERY_CANCEL__GRASE: cancel.grase: unknown key: did you mean DISTILLERY_CANCEL__GRACE? (allowed: \
         DISTILLERY_CANCEL__CLEANUP_TIME, DISTILLERY_CANCEL__GRACE, DISTILLERY_CANCEL__GRACE_MAX, \
         DISTILLERY_CANCEL__SHUTDOWN_GRACE, DISTILLERY_CANCEL__TAKEOVER_GRACE)",
    );
    refused_variable(
        "DISTILLERY_HTPP__LISTEN",
        "1s",
        "DISTILLERY_HTPP__LISTEN: htpp.listen: unknown key: did you mean DISTILLERY_HTTP__LISTEN?",
    );
    refused_variable(
        "DISTILLERY_SERVER__SOMETHING",
        "1s",
        "DISTILLERY_SERVER__SOMETHING: server.something: unknown key: use the keys of distillery.yaml, with __ between \
         section and key",
    );
    refused_variable(
        "DISTILLERY_PLUGINS__GRANTS__ECHO",
        "{}",
        "DISTILLERY_PLUGINS__GRANTS__ECHO: plugins.grants.echo: unknown key: set the whole of it in \
         DISTILLERY_PLUGINS__GRANTS",
    );
    refused_variable(
        "DISTILLERY_HTTP",
        "{api: true}",
        "DISTILLERY_HTTP: http: a section cannot be set whole: set one of its keys in DISTILLERY_HTTP__…",
    );
    let twice = [("DISTILLERY_HTTP__API", "true"), ("distillery_http__api", "false")];
    assert_eq!(
        read_with("", &twice).unwrap_err().to_string(),
        "distillery_http__api: DISTILLERY_HTTP__API names the same key: set only one of them"
    );
}

/// Creates a temporary directory for one test.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn none() -> [(String, String); 0] {
    []
}

#[test]
fn only_the_default_file_can_be_missing() {
    let directory = directory();
    let missing = directory.path().join("distillery.yaml");
    let config = Config::load_or(None, &missing, none()).unwrap();
    assert_eq!(config.http, Http::default());
    assert_eq!(config.data, directory.path().join("data"));

    let expected = format!("{}: cannot be read: No such file or directory (os error 2)", missing.display());
    assert_eq!(Config::load(Some(&missing), none()).unwrap_err().to_string(), expected);
    let named = [("DISTILLERY_CONFIG".to_owned(), missing.display().to_string())];
    assert_eq!(Config::load(None, named).unwrap_err().to_string(), expected);

    let empty = [("DISTILLERY_CONFIG".to_owned(), String::new())];
    assert_eq!(
        Config::load(None, empty).unwrap_err().to_string(),
        "DISTILLERY_CONFIG: nothing is not a path: write the path of a file, or unset the variable"
    );
}

#[test]
fn relative_paths_start_from_the_directory_of_the_file() {
    let directory = directory();
    let file = directory.path().join("other.yaml");
    let text =
        "data: kept\nplugins:\n  directory: calls\n  grants: {a: {mounts: {m: {path: m}}, secrets: {S: {file: s}}}}\n";
    std::fs::write(&file, text).unwrap();
    let named = [
        ("DISTILLERY_CONFIG".to_owned(), file.display().to_string()),
        ("DISTILLERY_NEWS".to_owned(), "told".to_owned()),
        ("NO_COLOR".to_owned(), "1".to_owned()),
    ];
    let config = Config::load(None, named).unwrap();
    let at = |name: &str| directory.path().join(name);
    assert_eq!((config.data, config.cache, config.news), (at("kept"), at("kept/cache"), at("told")));
    assert_eq!(config.plugins.directory, at("calls"));
    assert_eq!(config.plugins.grants["a"].mounts["m"].path, at("m"));
    assert_eq!(config.plugins.grants["a"].secrets["S"], SecretSource::File(at("s")));
    assert!(!config.log.color);
}

#[test]
fn encoding_error_names_its_line() {
    let directory = directory();
    let file = directory.path().join("distillery.yaml");
    std::fs::write(&file, b"http:\n  api: true # f\xfcr alle\n").unwrap();
    assert_eq!(
        Config::load(Some(&file), none()).unwrap_err().to_string(),
        format!("{}:2: not UTF-8: save the file in this encoding", file.display())
    );
}

/// Returns the shipped file with all commented keys set.
fn uncommented() -> String {
    let set = |line: &str| {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        match rest.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_alphabetic()) => format!("{indent}{key}\n"),
            _ => format!("{line}\n"),
        }
    };
    SHIPPED.lines().map(set).collect()
}

#[test]
fn shipped_file_enables_the_api_and_examples() {
    let config = read(SHIPPED);
    let expected = Config {
        http: Http { api: true, ..Http::default() },
        plugins: Plugins { grants: config.plugins.grants.clone(), ..Plugins::default() },
        systems: config.systems.clone(),
        news: "deploy/news".into(),
        ..Config::default()
    };
    assert_eq!(config, expected);
    assert_eq!(config.plugins.grants.keys().collect::<Vec<_>>(), ["instance_log", "instances"]);
    assert_eq!(config.systems.len(), 2);
    assert_eq!(config.systems[0].last_edit, Some(datetime!(2026-11-20 16:45 UTC)));
    let news = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(&config.news);
    assert_eq!(std::fs::read_dir(news).unwrap().count(), 2);
}

#[test]
fn shipped_file_shows_the_real_defaults() {
    let config = read(&uncommented());
    let shipped = read(SHIPPED);
    assert_eq!(config.plugins.grants.keys().collect::<Vec<_>>(), ["instance_log", "instances", "provision"]);
    let plugins = Plugins { grants: shipped.plugins.grants.clone(), ..config.plugins.clone() };
    assert_eq!(config.schedules.keys().collect::<Vec<_>>(), ["nightly-prune", "nightly-snapshot"]);
    assert_eq!(config.hooks.hooks["payments"].window, config.hooks.hooks["site"].window);
    assert_eq!(config.hooks.hooks["payments"].body, config.hooks.hooks["site"].body);
    assert_eq!(Config { plugins, schedules: BTreeMap::new(), hooks: Hooks::default(), ..config }, shipped);
}

#[test]
fn shipped_file_names_every_key() {
    let text = uncommented();
    let variables = Variables::default();
    let source = Source::new(Path::new("distillery.yaml"), &text, &variables);
    Config::read(&source, Path::new("")).unwrap();
    let written = keys("", &yaml::parse(&text).unwrap());
    let missing: Vec<_> = source.asked().difference(&written).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn reference_has_every_key() {
    let variables = Variables::default();
    let source = Source::new(Path::new("distillery.yaml"), "", &variables);
    Config::read(&source, Path::new("")).unwrap();
    let page = reference::markdown();
    let headings: BTreeSet<_> =
        page.lines().filter_map(|line| Some(line.split_once("# `")?.1.trim_end_matches('`'))).collect();
    let missing: Vec<_> = source.asked().iter().filter(|key| !headings.contains(key.as_str())).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// Returns the keys in a tree, with `*` for free ones.
fn keys(above: &str, value: &yaml::Value) -> BTreeSet<String> {
    let free = [
        "plugins.grants",
        "plugins.grants.*.mounts",
        "plugins.grants.*.secrets",
        "plugins.grants.*.commands",
        "plugins.grants.*.commands.*.params",
        "plugins.grants.*.commands.*.env",
        "schedules",
        "hooks",
    ]
    .contains(&above);
    let below = |key: &str| if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
    let mut all = BTreeSet::new();
    match value {
        yaml::Value::Map(entries) => {
            for (key, value) in entries {
                let key = below(if free { "*" } else { key });
                all.extend(keys(&key, value));
                all.insert(key);
            }
        }
        yaml::Value::List(items) => all.extend(items.iter().flat_map(|item| keys(&below("*"), item))),
        _ => {}
    }
    all
}
