//! The index of an archive: walked from header to header in a plain one, gathered in one pass over a compressed one.
//!
//! The pass reads everything, so afterwards padding, check sums and structure of a compressed archive are known to be
//! right, before an engine sees a byte of it.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::cipher::CipherReader;
use super::error::{ArchiveError, Feature};
use super::flow::Flow;
use super::look::Packing;
use super::source::ReadAt;
use super::tar::{Index, Kind, Walk, Want};
use crate::limits::{DOCUMENT_BYTES, DOCUMENTS_BYTES};

/// Bytes of a member that tell how it is packed.
pub(super) const MAGIC_BYTES: usize = 6;

/// JSON documents of a compressed archive, by their offset in the plain tar.
pub(super) type Kept = BTreeMap<u64, Vec<u8>>;

/// What is known of an archive after it was surveyed.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) index: Index,
    /// Length of the plain tar, with what follows its end marker.
    pub(super) tar_len: u64,
    /// Where the tar's end marker ends.
    pub(super) end: u64,
    /// The documents, if the archive is compressed.
    pub(super) kept: Option<Kept>,
}

/// Walks over a plain archive: 528 bytes are read per header.
pub(super) async fn walk<R: ReadAt>(cipher: &CipherReader<R>) -> Result<Survey, ArchiveError> {
    let tar_len = cipher.plain_len();
    let mut walk = Walk::new(Some(tar_len));
    let mut buf = Vec::new();
    loop {
        match walk.want()? {
            Want::Bytes { offset, len } => {
                buf.resize(len, 0);
                buf = cipher.read_at(offset, buf).await?;
                walk.take(&buf)?;
            }
            Want::Done { end } => return Ok(Survey { index: walk.into_index(), tar_len, end, kept: None }),
        }
    }
}

/// Passes over a compressed archive; `done` follows the ciphertext.
pub(super) async fn pass<R: ReadAt>(
    cipher: &CipherReader<R>,
    packing: Packing,
    done: &Cell<u64>,
) -> Result<Survey, ArchiveError> {
    let mut flow = Flow::new(cipher, packing);
    let mut gather = Gather::new();
    loop {
        let piece = flow.next(cipher).await?;
        if piece.is_empty() {
            break;
        }
        gather.take(piece)?;
        done.set(flow.ciphertext());
    }
    done.set(cipher.source().len());
    gather.finish()
}

/// The walk over a stream that passes once.
struct Gather {
    walk: Walk,
    /// What the walk wants and is not there whole yet.
    pending: Vec<u8>,
    /// Plain bytes passed.
    at: u64,
    watched: Option<Watched>,
    kept: Kept,
    kept_bytes: usize,
}

/// The member whose bytes are passing.
struct Watched {
    member: usize,
    start: u64,
    end: u64,
    /// Its beginning; all of it while it may be a document.
    bytes: Vec<u8>,
}

impl Gather {
    fn new() -> Self {
        Self { walk: Walk::new(None), pending: Vec::new(), at: 0, watched: None, kept: Kept::new(), kept_bytes: 0 }
    }

    fn take(&mut self, mut piece: &[u8]) -> Result<(), ArchiveError> {
        while !piece.is_empty() {
            let taken = match self.walk.want()? {
                // What follows the end marker is nobody's.
                Want::Done { .. } => piece.len(),
                Want::Bytes { offset, .. } if self.at < offset => {
                    let n = usize::try_from(offset - self.at).map_or(piece.len(), |gap| gap.min(piece.len()));
                    self.watch(&piece[..n])?;
                    n
                }
                Want::Bytes { len, .. } => {
                    let n = piece.len().min(len - self.pending.len());
                    self.pending.extend_from_slice(&piece[..n]);
                    n
                }
            };
            self.at += taken as u64;
            piece = &piece[taken..];
            self.settle()?;
        }
        Ok(())
    }

    /// Gives the walk what it wants, as soon as it is whole.
    fn settle(&mut self) -> Result<(), ArchiveError> {
        while let Want::Bytes { offset, len } = self.walk.want()? {
            if self.at < offset + len as u64 || self.pending.len() < len {
                break;
            }
            self.close();
            let member = self.walk.take(&self.pending)?;
            self.pending.clear();
            if let Some(member) = member {
                let found = &self.walk.members()[member];
                if found.kind == Kind::File {
                    let (start, end) = (found.offset, found.offset + found.size);
                    self.watched = Some(Watched { member, start, end, bytes: Vec::new() });
                }
            }
        }
        Ok(())
    }

    /// Looks at bytes between two headers: of the watched member, then padding.
    fn watch(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Some(watched) = &mut self.watched else { return Ok(()) };
        let left = watched.end.saturating_sub(self.at);
        let bytes = &bytes[..usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))];
        let begins_as_json = watched.bytes.iter().chain(bytes).find(|byte| !byte.is_ascii_whitespace());
        let may_be_document =
            watched.end - watched.start <= DOCUMENT_BYTES && matches!(begins_as_json, Some(b'{' | b'['));
        let wanted = if may_be_document { bytes.len() } else { MAGIC_BYTES.saturating_sub(watched.bytes.len()) };
        watched.bytes.extend_from_slice(&bytes[..wanted.min(bytes.len())]);
        if may_be_document {
            self.kept_bytes += bytes.len();
            if self.kept_bytes > DOCUMENTS_BYTES {
                return Err(Feature::limit("bytes of documents in a compressed archive", DOCUMENTS_BYTES));
            }
        }
        Ok(())
    }

    /// The watched member has passed.
    fn close(&mut self) {
        if let Some(Watched { member, start, end, bytes }) = self.watched.take() {
            self.walk.saw_packing(member, &bytes);
            if bytes.len() as u64 == end - start {
                self.kept.insert(start, bytes);
            }
        }
    }

    fn finish(mut self) -> Result<Survey, ArchiveError> {
        match self.walk.want()? {
            Want::Bytes { .. } => Err(self.walk.ended(self.at)),
            Want::Done { end } => {
                self.close();
                Ok(Survey { index: self.walk.into_index(), tar_len: self.at, end, kept: Some(self.kept) })
            }
        }
    }
}
