//! The streams of a process, compared with the simplest description of their behaviour.

use crate::{hunt::hunt, target};
use distillery_core::stream::{Input, Output, Read, Room, Stderr, Written, lines};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    task::{Context, Waker},
    time::{Duration, Instant},
};

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Characters that are special to a stream, and similar ones.
const PARTS: &[&[u8]] = &[
    b"a",
    b"b",
    b"\n",
    b"\n",
    b"\r",
    b"\r\n",
    b"\xc3",
    b"\xa4",
    b"\xe2\x98",
    b"\x83",
    b"\xf0\x9f",
    b"\xa6\x80",
    b"\xf0",
    b"\xff",
    b"\xe0\x80",
    b"\xed\xa0",
    b"\x80",
    b"prompt> ",
    b" ",
];

/// Text with many special characters, cut anywhere: also within a character or a terminator.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(select(PARTS), 0..8).prop_map(|parts| parts.concat()),
        1 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..70_000usize).prop_map(|(byte, many)| vec![byte; many]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>),
    /// A whole line, as stderr has them.
    Line(Vec<u8>),
    Prompt,
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let line = piece().prop_map(|mut line| {
        line.retain(|byte| *byte != b'\n');
        line.truncate(1 << 10);
        line
    });
    let step = prop_oneof![
        6 => piece().prop_map(Step::Write),
        1 => line.prop_map(Step::Line),
        2 => Just(Step::Prompt),
        2 => Just(Step::Take),
    ];
    vec(step, 0..40)
}

/// A model of stdout: one byte after the other.
struct Model {
    limit: u64,
    longest: usize,
    lines: Vec<Vec<u8>>,
    /// Part of the current line that has not been sent.
    line: Vec<u8>,
    /// Part of the current line that has been sent as a prompt.
    prompted: bool,
    total: u64,
    closed: bool,
}

impl Model {
    fn write(&mut self, bytes: &[u8]) -> Written {
        for byte in bytes {
            if self.closed {
                return Written::Yes;
            }
            if self.total == self.limit {
                self.closed = true;
                return Written::OverLimit(self.limit);
            }
            if *byte == b'\n' {
                self.total += 1;
                self.end_line();
                continue;
            }
            if self.line.len() == self.longest {
                self.closed = true;
                return Written::LineTooLong(self.longest);
            }
            self.total += 1;
            self.line.push(*byte);
        }
        Written::Yes
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        // A terminator directly after a prompt does not start a new line.
        if !(line.is_empty() && self.prompted) {
            self.lines.push(line.to_vec());
        }
        self.prompted = false;
    }

    fn write_line(&mut self, line: &[u8]) -> Written {
        if self.closed {
            return Written::Yes;
        }
        let room = self.limit - self.total;
        let whole = (line.len() as u64) < room;
        let line = if whole { line } else { &line[..room as usize] };
        if whole || !line.is_empty() {
            self.lines.push(line.strip_suffix(b"\r").unwrap_or(line).to_vec());
        }
        if whole {
            self.total += line.len() as u64 + 1;
            return Written::Yes;
        }
        self.total = self.limit;
        self.closed = true;
        Written::OverLimit(self.limit)
    }

    fn prompt(&mut self) {
        let mut held_back = self.line.iter().rev().take_while(|byte| **byte == b'\r').count();
        let text = &self.line[..self.line.len() - held_back];
        let last = text.utf8_chunks().last().map(|chunk| chunk.invalid()).unwrap_or_default();
        if !last.is_empty() && std::str::from_utf8(last).is_err_and(|cut| cut.error_len().is_none()) {
            held_back += last.len();
        }
        // A prompt never ends with half a terminator, which would be taken for a whole one.
        held_back += self.line[..self.line.len() - held_back].iter().rev().take_while(|byte| **byte == b'\r').count();
        let rest = self.line.split_off(self.line.len() - held_back);
        let said = std::mem::replace(&mut self.line, rest);
        if !said.is_empty() {
            self.lines.push(said);
            self.prompted = true;
        }
    }

    fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }
}

#[test]
fn stdout_keeps_its_lines_for_any_cuts() {
    let limits = (
        prop_oneof![2 => Just(None), 1 => (0..200u64).prop_map(Some)],
        prop_oneof![2 => Just(1 << 20), 1 => 1..40usize],
    );
    hunt(target!("stdout", 1500), (limits, steps()), |((limit, longest), steps)| {
        let output = Output::new(limit, longest);
        let mut model = Model {
            limit: limit.unwrap_or(u64::MAX),
            longest,
            lines: Vec::new(),
            line: Vec::new(),
            prompted: false,
            total: 0,
            closed: false,
        };
        let mut taken: Vec<Vec<u8>> = Vec::new();
        let mut take = |output: &Output| {
            let bytes = output.take();
            let mut ends = 0;
            for (line, next) in lines(&bytes) {
                assert!(next > ends, "lines overlap");
                ends = next;
                taken.push(line.to_vec());
            }
            assert_eq!(ends, bytes.len(), "output after the last line");
            taken.clone()
        };
        for step in steps {
            match step {
                Step::Write(bytes) => assert_eq!(output.write(&bytes), model.write(&bytes)),
                Step::Line(line) => assert_eq!(output.write_line(&line), model.write_line(&line)),
                Step::Prompt => {
                    output.prompt(|| 0);
                    model.prompt();
                }
                Step::Take => {
                    assert_eq!(take(&output), model.lines);
                    assert!(output.permit() > 0 && output.poll_writable(&cx()).is_ready(), "nothing waits: go on");
                    assert!(output.poll_lines(&cx()).is_pending());
                }
            }
            assert_eq!(output.total(), model.total);
        }
        output.finish();
        model.finish();
        assert_eq!(take(&output), model.lines);
    });
}

#[derive(Clone, Debug)]
enum Turn {
    Push(String),
    Read(usize),
    /// Time passes, in milliseconds.
    Pass(u64),
    End,
}

#[test]
fn stdin_keeps_its_lines_for_any_reads() {
    let line = prop_oneof![
        4 => "[a-zä☃\n\r\0]{0,12}",
        1 => (0..70_000usize).prop_map(|many| "x".repeat(many)),
    ];
    let size = prop_oneof![0..5usize, 0..200usize, Just(usize::MAX)];
    let turn = prop_oneof![
        8 => line.prop_map(Turn::Push),
        8 => size.prop_map(Turn::Read),
        2 => (0..3000u64).prop_map(Turn::Pass),
        1 => Just(Turn::End),
    ];
    let limit = prop_oneof![1..100usize, 1..300_000usize];
    hunt(target!("stdin", 1000), (limit, vec(turn, 0..60)), |(limit, turns)| {
        let input = Input::new(limit, Duration::from_secs(60));
        let (mut waiting, mut ended, mut total) = (Vec::new(), false, 0);
        let mut now = Instant::now();
        for turn in turns {
            match turn {
                Turn::Push(line) => {
                    input.push_line(&line, now, &cx());
                    if !ended {
                        waiting.extend_from_slice(line.as_bytes());
                        waiting.push(b'\n');
                    }
                }
                Turn::Read(most) => match input.read(most, now) {
                    Read::Data(data) => {
                        assert!(!data.is_empty() && data.len() <= most);
                        assert!(waiting.starts_with(&data), "the bytes differ from those sent");
                        waiting.drain(..data.len());
                        total += data.len() as u64;
                    }
                    Read::Empty => assert!(!ended && (waiting.is_empty() || most == 0)),
                    Read::Ended => assert!(ended),
                },
                Turn::Pass(millis) => now += Duration::from_millis(millis),
                Turn::End => {
                    input.end();
                    ended = true;
                    waiting.clear();
                }
            }
            assert_eq!(input.total(), total);
            assert_eq!(input.poll_readable(&cx()).is_ready(), ended || !waiting.is_empty());
            match input.room(now, &cx()) {
                Room::Now => assert!(waiting.len() < limit, "more waits than the limit allows"),
                Room::Later(then) => assert!(then > now && !waiting.is_empty()),
                Room::Full(since) => assert!(waiting.len() >= limit && since <= now),
            }
        }
    });
}

#[test]
fn stderr_keeps_the_start_of_each_line_for_any_cuts() {
    let flood = (1..2000usize).prop_map(|many| b"again\n".repeat(many));
    let written = prop_oneof![12 => piece(), 1 => flood];
    hunt(target!("stderr", 500), vec(written, 0..30), |written| {
        let stderr = Stderr::default();
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for bytes in &written {
            stderr.write(bytes, |line| seen.push(line.to_vec()));
        }
        stderr.finish(|line| seen.push(line.to_vec()));

        let text = written.concat();
        assert_eq!(stderr.total(), text.len() as u64);
        let text = text.strip_suffix(b"\n").map_or((!text.is_empty()).then_some(&text[..]), Some);
        let whole = text.into_iter().flat_map(|text| text.split(|byte| *byte == b'\n'));
        let cut = whole.map(|line| {
            let line = &line[..line.len().min(1 << 10)];
            line.strip_suffix(b"\r").unwrap_or(line)
        });
        let cut: Vec<&[u8]> = cut.collect();
        assert_eq!(seen, cut[..cut.len().min(1000)]);
        // Which line it is has its own tests: here it is one that was written, and fits a message.
        if let Some(said) = stderr.last_words() {
            assert!(said.len() <= 1 << 10 && !said.contains(|c: char| c.is_control() && c != '\t'), "{said:?}");
            assert!(said.contains(char::is_alphanumeric), "{said:?} says nothing");
        }
    });
}
