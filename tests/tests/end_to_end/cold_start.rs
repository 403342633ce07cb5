//! A start with a slow module: loaded plugins serve, and the others are reported as loading.

use super::limits::hard_to_compile;
use distillery_tests::{
    Guest, Server,
    http::get_at,
    log::Line,
    patiently,
    program::{printed, text},
    server::Builder,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;

fn builder() -> Builder {
    Server::builder()
        .set("ops.listen", "127.0.0.1:0")
        .set("auth.anonymous", vec!["plugins:read"])
        .guest(Guest::wat("grow_and_live"))
        .file("plugins/slow/slow.wat", hard_to_compile())
        .file("plugins/slow/plugin.yaml", "calls: {slow: {access: public}, slower: {access: public}}")
}

/// Returns a server whose quick plugin is loaded, and the process that compiles the slow one: it is stopped, so that it
/// takes as long as the test does.
async fn begun(builder: Builder) -> (Server, Pid) {
    let mut server = builder.begin();
    server.listens_early().await;
    let compiler = patiently("the compilation of the slow plugin", async {
        loop {
            if let Some(compiler) = compiler_of(&server) {
                return compiler;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    kill_process(compiler, Signal::STOP).expect("it compiles");
    let loaded = |line: &Line| line.message() == "plugin loaded" && line.field("plugin") == "grow_and_live";
    let loaded = server.log().line("the quick plugin", loaded).await;
    assert_eq!(loaded.field("left"), "1");
    (server, compiler)
}

/// Returns the process that compiles a module larger than all but the slow one.
fn compiler_of(server: &Server) -> Option<Pid> {
    let children = fs::read_dir(format!("/proc/{}/task", server.pid())).ok()?.flatten();
    let children = children.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<i32> =
        children.flat_map(|it| it.split_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<_>>()).collect();
    let large = |process: &i32| fs::metadata(format!("/proc/{process}/fd/0")).is_ok_and(|stdin| stdin.len() > 100_000);
    // The process lowers its priority after it has ensured that it ends with the server.
    let begun = |process: &i32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, fields)| fields.split_whitespace().nth(16) == Some("10"))
    };
    children.into_iter().find(|process| large(process) && begun(process)).and_then(Pid::from_raw)
}

#[tokio::test]
async fn server_serves_what_is_loaded_while_a_module_compiles() {
    let (server, compiler) = begun(builder()).await;
    server.call("grow_and_live", &[]).await.finish().await.success();
    for call in ["slow", "slower"] {
        let refused = server.call(call, &[]).await.finish().await.failure();
        assert_eq!(refused, format!("call {call:?} is still loading: try again"));
    }
    assert_eq!(server.call("none", &[]).await.finish().await.failure(), "unknown call \"none\"");
    let output = server.run(&["call", "slow"]);
    assert_eq!(output.status.code(), Some(126), "{}", text(&output.stderr));

    let ops = server.operators_address().await;
    let readyz = get_at(ops, "/readyz").await;
    let said = String::from_utf8_lossy(&readyz.body).into_owned();
    assert_eq!((readyz.status.as_u16(), said.as_str()), (503, "loading: 1 of 2 plugins are not loaded yet\n"));
    assert_eq!(get_at(ops, "/healthz").await.status.as_u16(), 200);
    let listed = printed(&server.run(&["plugins"]));
    assert!(listed.contains("grow_and_live (serving)") && listed.contains("slow (loading)"), "{listed}");
    let listed: Value = server.get("/api/v1/plugins").await.json();
    assert_eq!(listed[1]["state"], "loading");

    kill_process(compiler, Signal::CONT).expect("it compiles");
    kill_process(compiler, Signal::KILL).expect("it compiles");
    // A plugin that is known to be broken does not delay readiness.
    server.log().line("the server to be ready", |line| line.message() == "ready").await;
    assert_eq!(get_at(ops, "/readyz").await.status.as_u16(), 200);
    assert_eq!(server.call("slow", &[]).await.finish().await.failure(), "unknown call \"slow\"");
}

#[tokio::test]
async fn server_is_ready_with_one_plugin_if_configured() {
    let (server, _compiler) = begun(builder().set("plugins.ready", "any")).await;
    let ready = server.log().line("the server to be ready", |line| line.message() == "ready").await;
    assert_eq!((ready.field("plugins"), ready.field("left")), ("1".into(), "1".into()));
    let ops = server.operators_address().await;
    assert_eq!(get_at(ops, "/readyz").await.status.as_u16(), 200);
    assert_eq!(server.call("slow", &[]).await.finish().await.failure(), "call \"slow\" is still loading: try again");
}

#[tokio::test]
async fn loading_server_stops_on_request() {
    let (server, compiler) = begun(builder()).await;
    let ops = server.operators_address().await;
    server.terminate();
    assert_eq!(server.wait().await.code(), Some(0));
    assert!(tokio::net::TcpStream::connect(ops).await.is_err());
    let gone = async {
        while fs::read_link(format!("/proc/{}/exe", compiler.as_raw_nonzero())).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    patiently("the compilation to end with the server", gone).await;
    assert!(!server.log().lines().iter().any(|line| line.message() == "ready"));
}

#[tokio::test]
async fn signal_in_the_first_moments_ends_the_server_in_order() {
    for _ in 0..5 {
        let server = Server::builder().set("ops.listen", "127.0.0.1:0").begin();
        let line = server.log().line("the first line", |line| line.message() == "answering the operator");
        patiently("the first line", line).await;
        server.terminate();
        assert_eq!(server.wait().await.code(), Some(0), "a signal without a handler ends a process with no code");
    }
}
