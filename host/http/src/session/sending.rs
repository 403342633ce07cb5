//! Frames for the client: answers, output as far as the client accepts it, and then the result.

use super::{
    Phase, Session,
    framing::{Framing, Piece},
    protocol::Event,
};
use crate::{socket::Lost, wire::distillery1::DATA};
use bytes::Bytes;
use distillery_core::{
    control::Control,
    stream::{Lines, Output, Stream, lines},
};
use distillery_process::detached::{Ending, Item, Reader};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

impl Session {
    /// Sends lines as far as the client accepts them, then the result, and closes the connection.
    pub(super) fn write(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let sent = match self.send(now, cx) {
            Ok(any) => any,
            Err(Lost) => {
                self.lose(cx);
                true
            }
        };
        if self.link.is_writable() {
            let flushed = self.link.socket.poll_flush(cx);
            self.link.note_flush(&flushed, now);
            if let Poll::Ready(Err(Lost)) = flushed {
                self.lose(cx);
            }
        }
        self.link.close(cx) || sent
    }

    fn send(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<bool, Lost> {
        let mut any = false;
        if !self.link.is_writable() {
            self.answers.clear();
        }
        while !self.answers.is_empty() {
            if self.link.socket.poll_ready(cx)?.is_pending() {
                return Ok(any);
            }
            let answer = self.answers.pop_front().expect("it is not empty");
            self.link.socket.send_frame(answer)?;
            any = true;
        }
        // Looked up before the output is taken, so that all output before the wait is sent before it is told.
        let waits = self.waits();
        let (sent, full) = match self.framing {
            Framing::Lines => self.send_lines(cx)?,
            Framing::Text { .. } | Framing::Data | Framing::Answer { .. } => self.send_pieces(cx)?,
        };
        any |= sent | !self.answers.is_empty();
        if full {
            return Ok(any);
        }
        if waits != self.waits_told && self.ending.is_none() {
            self.waits_told = waits;
            self.on(Event::Waiting, cx);
            return Ok(true);
        }
        if let Some(ending) = self.ending.take() {
            if let Some(control) = self.control.clone() {
                self.tell_of_cancel(&control, cx);
            }
            self.on(Event::Ended(&ending.outcome, ending.value.as_deref()), cx);
            // Answers are sent before the result.
            if !self.answers.is_empty() {
                return Ok(true);
            }
        }
        if let (Phase::Running(process), Some(control)) = (&self.phase, &self.control)
            && process.is_away()
            && outputs(control).any(|(_, output)| output.poll_lines(cx).is_ready())
        {
            return Ok(true);
        }
        if let Phase::Finishing(result, code) = &self.phase {
            for frame in self.framing.finish() {
                self.link.socket.send_frame(frame)?;
            }
            self.link.socket.send_frame(result.clone())?;
            self.link.socket.send_close(*code as u16)?;
            self.link.begin_close(now);
            self.phase = Phase::Over;
            any = true;
        }
        Ok(any)
    }

    /// Returns how often the process has waited for input, if the client is told.
    fn waits(&self) -> u64 {
        match &self.control {
            Some(control) if self.protocol.tells_waits() => control.output.waits(),
            _ => self.waits_told,
        }
    }

    /// Sends lines as far as the socket accepts them. Returns whether it accepted any, and whether it is full.
    fn send_lines(&mut self, cx: &mut Context<'_>) -> Result<(bool, bool), Lost> {
        let mut any = false;
        loop {
            if self.unsent.is_empty() {
                self.unsent = match (&mut self.phase, &self.control) {
                    (Phase::Watching(view), _) => {
                        let cutters = self.cutters.get_or_insert_default();
                        let (lines, ending) = cut(view, cutters, cx);
                        self.ending = ending;
                        lines
                    }
                    (_, Some(control)) if !self.keep => control.output.take(),
                    _ => Bytes::new(),
                };
            }
            if self.unsent.is_empty() {
                return Ok((any, false));
            }
            any = true;
            if !self.link.is_writable() {
                self.unsent.clear();
                continue;
            }
            let mut sent = 0;
            let mut full = false;
            for (line, end) in lines(&self.unsent) {
                if self.link.socket.poll_ready(cx)?.is_pending() {
                    full = true;
                    break;
                }
                self.link.socket.send_line(line)?;
                sent = end;
            }
            let _ = self.unsent.split_to(sent);
            if full {
                return Ok((sent > 0, true));
            }
        }
    }

    /// Sends raw output in the same way.
    fn send_pieces(&mut self, cx: &mut Context<'_>) -> Result<(bool, bool), Lost> {
        let mut any = false;
        while self.next_piece(cx) {
            if !self.link.is_writable() {
                self.piece.bytes.clear();
                any = true;
                continue;
            }
            while !self.piece.bytes.is_empty() {
                if self.link.socket.poll_ready(cx)?.is_pending() {
                    return Ok((any, true));
                }
                if let Some(frame) = self.framing.frame(&mut self.piece) {
                    self.link.socket.send_frame(frame)?;
                }
                any = true;
            }
        }
        Ok((any, false))
    }

    /// Takes the guest's next output once the previous piece is sent. Returns whether there is anything to send.
    fn next_piece(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.piece.bytes.is_empty() {
            return true;
        }
        if let Phase::Watching(view) = &mut self.phase {
            let Poll::Ready(sight) = view.poll_next(DATA, cx) else { return false };
            match sight {
                Item::Bytes(stream, from, bytes) => {
                    self.piece = Piece { stream, from, bytes };
                    return true;
                }
                // Sent before the bytes after the gap.
                Item::Lost(stream, lost) => self.on(Event::Lost(stream, lost), cx),
                Item::Ended(ending) => self.ending = Some(ending),
            }
            return false;
        }
        let Some(control) = self.control.as_ref().filter(|_| !self.keep) else { return false };
        for (stream, output) in outputs(control) {
            let bytes = output.take();
            if !bytes.is_empty() {
                let taken = &mut self.taken[stream as usize];
                self.piece = Piece { stream, from: *taken, bytes };
                *taken += self.piece.bytes.len() as u64;
                return true;
            }
        }
        false
    }
}

/// Returns the next output of `view` as lines, and the end of the process if it follows.
fn cut(view: &mut Reader, cutters: &mut [Lines; 2], cx: &Context<'_>) -> (Bytes, Option<Arc<Ending>>) {
    loop {
        let sight = view.poll_next(DATA, cx);
        let mut ending = None;
        match &sight {
            Poll::Ready(Item::Bytes(stream, _, bytes)) => cutters[*stream as usize].write(bytes),
            // This view applies back-pressure, so it loses nothing.
            Poll::Ready(Item::Lost(..)) | Poll::Pending => {}
            Poll::Ready(Item::Ended(it)) => {
                cutters.iter_mut().for_each(Lines::finish);
                ending = Some(it.clone());
            }
        }
        if view.is_prompted() {
            cutters[0].prompt();
        }
        let lines: Vec<Bytes> = cutters.iter_mut().map(Lines::take).filter(|lines| !lines.is_empty()).collect();
        if sight.is_pending() || ending.is_some() || !lines.is_empty() {
            let lines = match <[Bytes; 1]>::try_from(lines) {
                Ok([lines]) => lines,
                Err(both) => both.concat().into(),
            };
            return (lines, ending);
        }
    }
}

/// Returns the streams that are sent to a client.
pub(super) fn outputs(control: &Control) -> impl Iterator<Item = (Stream, &Output)> {
    [(Stream::Stdout, Some(&control.output)), (Stream::Stderr, control.stderr.whole())]
        .into_iter()
        .filter_map(|(stream, output)| Some((stream, output?)))
}
