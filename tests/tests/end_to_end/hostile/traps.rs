//! An error of a guest ends only that guest, and its client gets a readable message.

use distillery_tests::{Guest, Server};

/// Runs each guest and compares the message; then checks that a good call still succeeds.
async fn each_fails(guests: &[(&str, &str)]) {
    let hostile = guests.iter().map(|(name, _)| Guest::hostile(name));
    let server = Server::with(hostile.chain([Guest::component("echo_once")])).await;
    let mut wrong = Vec::new();
    for (name, message) in guests {
        let end = server.call(name, &[]).await.finish().await;
        assert_eq!(end.close, 1000, "{name}");
        let failure = end.failure();
        if failure != *message {
            wrong.push((name, failure));
        }
        assert_eq!(server.process_ended(name).await.field("kind"), "trapped", "{name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut good = server.call("echo_once", &[]).await;
    good.say("unharmed").await;
    assert_eq!(good.finish().await.success(), ["unharmed"]);
}

#[tokio::test]
async fn every_trap_is_described_in_words() {
    each_fails(&[
        ("trap_overflow", "trap: integer overflow"),
        ("trap_conversion", "trap: invalid conversion to integer"),
        ("trap_table", "trap: out of bounds table access"),
        ("trap_null_call", "trap: call to an uninitialized element"),
        ("trap_signature", "trap: indirect call type mismatch"),
        ("trap_null_reference", "trap: null reference"),
        ("trap_array", "trap: out of bounds array access"),
        ("trap_cast", "trap: cast failure"),
        ("trap_allocation", "trap: allocation size too large"),
        ("trap_exception", "trap: unhandled exception"),
    ])
    .await;
}

#[tokio::test]
async fn component_model_violations_are_described_in_words() {
    each_fails(&[
        ("component_bad_realloc", "trap: realloc return: beyond end of memory"),
        ("component_bad_result", "trap: invalid expected discriminant"),
        ("component_bad_string", "trap: out of bounds string"),
        ("component_bad_utf8", "trap: invalid utf8 encoding"),
        ("component_bad_character", "trap: invalid character"),
        ("component_call_child", "trap: cannot enter component instance"),
        ("component_leave_too_late", "trap: cannot leave component instance"),
        ("component_use_after_drop", "trap: unknown handle index 1"),
    ])
    .await;
}
