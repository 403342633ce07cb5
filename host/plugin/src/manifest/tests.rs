use super::*;
use crate::capabilities::{Scratch, SystemsAccess};
use distillery_core::size::Size;

fn read(text: &str) -> Result<Manifest, String> {
    let file = Path::new("plugins/echo/plugin.yaml");
    Manifest::read(text, file, &"echo".parse().unwrap()).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    read(text).unwrap_err()
}

#[test]
fn every_key_is_read() {
    let manifest = read(
        r#"
description: Creates a new instance
component: provision.wasm
build: cargo build --release
arguments: [-u, script.py]
files: {directory: lib/python, at: /}
env: {LANG_OF_SCRIPT: eo, PORT: 80}
directory: /
imports: trap
invoke: main
dev: true
stderr: forward
calls:
  provision:
    description: Creates the instance <slug>
    access: public
    arguments: [provision.py]
    params:
      - {name: slug, description: Its name, pattern: "[a-z][a-z0-9-]{0,30}"}
      - {name: flavor, choices: [drupal-10, 11], default: 11}
    on_disconnect: detach
    secret_value: true
    output: none
  list: {}
limits: {memory: 64MiB, time: 5m, cpu: 10s, output: 16MiB, processes: 4}
cancel: {grace: 2s, cleanup: true}
capabilities:
  mounts: [{name: instances, at: /instances, write: true}]
  http: ["https://api.example.org"]
  env: [LANG]
  secrets: [API_KEY]
  systems: write
  scratch: 64MiB
  commands: [compose, docker.ps]
"#,
    )
    .unwrap();
    assert_eq!(manifest.component.as_deref(), Some(Path::new("provision.wasm")));
    assert_eq!(manifest.build.as_deref(), Some("cargo build --release"));
    assert_eq!(manifest.arguments, ["-u", "script.py"]);
    assert_eq!(manifest.files.directory, Path::new("lib/python"));
    assert_eq!((manifest.files.wanted, manifest.files.at.as_str()), (Wanted::Yes, "/"));
    let env: Vec<_> = manifest.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("LANG_OF_SCRIPT", "eo"), ("PORT", "80")]);
    assert_eq!(manifest.directory.as_ref().map(GuestPath::as_str), Some("/"));
    assert_eq!(manifest.linking, Linking { unknown: UnknownImports::Trap, invoke: Some("main".into()) });
    assert!(manifest.dev);
    assert_eq!(manifest.stderr, Stderr::Forward);
    let provision = &manifest.calls["provision"];
    assert_eq!((provision.access, provision.on_disconnect), (Access::Public, OnDisconnect::Detach));
    assert!(!provision.keeps_output && manifest.calls["list"].keeps_output);
    assert!(provision.secret_value && !manifest.calls["list"].secret_value);
    assert_eq!(
        (provision.arguments.as_slice(), manifest.calls["list"].arguments.len()),
        (&["provision.py".into()][..], 0)
    );
    assert_eq!(provision.params.as_ref().unwrap()[1].default.as_deref(), Some("11"));
    assert_eq!((manifest.calls["list"].access, manifest.calls["list"].params.is_none()), (Access::Scoped, true));
    assert_eq!(manifest.limits.time, Some(Duration::from_secs(300)));
    assert_eq!((manifest.limits.output, manifest.limits.processes), (Some(Size::mib(16)), Some(4)));
    assert_eq!(manifest.cancel, Cancel { grace: Some(Duration::from_secs(2)), cleanup: true });
    let asked = &manifest.capabilities;
    let mount = &asked.mounts[0];
    assert_eq!((mount.name.as_str(), mount.at.as_str(), mount.write), ("instances", "/instances", true));
    assert_eq!(asked.http[0].as_str(), "https://api.example.org");
    assert_eq!((asked.env[0].as_str(), asked.secrets[0].as_str()), ("LANG", "API_KEY"));
    assert_eq!((asked.systems, asked.scratch), (Some(SystemsAccess::Write), Some(Scratch(Size::mib(64)))));
    assert_eq!(asked.commands.iter().map(CommandName::as_str).collect::<Vec<_>>(), ["compose", "docker.ps"]);
    assert!(manifest.command.is_none());
}

#[test]
fn command_without_a_module_asks_for_its_grant() {
    let manifest = read("description: Restarts it\ncomponent: builtin:command\ncommand: restart-web\n").unwrap();
    assert_eq!(manifest.command.as_ref().map(CommandName::as_str), Some("restart-web"));
    assert_eq!((manifest.component.is_none(), manifest.capabilities.commands.len()), (true, 1));
    let both = "{component: 'builtin:command', command: x, capabilities: {commands: [x]}}";
    assert_eq!(read(both).unwrap().capabilities.commands.len(), 1);
}

#[test]
fn empty_manifest_provides_one_call_named_after_the_directory() {
    for manifest in [read("{}").unwrap(), Manifest::of(&"echo".parse().unwrap())] {
        assert_eq!(manifest.calls.keys().map(CallName::as_str).collect::<Vec<_>>(), ["echo"]);
        assert!(manifest.calls["echo"].params.is_none());
        assert_eq!(manifest.limits, Lowered::default());
        assert!(manifest.capabilities.is_empty());
    }
}

#[test]
fn every_form_of_files_is_read() {
    let files = |text: &str| read(text).unwrap().files;
    assert_eq!(files("{}"), Files::default());
    assert_eq!(files("files: false").wanted, Wanted::No);
    assert_eq!(files("files: true"), Files { wanted: Wanted::Yes, ..Files::default() });
    assert_eq!(files("files: ./lib").directory, Path::new("lib"));
    assert_eq!(files("files: {at: /usr/lib}").at.as_str(), "/usr/lib");
}

#[test]
fn places_of_a_guest_are_distinct() {
    let check = |text: &str, has_files| read(text).unwrap().check_places(has_files);
    let mount = "capabilities: {mounts: [{name: a, at: /plugin}]}";
    assert!(check(mount, false).is_ok());
    assert!(check(mount, true).unwrap_err().starts_with("two things are at /plugin"));
    assert!(check("dev: true\nfiles: {at: /dev}", true).unwrap_err().starts_with("two things are at /dev"));
    assert!(check("directory: /plugin", true).is_ok());
    assert!(check("directory: /plugin", false).unwrap_err().starts_with("directory: nothing is at /plugin"));
}

#[test]
fn error_names_its_place() {
    assert_eq!(
        refused("description: x\ncalls:\n  echo:\n    acess: public\n"),
        "plugins/echo/plugin.yaml:4:5: calls.echo.acess: unknown key: did you mean access? (allowed: description, \
         access, script, arguments, params, on_disconnect, secret_value, output)"
    );
    assert_eq!(
        refused("calls:\n  echo:\n    params:\n      - {name: a, default: x}\n      - {name: b}\n"),
        "plugins/echo/plugin.yaml:3:5: calls.echo.params: \"b\" is required, but follows the optional \"a\": put it \
         before, or make it optional"
    );
    assert_eq!(
        refused("calls:\n  echo:\n    params:\n      - name: a\n      - name: b\n        pattern: '['\n"),
        "plugins/echo/plugin.yaml:5:9: calls.echo.params[1]: pattern [ is not a regular expression: unclosed \
         character class"
    );
    assert_eq!(
        refused("calls:\n  /x: {}\n"),
        "plugins/echo/plugin.yaml:2:3: calls./x: not a name for a call: use 1 to 64 letters, digits, dots, \
         underscores or dashes, beginning with a letter or a digit"
    );
}

#[test]
fn senseless_value_is_refused() {
    for (text, why) in [
        ("", "it is empty"),
        ("calls:", "calls: it has no value"),
        ("calls: {a: {params: }}", "calls.a.params: it has no value"),
        ("calls: {a: {params: [{name: b, pattern: }]}}", "calls.a.params[0].pattern: it has no value"),
        ("calls: {}", "calls: no call is listed"),
        ("calls: {a: {}, a: {}}", "calls.a: this key is there twice"),
        ("component: ../x.wasm", "component: \"../x.wasm\" is not a module of this directory"),
        ("component: /x.wasm", "not a module"),
        ("component: x.so", "not a module"),
        ("component: ''", "not a module"),
        ("component: builtin:shell", "not a module of this directory"),
        ("component: builtin:command", "component: builtin:command needs a command"),
        ("command: x", "command: needs component: builtin:command"),
        ("{component: x.wasm, command: x}", "command: needs component: builtin:command"),
        ("{component: 'builtin:command', command: x, arguments: [y]}", "has nothing to build and no arguments"),
        ("{component: 'builtin:command', command: x y}", "command: \"x y\" is not the name of a command"),
        ("capabilities: {commands: [a, a]}", "capabilities: the command a is asked for twice"),
        ("arguments: [\"a\\0\"]", "arguments[0]: an argument cannot contain a NUL"),
        ("stderr: both", "stderr: \"both\" is not allowed: allowed: log, forward"),
        ("limits: {output: 0}", "limits.output: 0 lets nothing through"),
        ("limits: {time: 0s}", "limits.time: 0 lets nothing through"),
        ("limits: {time: 5}", "limits.time: \"5\" is not a duration"),
        ("limits: {processes: 0}", "limits.processes: 0 lets nothing through"),
        ("limits: {stack: 1MiB}", "limits.stack: unknown key"),
        ("cancel: {grace: soon}", "cancel.grace: \"soon\" is not a duration"),
        ("capabilities: {mounts: [{name: a, at: x}]}", "capabilities.mounts[0].at: \"x\" is not a place"),
        ("capabilities: {mounts: [{name: a, at: /x/../y}]}", "not a place"),
        ("capabilities: {mounts: [{name: a, at: /x/}]}", "not a place"),
        ("capabilities: {mounts: [{name: a, at: //}]}", "not a place"),
        ("files: ../x", "files: \"../x\" is not a directory or file inside the plugin's"),
        ("files: /etc", "is not a directory or file inside"),
        ("files: .", "is not a directory or file inside"),
        ("files: 7", "files: "),
        ("files: {at: x}", "files.at: \"x\" is not a place"),
        ("files: {form: x}", "files.form: unknown key"),
        ("env: {A: \"b\\0\"}", "env.A: a variable cannot contain a NUL"),
        ("env: {DISTILLERY_USER: root}", "is not the name of a variable"),
        ("env: {A: b, A: c}", "env.A: this key is there twice"),
        ("env: {A: b}\ncapabilities: {secrets: [A]}", "the variable A is a constant and a capability"),
        ("directory: relative", "directory: \"relative\" is not a place"),
        ("imports: stub", "imports: \"stub\" is not allowed: allowed: refuse, trap"),
        ("calls: {a: {arguments: [\"a\\0\"]}}", "an argument cannot contain a NUL"),
        ("capabilities: {mounts: [{name: a, at: /x}, {name: b, at: /x}]}", "capabilities: two things are at /x"),
        ("capabilities: {mounts: [{name: a, at: /tmp}], scratch: 1MiB}", "capabilities: two things are at /tmp"),
        ("capabilities: {env: [A], secrets: [A]}", "capabilities: the variable A is asked for twice"),
        ("capabilities: {env: [DISTILLERY_USER]}", "capabilities.env[0]: \"DISTILLERY_USER\" is not the name"),
        ("capabilities: {env: [A=B]}", "not the name of a variable"),
        ("capabilities: {systems: all}", "capabilities.systems: \"all\" is not allowed: allowed: read, write"),
        ("capabilities: {scratch: 0}", "capabilities.scratch: 0 holds nothing"),
        ("capabilities: {network: true}", "capabilities.network: unknown key"),
    ] {
        let refused = refused(text);
        assert!(refused.contains(why), "{refused} / {why}");
    }
}
