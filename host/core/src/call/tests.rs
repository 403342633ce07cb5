use super::*;

#[test]
fn call_names_have_a_form() {
    for name in ["echo", "instance_log", "a.b-c", "0"] {
        assert!(name.parse::<CallName>().is_ok(), "{name:?}");
    }
    for name in ["", "-x", "a b", "ä", "a/b", &"x".repeat(65)] {
        assert!(name.parse::<CallName>().is_err(), "{name:?}");
    }
}

#[test]
fn sentence_says_how_a_cancelled_process_ended() {
    let cancelled = |reason, stop, cleanup| Outcome::Cancelled { reason, stop, cleanup }.failure().unwrap();
    assert_eq!(cancelled(CancelReason::Client, Stop::Told, Cleanup::None), "cancelled by the client");
    assert_eq!(
        cancelled(
            CancelReason::TimeLimit(Duration::from_secs(3)),
            Stop::Interrupted(Duration::from_millis(2004)),
            Cleanup::Failed("exit status 1".into())
        ),
        "time limit of 3s reached (forced after 2s) (cleanup failed: exit status 1)"
    );
    assert_eq!(
        cancelled(CancelReason::InputLimit(Size::mib(16)), Stop::Dropped(Duration::from_millis(40)), Cleanup::None),
        "input limit of 16MiB reached: the call does not read its input (forced after 40ms)"
    );
}

#[test]
fn refusal_repeats_only_the_beginning_of_a_long_name() {
    let refused = |name: &str| Refusal::UnknownCall(name.to_owned()).to_string();
    assert_eq!(refused("a\nb"), r#"unknown call "a\nb""#);
    assert_eq!(refused(&"x".repeat(64)), format!("unknown call {:?}", "x".repeat(64)));
    assert_eq!(refused(&"x".repeat(1 << 20)), format!("unknown call {:?}…", "x".repeat(64)));
}

#[test]
fn failure_has_the_status_and_the_last_words() {
    let exited =
        |status, words: Option<&str>| Outcome::Exited { status, last_words: words.map(str::to_owned) }.failure();
    assert_eq!(exited(0, Some("warning")), None);
    assert_eq!(exited(7, None).unwrap(), "exit status 7");
    assert_eq!(exited(7, Some("no such slug")).unwrap(), "exit status 7: no such slug");
    assert_eq!(Outcome::Trapped { trap: "unreachable".into(), limit: None }.failure().unwrap(), "trap: unreachable");
}
