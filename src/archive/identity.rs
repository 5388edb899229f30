//! By what an archive is known again without reading it: length, time of change, digests of its two ends.
//!
//! It tells "the same file as last time", not "a good file": whoever can write the archive can forge all of it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::ArchiveError;
use super::source::{File, ReadAt};
use crate::crypto::{Digest, Sha256};
use crate::limits::{IDENTITY_END_BYTES, PIECE_BYTES};
use crate::net::turn;

/// What the state on flash remembers of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Bytes of ciphertext.
    pub length: u64,
    /// Time of change: seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// Digest of the first 64 KiB.
    pub head: Digest,
    /// Digest of the last 64 KiB.
    pub tail: Digest,
}

impl Identity {
    /// Looks at the file at `path`: 128 KiB are read, whatever its length.
    pub async fn of(path: &Path) -> Result<Self, ArchiveError> {
        Self::of_source(&File::open(path).await?).await
    }

    /// Looks at an open archive.
    pub async fn of_source<R: ReadAt>(source: &R) -> Result<Self, ArchiveError> {
        let length = source.len();
        let end = length.min(IDENTITY_END_BYTES);
        Ok(Self {
            length,
            modified: source.modified(),
            head: digest_of(source, 0, end).await?,
            tail: digest_of(source, length - end, length).await?,
        })
    }
}

async fn digest_of<R: ReadAt>(source: &R, mut from: u64, to: u64) -> Result<Digest, ArchiveError> {
    let mut hash = Sha256::new();
    let mut buf = Vec::new();
    while from < to {
        buf.resize(PIECE_BYTES.min(usize::try_from(to - from).unwrap_or(PIECE_BYTES)), 0);
        let asked = buf.len();
        buf = source.read_at(from, buf).await?;
        if buf.len() < asked {
            return Err(ArchiveError::Changed);
        }
        turn::spend(buf.len()).await;
        hash.update(&buf);
        from += buf.len() as u64;
    }
    Ok(hash.finish())
}

#[cfg(test)]
mod tests {
    use smol::LocalExecutor;

    use super::*;

    fn of(bytes: &[u8]) -> Identity {
        turn::block_on(&LocalExecutor::new(), Identity::of_source(&bytes.to_vec())).expect("memory is readable")
    }

    #[test]
    fn both_ends_and_the_length_count() {
        let end = usize::try_from(IDENTITY_END_BYTES).expect("fits");
        let bytes = vec![7; 3 * end];
        let base = of(&bytes);
        assert_eq!(base.head, Digest::of(&bytes[..end]));
        let flipped = |at: usize| {
            let mut other = bytes.clone();
            other[at] ^= 1;
            of(&other)
        };
        assert_ne!(flipped(0), base);
        assert_ne!(flipped(end - 1), base);
        assert_ne!(flipped(3 * end - 1), base);
        assert_ne!(flipped(2 * end), base);
        assert_eq!(flipped(end), base, "the middle is not looked at");
        assert_ne!(of(&vec![7; 3 * end + 1]), base);
        assert_ne!(of(&[]), of(&[0]));
    }

    #[test]
    fn survives_the_state_file() {
        let identity = of(&[1, 2, 3]);
        let text = serde_json::to_string(&identity).expect("plain fields");
        assert_eq!(serde_json::from_str::<Identity>(&text).expect("the same fields"), identity);
    }
}
