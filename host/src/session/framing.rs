//! How bytes that a guest wrote become frames, where they are not lines.

use crate::{
    stream::Stream,
    wire::{
        Frame,
        distillery1::{self, DATA},
    },
};
use bytes::Bytes;

/// What a guest wrote to a stream, `from` so many bytes after its beginning.
#[derive(Clone, Debug)]
pub struct Piece {
    pub stream: Stream,
    pub from: u64,
    pub bytes: Bytes,
}

/// The form of the frames.
#[derive(Debug)]
pub enum Framing {
    /// A text frame for each line.
    Lines,
    /// Binary frames that say their stream and their place in it.
    Data,
}

impl Framing {
    /// Takes the beginning of `piece`, and makes the next frame of it.
    pub fn frame(&mut self, piece: &mut Piece) -> Option<Frame> {
        if piece.bytes.is_empty() {
            return None;
        }
        let taken = piece.bytes.split_to(piece.bytes.len().min(DATA));
        let from = piece.from;
        piece.from += taken.len() as u64;
        match self {
            Self::Lines => unreachable!("lines are cut before they come here"),
            Self::Data => Some(distillery1::data(piece.stream, from, &taken)),
        }
    }
}
