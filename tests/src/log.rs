//! The log of a server under test: every line so far, and the wait for a further one. It knows the form of a line, and
//! nothing about the messages of the server.

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
    /// Parses a line. One that is not JSON has only a message: a panic, or an error before the log began.
    fn read(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_else(|_| serde_json::json!({ "message": text })))
    }

    pub fn message(&self) -> String {
        self.field("message")
    }

    pub fn level(&self) -> &str {
        self.0["level"].as_str().unwrap_or_default()
    }

    /// Returns a field as text, empty if the line has none of that name.
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

/// The lines of a server so far, and its exit status.
#[derive(Debug)]
pub struct Log {
    read: watch::Receiver<Seen>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    /// Reads the log of `child` until its end, and keeps the lines for which `keep` is true.
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

    /// Returns the first line that matches, existing or still to come.
    pub async fn line(&self, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        self.lines_of(what, 1, wanted).await.remove(0)
    }

    /// Returns the first `count` lines that match.
    pub async fn lines_of(&self, what: &str, count: usize, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        let mut read = self.read.clone();
        let found =
            |read: &Seen| read.lines.iter().filter(|line| wanted(line)).take(count).cloned().collect::<Vec<_>>();
        let seen = read.wait_for(|read| found(read).len() == count || read.ended.is_some());
        let seen = patiently(what, seen).await.expect("the reader reports the exit status before it ends");
        let lines = found(&seen);
        assert_eq!(lines.len(), count, "the server ended ({:?}) without {what}", seen.ended);
        lines
    }

    /// Returns the exit status of the server, once it has exited.
    pub async fn ended(&self) -> ExitStatus {
        let mut read = self.read.clone();
        let seen = patiently("the end of the server", read.wait_for(|read| read.ended.is_some())).await;
        seen.expect("the reader reports the exit status before it ends").ended.expect("it was waited for")
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.read.borrow().ended.is_some()
    }

    /// Waits for a server that was killed.
    #[expect(clippy::disallowed_methods, reason = "a drop cannot wait for an event")]
    pub(crate) fn join(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let begun = Instant::now();
        while !reader.is_finished() {
            if begun.elapsed() > PATIENCE {
                eprintln!("the server was killed, but a process still holds its log open: not waiting");
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        // A reader that panicked has already reported the error.
        _ = reader.join();
    }
}

fn follow_lines(stderr: impl Read, mut each: impl FnMut(Line)) {
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { break };
        each(Line::read(&String::from_utf8_lossy(&line)));
    }
}
