//! The whole plain tar as it goes to the engine: exact length, every layer checked as it passes.
//!
//! No byte of the tar's end marker is given out before every layer was checked and the file was seen to be the same as
//! when it was opened: an engine acts at the end marker. What was wrong ends the stream with an error, and it stays
//! ended; the caller must then drop the connection and never end the body cleanly.

use super::error::ArchiveError;
use super::flow::Flow;
use super::manifest::Image;
use super::reader::Archive;
use super::sealed::Source;
use super::source::ReadAt;
use crate::crypto::{Digest, Sha256};
use crate::net::turn;

/// A reading of the whole tar, from [`Archive::tar`].
pub struct TarStream<'a, R = Source> {
    archive: &'a Archive<R>,
    flow: Flow,
    checks: Checks,
    /// Plain bytes given out.
    at: u64,
    state: State,
}

enum State {
    /// Before the end marker.
    Flowing,
    /// All was checked, the rest may pass.
    Checked,
    Failed,
}

impl<'a, R: ReadAt> TarStream<'a, R> {
    pub(super) fn new(archive: &'a Archive<R>, flow: Flow, checks: Checks) -> Self {
        Self { archive, flow, checks, at: 0, state: State::Flowing }
    }

    /// Bytes in all.
    pub fn length(&self) -> u64 {
        self.archive.tar_len()
    }

    /// Where the tar's end marker begins: whoever was given bytes beyond it was given nothing unchecked.
    pub fn end_marker(&self) -> u64 {
        // Two blocks (POSIX pax, "ustar Interchange Format").
        self.archive.end - 1024
    }

    /// The next piece of the tar, at most 64 KiB; `None` at the end.
    ///
    /// # Errors
    ///
    /// What was given out before must not be followed by an end: nothing more comes.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, ArchiveError> {
        let checked = match self.state {
            State::Flowing => false,
            State::Checked => true,
            State::Failed => return Err(ArchiveError::Stopped),
        };
        // Until this call is over it counts as failed, and so it stays when it is dropped on the way.
        self.state = State::Failed;
        let end_marker = self.end_marker();
        let archive = self.archive;
        let piece = archive.judged(self.flow.next(&archive.cipher).await)?;
        let from = self.at;
        self.at += piece.len() as u64;
        if self.at > self.archive.tar_len() || (piece.is_empty() && self.at < self.archive.tar_len()) {
            return Err(ArchiveError::Changed);
        }
        archive.judged(self.checks.pass(from, piece).await)?;
        // Nothing of the end marker goes out unchecked.
        self.state = if checked {
            State::Checked
        } else if self.at > end_marker {
            if !self.archive.is_unchanged().await? {
                return Err(ArchiveError::Changed);
            }
            State::Checked
        } else {
            State::Flowing
        };
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// A stretch of the tar and the digest that it must have.
struct Span {
    name: Box<str>,
    start: u64,
    end: u64,
    digest: Digest,
}

/// The stretches that must be checked, in the order of the tar.
pub(super) struct Checks {
    /// The last is the next.
    spans: Vec<Span>,
    hash: Sha256,
}

impl Checks {
    /// Every layer whose bytes have a known digest. A layer that is compressed, in an archive that names no blob
    /// digests, has none: only the engine, which unpacks it, can compare its `diff_id`.
    pub(super) fn of<R: ReadAt>(archive: &Archive<R>, images: &[Image]) -> Self {
        let mut spans: Vec<Span> = images
            .iter()
            .flat_map(|image| &image.layers)
            .filter_map(|layer| {
                let digest = layer.stored_digest()?;
                let name = archive.name_at(layer.offset).into();
                Some(Span { name, start: layer.offset, end: layer.offset + layer.size, digest })
            })
            .collect();
        // A layer used by several images is one stretch; that it has one digest was seen when the images were read.
        spans.sort_by_key(|span| std::cmp::Reverse((span.start, span.end)));
        spans.dedup_by_key(|span| (span.start, span.end));
        Self { spans, hash: Sha256::new() }
    }

    /// Takes in the next piece of the tar.
    async fn pass(&mut self, from: u64, piece: &[u8]) -> Result<(), ArchiveError> {
        let to = from + piece.len() as u64;
        let within = |at: u64| usize::try_from(at.clamp(from, to) - from).expect("a piece fits");
        while let Some(span) = self.spans.last() {
            let part = &piece[within(span.start)..within(span.end)];
            if !part.is_empty() {
                turn::spend(part.len()).await;
                self.hash.update(part);
            }
            if span.end > to {
                break;
            }
            let found = std::mem::take(&mut self.hash).finish();
            if found != span.digest {
                return Err(ArchiveError::Digest { name: span.name.clone().into(), expected: span.digest, found });
            }
            self.spans.pop();
        }
        Ok(())
    }
}
