//! Ciphertext behind a seal: chunk by chunk, and of a chunk not one byte before its hash was compared.
//!
//! Whoever reads asks for any bytes; what is read from flash, hashed and kept for a moment are whole chunks. Random access
//! costs a chunk for each place that is looked at, reading from front to back costs each chunk once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::error::ArchiveError;
use super::source::{File, ReadAt};
use crate::crypto::Sha256;
use crate::limits::{PIECE_BYTES, SEALED_CHUNKS_KEPT};
use crate::metrics::Counted;
use crate::net::turn;
use crate::seal::ArchiveSeal;

/// A source whose every chunk is compared with its seal.
#[derive(Debug)]
pub struct Sealed<R> {
    inner: R,
    seal: ArchiveSeal,
    /// The chunks that were compared, the one to let go first at the front.
    kept: RefCell<Vec<Chunk>>,
    /// Chunks that are being read and compared.
    coming: Cell<u64>,
}

/// A chunk that has its hash.
#[derive(Debug, Clone)]
struct Chunk {
    number: u64,
    bytes: Rc<Vec<u8>>,
}

impl<R: ReadAt> Sealed<R> {
    /// Puts the seal before a source.
    ///
    /// # Errors
    /// [`ArchiveError::NotAuthentic`]: its length is another.
    pub fn new(inner: R, seal: ArchiveSeal) -> Result<Self, ArchiveError> {
        let (found, sealed) = (inner.len(), seal.chunks().length());
        if found != sealed {
            return Err(ArchiveError::not_authentic(&format_args!("it has {found} bytes, its seal names {sealed}")));
        }
        Ok(Self { inner, seal, kept: RefCell::default(), coming: Cell::new(0) })
    }

    /// A chunk, compared.
    async fn chunk(&self, number: u64) -> Result<Rc<Vec<u8>>, ArchiveError> {
        if let Some(bytes) = self.find(number) {
            return Ok(bytes);
        }
        let chunks = self.seal.chunks();
        let range = chunks.range(number);
        let len = usize::try_from(range.end - range.start).expect("a chunk fits into memory");
        let mut buf = self.spare();
        let coming = Counted::of(&self.coming);
        buf.resize(len, 0);
        let buf = self.inner.read_at(range.start, buf).await?;
        let mut hash = Sha256::new();
        for piece in buf.chunks(PIECE_BYTES) {
            turn::spend(piece.len()).await;
            hash.update(piece);
        }
        if buf.len() != len || Some(hash.finish()) != chunks.hash(number) {
            return Err(ArchiveError::not_authentic(&format_args!(
                "chunk {number}, bytes {} to {}, is not what was sealed",
                range.start, range.end
            )));
        }
        let bytes = Rc::new(buf);
        drop(coming);
        self.kept.borrow_mut().push(Chunk { number, bytes: Rc::clone(&bytes) });
        Ok(bytes)
    }

    /// Chunks in memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.kept.borrow().len() as u64 + self.coming.get()
    }

    fn find(&self, number: u64) -> Option<Rc<Vec<u8>>> {
        let mut kept = self.kept.borrow_mut();
        let at = kept.iter().position(|chunk| chunk.number == number)?;
        let found = kept.remove(at);
        let bytes = Rc::clone(&found.bytes);
        kept.push(found);
        Some(bytes)
    }

    /// Who read a chunk to its end reads the next one: this one is the first to go.
    fn use_up(&self, number: u64) {
        let mut kept = self.kept.borrow_mut();
        if let Some(at) = kept.iter().position(|chunk| chunk.number == number) {
            kept[..=at].rotate_right(1);
        }
    }

    /// Memory for the next chunk: that of the first to go, if there is no more room. What is on its way counts.
    fn spare(&self) -> Vec<u8> {
        let mut kept = self.kept.borrow_mut();
        let mut outdated = None;
        while !kept.is_empty() && kept.len() as u64 + self.coming.get() >= SEALED_CHUNKS_KEPT as u64 {
            outdated = Some(kept.remove(0));
        }
        outdated.and_then(|chunk| Rc::try_unwrap(chunk.bytes).ok()).unwrap_or_default()
    }
}

impl<R: ReadAt> ReadAt for Sealed<R> {
    fn len(&self) -> u64 {
        self.seal.chunks().length()
    }

    fn modified(&self) -> (i64, u32) {
        self.inner.modified()
    }

    async fn read_at(&self, offset: u64, mut buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        let chunk_bytes = self.seal.chunks().chunk_bytes();
        let mut filled = 0;
        while filled < buf.len() {
            let at = offset + filled as u64;
            if at >= self.len() {
                buf.truncate(filled);
                break;
            }
            let number = at / chunk_bytes;
            let chunk = self.chunk(number).await?;
            let from = usize::try_from(at % chunk_bytes).expect("less than a chunk");
            let part = &chunk.as_slice()[from..];
            let bytes = part.len().min(buf.len() - filled);
            buf[filled..filled + bytes].copy_from_slice(&part[..bytes]);
            filled += bytes;
            if bytes == part.len() {
                self.use_up(number);
            }
        }
        Ok(buf)
    }

    /// Every byte that is used was compared, and will be: whatever happens to the file.
    async fn unchanged(&self) -> Result<bool, ArchiveError> {
        Ok(true)
    }

    fn seal(&self) -> Option<&ArchiveSeal> {
        Some(&self.seal)
    }

    fn front_to_back(&self) {
        self.inner.front_to_back();
    }
}

/// An archive's file, with or without a seal.
#[derive(Debug)]
pub enum Source {
    /// Whatever lies there is read.
    Bare(File),
    /// Only what was sealed is.
    Sealed(Box<Sealed<File>>),
}

impl ReadAt for Source {
    fn len(&self) -> u64 {
        match self {
            Self::Bare(file) => ReadAt::len(file),
            Self::Sealed(sealed) => ReadAt::len(&**sealed),
        }
    }

    fn modified(&self) -> (i64, u32) {
        match self {
            Self::Bare(file) => ReadAt::modified(file),
            Self::Sealed(sealed) => ReadAt::modified(&**sealed),
        }
    }

    async fn read_at(&self, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        match self {
            Self::Bare(file) => file.read_at(offset, buf).await,
            Self::Sealed(sealed) => sealed.read_at(offset, buf).await,
        }
    }

    async fn unchanged(&self) -> Result<bool, ArchiveError> {
        match self {
            Self::Bare(file) => file.unchanged().await,
            Self::Sealed(sealed) => sealed.unchanged().await,
        }
    }

    fn seal(&self) -> Option<&ArchiveSeal> {
        match self {
            Self::Bare(_) => None,
            Self::Sealed(sealed) => Some(&sealed.seal),
        }
    }

    fn front_to_back(&self) {
        match self {
            Self::Bare(file) => file.front_to_back(),
            Self::Sealed(sealed) => sealed.front_to_back(),
        }
    }
}
