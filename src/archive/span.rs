//! A stretch of a plain archive, read by itself and checked against its digest.

use super::error::ArchiveError;
use super::manifest::Place;
use super::reader::Archive;
use super::source::{File, ReadAt};
use crate::crypto::{Digest, Sha256};
use crate::limits::PIECE_BYTES;
use crate::net::turn;

/// A reading of one stretch, from [`Archive::span`].
pub struct Span<'a, R = File> {
    archive: &'a Archive<R>,
    start: u64,
    at: u64,
    end: u64,
    expected: Option<Digest>,
    hash: Sha256,
    piece: Vec<u8>,
}

impl<R: ReadAt> Archive<R> {
    /// The bytes at `place`, which must have the digest `expected`. Without one they are passed on as they are.
    pub fn span(&self, place: Place, expected: Option<Digest>) -> Span<'_, R> {
        let Place { offset, size } = place;
        Span {
            archive: self,
            start: offset,
            at: offset,
            end: offset + size,
            expected,
            hash: Sha256::new(),
            piece: Vec::new(),
        }
    }
}

impl<R: ReadAt> Span<'_, R> {
    /// The next piece, at most 64 KiB; `None` at the end. The last piece comes only when the digest was right.
    ///
    /// # Errors
    /// [`ArchiveError::Digest`], [`ArchiveError::NotSeekable`] for a compressed archive, or a failed read; the span must
    /// then not be read on.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, ArchiveError> {
        if self.at == self.end {
            return Ok(None);
        }
        let len = usize::try_from(self.end - self.at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(len, 0);
        self.piece = self.archive.read_into(self.at, piece).await?;
        self.at += len as u64;
        if let Some(expected) = self.expected {
            turn::spend(len).await;
            self.hash.update(&self.piece);
            if self.at == self.end {
                let found = std::mem::take(&mut self.hash).finish();
                if found != expected {
                    let name = self.archive.name_at(self.start).to_owned();
                    return Err(ArchiveError::Digest { name, expected, found });
                }
            }
        }
        Ok(Some(&self.piece))
    }
}
