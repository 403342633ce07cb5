//! Valid bytes that are damaged at random.

use proptest::{collection::vec, prelude::*, sample::Index};

/// A change of some bytes.
#[derive(Clone, Debug)]
pub enum Change {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index),
    Truncate(Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index, bytes: &Vec<u8>| index.index(bytes.len() + 1);
        let part = |one: &Index, other: &Index, bytes: &Vec<u8>| {
            let (one, other) = (at(one, bytes), at(other, bytes));
            // At most 16 bytes: a short part changes the meaning and leaves the rest readable.
            one.min(other)..one.max(other).min(one.min(other) + 16)
        };
        match self {
            Self::Replace(index, byte) => {
                let at = index.index(bytes.len().max(1));
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
            Self::Insert(index, new) => {
                let at = at(index, bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(one, other) => {
                bytes.drain(part(one, other, bytes));
            }
            Self::Repeat(one, other) => {
                let part = part(one, other, bytes);
                let (end, again) = (part.end, bytes[part].to_vec());
                bytes.splice(end..end, again);
            }
            Self::Truncate(index) => bytes.truncate(at(index, bytes)),
        }
    }
}

/// Generates one to `most` changes, which insert one of `words` now and then.
pub fn changes(most: usize, words: &'static [&'static str]) -> impl Strategy<Value = Vec<Change>> + Clone {
    let word = proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    let change = prop_oneof![
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        6 => (any::<Index>(), word).prop_map(|(at, word)| Change::Insert(at, word)),
        1 => (any::<Index>(), vec(any::<u8>(), 1..6)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => any::<(Index, Index)>().prop_map(|(one, other)| Change::Remove(one, other)),
        2 => any::<(Index, Index)>().prop_map(|(one, other)| Change::Repeat(one, other)),
        1 => any::<Index>().prop_map(Change::Truncate),
    ];
    vec(change, 1..=most)
}

/// Returns `bytes` after all `changes`.
pub fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        change.apply(&mut bytes);
    }
    bytes
}
