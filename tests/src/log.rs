//! The log of a server under test: every line that it wrote, and the wait for one that it will write. It knows the form
//! of a line, not what the server has to say.

use crate::{PATIENCE, patiently};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ExitStatus},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Line(Value);

impl Line {
    /// A line that is no JSON is a line with nothing but a message: a panic, or an error before the log began.
    fn read(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_else(|_| serde_json::json!({ "message": text })))
    }

    pub fn message(&self) -> String {
        self.field("message")
    }

    pub fn level(&self) -> &str {
        self.0["level"].as_str().unwrap_or_default()
    }

    /// A field as text, empty where the line has none of that name.
    pub fn field(&self, name: &str) -> String {
        match &self.0[name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<Line>,
    ended: Option<ExitStatus>,
}

/// What a server has written so far, and how it ended.
#[derive(Debug)]
pub struct Log {
    read: watch::Receiver<Seen>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    /// Reads the log of `child` until that has ended, and keeps the lines that `keep` wants to be kept.
    pub(crate) fn follow(mut child: Child, keep: impl Fn(&Line) -> bool + Send + 'static) -> Self {
        let (sender, read) = watch::channel(Seen::default());
        let stderr = child.stderr.take().expect("the stderr of a server is piped");
        let reader = thread::spawn(move || {
            follow_lines(stderr, |line| {
                if keep(&line) {
                    sender.send_modify(|read| read.lines.push(line));
                }
            });
            let status = child.wait().expect("a child can be waited for");
            sender.send_modify(|read| read.ended = Some(status));
        });
        Self { read, reader: Some(reader) }
    }

    pub fn lines(&self) -> Vec<Line> {
        self.read.borrow().lines.clone()
    }

    /// The first line that is as wanted, be it already there or still to come.
    pub async fn line(&self, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        self.lines_of(what, 1, wanted).await.remove(0)
    }

    /// The first `count` lines that are as wanted.
    pub async fn lines_of(&self, what: &str, count: usize, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        let mut read = self.read.clone();
        let found =
            |read: &Seen| read.lines.iter().filter(|line| wanted(line)).take(count).cloned().collect::<Vec<_>>();
        let seen = read.wait_for(|read| found(read).len() == count || read.ended.is_some());
        let seen = patiently(what, seen).await.expect("the reader says how the server ended before it is gone");
        let lines = found(&seen);
        assert_eq!(lines.len(), count, "the server ended ({:?}) without {what}", seen.ended);
        lines
    }

    /// How the server ended, once it has.
    pub async fn ended(&self) -> ExitStatus {
        let mut read = self.read.clone();
        let seen = patiently("the end of the server", read.wait_for(|read| read.ended.is_some())).await;
        seen.expect("the reader says how the server ended before it is gone").ended.expect("it was waited for")
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.read.borrow().ended.is_some()
    }

    /// Waits for a server that was killed.
    #[expect(clippy::disallowed_methods, reason = "who drops it cannot wait for an event")]
    pub(crate) fn join(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let begun = Instant::now();
        while !reader.is_finished() {
            if begun.elapsed() > PATIENCE {
                eprintln!("the server was killed, and something of it still has its log: nobody waits for that");
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        // A reader that panicked has already said so.
        _ = reader.join();
    }
}

fn follow_lines(stderr: impl Read, mut each: impl FnMut(Line)) {
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { break };
        each(Line::read(&String::from_utf8_lossy(&line)));
    }
}
