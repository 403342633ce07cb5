//! The command line: errors that stop a start, and their messages.

use distillery_tests::{Guest, Server, program::output, server::Builder};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    process::Output,
};

fn run(builder: &Builder) -> Output {
    output(&mut builder.command())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn invalid_configuration_stops_the_start_with_its_location() {
    for (key, value, names) in [
        ("limits.memry", "1MiB", "memry"),
        ("limits.memory", "lots", "limits.memory"),
        ("http.listen", "everywhere", "http.listen"),
        ("http.api", "maybe", "http.api"),
    ] {
        let output = run(&Server::builder().set(key, value));
        assert!(!output.status.success(), "{key}");
        let said = stderr(&output);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(said.contains("distillery.yaml:1") && said.contains(names), "{said}");
    }
}

#[tokio::test]
async fn environment_variable_overrides_a_key() {
    let builder = Server::builder().set("http.listen", "127.0.0.1:0");
    let output = output(builder.command().env("DISTILLERY_HTTP__LISTEN", "nowhere"));
    assert!(!output.status.success());
    assert!(stderr(&output).contains("DISTILLERY_HTTP__LISTEN"), "{}", stderr(&output));
}

#[tokio::test]
async fn taken_port_is_named() {
    let first = Server::builder().start().await;
    let output = run(&Server::builder().set("http.listen", first.address().to_string()));
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains(&first.address().to_string()) && said.contains("http.listen"), "{said}");
}

#[tokio::test]
async fn data_directory_becomes_private_to_the_server() {
    let builder = Server::builder().guest(Guest::component("args"));
    let data = builder.directory().join("data");
    fs::create_dir_all(data.join("cache")).expect("a directory for the data");
    let lock = data.join("control.lock");
    fs::write(&lock, "").expect("a file to lock");
    for (path, mode) in [(&data, 0o777), (&data.join("cache"), 0o755), (&lock, 0o644)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a looser mode");
    }
    // Another user can do as much: read access is enough.
    let foreign = File::open(&lock).expect("a file that all can read");
    flock(&foreign, FlockOperation::LockExclusive).expect("the lock");
    let server = builder.set("cache", data.join("cache").display().to_string()).start().await;
    server.call("args", &[]).await.finish().await.success();
    let mut seen = vec![data.clone()];
    seen.extend(fs::read_dir(&data).expect("the data").map(|entry| entry.expect("an entry").path()));
    for name in ["control.lock", "control.sock", "takeover.sock", "distillery.db", "distillery.db-wal", "cache"] {
        assert!(seen.contains(&data.join(name)), "there is no {name}");
    }
    for path in seen {
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is open to others: {mode:o}", path.display());
    }
}

#[tokio::test]
async fn data_of_another_user_stops_the_start() {
    let builder = Server::builder();
    let data = builder.directory().join("data");
    fs::create_dir(&data).expect("a directory for the data");
    if std::os::unix::fs::chown(&data, Some(12_345), None).is_err() {
        // Only root can give a directory away.
        return;
    }
    let said = stderr(&run(&builder));
    assert!(said.contains("belongs to another user (uid 12345): give it to the user that runs the server"), "{said}");
}
