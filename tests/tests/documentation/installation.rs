//! The pages about running a server, typed line by line as root of an empty machine: real paths, a real nginx, and a
//! small stand-in for systemd.

use crate::{is_on_the_path, is_there, read, repository};
use distillery_tests::{
    Guest,
    program::{piped, program, text},
};
use rustix::process::geteuid;
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

/// Tells whether this machine allows a test to be root of a separate one. No package can install this, so CI can do
/// without.
fn is_root_of_a_machine() -> bool {
    let tried = Command::new("unshare").args(["--mount", "--net", "--pid", "--fork", "true"]).status();
    let allowed = geteuid().is_root() && tried.is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("SKIPPED: the installation page, as this machine lets no test be root of a namespace");
    }
    allowed
}

/// Creates the repository as it is after a clone and a build.
fn clone(directory: &Path) {
    let echo = directory.join("plugins/echo");
    fs::create_dir_all(&echo).expect("a directory");
    fs::copy(Guest::example("echo").file, echo.join("echo.wasm")).expect("a module");
    fs::write(echo.join("plugin.yaml"), Guest::example_manifest("echo")).expect("a manifest");
    fs::create_dir_all(directory.join("target/release")).expect("a directory");
    symlink(program(), directory.join("target/release/distillery")).expect("the program");
    for shipped in ["deploy", "distillery.yaml"] {
        symlink(repository(shipped).canonicalize().expect("a file"), directory.join(shipped)).expect("a link");
    }
}

/// Returns the commands of a part of a page. A configuration on the page becomes that of the server.
fn commands(page: &str, from: &str, to: &str) -> String {
    let page = read(page);
    let (_, part) = page.split_once(from).unwrap_or_else(|| panic!("no {from}"));
    let part = part.split(to).next().expect("a part");
    let mut script = String::new();
    // Every second piece is code.
    for block in part.split("```").skip(1).step_by(2) {
        let (kind, code) = block.split_once('\n').expect("a kind of code");
        match kind {
            "sh" => script.push_str(code),
            "yaml" => script.push_str(&format!("cat > /etc/distillery/distillery.yaml <<'YAML'\n{code}YAML\n")),
            other => panic!("{other} on the page"),
        }
    }
    script
}

/// Returns the commands of the page on users. A password is typed into each that asks for one.
fn users() -> String {
    let page = commands("docs/server/users.md", "# Users, tokens and scopes\n", "\n## ");
    let id = "$(distillery token list | sed -n '1s/ .*//p')";
    let typed = page.lines().map(|line| {
        let command = line.split(" #").next().expect("a command").trim_end();
        format!("{} <<< 'correct horse battery'\n", command.replace("revoke ID", &format!("revoke {id}")))
    });
    typed.collect()
}

#[tokio::test]
async fn installation_page_makes_a_server_of_an_empty_machine() {
    let tools = is_on_the_path("ip") && is_on_the_path("nginx") && is_on_the_path("curl");
    if !is_root_of_a_machine() || !is_there(tools, "ip, nginx or curl") {
        return;
    }
    let machine = tempfile::TempDir::with_prefix("distillery-machine-").expect("a directory");
    clone(&machine.path().join("clone"));
    let install = |from, to| commands("docs/server/install.md", from, to);
    let restore = commands("docs/server/data.md", "## Restore\n", "\n## ")
        .replace("/var/backups/distillery/distillery-2026-11-30.db", "/var/backups/distillery/distillery-*.db");
    let parts = [
        install("## 1. ", "## 7. "),
        "echo installed | distillery call echo 1\n".into(),
        "distillery user remove ada\n".into(),
        users(),
        restore,
        install("## 7. ", "\n[Upgrades]"),
        "echo upgraded | distillery call echo 1\n".into(),
        "distillery call --url https://localhost --ca \"$CERTIFICATE.pem\" --token-file ada.token echo 1 <<< 'by nginx'\n".into(),
    ];
    let script =
        parts.concat().replace("YOUR.NAME.ORG", "localhost").replace("> ada.token", "> ada.token; chmod 600 ada.token");
    let certificate = repository("tests/src/certificates/one").display().to_string();
    let mut run = Command::new(repository("tests/tests/documentation/machine/run.sh"));
    run.arg(machine.path())
        .env("CERTIFICATE", &certificate)
        .env("CURL_CA_BUNDLE", format!("{certificate}.pem"))
        .env_remove("DISTILLERY_CONFIG");
    let ended = piped(&mut run, format!("set -x\n{script}"));
    let (out, err) = (text(&ended.stdout), text(&ended.stderr));
    assert!(ended.status.success(), "{out}{err}");
    for said in [
        "yes: its plugin says access: public\n",
        // Uses curl through nginx, with TLS.
        "\"User\":\"\"",
        "distillery-20",
        "installed\n",
        "upgraded\n",
        "by nginx\n",
    ] {
        assert!(out.contains(said), "no {said:?} in\n{out}{err}");
    }
    // The restore brought the user back.
    let (_, restored) = out.split_once("installed\n").expect("the first call");
    assert!(restored.contains("ada"), "{out}{err}");
    assert!(!Path::new("/etc/distillery/plugins/echo").exists(), "the installation has changed this machine");
}
