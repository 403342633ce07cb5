use super::*;

#[test]
fn result_sentence_is_parsed() {
    for (message, kind, status, reason) in [
        ("exit status 7", "exited", Some(7), None),
        ("exit status 7: no such slug: x", "exited", Some(7), None),
        ("no such slug", "exited", Some(1), None),
        ("cancelled by the client (forced after 2s)", "cancelled", None, Some("client")),
        ("time limit of 3s reached", "cancelled", None, Some("time limit")),
        ("memory limit of 16MiB reached", "trapped", None, None),
        ("trap: unreachable", "trapped", None, None),
        ("unknown call \"x\"", "refused", None, None),
        ("call \"x\" is still loading: try again", "refused", None, None),
    ] {
        let end = End::of(message);
        let got = (end.kind.as_str(), end.status, end.reason.as_deref());
        assert_eq!(got, (kind, status, reason), "{message}");
    }
}

#[test]
fn data_frame_names_its_stream() {
    let frame = Message::binary(vec![2, 0, 0, 0, 0, 0, 0, 1, 2, b'a']);
    let Ok(Some(Event::Data(From::Stderr, 258, bytes))) = message(frame) else { panic!() };
    assert_eq!(&bytes[..], b"a");
    assert!(message(Message::binary(vec![3; 10])).is_err());
    assert!(message(Message::binary(vec![1; 8])).is_err());
}

#[test]
fn unknown_messages_are_passed_on() {
    let Ok(Some(Event::Told(Told::Other, value))) = message(Message::text(r#"{"type":"new","a":1}"#)) else { panic!() };
    assert_eq!(value["a"], 1);
    let queued = message(Message::text(r#"{"type":"queued","position":3}"#));
    assert!(matches!(queued, Ok(Some(Event::Told(Told::Queued { position: 3 }, _)))));
}
