//! One client after the other, each with random behaviour.

use crate::tally::{Tally, count};
use distillery_tests::{
    Client, End, Frame, Guest, Server, Verdict,
    client::{call, cancel},
    patiently,
};
use fastrand::Rng;
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Guests that run until they are cancelled, with their parameters.
const ENDLESS: [(&str, &[&str]); 16] = [
    ("arrays_without_pause", &[]),
    ("bulk_without_pause", &[]),
    ("component_spin_post_return", &[]),
    ("component_spin_realloc", &[]),
    ("component_spin_start", &[]),
    ("flood", &[]),
    ("hold", &[]),
    ("hostile", &["sleep"]),
    ("never_reads", &[]),
    ("poll_without_pause", &[]),
    ("polls_without_pause", &[]),
    ("says_goodbye", &[]),
    ("sleeps_beyond_the_clock", &[]),
    ("spin", &[]),
    ("waits", &["flood"]),
    ("waits", &["hold"]),
];

/// Tells whether a guest of these never writes a line. Each of the others has a first one.
fn is_silent(name: &str) -> bool {
    name.starts_with("component_") || ["arrays_without_pause", "bulk_without_pause"].contains(&name)
}

/// Hostile guests that end by themselves, whatever their client does.
const HOSTILE: [(&str, &[&str]); 15] = [
    ("component_bad_string", &[]),
    ("component_hoard_handles", &[]),
    ("component_use_after_drop", &[]),
    ("grow_heap", &[]),
    ("hostile", &["streams"]),
    ("hoard", &[]),
    ("hoards_pollables", &[]),
    ("hoards_streams", &[]),
    ("trap_array", &[]),
    ("lie_about_buffers", &["once", "twice"]),
    ("one_endless_line", &[]),
    ("panics", &[]),
    ("trap_exception", &[]),
    ("trap_null_call", &[]),
    ("write_after_close", &[]),
];

/// Returns all of them except those of WASI 0.3.
pub fn guests() -> Vec<Guest> {
    let hostile = |name: &&str| name.starts_with("component_") || name.starts_with("trap_") || TEXT.contains(name);
    let mut names: Vec<_> = ENDLESS.iter().chain(&HOSTILE).map(|(name, _)| *name).chain(["conversation"]).collect();
    names.retain(|name| !["waits", "hostile"].contains(name));
    let guest = |name| if hostile(&name) { Guest::hostile(name) } else { Guest::component(name) };
    names.into_iter().map(guest).collect()
}

const TEXT: [&str; 6] = [
    "arrays_without_pause",
    "bulk_without_pause",
    "grow_heap",
    "lie_about_buffers",
    "poll_without_pause",
    "write_after_close",
];

pub struct Visitor<'a> {
    server: &'a Server,
    tally: &'a Tally,
    draining: &'a AtomicBool,
    dice: Rng,
}

impl<'a> Visitor<'a> {
    pub fn new(server: &'a Server, tally: &'a Tally, draining: &'a AtomicBool, dice: Rng) -> Self {
        Self { server, tally, draining, dice }
    }

    /// Visits repeatedly; leaves when the time is over, or when a draining server refuses.
    pub async fn come_until(mut self, until: Instant) {
        while Instant::now() < until {
            let let_in = match self.dice.u8(..100) {
                0..10 => self.request().await,
                10..40 => self.good().await,
                40..55 => self.endless(1).await,
                55..65 => self.endless(2).await,
                65..80 => self.hostile().await,
                _ => self.vanish().await,
            };
            if let_in.is_none() {
                assert!(self.draining.load(Relaxed), "only a draining server refuses connections");
                count(&self.tally.not_let_in);
                return;
            }
        }
    }

    /// Visits each guest once: the server keeps an image of its memory from then on.
    pub async fn meet_each(mut self) {
        for (name, params) in ENDLESS {
            self.end_endless(name, params, 1).await;
        }
        for (name, params) in HOSTILE {
            self.watch_hostile(name, params).await;
        }
        self.good().await;
    }

    async fn enter(&self) -> Option<Client> {
        Client::try_connect(self.server.address()).await
    }

    /// Sends a request. A draining server can disconnect before it has read the request.
    async fn request(&mut self) -> Option<()> {
        let answered = async {
            let mut stream = TcpStream::connect(self.server.address()).await.ok()?;
            stream
                .write_all(b"GET /api/v1/auth HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .await
                .ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            (!answer.is_empty()).then_some(answer)
        };
        let answer = patiently("an answer, or a refusal", answered).await?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        count(&self.tally.requests);
        Some(())
    }

    /// Holds a conversation in which every line comes back.
    async fn good(&mut self) -> Option<()> {
        let mut client = self.enter().await?;
        count(&self.tally.good);
        client.offer(call("conversation", &["visitor"])).await;
        let mut expected = vec!["hello visitor".to_owned()];
        for _ in 0..self.dice.usize(..20) {
            let length = self.dice.usize(..2000);
            let line: String = std::iter::repeat_with(|| self.dice.alphanumeric()).take(length).collect();
            expected.push(format!("echo: {line}"));
            client.offer(line.into()).await;
        }
        client.offer("end".into()).await;
        let end = self.stay(client).await;
        match &end.verdict {
            Verdict::Success => assert_eq!(end.lines, expected),
            Verdict::Failure(why) => self.only_while_draining(why),
        }
        Some(())
    }

    /// Cancels an endless guest `times` over, after some of its lines or before any.
    async fn endless(&mut self, times: usize) -> Option<()> {
        let (name, params) = ENDLESS[self.dice.usize(..ENDLESS.len())];
        self.end_endless(name, params, times).await
    }

    async fn end_endless(&mut self, name: &str, params: &[&str], times: usize) -> Option<()> {
        let mut client = self.enter().await?;
        count(if times == 1 { &self.tally.cancelled_once } else { &self.tally.cancelled_twice });
        client.offer(call(name, params)).await;
        if self.dice.bool() && !is_silent(name) {
            match client.next().await {
                Frame::Text(_) => {}
                Frame::Result(verdict) => {
                    // The drain ended the guest before its first line.
                    count(&self.tally.stayed);
                    self.tally.result(&verdict);
                    assert!(self.draining.load(Relaxed), "{name}: {verdict:?}");
                    return Some(());
                }
                other => panic!("{name}: instead of a line came {other:?}"),
            }
        }
        for _ in 0..times {
            client.offer(cancel()).await;
        }
        match self.stay(client).await.verdict {
            Verdict::Failure(why) if why.starts_with("cancelled by the client") => {}
            Verdict::Failure(why) => self.only_while_draining(&why),
            Verdict::Success => panic!("{name} was cancelled and is a success"),
        }
        Some(())
    }

    async fn hostile(&mut self) -> Option<()> {
        let (name, params) = HOSTILE[self.dice.usize(..HOSTILE.len())];
        self.watch_hostile(name, params).await
    }

    async fn watch_hostile(&mut self, name: &str, params: &[&str]) -> Option<()> {
        let mut client = self.enter().await?;
        count(&self.tally.hostile);
        client.offer(call(name, params)).await;
        match self.stay(client).await.verdict {
            Verdict::Failure(why) => assert!(!why.is_empty(), "{name}"),
            Verdict::Success => panic!("{name} is a success"),
        }
        Some(())
    }

    /// Reads to the end, which must be one result and a close frame.
    async fn stay(&self, client: Client) -> End {
        count(&self.tally.stayed);
        let end = client.finish().await;
        self.tally.result(&end.verdict);
        assert_eq!(end.close, 1000);
        end
    }

    fn only_while_draining(&self, why: &str) {
        assert!(why.starts_with("the server is shutting down") && self.draining.load(Relaxed), "{why}");
    }

    /// Sends a valid message up to a random byte, perhaps some noise, and disconnects.
    async fn vanish(&mut self) -> Option<()> {
        let address = self.server.address();
        let stream = patiently("a connection, or a refusal", TcpStream::connect(address)).await;
        let Ok(mut stream) = stream else { return None };
        count(&self.tally.cut_off);
        let (name, params) = match self.dice.u8(..3) {
            0 => ("conversation", &["visitor"][..]),
            1 => ENDLESS[self.dice.usize(..ENDLESS.len())],
            _ => HOSTILE[self.dice.usize(..HOSTILE.len())],
        };
        let mut said = format!(
            "GET /api/v1/ws HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes();
        let head = said.len();
        self.frame(&mut said, 2, &call(name, params).into_data());
        for _ in 0..self.dice.usize(..4) {
            let line = vec![b'x'; self.dice.usize(..500)];
            self.frame(&mut said, 1, &line);
        }
        if self.dice.bool() {
            self.frame(&mut said, 2, &cancel().into_data());
        }
        said.truncate(self.dice.usize(..=said.len()));
        // Only a whole request has an answer to wait for.
        let waits = self.dice.bool() && said.len() >= head;
        if self.dice.u8(..4) == 0 {
            said.extend(std::iter::repeat_with(|| self.dice.u8(..)).take(200));
        }
        let gone = async {
            // In two pieces: a frame can begin in the first and end in the second.
            let (first, second) = said.split_at(if waits { head } else { self.dice.usize(..=said.len()) });
            stream.write_all(first).await?;
            if waits {
                stream.readable().await?;
            }
            stream.write_all(second).await?;
            if self.dice.bool() {
                // The last bytes arrive before the disconnect; otherwise the disconnect can overtake them.
                stream.shutdown().await?;
                stream.readable().await?;
            }
            std::io::Result::Ok(())
        };
        // A server that disconnects first is fine too.
        _ = patiently("a client to disconnect", gone).await;
        Some(())
    }

    /// Appends a frame as a client sends it: masked.
    fn frame(&mut self, out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
        out.push(0x80 | opcode);
        match u8::try_from(payload.len()) {
            Ok(length @ ..126) => out.push(0x80 | length),
            _ => {
                out.push(0x80 | 126);
                out.extend(u16::try_from(payload.len()).expect("a short frame").to_be_bytes());
            }
        }
        let mask = self.dice.u32(..).to_be_bytes();
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}
