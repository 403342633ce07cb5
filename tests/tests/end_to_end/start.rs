//! The command line: what stops a start, and how that is said.

use distillery_tests::{Server, program::output, server::Builder};
use std::process::Output;

fn run(builder: &Builder) -> Output {
    output(&mut builder.command())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_wrong_configuration_stops_the_start_with_one_line_that_names_file_line_and_key() {
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
async fn a_variable_of_the_environment_overrides_a_key() {
    let builder = Server::builder().set("http.listen", "127.0.0.1:0");
    let output = output(builder.command().env("DISTILLERY_HTTP__LISTEN", "nowhere"));
    assert!(!output.status.success());
    assert!(stderr(&output).contains("DISTILLERY_HTTP__LISTEN"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let first = Server::builder().start().await;
    let output = run(&Server::builder().set("http.listen", first.address().to_string()));
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains(&first.address().to_string()) && said.contains("http.listen"), "{said}");
}
