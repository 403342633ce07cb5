//! A ring with the last bytes of a stream, and their offsets.
//!
//! A plain buffer. It knows nothing of its readers.

use bytes::Bytes;
use std::{collections::VecDeque, ops::Range};

/// A ring of at most `limit` bytes. The oldest bytes are lost as more arrive.
#[derive(Debug)]
pub struct Ring {
    limit: usize,
    bytes: VecDeque<u8>,
    /// Number of bytes ever pushed.
    end: u64,
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There are no bytes yet.
    Nothing,
    Bytes(Bytes),
    /// These bytes are lost.
    Lost(Range<u64>),
}

impl Ring {
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: VecDeque::new(), end: 0 }
    }

    /// Returns the offsets of the bytes that are kept.
    pub fn range(&self) -> Range<u64> {
        self.end - self.bytes.len() as u64..self.end
    }

    /// Appends as many of `bytes` as it can without losing bytes from the offset `held` on. Returns their number.
    /// Without `held`, it takes all.
    pub fn push(&mut self, bytes: &[u8], held: Option<u64>) -> usize {
        let room = match held {
            Some(held) => self.limit - (self.end - held.clamp(self.range().start, self.end)) as usize,
            None => bytes.len(),
        };
        let bytes = &bytes[..bytes.len().min(room)];
        let kept = &bytes[bytes.len().saturating_sub(self.limit)..];
        let surplus = (self.bytes.len() + kept.len()).saturating_sub(self.limit);
        self.bytes.drain(..surplus);
        let needed = self.bytes.len() + kept.len();
        if needed > self.bytes.capacity() {
            // Doubled, but never beyond the limit.
            let wanted = needed.max(self.bytes.capacity() * 2).min(self.limit);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend(kept);
        self.end += bytes.len() as u64;
        bytes.len()
    }

    /// Reads up to `most` bytes from the offset `at` on. There are none beyond the end.
    pub fn read(&self, at: u64, most: usize) -> Found {
        let Range { start, end } = self.range();
        if at < start {
            return Found::Lost(at..start);
        }
        if at >= end || most == 0 {
            return Found::Nothing;
        }
        let from = (at - start) as usize;
        let to = self.bytes.len().min(from.saturating_add(most));
        let (front, back) = self.bytes.as_slices();
        let split = front.len();
        let parts = [&front[from.min(split)..to.min(split)], &back[from.max(split) - split..to.max(split) - split]];
        Found::Bytes(parts.concat().into())
    }

    /// Releases spare memory after the last byte.
    pub fn finish(&mut self) {
        self.bytes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &'static [u8]) -> Found {
        Found::Bytes(Bytes::from_static(bytes))
    }

    #[test]
    fn oldest_bytes_are_lost_and_reported() {
        let mut ring = Ring::new(4);
        assert_eq!(ring.read(0, 9), Found::Nothing);
        assert_eq!(ring.push(b"abc", None), 3);
        assert_eq!(ring.read(0, 9), found(b"abc"));
        assert_eq!(ring.push(b"def", None), 3);
        assert_eq!(ring.range(), 2..6);
        assert_eq!(ring.read(0, 9), Found::Lost(0..2));
        assert_eq!(ring.read(2, 9), found(b"cdef"));
        assert_eq!(ring.read(3, 2), found(b"de"));
        assert_eq!((ring.read(6, 9), ring.read(99, 9)), (Found::Nothing, Found::Nothing));
        assert_eq!(ring.push(b"0123456789", None), 10);
        assert_eq!((ring.range(), ring.read(12, 9)), (12..16, found(b"6789")));
    }

    #[test]
    fn held_bytes_are_not_lost() {
        let mut ring = Ring::new(4);
        assert_eq!(ring.push(b"abcdef", Some(0)), 4);
        assert_eq!(ring.push(b"ef", Some(0)), 0);
        assert_eq!(ring.push(b"ef", Some(1)), 1);
        assert_eq!((ring.range(), ring.read(1, 9)), (1..5, found(b"bcde")));
        assert_eq!(ring.push(b"fghijk", Some(5)), 4);
        assert_eq!(ring.range(), 5..9);
    }

    #[test]
    fn ring_never_has_more_memory_than_its_limit() {
        let mut ring = Ring::new(1000);
        for _ in 0..100 {
            ring.push(&[7; 300], None);
            assert!(ring.bytes.capacity() <= 1000, "{}", ring.bytes.capacity());
        }
        let mut small = Ring::new(1000);
        small.push(&[7; 300], None);
        small.finish();
        assert_eq!((small.bytes.capacity(), small.range()), (300, 0..300));
    }
}
