//! Changes to a file that somebody without the key can make, drawn at random; for the tests of this room and of archives.

use proptest::prelude::*;

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Append(Vec<u8>),
    Overwrite(prop::sample::Index, Vec<u8>),
    /// Bytes from elsewhere in it, whole blocks or not.
    Splice(prop::sample::Index, prop::sample::Index, usize),
    Remove(prop::sample::Index, usize),
    /// Two stretches of this length, counted from the front, change places.
    Swap(usize, u8, u8),
}

impl Change {
    /// Makes the change; nothing can be done to what is empty.
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Append(more) => bytes.extend_from_slice(more),
            Self::Overwrite(at, with) => {
                let at = at.index(bytes.len());
                for (byte, new) in bytes[at..].iter_mut().zip(with) {
                    *byte = *new;
                }
            }
            Self::Splice(from, to, len) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let len = (*len).min(bytes.len() - from.max(to));
                bytes.copy_within(from..from + len, to);
            }
            Self::Remove(at, len) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + len).min(bytes.len()));
            }
            Self::Swap(len, one, other) => {
                let stretches = (bytes.len() / len).max(1);
                let (one, other) = (usize::from(*one) % stretches, usize::from(*other) % stretches);
                let (low, high) = (one.min(other), one.max(other));
                if low < high {
                    let (below, above) = bytes.split_at_mut(high * len);
                    below[low * len..][..*len].swap_with_slice(&mut above[..*len]);
                }
            }
        }
    }
}

/// One to three changes; blocks and chunks of `chunk` bytes are met more often than by chance.
pub(crate) fn changes(chunk: usize) -> impl Strategy<Value = Vec<Change>> {
    let index = any::<prop::sample::Index>;
    let some = || prop::collection::vec(any::<u8>(), 1..100);
    let lengths = || prop_oneof![Just(16_usize), Just(512), Just(chunk), 1..5000_usize];
    let change = prop_oneof![
        (index(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        index().prop_map(Change::Cut),
        some().prop_map(Change::Append),
        (index(), some()).prop_map(|(at, with)| Change::Overwrite(at, with)),
        (index(), index(), lengths()).prop_map(|(from, to, len)| Change::Splice(from, to, len)),
        (index(), lengths()).prop_map(|(at, len)| Change::Remove(at, len)),
        (lengths(), any::<u8>(), any::<u8>()).prop_map(|(len, one, other)| Change::Swap(len, one, other)),
    ];
    prop::collection::vec(change, 1..4)
}
