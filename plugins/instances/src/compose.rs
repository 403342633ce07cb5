//! The granted command `compose`: its verbs, and the lines that it prints.

use crate::{
    Host,
    host::{Event, Input},
    lock::Lock,
    slug::Slug,
};
use anyhow::{Result, bail};

/// Longest line of a command that is kept, in bytes. The rest of a longer line is dropped.
const LONGEST_LINE: usize = 4096;
/// Largest output of a command that is read as a whole.
const LARGEST_OUTPUT: usize = 1 << 20;

/// Arguments of the command. Unused ones are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compose<'a> {
    pub verb: &'static str,
    pub slug: &'a Slug,
    pub service: &'a str,
    pub text: &'a str,
    /// Whether a cancel does not end it.
    pub undoes: bool,
}

impl<'a> Compose<'a> {
    pub fn new(verb: &'static str, slug: &'a Slug) -> Self {
        Self { verb, slug, service: "", text: "", undoes: false }
    }

    pub fn exec(slug: &'a Slug, service: &'a str, text: &'a str) -> Self {
        Self { service, text, ..Self::new("exec", slug) }
    }

    /// Runs the command, and sends its lines to the client. A failure has the last line of its stderr.
    pub fn run<H: Host>(&self, host: &mut H, lock: Option<&mut Lock>, input: Input<'_>) -> Result<()> {
        let status = self.follow(host, lock, input, |host, line| host.say(line))?;
        self.check(status)
    }

    /// Runs the command, and returns its output instead of sending it to the client.
    pub fn output<H: Host>(&self, host: &mut H, lock: Option<&mut Lock>) -> Result<String> {
        let mut output = Vec::new();
        let status = self.stream(host, lock, Input::Empty, |bytes| {
            if output.len() + bytes.len() > LARGEST_OUTPUT {
                bail!("compose {} prints more than {LARGEST_OUTPUT} bytes", self.verb);
            }
            output.extend_from_slice(bytes);
            Ok(())
        })?;
        self.check(status)?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Runs the command, and passes its output to `sink`. Returns its status, and the last line of its stderr.
    pub fn stream<H: Host>(
        &self,
        host: &mut H,
        mut lock: Option<&mut Lock>,
        input: Input<'_>,
        mut sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<(i32, String)> {
        let mut errors = Lines::default();
        let mut last = String::new();
        let status = host.compose(self, input, &mut |host, event| {
            keep(host, lock.as_deref_mut(), self.undoes)?;
            match event {
                Event::Output(bytes) => sink(bytes)?,
                Event::Error(bytes) => errors.push(bytes, |line| remember(&mut last, line)),
                Event::Tick => {}
            }
            Ok(())
        })?;
        errors.finish(|line| remember(&mut last, line));
        Ok((status, last))
    }

    /// Runs the command, and passes each line of both of its outputs to `each`.
    fn follow<H: Host>(
        &self,
        host: &mut H,
        mut lock: Option<&mut Lock>,
        input: Input<'_>,
        each: impl Fn(&mut H, &str),
    ) -> Result<(i32, String)> {
        let (mut lines, mut errors) = (Lines::default(), Lines::default());
        let mut last = String::new();
        let status = host.compose(self, input, &mut |host, event| {
            keep(host, lock.as_deref_mut(), self.undoes)?;
            match event {
                Event::Output(bytes) => lines.push(bytes, |line| each(host, line)),
                Event::Error(bytes) => errors.push(bytes, |line| {
                    remember(&mut last, line);
                    each(host, line);
                }),
                Event::Tick => {}
            }
            Ok(())
        })?;
        lines.finish(|line| each(host, line));
        errors.finish(|line| {
            remember(&mut last, line);
            each(host, line);
        });
        Ok((status, last))
    }

    /// Fails unless the command has succeeded.
    pub fn check(&self, (status, last): (i32, String)) -> Result<()> {
        match (status, last.is_empty()) {
            (0, _) => Ok(()),
            (status, true) => bail!("compose {} of {} ended with status {status}", self.verb, self.slug),
            (status, false) => bail!("compose {} of {} ended with status {status}: {last}", self.verb, self.slug),
        }
    }
}

fn keep<H: Host>(host: &H, lock: Option<&mut Lock>, undoes: bool) -> Result<()> {
    if !undoes {
        host.go_on()?;
    }
    lock.map_or(Ok(()), |lock| lock.keep(host))
}

fn remember(last: &mut String, line: &str) {
    if !line.trim().is_empty() {
        line.trim().clone_into(last);
    }
}

/// Cuts bytes into printable lines.
#[derive(Debug, Default)]
struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let room = LONGEST_LINE.saturating_sub(self.unfinished.len());
            self.unfinished.extend(part.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).take(room));
            if part.ends_with(b"\n") || part.ends_with(b"\r") {
                self.finish(&mut each);
            }
        }
    }

    fn finish(&mut self, mut each: impl FnMut(&str)) {
        let line = plain(&String::from_utf8_lossy(&std::mem::take(&mut self.unfinished)));
        if !line.trim().is_empty() {
            each(&line);
        }
    }
}

/// Removes control characters and the escape sequences of terminals.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            // From `[` to a letter.
            rest.by_ref().skip(1).find(|c| c.is_ascii_alphabetic());
        } else if c == '\t' || !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_into_plain_lines() {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for bytes in [&b"Creating \x1b[33mnet"[..], b"\x1b[0m\r\n\nne", b"xt\r", b"a\0b\n", b"last"] {
            lines.push(bytes, |line| all.push(line.to_owned()));
        }
        lines.finish(|line| all.push(line.to_owned()));
        assert_eq!(all, ["Creating net", "next", "ab", "last"]);
    }

    #[test]
    fn long_line_is_cut() {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for _ in 0..10 {
            lines.push(&[b'x'; 1000], |line| all.push(line.to_owned()));
        }
        lines.push(b"y\nnext\n", |line| all.push(line.to_owned()));
        assert_eq!((all[0].len(), all[1].as_str()), (LONGEST_LINE, "next"));
    }
}
