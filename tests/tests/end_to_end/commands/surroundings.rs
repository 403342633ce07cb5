//! The arguments, the streams and the environment of a command.

use super::{KINDS, builder_of, params};
use distillery_tests::{
    Guest, Server,
    program::{piped, printed, text},
};
use serde_json::json;
use std::fs;

#[tokio::test]
async fn plugin_yaml_alone_makes_a_call() {
    let server = Server::builder()
        .file(
            "plugins/greet/plugin.yaml",
            "description: Greets\ncomponent: builtin:command\ncommand: greet\ncalls: {greet: {access: public}}",
        )
        .set(
            "plugins.grants",
            json!({"greet": {"commands": {"greet": {
                "run": ["echo", "hello", "{name}"], "params": {"name": {"pattern": "[a-z]+", "default": "world"}},
            }}}}),
        )
        .start()
        .await;
    assert_eq!(server.call("greet", &[]).await.finish().await.success(), ["hello world"]);
    assert_eq!(server.call("greet", &["ada"]).await.finish().await.success(), ["hello ada"]);
    let refused =
        |params: &'static [&'static str]| async { server.call("greet", params).await.finish().await.failure() };
    assert_eq!(refused(&["ADA"]).await, "parameter \"name\" does not match [a-z]+");
    assert_eq!(refused(&["a", "b"]).await, "too many parameters: \"greet\" takes at most 1");

    // The rules of the grant are those of the call, for clients too.
    let calls = server.get("/api/v1/calls").await.json();
    assert_eq!(calls[0]["params"][0]["name"], "name", "{calls}");
    assert_eq!(calls[0]["params"][0]["pattern"], "[a-z]+", "{calls}");

    let process = server.process_ended("greet").await;
    assert_eq!((process.field("commands"), process.field("value")), ("1".to_owned(), String::new()));
    let ended = server.log().line("the end of the command", |line| line.message() == "command ended").await;
    assert_eq!((ended.field("command"), ended.field("status")), ("greet".to_owned(), "0".to_owned()));
    assert!(ended.field("memory").parse::<u64>().unwrap() > 0, "{ended:?}");
}

#[tokio::test]
async fn streams_carry_all_bytes_in_both_directions() {
    let server = builder_of(&["sh", "-c", "cat; echo apart >&2"], json!({})).start().await;
    // More than all buffers between the client and the command.
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for kind in KINDS {
        let given = params(kind, &[]);
        let arguments: Vec<_> = ["call", kind].into_iter().chain(given.iter().map(String::as_str)).collect();
        let output = piped(&mut server.command(&arguments), input.clone());
        assert!(output.status.success(), "{kind}: {}", text(&output.stderr));
        assert!(output.stdout.starts_with(&input), "{kind}: {} bytes", output.stdout.len());
        let rest = text(&output.stdout[input.len()..]);
        assert!(rest.is_empty() == (kind == "builtin"), "{kind}: {rest}");
        assert_eq!(text(&output.stderr), "apart\n", "{kind}");
    }
}

#[tokio::test]
async fn module_of_go_runs_a_command() {
    let Some(guest) = Guest::go_granted() else {
        eprintln!("SKIPPED: module_of_go_runs_a_command, for want of a Go guest: run `make go-guest`");
        return;
    };
    let server = Server::builder()
        .plugin("go", guest, "stderr: forward\ncalls: {go: {access: public}}\ncapabilities: {commands: [it]}")
        .set(
            "plugins.grants",
            json!({"go": {"commands": {"it": {"run": ["sh", "-c", "cat; echo apart >&2; exit 3"]}}}}),
        )
        .start()
        .await;
    let output = piped(&mut server.command(&["call", "go", "it"]), "one\ntwo");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), "one\ntwo"));
    assert!(text(&output.stderr).contains("apart"), "{}", text(&output.stderr));
    let unknown = server.call("go", &["other"]).await.finish().await.failure();
    assert!(unknown.contains("plugin.yaml does not ask for the command \"other\""), "{unknown}");
}

#[tokio::test]
async fn status_and_signal_are_told() {
    let params_of = json!({"params": {"script": {"choices": ["exit 7", "kill -9 $$"]}}});
    let server = builder_of(&["sh", "-c", "{script}"], params_of).start().await;
    for (script, builtin, component) in [
        ("exit 7", "exit status 7", "Ended { status: Status::Exited(7), bound: None }"),
        (
            "kill -9 $$",
            "exit status 137: the command was ended by signal 9",
            "Ended { status: Status::Signalled(9), bound: None }",
        ),
    ] {
        let end = |kind: &'static str| {
            let (server, given) = (&server, params(kind, &[("script", script)]));
            async move {
                let given: Vec<_> = given.iter().map(String::as_str).collect();
                server.call(kind, &given).await.finish().await
            }
        };
        assert_eq!(end("builtin").await.failure(), builtin);
        assert_eq!(end("component").await.success(), [component]);
        assert_eq!(end("component3").await.success(), [component]);
    }
}

#[tokio::test]
async fn value_stays_one_argument() {
    let server = builder_of(
        &["printf", "<%s>", "{a}", "fixed", "--b={b}"],
        json!({
            "params": {"a": {}, "b": {"pattern": "(?s).*", "leading_dash": true}},
        }),
    )
    .start()
    .await;
    for value in ["$(id)", "`id`", "a b", "'\"", "; rm -rf /", "a\nb", "*", "\\", "{b}", "ä☃", "%s", "&& id", "> x"]
    {
        for kind in KINDS {
            let given = params(kind, &[("a", value), ("b", value)]);
            let given: Vec<_> = given.iter().map(String::as_str).collect();
            let lines = server.call(kind, &given).await.finish().await.success();
            let whole = lines.join("\n");
            assert!(whole.starts_with(&format!("<{value}><fixed><--b={value}>")), "{kind}: {value:?}: {whole:?}");
        }
    }
    let end = server.call("builtin", &["-n", "x"]).await.finish().await;
    assert_eq!(end.failure(), "parameter \"a\" begins with a dash: a program would read it as an option");
    let lines = server.call("component", &["run", "it", "a=-n", "b=x"]).await.finish().await.success();
    assert!(lines[0].starts_with("StartError::InvalidParameter("), "{lines:?}");
    assert_eq!(server.call("builtin", &["x", "-n"]).await.finish().await.success(), ["<x><fixed><--b=-n>"]);
}

#[tokio::test]
async fn ten_thousand_values_arrive_as_they_were_sent() {
    const AT_ONCE: usize = 100;
    let names: Vec<_> = (0..AT_ONCE).map(|at| format!("p{at}")).collect();
    let places: Vec<_> = names.iter().map(|name| format!("{{{name}}}")).collect();
    let run: Vec<_> = ["printf", "%s\\0"].into_iter().chain(places.iter().map(String::as_str)).collect();
    let params: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!({}))).collect();
    let server = builder_of(&run, json!({ "params": params })).start().await;
    let parts = [
        "$(id)",
        "`id`",
        ";",
        "&&",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "\n",
        " ",
        "*",
        "{p0}",
        "}",
        "%s",
        "%n",
        "--x",
        "-",
        "=",
        "..",
        "/etc/passwd",
        "~",
        "ä",
        "☃",
        "\u{1}",
        "\u{202e}",
        "a",
        "0",
    ];
    let mut random = 7_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    for _ in 0..10_000 / AT_ONCE {
        let values: Vec<String> = (0..AT_ONCE)
            .map(|_| {
                let count = 1 + next(6);
                let value: String = (0..count).map(|_| parts[next(parts.len())]).collect();
                let plain = value.trim_start_matches('-');
                if plain.is_empty() { "x".to_owned() } else { plain.to_owned() }
            })
            .collect();
        let given: Vec<_> = values.iter().map(String::as_str).collect();
        let told = server.talk_to("builtin", &given).await.finish().await.success();
        let arrived: Vec<_> = told.split(|byte| *byte == 0).map(|value| String::from_utf8_lossy(value)).collect();
        assert_eq!(arrived[..AT_ONCE], values[..]);
        assert_eq!(arrived[AT_ONCE..], [""]);
    }
}

#[tokio::test]
async fn environment_is_exactly_the_granted_one() {
    let builder = builder_of(&["env"], json!({"env": {"GREETING": "hello", "TOKEN": {"file": "token"}}}));
    let server = builder.file("token", "swordfish\n").start().await;
    let mut lines = server.call("builtin", &[]).await.finish().await.success();
    lines.sort();
    let names: Vec<_> = lines.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(names, [super::MARK, "GREETING", "PATH", "TOKEN"]);
    assert!(lines.contains(&"TOKEN=swordfish".to_owned()));
    let log = server.log().lines();
    assert!(!log.iter().any(|line| format!("{line:?}").contains("swordfish")), "{log:?}");
}

#[tokio::test]
async fn secret_parameter_is_in_no_log_and_no_history() {
    let more = json!({"params": {"key": {"pattern": ".*", "secret": true}}});
    let server = builder_of(&["test", "{key}", "=", "swordfish"], more).start().await;
    for kind in KINDS {
        let given = params(kind, &[("key", "swordfish")]);
        let given: Vec<_> = given.iter().map(String::as_str).collect();
        server.call(kind, &given).await.finish().await.success();
    }
    let started = server.log().line("a started command", |line| line.message() == "command started").await;
    assert_eq!(started.field("params"), "key=***");
    let log = server.log().lines();
    assert!(!log.iter().any(|line| format!("{line:?}").contains("swordfish")), "{log:?}");
    let seen = server.operator(hyper::Method::GET, "/api/v1/processes?call=builtin").await.json();
    assert_eq!(seen[0]["params"], json!([null]), "{seen}");
    assert_eq!(seen[0]["commands"]["count"], 1, "{seen}");
}

#[tokio::test]
async fn command_has_no_privileges_and_no_descriptors_to_inherit() {
    let script = "grep NoNewPrivs /proc/self/status; ulimit -c; ulimit -n; ulimit -d; ls /proc/self/fd | wc -l; pwd; \
                  ps -o pgid= -p $$ | tr -d ' ' | grep -cx $$; ls -l /proc/$$/fd | grep -c socket; true";
    let more = json!({"directory": "/usr", "files": 200, "memory": "64MiB"});
    let server = builder_of(&["sh", "-c", script], more).start().await;
    let lines = server.call("builtin", &[]).await.finish().await.success();
    // `ls` has its own directory open beside the three streams.
    assert_eq!(lines, ["NoNewPrivs:\t1", "0", "200", "65536", "4", "/usr", "1", "0"]);
}

#[tokio::test]
async fn landlock_leaves_only_the_granted_paths() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    for name in ["open", "closed", "written"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(format!("{}/x", at(name)), "inside\n").unwrap();
    }
    let paths = json!({"read": ["/usr", "/bin", "/lib", "/lib64", at("open")], "write": [at("written"), "/dev/null"]});
    let more = json!({"directory": directory.path(), "paths": paths});
    let script = "cat open/x; cat closed/x; echo y > written/y; echo y > open/y; true";
    let server = builder_of(&["sh", "-c", script], more).start().await;
    let Some(end) = confined(&server).await else { return };
    assert_eq!(end, ["inside"]);
    assert!(fs::exists(format!("{}/y", at("written"))).unwrap());
    assert!(!fs::exists(format!("{}/y", at("open"))).unwrap());
}

/// Returns the output of the confined command. `None`, with a message, if this kernel has no Landlock; CI must have it.
async fn confined(server: &Server) -> Option<Vec<String>> {
    let refused = |line: &distillery_tests::log::Line| {
        line.message() == "plugin not loaded" && line.field("error").contains("it has no Landlock")
    };
    if server.log().lines().iter().any(refused) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "this kernel has no Landlock");
        eprintln!("SKIPPED: landlock_leaves_only_the_granted_paths, for want of Landlock in this kernel");
        return None;
    }
    let end = server.call("builtin", &[]).await.finish().await;
    Some(end.lines.into_iter().filter(|line| !line.contains("ermission")).collect())
}

#[tokio::test]
async fn command_needs_a_grant_and_a_program() {
    let asks = "calls: {a: {access: public}}\ncapabilities: {commands: [it]}";
    let server = Server::builder()
        .plugin("a", Guest::component("granted"), asks)
        .plugin("b", Guest::component("granted"), &asks.replace("{a:", "{b:"))
        .file("plugins/c/plugin.yaml", "component: builtin:command\ncommand: it\ncalls: {c: {params: [{name: x}]}}")
        .set(
            "plugins.grants",
            json!({
                "b": {"commands": {"it": {"run": ["no-such-program"]}, "other": {"run": ["id"]}}},
                "c": {"commands": {"it": {"run": ["id"]}}},
            }),
        )
        .start()
        .await;
    for (plugin, why) in [
        ("a", "not granted: the command it: grant it in plugins.grants.a in distillery.yaml"),
        ("b", "the command it: there is no program no-such-program in /usr/local/sbin:"),
        ("c", "the call c has the parameter \"x\", and its command has not: remove it in plugin.yaml"),
    ] {
        let told = |line: &distillery_tests::log::Line| {
            line.message() == "plugin not loaded" && line.field("plugin") == plugin
        };
        let error = server.log().line("a word about the plugin", told).await.field("error");
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn check_and_run_know_commands() {
    let builder = builder_of(&["echo", "{word}"], json!({"params": {"word": {"choices": ["a", "b"]}}}));
    let checked = builder.run(&["check"], "");
    let told = printed(&checked);
    assert_eq!(told.matches("may run the command it").count(), 3, "{told}");
    let one = printed(&builder.run(&["check", "plugins/builtin"], ""));
    for line in ["runs: the granted command it", "call: builtin <word>", "one of a, b", "asks for: the command it"] {
        assert!(one.contains(line), "{line}: {one}");
    }
    assert_eq!(printed(&builder.run(&["run", "plugins/builtin", "b"], "")), "b\n");
    let refused = builder.run(&["run", "plugins/builtin", "c"], "");
    assert!(text(&refused.stderr).contains("parameter \"word\" must be one of a, b"), "{}", text(&refused.stderr));
}

#[tokio::test]
async fn reload_replaces_and_revokes_a_command() {
    let command = |word: &str| json!({"builtin": {"commands": {"it": {"run": ["echo", word]}}}});
    let mut server = Server::builder()
        .file(
            "plugins/builtin/plugin.yaml",
            "component: builtin:command\ncommand: it\ncalls: {builtin: {access: public}}",
        )
        .set("plugins.grants", command("before"))
        .start()
        .await;
    assert_eq!(server.call("builtin", &[]).await.finish().await.success(), ["before"]);
    server.reconfigure("plugins.grants", command("after"));
    printed(&server.run(&["reload"]));
    assert_eq!(server.call("builtin", &[]).await.finish().await.success(), ["after"]);
    server.reconfigure("plugins.grants", json!({}));
    server.run(&["reload"]);
    assert_eq!(server.call("builtin", &[]).await.finish().await.failure(), "unknown call \"builtin\"");
}
