use super::*;
use distillery_core::call::{Cleanup, Stop};
use serde_json::{Value, json};
use std::time::Duration;

fn end_of(frame: Frame) -> End {
    let Frame::Part(part) = frame else { panic!("{frame:?}") };
    let Part::End(end) = *part else { panic!("{part:?}") };
    end
}

#[test]
fn client_gets_the_form_that_it_prefers() {
    for (accept, form) in [
        (&[][..], Form::Text),
        (&["*/*"], Form::Text),
        (&["application/json"], Form::Text),
        (&["text/event-stream"], Form::Events),
        (&["Application/X-NDJSON; charset=utf-8"], Form::Lines),
        (&["application/octet-stream, text/plain;q=0.5"], Form::Bytes),
        (&["text/plain;q=0.5", "application/x-ndjson; q=0.7"], Form::Lines),
        (&["text/event-stream;q=0"], Form::Text),
        (&["text/event-stream;q=much, application/x-ndjson;q=0.1"], Form::Lines),
    ] {
        assert_eq!(Form::preferred(accept.iter().copied()), form, "{accept:?}");
    }
}

#[test]
fn output_has_the_form_of_the_answer() {
    let written = |form: Form, stream, bytes: &'static [u8]| {
        String::from_utf8(form.output(stream, 7, &Bytes::from_static(bytes)).to_vec()).unwrap()
    };
    assert_eq!(written(Form::Text, Stream::Stdout, b"a\n"), "a\n");
    assert_eq!(written(Form::Bytes, Stream::Stderr, b"a\n"), "");
    assert_eq!(written(Form::Id, Stream::Stdout, b"a\n"), "");
    let line = "{\"type\":\"stderr\",\"from\":7,\"text\":\"a\\n\"}\n";
    assert_eq!(written(Form::Lines, Stream::Stderr, b"a\n"), line);
    let event = "event: stdout\ndata: {\"type\":\"stdout\",\"from\":7,\"base64\":\"/w==\"}\n\n";
    assert_eq!(written(Form::Events, Stream::Stdout, b"\xff"), event);
}

#[test]
fn status_and_fields_tell_the_outcome() {
    let exited = |status| Outcome::Exited { status, last_words: None };
    let cancelled = |reason| Outcome::Cancelled { reason, stop: Stop::Told, cleanup: Cleanup::None };
    let time = Duration::from_secs(1);
    for (outcome, status, word) in [
        (exited(0), 200, "success"),
        (exited(7), 500, "exited"),
        (Outcome::Trapped { trap: "unreachable".into(), limit: None }, 500, "trapped"),
        (cancelled(CancelReason::TimeLimit(time)), 504, "cancelled"),
        (cancelled(CancelReason::Operator), 503, "cancelled"),
        (Outcome::HostFailed { what: "no".into() }, 500, "failed"),
    ] {
        let end = end_of(ended(&outcome, None));
        assert_eq!((end.status.as_u16(), end.fields[OUTCOME].to_str().unwrap()), (status, word));
        assert_eq!(end.body.is_empty(), status == 200);
        assert_eq!(end.fields.contains_key(MESSAGE), status != 200);
    }
    let end = end_of(ended(&Outcome::Exited { status: 3, last_words: Some("no ☃ 5%\n".into()) }, None));
    assert_eq!(end.fields[EXIT_STATUS], "3");
    assert_eq!(end.fields[MESSAGE], "exit status 3: no %E2%98%83 5%25%0A");
    let end = end_of(ended(&exited(0), Some("{\n\"a\": \"ä🦀\u{7f}\"}")));
    let value = end.fields[VALUE].to_str().unwrap();
    assert_eq!(value, r#"{ "a": "\u00e4\ud83e\udd80\u007f"}"#);
    assert_eq!(serde_json::from_str::<Value>(value).unwrap(), json!({"a": "ä🦀\u{7f}"}));
    let large = format!("\"{}\"", "ä".repeat(VALUE_FIELD / 6 + 1));
    assert!(!end_of(ended(&exited(0), Some(&large))).fields.contains_key(VALUE));
    assert!(FIELDS.split(", ").all(|name| [OUTCOME, EXIT_STATUS, MESSAGE, VALUE].contains(&name.parse().unwrap())));
}

#[test]
fn refusal_has_a_status_and_says_why() {
    for (refusal, status, retry) in [
        (Refusal::UnknownCall("x".into()), 404, false),
        (Refusal::NotAuthorized("x".into()), 403, false),
        (Refusal::BadParams("x".into()), 400, false),
        (Refusal::Revoked, 401, false),
        (Refusal::Full(Full::Server), 503, true),
        (Refusal::Full(Full::Caller), 429, true),
        (Refusal::ShuttingDown, 503, true),
    ] {
        let end = end_of(refused(&refusal));
        assert_eq!((end.status.as_u16(), end.headers.contains_key(RETRY_AFTER)), (status, retry), "{refusal:?}");
        let body: Value = serde_json::from_slice(&end.body).unwrap();
        assert_eq!(body, json!({"status": status, "message": refusal.to_string()}));
        assert_eq!(end.fields[OUTCOME], "refused");
    }
}
