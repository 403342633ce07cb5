//! Binary frames, and events of a socket in any order, for the protocol machine.

use crate::{
    bytes::{changed, changes},
    hunt::hunt,
    sentences::assert_sentence,
    target,
};
use distillery_core::{
    call::{CancelReason, Full, Outcome, Refusal},
    size::Size,
};
use distillery_http::{
    session::protocol::{Action, CloseCode, Event, Protocol},
    wire::{CallMessage, ClientMessage, Frame, decode},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

/// Text with characters that are special in JSON, logs or argument lists.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z-]{1,8}",
        2 => select(&["", "cancel", "call", "\0", "a\nb", "\u{1b}[2J", "\u{feff}", "\u{2028}", "🦀", "\"}", "\\", "\u{7f}"][..])
            .prop_map(str::to_owned),
        2 => any::<String>(),
        1 => ("[a-z\u{1}ä]", 0..3000usize).prop_map(|(letter, many)| letter.repeat(many)),
    ]
}

/// Any JSON with little nesting.
pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        4 => text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            3 => vec(inner.clone(), 0..4).prop_map(Value::from),
            1 => vec((text(), inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object as it is written: a key can occur twice.
#[derive(Clone, Debug)]
struct Members(Vec<(String, Value)>);

impl Members {
    fn encode(&self) -> Vec<u8> {
        let members: Vec<String> = self.0.iter().map(|(key, value)| format!("{}: {value}", json!(key))).collect();
        format!("{{{}}}", members.join(" ,")).into_bytes()
    }

    /// Returns the meaning of the object according to the protocol.
    fn meant(&self) -> Option<ClientMessage> {
        let keys: Vec<&str> = self.0.iter().map(|(key, _)| key.as_str()).collect();
        let distinct: BTreeSet<_> = keys.iter().collect();
        if distinct.len() < keys.len() {
            return None;
        }
        let of = |wanted: &str| self.0.iter().find(|(key, _)| key == wanted).map(|(_, value)| value);
        match (of("call"), of("signal")) {
            (None, Some(signal)) if signal == "cancel" => Some(ClientMessage::Cancel),
            (None, Some(signal)) if signal == "close" => Some(ClientMessage::Close),
            (Some(call), None) => {
                let call = call.as_str()?.to_owned();
                let params = match of("params") {
                    None | Some(Value::Null) => Vec::new(),
                    Some(params) => {
                        params.as_array()?.iter().map(|it| Some(it.as_str()?.to_owned())).collect::<Option<_>>()?
                    }
                };
                Some(ClientMessage::Call(CallMessage { call, params }))
            }
            _ => None,
        }
    }
}

fn members() -> impl Strategy<Value = Members> {
    let key = prop_oneof![
        3 => Just("call".to_owned()),
        3 => Just("params".to_owned()),
        2 => Just("signal".to_owned()),
        1 => select(&["Call", "call ", "param", "id", "", "call\0", "cаll"][..]).prop_map(str::to_owned),
        1 => text(),
    ];
    let params = vec(text(), 0..5).prop_map(|params| json!(params));
    let signal = select(&["cancel", "close"][..]).prop_map(Value::from);
    let value = prop_oneof![3 => text().prop_map(Value::from), 3 => params, 2 => signal, 1 => value()];
    vec((key, value), 0..4).prop_map(Members)
}

fn call() -> impl Strategy<Value = CallMessage> {
    (text(), vec(text(), 0..5)).prop_map(|(call, params)| CallMessage { call, params })
}

fn encode(call: &CallMessage) -> Vec<u8> {
    json!({"call": call.call, "params": call.params}).to_string().into_bytes()
}

const WORDS: &[&str] = &[
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\udc00\\ud800",
    "\"call\":\"x\",",
    "\"params\":[],",
    "null",
    "1e999",
    "-0",
    "1E400000000000",
    "\0",
    "\u{feff}",
    "{\"signal\":\"cancel\"}",
    "\n",
    "\t",
    " ",
];

/// Binary frames of every kind, except those that are only large.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => call().prop_map(|call| encode(&call)),
        4 => Just(br#"{"signal":"cancel"}"#.to_vec()),
        3 => members().prop_map(|members| members.encode()),
        3 => (members(), changes(4, WORDS)).prop_map(|(members, changes)| changed(members.encode(), &changes)),
        1 => value().prop_map(|value| value.to_string().into_bytes()),
        1 => vec(any::<u8>(), 0..60),
        1 => vec(select(WORDS), 0..20).prop_map(|words| words.concat().into_bytes()),
    ]
}

/// Frames of the largest accepted size: deep, long, or with very many parts.
fn huge() -> impl Strategy<Value = Vec<u8>> {
    let part = select(
        &[
            "[",
            "{\"call\":",
            "[[],",
            "{\"\":[",
            "\"\",",
            "1,",
            "{},",
            "\\ud83e\\udd80",
            "\u{1}",
            "🦀",
            "9",
            "\"call\":\"x\",",
            " ",
            "\"a\":null,",
        ][..],
    );
    let around = select(
        &[
            ("", ""),
            ("[", "]"),
            ("{", "}"),
            (r#"{"call":"x","params":["#, "]}"),
            (r#"{"call":""#, r#""}"#),
            (r#"{"signal":""#, r#""}"#),
            (r#"{"call":"x","#, r#""a":1}"#),
            (r#"{"call":"x",""#, r#"":1}"#),
            (r#"{"call":"x","params":"#, "}"),
        ][..],
    );
    (part, around, 0..(1 << 20) as usize).prop_map(|(part, (before, after), size)| {
        let many = size / part.len();
        let mut frame = before.to_owned() + &part.repeat(many);
        if after.starts_with(']') && frame.ends_with(',') {
            frame.pop();
        }
        (frame + after).into_bytes()
    })
}

/// Holds for every frame: it is exactly a message of the protocol, or the answer gives the reason in one line.
fn is_read_or_refused(frame: &[u8]) {
    let plain = || serde_json::from_slice::<Value>(frame).expect("only JSON is read");
    match decode(frame) {
        Ok(ClientMessage::Cancel) => assert_eq!(plain()["signal"], "cancel"),
        Ok(ClientMessage::Close) => assert_eq!(plain()["signal"], "close"),
        Ok(ClientMessage::Call(call)) => {
            let written = plain();
            let params = Some(&written["params"]).filter(|params| !params.is_null());
            assert_eq!(written["call"], json!(call.call));
            assert_eq!(params.unwrap_or(&json!([])), &json!(call.params));
            assert_eq!(decode(&encode(&call)), Ok(ClientMessage::Call(call)));
        }
        Err(what) => assert_sentence(&what),
    }
}

#[test]
fn frame_is_a_message_or_refused_in_one_line() {
    hunt(target!("frames", 2000), frame(), |frame| is_read_or_refused(&frame));
}

#[test]
fn frame_means_exactly_what_it_says() {
    hunt(target!("members", 2000), members(), |members| {
        assert_eq!(decode(&members.encode()).ok(), members.meant());
    });
}

#[test]
fn huge_frame_is_refused_in_one_short_line() {
    hunt(target!("huge_frames", 20), huge(), |frame| is_read_or_refused(&frame));
}

#[test]
fn call_message_survives_a_round_trip() {
    hunt(target!("calls", 2000), call(), |call| {
        assert_eq!(decode(&encode(&call)), Ok(ClientMessage::Call(call)));
    });
}

/// An event of a socket; owned, unlike the event of the machine.
#[derive(Clone, Debug)]
enum Happens {
    Text,
    Binary(Vec<u8>),
    TooBig(u64),
    Broken,
    Gone,
    Silent,
    CallTimeout,
    Refused(Refusal),
    Ended(Outcome),
    Shutdown,
}

impl Happens {
    fn event(&self) -> Event<'_> {
        match self {
            Self::Text => Event::Text("a line"),
            Self::Binary(frame) => Event::Binary(frame),
            Self::TooBig(size) => Event::TooBig(Size::bytes(*size)),
            Self::Broken => Event::Broken("bad masking".into(), CloseCode::Protocol),
            Self::Gone => Event::Gone,
            Self::Silent => Event::Silent,
            Self::CallTimeout => Event::CallTimeout(Duration::from_secs(5)),
            Self::Refused(refusal) => Event::Refused(refusal.clone()),
            Self::Ended(outcome) => Event::Ended(outcome, None),
            Self::Shutdown => Event::Shutdown,
        }
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    let refusal = prop_oneof![
        text().prop_map(Refusal::UnknownCall),
        text().prop_map(Refusal::NotAuthorized),
        text()
            .prop_filter("always says something", |text| !text.is_empty() && !text.starts_with(char::is_uppercase))
            .prop_map(Refusal::BadParams),
        prop::sample::select(vec![Full::Server, Full::Plugin, Full::Caller]).prop_map(Refusal::Full),
        Just(Refusal::Cancelled(CancelReason::Client)),
        Just(Refusal::ShuttingDown),
    ];
    prop_oneof![
        6 => Just(Happens::Text),
        12 => frame().prop_map(Happens::Binary),
        1 => any::<u64>().prop_map(Happens::TooBig),
        1 => Just(Happens::Broken),
        1 => Just(Happens::Gone),
        1 => Just(Happens::Silent),
        1 => Just(Happens::CallTimeout),
        1 => refusal.prop_map(Happens::Refused),
        2 => (0..2u32, proptest::option::of(text()))
            .prop_map(|(status, last_words)| Happens::Ended(Outcome::Exited { status, last_words })),
        1 => Just(Happens::Shutdown),
    ]
}

/// Returns the message of a result; null for a success.
fn message(result: &Frame) -> Value {
    let Frame::Binary(json) = result else { panic!("the result is a text frame") };
    serde_json::from_slice::<Value>(json).expect("a result is JSON")["message"].clone()
}

/// State of a socket, and the rules that hold for any events.
#[derive(Default)]
struct Socket {
    started: bool,
    cancelled: bool,
    gone: bool,
    /// By the first frame that could not be read.
    close: Option<CloseCode>,
    over: bool,
    results: u32,
}

impl Socket {
    fn sees(&mut self, happened: &Happens, action: Action) {
        let running = self.started && !self.over;
        self.gone |= matches!(happened, Happens::Gone);
        let close = match happened {
            Happens::TooBig(_) => Some(CloseCode::TooBig),
            Happens::Broken => Some(CloseCode::Protocol),
            _ => None,
        };
        self.close = self.close.or(close);
        if self.over {
            let leaves = matches!(happened, Happens::Gone) && action == Action::Drop;
            assert!(leaves || action == Action::None, "{action:?} after the end");
            return;
        }
        match action {
            Action::None => {}
            Action::Start(start) => {
                assert!(!self.started, "a second start");
                let Happens::Binary(frame) = happened else { panic!("a start by {happened:?}") };
                let Ok(ClientMessage::Call(call)) = decode(frame) else { panic!("a start by {frame:?}") };
                assert_eq!(start.call, call.into());
                self.started = true;
            }
            Action::Line => assert!(running && matches!(happened, Happens::Text)),
            Action::Cancel(reason) => {
                assert!(running, "a cancel without a process");
                assert_sentence(&reason.to_string());
                self.cancelled = true;
            }
            Action::EndInput => assert!(running, "the end of an input that nobody reads"),
            Action::Force => assert!(running && self.cancelled, "force before any cancel"),
            Action::Finish(result, close) => {
                assert!(!self.gone, "a result without a client");
                assert_eq!(close, self.close.unwrap_or(CloseCode::Normal));
                if !matches!(happened, Happens::Ended(_)) {
                    assert_sentence(message(&result).as_str().expect("only a process succeeds"));
                }
                self.results += 1;
                self.over = true;
            }
            Action::Drop => {
                assert!(self.gone, "a connected client was dropped");
                self.over = true;
            }
            other => panic!("{other:?} does not belong to this protocol"),
        }
    }
}

#[test]
fn socket_gets_one_result_for_any_events() {
    hunt(target!("sockets", 1500), vec(happens(), 0..24), |all| {
        let (mut protocol, mut socket) = (Protocol::default(), Socket::default());
        // Every socket ends, at the latest with its process.
        for happened in all.iter().chain([&Happens::Ended(Outcome::Exited { status: 0, last_words: None })]) {
            socket.sees(happened, protocol.on(happened.event()));
        }
        assert!(socket.over);
        assert!(socket.results == 1 || (socket.gone && socket.results == 0));
    });
}
