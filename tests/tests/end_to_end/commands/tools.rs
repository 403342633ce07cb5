//! Commands that operators grant: tar, git and sqlite3.

use super::builder_of;
use distillery_tests::{
    Server,
    program::{piped, printed, text},
};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Returns whether the program is there. If not, the test is skipped with a message; CI must have all of them.
fn has(test: &str, program: &str) -> bool {
    let found = ["/usr/local/bin", "/usr/bin", "/bin"].iter().any(|path| Path::new(path).join(program).exists());
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no {program}: run `make needed`");
        eprintln!("SKIPPED: {test}, for want of {program}: install it");
    }
    found
}

async fn server(run: &[&str], more: Value) -> Server {
    builder_of(run, more).start().await
}

fn call(server: &Server, params: &[&str], input: impl Into<Vec<u8>>) -> Vec<u8> {
    let arguments: Vec<_> = ["call", "builtin"].into_iter().chain(params.iter().copied()).collect();
    let output = piped(&mut server.command(&arguments), input);
    assert!(output.status.success(), "{}", text(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn tar_packs_and_unpacks() {
    if !has("tar_packs_and_unpacks", "tar") {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..500_000_u32).map(|number| (number % 251) as u8).collect();
    fs::create_dir(source.path().join("inner")).unwrap();
    fs::write(source.path().join("inner/file"), &content).unwrap();
    let archive = {
        let packing = server(&["tar", "-c", "."], json!({"directory": source.path()})).await;
        call(&packing, &[], "")
    };
    assert!(archive.len() > content.len());
    let target = tempfile::tempdir().unwrap();
    let unpacking = server(&["tar", "-x"], json!({"directory": target.path()})).await;
    call(&unpacking, &[], archive);
    assert_eq!(fs::read(target.path().join("inner/file")).unwrap(), content);
}

#[tokio::test]
async fn git_commits_with_the_given_message() {
    if !has("git_commits_with_the_given_message", "git") {
        return;
    }
    let repository = tempfile::tempdir().unwrap();
    printed(&piped(std::process::Command::new("git").args(["init", "-q"]).current_dir(repository.path()), ""));
    let more = json!({
        "directory": repository.path(),
        "params": {"message": {}},
        "env": {
            "HOME": repository.path(), "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
        },
    });
    let server = server(&["git", "commit", "--allow-empty", "-q", "-m", "{message}"], more).await;
    let message = "it's; $(true) \"all\" `of` it";
    call(&server, &[message], "");
    let log = piped(std::process::Command::new("git").args(["log", "--format=%s"]).current_dir(repository.path()), "");
    assert_eq!(printed(&log).trim_end(), message);
    let refused = server.call("builtin", &["--amend"]).await.finish().await.failure();
    assert!(refused.starts_with("parameter \"message\" begins with a dash"), "{refused}");
}

#[tokio::test]
async fn sqlite_reads_statements_from_its_stdin() {
    if !has("sqlite_reads_statements_from_its_stdin", "sqlite3") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = server(&["sqlite3", "-batch", "coins.db"], json!({"directory": directory.path()})).await;
    let made = "CREATE TABLE coins (name TEXT); INSERT INTO coins VALUES ('denarius'), ('as');\n";
    assert_eq!(text(&call(&server, &[], made)), "");
    assert_eq!(text(&call(&server, &[], "SELECT name FROM coins ORDER BY name;\n")), "as\ndenarius\n");
}
