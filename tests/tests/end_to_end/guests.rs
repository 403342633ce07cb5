//! The environment of a guest, and the report of its end.

use distillery_tests::{Guest, Server, log::Line};

#[tokio::test]
async fn arguments_are_the_call_name_and_exact_parameters() {
    let server = Server::builder().both("args").start().await;
    let params = ["a b", "", "$(reboot)", "\"quoted\" \\n", "żółw 🐢", "--help", "-"];
    for call in ["args", "args.module"] {
        let lines = server.call(call, &params).await.finish().await.success();
        assert_eq!(lines[0], call);
        assert_eq!(lines[1..], params, "{call}");
    }
}

#[tokio::test]
async fn environment_identifies_the_call_and_hides_the_host() {
    let server = Server::builder().both("env").start().await;
    for call in ["env", "env.module"] {
        let lines = server.call(call, &[]).await.finish().await.success();
        let process = server.process_ended(call).await.field("process");
        let expected =
            [format!("DISTILLERY_CALL={call}"), format!("DISTILLERY_PROCESS={process}"), "DISTILLERY_USER=".to_owned()];
        assert_eq!(lines, expected);
    }
}

#[tokio::test]
async fn exit_status_is_reported_by_number() {
    let server = Server::builder().both("exit").start().await;
    for call in ["exit", "exit.module"] {
        server.call(call, &["0"]).await.finish().await.success();
        for status in 1..=255 {
            let end = server.call(call, &[&status.to_string()]).await.finish().await;
            assert_eq!(end.failure(), format!("exit status {status}"), "{call}");
        }
    }
}

#[tokio::test]
async fn last_stderr_line_becomes_the_message_only() {
    let server = Server::builder().both("stderr_words").start().await;
    for call in ["stderr_words", "stderr_words.module"] {
        let end = server.call(call, &[]).await.finish().await;
        assert_eq!(end.lines, ["trying"], "{call}");
        assert_eq!(end.failure(), "exit status 7: no capacitor at hand", "{call}");
        let process = server.process_ended(call).await.field("process");
        let said = |line: &Line| format!("{line:?}").contains("the flux is low") && line.field("process") == process;
        server.log().line("the words of the guest in the log", said).await;
    }
}

#[tokio::test]
async fn trap_is_described_in_words() {
    let traps = [
        ("trap_unreachable", "trap: unreachable"),
        ("trap_divide", "trap: integer divide by zero"),
        ("trap_oob", "trap: out of bounds memory access"),
    ];
    let server = Server::with(traps.map(|(name, _)| Guest::wat(name))).await;
    for (name, message) in traps {
        assert_eq!(server.call(name, &[]).await.finish().await.failure(), message);
        let ended = server.process_ended(name).await;
        assert_eq!(ended.field("kind"), "trapped");
        let process = ended.field("process");
        let wanted = |line: &Line| line.message() == "a guest trapped" && line.field("process") == process;
        let cause = server.log().line("where it trapped", wanted).await.field("cause");
        assert!(cause.contains("wasm backtrace:"), "{cause}");
    }
}

#[tokio::test]
async fn panic_is_a_trap_and_reveals_no_path() {
    // As cargo names the file from its workspace.
    const PANIC: &str = "panicked at commands/src/bin/panics.rs:5:5: this was expected";
    let server = Server::builder().both("panics").start().await;
    for call in ["panics", "panics.module"] {
        let end = server.call(call, &[]).await.finish().await;
        assert_eq!(end.lines, ["about to panic"], "{call}");
        assert_eq!(end.failure(), format!("trap: unreachable: {PANIC}"), "{call}");
    }
}

#[tokio::test]
async fn exceptions_and_structs_of_the_collector_are_on() {
    let server = Server::with([Guest::wat("exceptions")]).await;
    assert_eq!(server.call("exceptions", &[]).await.finish().await.success(), ["caught"]);
}

#[tokio::test]
async fn log_has_one_line_per_ended_process() {
    let server = Server::with([Guest::component("echo_once")]).await;
    for line in ["one", "two"] {
        let mut client = server.call("echo_once", &[]).await;
        client.say(line).await;
        client.finish().await.success();
    }
    server.terminate();
    server.wait().await;
    let lines = server.log().lines();
    let ends: Vec<_> = lines.iter().filter(|line| line.message() == "process ended").collect();
    assert_eq!(ends.len(), 2);
    assert_ne!(ends[0].field("process"), ends[1].field("process"));
    for end in ends {
        assert_eq!(
            (end.field("call"), end.field("user"), end.field("kind")),
            ("echo_once".into(), "".into(), "exited".into())
        );
    }
}
