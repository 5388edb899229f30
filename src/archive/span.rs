//! A stretch of a plain archive, read by itself and checked against its digest.

use super::cipher::Run;
use super::error::ArchiveError;
use super::look::Packing;
use super::manifest::Place;
use super::reader::Archive;
use super::sealed::Source;
use super::source::ReadAt;
use crate::crypto::{Digest, Sha256};
use crate::net::turn;

/// A reading of one stretch, from [`Archive::span`].
pub struct Span<'a, R = Source> {
    archive: &'a Archive<R>,
    place: Place,
    /// Bytes that were given out.
    given: u64,
    run: Option<Run>,
    expected: Option<Digest>,
    hash: Sha256,
}

impl<R: ReadAt> Archive<R> {
    /// The bytes of the member at `place`, which must have the digest `expected`. Without one they are passed on as they
    /// are; and behind a seal, where every chunk was compared already and a second hash would cost as much again.
    pub fn span(&self, place: Place, expected: Option<Digest>) -> Span<'_, R> {
        let expected = expected.filter(|_| self.seal().is_none());
        Span { archive: self, place, given: 0, run: None, expected, hash: Sha256::new() }
    }
}

impl<R: ReadAt> Span<'_, R> {
    /// The next piece, at most 64 KiB, in the place of `buf`; empty at the end. The last piece comes only when the digest
    /// was right.
    ///
    /// # Errors
    /// [`ArchiveError::Digest`], [`ArchiveError::NotSeekable`] for a compressed archive, or a failed read; the span must
    /// then not be read on.
    pub async fn next(&mut self, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        let read = self.read(buf).await;
        self.archive.judged(read)
    }

    async fn read(&mut self, mut buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        let Place { offset, size } = self.place;
        let left = size - self.given;
        if left == 0 {
            buf.clear();
            return Ok(buf);
        }
        if self.archive.packing() != Packing::Plain {
            return Err(ArchiveError::NotSeekable);
        }
        let run = match &mut self.run {
            Some(run) => run,
            // Members of a tar begin at multiples of 512.
            None => self.run.insert(self.archive.cipher.run_from(offset).await?),
        };
        let mut piece = self.archive.cipher.next_piece(run, buf).await?;
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        if piece.is_empty() {
            return Err(ArchiveError::Changed);
        }
        self.given += piece.len() as u64;
        if let Some(expected) = self.expected {
            turn::spend(piece.len()).await;
            self.hash.update(&piece);
            if self.given == size {
                let found = std::mem::take(&mut self.hash).finish();
                if found != expected {
                    let name = self.archive.name_at(offset).to_owned();
                    return Err(ArchiveError::Digest { name, expected, found });
                }
            }
        }
        Ok(piece)
    }
}
