//! `distillery-1` and `pow-1`: frames, and events of a socket in any order. And the ring that detached processes write
//! to.

use crate::{
    bytes::{changed, changes},
    frames::{text, value},
    hunt::hunt,
    sentences::assert_sentence,
    target,
};
use bytes::Bytes;
use distillery_core::{
    call::{CancelReason, Outcome, Refusal},
    size::Size,
    stream::{Found, Ring, Stream},
};
use distillery_http::{
    session::{
        framing::{Framing, Piece},
        protocol::{Action, Event, POW_1, Protocol, Started},
    },
    wire::{Frame, distillery1, pow1},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Messages of clients of either protocol, and nearly valid ones.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let kind = select(&["call", "attach", "end", "cancel", "detach", "list", "stop", ""][..]);
    let call =
        (text(), vec(text(), 0..3)).prop_map(|(call, params)| json!({"type": "call", "call": call, "params": params}));
    let attach = (text(), option::of(text()), option::of(any::<u64>()))
        .prop_map(|(id, key, stdout)| json!({"type": "attach", "id": id, "key": key, "stdout": stdout}));
    let signal = select(&["close", "cancel", "hup"][..]).prop_map(|signal| json!({ "signal": signal }));
    let message = prop_oneof![
        3 => call,
        1 => attach,
        4 => kind.prop_map(|kind| json!({ "type": kind })),
        2 => signal,
        1 => value(),
    ];
    let message = message.prop_map(|message| message.to_string().into_bytes());
    prop_oneof![
        5 => message.clone(),
        1 => (message, changes(3, &["\"type\":", "{", "}", "null", "\"x\"", ","][..])).prop_map(|(message, changes)| changed(message, &changes)),
    ]
}

#[test]
fn message_is_read_or_refused_in_one_line() {
    hunt(target!("messages", 2000), message(), |message| {
        if let Err(what) = distillery1::decode(&message) {
            assert_sentence(&what);
        }
        if let Err(what) = pow1::decode(&message) {
            assert_sentence(&what);
        }
    });
}

#[derive(Clone, Debug)]
enum Happens {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    TooBig,
    Gone,
    CallTimeout,
    Queued(usize),
    Started(bool),
    Cancelling,
    Refused,
    Ended(u32, Option<String>),
    Shutdown,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => message().prop_map(Happens::Text),
        8 => message().prop_map(Happens::Binary),
        1 => Just(Happens::TooBig),
        1 => Just(Happens::Gone),
        1 => Just(Happens::CallTimeout),
        1 => (1..9usize).prop_map(Happens::Queued),
        3 => any::<bool>().prop_map(Happens::Started),
        1 => Just(Happens::Cancelling),
        1 => Just(Happens::Refused),
        1 => (0..2u32, option::of(text())).prop_map(|(status, words)| Happens::Ended(status, words)),
        1 => Just(Happens::Shutdown),
    ]
}

fn on(protocol: &mut Protocol, happened: &Happens) -> Action {
    match happened {
        Happens::Text(text) => protocol.on(Event::Text(&String::from_utf8_lossy(text))),
        Happens::Binary(frame) => protocol.on(Event::Binary(frame)),
        Happens::TooBig => protocol.on(Event::TooBig(Size::mib(1))),
        Happens::Gone => protocol.on(Event::Gone),
        Happens::CallTimeout => protocol.on(Event::CallTimeout(Duration::from_secs(5))),
        Happens::Queued(position) => protocol.on(Event::Queued(*position)),
        Happens::Started(detached) => protocol.on(Event::Started(&Started {
            id: Uuid::nil(),
            call: "x",
            generation: 1,
            detached: *detached,
            key: None,
        })),
        Happens::Cancelling => protocol.on(Event::Cancelling(&CancelReason::Client)),
        Happens::Refused => protocol.on(Event::Refused(Refusal::ShuttingDown)),
        Happens::Ended(status, last_words) => {
            let outcome = Outcome::Exited { status: *status, last_words: last_words.clone() };
            protocol.on(Event::Ended(&outcome, Some("[1]")))
        }
        Happens::Shutdown => protocol.on(Event::Shutdown),
    }
}

fn json_of(frame: &Frame) -> Value {
    let (Frame::Text(json) | Frame::Binary(json)) = frame else { panic!("{frame:?} is no frame") };
    serde_json::from_slice(json).expect("messages are JSON")
}

#[test]
fn socket_gets_one_end_for_any_events() {
    let name = select(&["distillery-1", POW_1][..]);
    hunt(target!("subprotocols", 1500), (name, vec(happens(), 0..24)), |(name, all)| {
        let (_, mut protocol) = Protocol::choose([name], Size::kib(1));
        let (mut running, mut over, mut gone) = (false, false, false);
        for happened in all.iter().chain([&Happens::Ended(0, None)]) {
            gone |= matches!(happened, Happens::Gone);
            let action = on(&mut protocol, happened);
            if over {
                let leaves = action == Action::Drop && matches!(happened, Happens::Gone);
                assert!(leaves || action == Action::None, "{action:?} after the end");
                continue;
            }
            match action {
                Action::Start(_) | Action::Attach(_) => {
                    assert!(!running, "a second start");
                    running = true;
                }
                Action::Bytes | Action::EndInput | Action::Cancel(_) | Action::Force => {
                    assert!(running, "{action:?} without a process");
                }
                Action::Send(frame) => assert!(json_of(&frame)["type"].is_string()),
                Action::Finish(frame, _) => {
                    assert!(!gone, "a result without a client");
                    let message = json_of(&frame);
                    assert!(message["type"] == "ended" || message["status"].is_string(), "{message}");
                    over = true;
                }
                Action::Leave(_) => {
                    assert!(running);
                    over = true;
                }
                Action::Drop => {
                    assert!(gone, "a connected client was dropped");
                    over = true;
                }
                Action::None | Action::List => {}
                Action::Line | Action::HandOver(_) => panic!("neither protocol has {action:?}"),
            }
        }
        assert!(over);
    });
}

#[test]
fn text_frames_keep_the_text_for_any_cuts() {
    let part = prop_oneof![
        4 => select(&["a", "ä", "☃", "🦀", "\n"][..]).prop_map(|text| text.as_bytes().to_vec()),
        2 => vec(any::<u8>(), 0..5),
    ];
    hunt(target!("text_frames", 2000), vec(part, 0..30), |parts| {
        let mut framing = Framing::Text { held: [Bytes::new(), Bytes::new()] };
        let all = parts.concat();
        let mut shown = String::new();
        let mut show = |frame| match frame {
            Frame::Text(text) => shown += &String::from_utf8_lossy(&text),
            other => panic!("text came as {other:?}"),
        };
        // A cut that is not at the end of a part.
        for piece in all.chunks(3) {
            let mut piece = Piece { stream: Stream::Stdout, from: 0, bytes: Bytes::copy_from_slice(piece) };
            framing.frame(&mut piece).into_iter().for_each(&mut show);
        }
        framing.finish().for_each(&mut show);
        assert_eq!(shown, String::from_utf8_lossy(&all));
    });
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u8>, Option<u64>),
    Read(u64, usize),
}

#[test]
fn ring_holds_the_end_of_the_output() {
    let step = prop_oneof![
        (vec(any::<u8>(), 0..40), option::of(0..300u64)).prop_map(|(bytes, held)| Step::Push(bytes, held)),
        (0..300u64, 0..60usize).prop_map(|(at, most)| Step::Read(at, most)),
    ];
    hunt(target!("rings", 2000), (1..50usize, vec(step, 0..40)), |(limit, steps)| {
        let (mut ring, mut all) = (Ring::new(limit), Vec::new());
        for step in steps {
            match step {
                Step::Push(bytes, held) => {
                    let start = ring.range().start;
                    let taken = ring.push(&bytes, held);
                    all.extend_from_slice(&bytes[..taken]);
                    match held {
                        None => assert_eq!(taken, bytes.len()),
                        Some(held) => {
                            let held = held.clamp(start, (all.len() - taken) as u64);
                            assert!(ring.range().start <= held, "held output was dropped");
                            assert!(taken == bytes.len() || ring.range().end - held == limit as u64, "room is left");
                        }
                    }
                }
                Step::Read(at, most) => match ring.read(at, most) {
                    Found::Lost(lost) => assert_eq!(lost, at..ring.range().start),
                    Found::Nothing => assert!(at >= all.len() as u64 || most == 0),
                    Found::Bytes(bytes) => {
                        let at = at as usize;
                        assert_eq!(bytes, all[at..all.len().min(at + most)]);
                    }
                },
            }
            let range = ring.range();
            assert!(range.end == all.len() as u64 && range.end - range.start <= limit as u64);
        }
    });
}
