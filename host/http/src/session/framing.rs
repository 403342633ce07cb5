//! Turns raw output of a guest into frames.

use crate::wire::{
    Frame,
    distillery1::{self, DATA},
    exchange::Form,
};
use bytes::Bytes;
use distillery_core::stream::{Stream, before_cut};

/// Output of a guest, with `from` as its offset in the stream.
#[derive(Clone, Debug)]
pub struct Piece {
    pub stream: Stream,
    pub from: u64,
    pub bytes: Bytes,
}

/// The beginning of a character, and its offset in the stream.
#[derive(Debug, Default)]
pub struct Held {
    from: u64,
    bytes: Bytes,
}

/// The form of the frames.
#[derive(Debug)]
pub enum Framing {
    /// One text frame for each line.
    Lines,
    /// Text frames of whole characters. For each stream, the beginning of a character is held back until the rest
    /// arrives.
    Text { held: [Bytes; 2] },
    /// Binary frames with their stream and their offset in it.
    Data,
    /// Parts of an answer. With messages, the beginning of a character is held back, as above.
    Answer { form: Form, held: [Held; 2] },
}

impl Framing {
    /// Takes the beginning of `piece`, and returns it as the next frame.
    pub fn frame(&mut self, piece: &mut Piece) -> Option<Frame> {
        if piece.bytes.is_empty() {
            return None;
        }
        let taken = piece.bytes.split_to(piece.bytes.len().min(DATA));
        let from = piece.from;
        piece.from += taken.len() as u64;
        match self {
            Self::Lines => unreachable!("lines are cut before they come here"),
            Self::Text { held } => {
                let held = &mut held[piece.stream as usize];
                let mut text = if held.is_empty() { taken } else { [held.as_ref(), &taken].concat().into() };
                *held = text.split_off(before_cut(&text));
                (!text.is_empty()).then_some(Frame::Text(text))
            }
            Self::Data => Some(distillery1::data(piece.stream, from, &taken)),
            Self::Answer { form, held } if form.has_messages() => {
                let held = &mut held[piece.stream as usize];
                let from = from - held.bytes.len() as u64;
                let mut text =
                    if held.bytes.is_empty() { taken } else { [held.bytes.as_ref(), &taken].concat().into() };
                let whole = before_cut(&text);
                *held = Held { from: from + whole as u64, bytes: text.split_off(whole) };
                (!text.is_empty()).then(|| Frame::Binary(form.output(piece.stream, from, &text)))
            }
            Self::Answer { form, .. } => {
                let part = form.output(piece.stream, from, &taken);
                (!part.is_empty()).then_some(Frame::Binary(part))
            }
        }
    }

    /// Returns frames of the bytes that were held back. Call at the end of the output.
    pub fn finish(&mut self) -> impl Iterator<Item = Frame> {
        let frames = match self {
            Self::Text { held } => std::mem::take(held).map(|held| (!held.is_empty()).then_some(Frame::Text(held))),
            Self::Answer { form, held } => {
                let [stdout, stderr] = std::mem::take(held);
                [(Stream::Stdout, stdout), (Stream::Stderr, stderr)].map(|(stream, Held { from, bytes })| {
                    (!bytes.is_empty()).then(|| Frame::Binary(form.output(stream, from, &bytes)))
                })
            }
            Self::Lines | Self::Data => [None, None],
        };
        frames.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_frames_are_whole_characters_and_complete() {
        let text = "aä☃🦀\n".repeat(3).into_bytes();
        for cut in 0..text.len() {
            let mut framing = Framing::Text { held: Default::default() };
            let mut all = Vec::new();
            for part in [&text[..cut], &text[cut..], b"\xe2\x98"] {
                let mut piece = Piece { stream: Stream::Stdout, from: 0, bytes: Bytes::copy_from_slice(part) };
                if let Some(Frame::Text(frame)) = framing.frame(&mut piece) {
                    assert!(std::str::from_utf8(&frame).is_ok());
                    all.extend_from_slice(&frame);
                }
            }
            assert_eq!(all, text);
            assert_eq!(framing.finish().collect::<Vec<_>>(), [Frame::Text(Bytes::from_static(b"\xe2\x98"))]);
            assert_eq!(framing.finish().count(), 0);
        }
    }

    #[test]
    fn cut_character_is_not_joined_with_the_other_stream() {
        let mut framing = Framing::Text { held: Default::default() };
        let mut frame = |stream, bytes: &'static [u8]| {
            framing.frame(&mut Piece { stream, from: 0, bytes: Bytes::from_static(bytes) })
        };
        let text = |text: &'static str| Some(Frame::Text(Bytes::from_static(text.as_bytes())));
        assert_eq!(frame(Stream::Stdout, b"x\xc3"), text("x"));
        assert_eq!(frame(Stream::Stderr, b"y"), text("y"));
        assert_eq!(frame(Stream::Stdout, b"\xa4"), text("ä"));
    }

    #[test]
    fn data_frames_are_bounded_and_have_their_offset() {
        let mut piece = Piece { stream: Stream::Stdout, from: 7, bytes: vec![b'x'; DATA + 1].into() };
        let mut sizes = Vec::new();
        while let Some(Frame::Binary(frame)) = Framing::Data.frame(&mut piece) {
            sizes.push((frame.len(), u64::from_be_bytes(frame[1..9].try_into().unwrap())));
        }
        assert_eq!(sizes, [(DATA + 9, 7), (10, 7 + DATA as u64)]);
    }

    #[test]
    fn messages_of_an_answer_have_whole_characters_and_offsets() {
        let mut framing = Framing::Answer { form: Form::Lines, held: Default::default() };
        let mut at = 0;
        let mut said = Vec::new();
        for bytes in [&b"a\xc3"[..], b"\xa4b", b"\xe2\x98"] {
            let mut piece = Piece { stream: Stream::Stdout, from: at, bytes: Bytes::copy_from_slice(bytes) };
            at += bytes.len() as u64;
            said.extend(framing.frame(&mut piece));
        }
        said.extend(framing.finish());
        let line = |content: &str| Frame::Binary(format!("{{\"type\":\"stdout\",{content}}}\n").into());
        let expected = [r#""from":0,"text":"a""#, r#""from":1,"text":"äb""#, r#""from":4,"base64":"4pg=""#].map(line);
        assert_eq!(said, expected);
    }

    #[test]
    fn answer_without_messages_has_only_stdout() {
        let mut framing = Framing::Answer { form: Form::Bytes, held: Default::default() };
        let mut frame = |stream| framing.frame(&mut Piece { stream, from: 0, bytes: Bytes::from_static(b"\xff") });
        assert_eq!(frame(Stream::Stdout), Some(Frame::Binary(Bytes::from_static(b"\xff"))));
        assert_eq!(frame(Stream::Stderr), None);
    }
}
