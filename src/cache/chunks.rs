//! The chunks of one big part: where each lies, its hash, and whether it is there.

use std::ops::Range;

use crate::crypto::{Digest, Sha256};
use crate::limits::{CACHE_CHUNK_BYTES, CACHE_CHUNKS, CACHE_OBJECT_BYTES, PIECE_BYTES};
use crate::net::turn::spend;
use crate::seal;

/// A hash that nobody recorded: no bytes have it.
const UNKNOWN: [u8; 32] = [0; 32];

/// 32 bytes and two bits for each chunk.
#[derive(Debug)]
pub(super) struct Chunks {
    size: u64,
    chunk_bytes: u64,
    hashes: Vec<Digest>,
    held: Vec<u64>,
    /// Those that were here once.
    came: Vec<u64>,
    missing: u32,
}

/// How long the chunks of an object are; `None` if it has more bytes than the cache takes.
pub fn chunk_bytes_for(size: u64) -> Option<u64> {
    let mut bytes = CACHE_CHUNK_BYTES;
    while size.div_ceil(bytes) > CACHE_CHUNKS {
        bytes *= 2;
    }
    (size <= CACHE_OBJECT_BYTES).then_some(bytes)
}

/// Whether an index may name these two.
pub(super) fn is_geometry(size: u64, chunk_bytes: u64) -> bool {
    let most = chunk_bytes_for(CACHE_OBJECT_BYTES).unwrap_or(CACHE_CHUNK_BYTES);
    size <= CACHE_OBJECT_BYTES && (1..=most).contains(&chunk_bytes) && size.div_ceil(chunk_bytes) <= CACHE_CHUNKS
}

impl Chunks {
    /// None of them there.
    pub(super) fn none(size: u64, chunk_bytes: u64) -> Self {
        debug_assert!(is_geometry(size, chunk_bytes), "the caller has looked");
        let count = size.div_ceil(chunk_bytes);
        let missing = u32::try_from(count).expect("at most CACHE_CHUNKS");
        let count = missing as usize;
        Self {
            size,
            chunk_bytes,
            hashes: vec![Digest::from(UNKNOWN); count],
            held: vec![0; count.div_ceil(64)],
            came: vec![0; count.div_ceil(64)],
            missing,
        }
    }

    /// All of them there.
    pub(super) fn all(size: u64, chunk_bytes: u64, hashes: Vec<Digest>) -> Self {
        let mut chunks = Self::none(size, chunk_bytes);
        debug_assert_eq!(chunks.hashes.len(), hashes.len(), "the caller has counted");
        chunks.hashes = hashes;
        for chunk in 0..chunks.count() {
            chunks.set(chunk, true);
        }
        chunks
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.hashes.len()).expect("at most CACHE_CHUNKS")
    }

    pub(super) fn missing(&self) -> u32 {
        self.missing
    }

    /// Where a chunk lies; empty for one that there is not.
    pub(super) fn range(&self, chunk: u32) -> Range<u64> {
        let start = (u64::from(chunk) * self.chunk_bytes).min(self.size);
        start..(start + self.chunk_bytes).min(self.size)
    }

    pub(super) fn len_of(&self, chunk: u32) -> usize {
        let range = self.range(chunk);
        usize::try_from(range.end - range.start).expect("at most 2 MiB")
    }

    pub(super) fn has(&self, chunk: u32) -> bool {
        has_bit(&self.held, chunk)
    }

    /// Whether it was here once, even if it is lost by now.
    pub(super) fn came(&self, chunk: u32) -> bool {
        has_bit(&self.came, chunk)
    }

    /// What a chunk must hash to, if that was ever recorded, or sealed.
    pub(super) fn expected(&self, chunk: u32) -> Option<Digest> {
        self.hashes.get(chunk as usize).copied().filter(|hash| *hash.as_bytes() != UNKNOWN)
    }

    pub(super) fn hashes(&self) -> &[Digest] {
        &self.hashes
    }

    /// Expects what was sealed of every chunk; `false`, and nothing changes, when these are chunks of another length or
    /// one is recorded with another hash.
    pub(super) fn hold_to(&mut self, sealed: &seal::Chunks<'_>) -> bool {
        let is_like = |(known, sealed): (&Digest, Digest)| *known.as_bytes() == UNKNOWN || *known == sealed;
        let fits = (self.size, self.chunk_bytes) == (sealed.length(), sealed.chunk_bytes())
            && self.hashes.iter().zip(sealed.iter()).all(is_like);
        if fits {
            self.hashes = sealed.iter().collect();
        }
        fits
    }

    /// It is there, with this hash.
    pub(super) fn put(&mut self, chunk: u32, hash: Digest) {
        if let Some(known) = self.hashes.get_mut(chunk as usize) {
            *known = hash;
            self.set(chunk, true);
        }
    }

    /// It is not there any more; what it must hash to stays.
    pub(super) fn lose(&mut self, chunk: u32) {
        self.set(chunk, false);
    }

    fn set(&mut self, chunk: u32, is_held: bool) {
        if chunk >= self.count() || self.has(chunk) == is_held {
            return;
        }
        let (word, bit) = (chunk as usize / 64, 1 << (chunk % 64));
        self.held[word] ^= bit;
        if is_held {
            self.came[word] |= bit;
            self.missing -= 1;
        } else {
            self.missing += 1;
        }
    }
}

fn has_bit(words: &[u64], chunk: u32) -> bool {
    words.get(chunk as usize / 64).is_some_and(|word| word >> (chunk % 64) & 1 == 1)
}

/// The hash of a chunk, a turn's share at a time.
pub async fn hash_of(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    for piece in bytes.chunks(PIECE_BYTES) {
        spend(piece.len()).await;
        hash.update(piece);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_when_there_would_be_too_many() {
        let edge = CACHE_CHUNK_BYTES * CACHE_CHUNKS;
        assert_eq!(chunk_bytes_for(0), Some(CACHE_CHUNK_BYTES));
        assert_eq!(chunk_bytes_for(edge), Some(CACHE_CHUNK_BYTES));
        assert_eq!(chunk_bytes_for(edge + 1), Some(2 * CACHE_CHUNK_BYTES));
        assert_eq!(chunk_bytes_for(CACHE_OBJECT_BYTES), Some(2 * 1024 * 1024));
        assert_eq!(chunk_bytes_for(CACHE_OBJECT_BYTES + 1), None);
        assert!(is_geometry(CACHE_OBJECT_BYTES, 2 * 1024 * 1024));
        assert!(!is_geometry(CACHE_OBJECT_BYTES, 1024 * 1024), "too many chunks");
        assert!(!is_geometry(1, 0) && !is_geometry(1, 2 * 1024 * 1024 + 1));
    }

    #[test]
    fn what_is_put_is_there_and_what_is_lost_keeps_its_hash() {
        let mut chunks = Chunks::none(130 * 10 - 3, 10);
        assert_eq!((chunks.count(), chunks.missing()), (130, 130));
        assert_eq!((chunks.range(0), chunks.range(129), chunks.range(130)), (0..10, 1290..1297, 1297..1297));
        let hash = Digest::of(b"x");
        for chunk in [0, 63, 64, 129, 129] {
            chunks.put(chunk, hash);
            assert!(chunks.has(chunk));
        }
        chunks.put(130, hash);
        assert_eq!(chunks.missing(), 126);
        assert!(!chunks.has(130) && !chunks.has(1));
        chunks.lose(64);
        chunks.lose(64);
        assert_eq!((chunks.missing(), chunks.has(64), chunks.expected(64)), (127, false, Some(hash)));
        assert_eq!(chunks.expected(1), None);
    }
}
