//! The big part of an upload while it comes in: ciphertext in a file that nothing names yet.
//!
//! It must never be found after a restart: only [`Staging::accept`] makes it last.

use std::fmt;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use super::chunks::{Chunks, chunk_bytes_for, hash_of};
use super::error::{CacheError, Duty};
use super::flash::{BoardFlash, Flash};
use super::format::Head;
use super::names::{Ending, Stem, UploadId};
use super::shelf::Core;
use super::upload::{Record, Replayed, Upload, UploadProgress};
use super::{Version, random};
use crate::crypto::{Digest, Sha256};
use crate::limits::{
    CACHE_CHUNK_BYTES, CACHE_CHUNKS, CACHE_OBJECT_BYTES, CACHE_SMALL_BYTES, CACHE_STAGE_STEP_BYTES, CACHE_UPLOADS,
    PIECE_BYTES,
};
use crate::name::{Folder, ResourceName};
use crate::net::turn::spend;

/// What an upload turned out to be at its end.
#[derive(Debug)]
pub struct Accepted {
    /// The folder it goes to.
    pub folder: Folder,
    /// The name it gets.
    pub name: ResourceName,
    /// The version it makes: SHA-256 of its small part.
    pub version: Version,
    /// Whose it is: SHA-256 of the e-mail address.
    pub owner: [u8; 32],
    /// The small part, boxed by whoever can open it again.
    pub small_boxed: Vec<u8>,
}

/// An upload that comes in. Dropped, it is discarded.
pub struct Staging<F: Flash = BoardFlash> {
    core: Rc<Core<F>>,
    id: UploadId,
    file: F::File,
    len: u64,
    /// Room that was made for it.
    granted: u64,
    hashes: Hashes,
    is_accepted: bool,
}

/// Hashes of the chunks as they come by; a big part that turns out to need longer chunks is hashed at its end.
enum Hashes {
    AsItComes { done: Vec<Digest>, open: Sha256, open_bytes: u64 },
    AtTheEnd,
}

impl<F: Flash> Staging<F> {
    pub(super) async fn begin(core: &Rc<Core<F>>) -> Result<Self, CacheError> {
        if core.uploads.borrow().len() >= CACHE_UPLOADS {
            return Err(CacheError::TooManyUploads);
        }
        let on = CacheError::on(Duty::Begin);
        let id = UploadId(random().map_err(&on)?);
        let file = core.flash.create(&id.file(Ending::Stage)).await.map_err(&on)?;
        let hashes = Hashes::AsItComes { done: Vec::new(), open: Sha256::new(), open_bytes: 0 };
        Ok(Self { core: Rc::clone(core), id, file, len: 0, granted: 0, hashes, is_accepted: false })
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next bytes of the big part.
    ///
    /// # Errors
    /// [`CacheError::NoRoom`] as soon as there is none; what came so far is still there, to be dropped.
    pub async fn push(&mut self, piece: &[u8]) -> Result<(), CacheError> {
        let core = Rc::clone(&self.core);
        let outcome = self.take(piece).await;
        core.told(outcome)
    }

    async fn take(&mut self, piece: &[u8]) -> Result<(), CacheError> {
        let len = self.len + piece.len() as u64;
        if len > CACHE_OBJECT_BYTES {
            return Err(CacheError::Unfit { size: len });
        }
        if len > self.granted {
            let more = (len - self.granted).next_multiple_of(CACHE_STAGE_STEP_BYTES);
            let _gate = self.core.gate.lock().await;
            self.core.make_room(more, false).await?;
            self.granted += more;
            self.core.staged.set(self.core.staged.get() + more);
        }
        for part in piece.chunks(PIECE_BYTES) {
            self.hash(part).await;
            self.core.write(&self.file, self.len, part, Duty::Chunk).await?;
            self.len += part.len() as u64;
            // A slow flash is waited for here, with the client, rather than all at once at the end.
            if self.len / CACHE_STAGE_STEP_BYTES != (self.len - part.len() as u64) / CACHE_STAGE_STEP_BYTES {
                self.core.flash.sync(&self.file).await.map_err(CacheError::on(Duty::Chunk))?;
            }
        }
        Ok(())
    }

    async fn hash(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let Hashes::AsItComes { done, open, open_bytes } = &mut self.hashes else { return };
            if done.len() as u64 == CACHE_CHUNKS {
                self.hashes = Hashes::AtTheEnd;
                return;
            }
            let room = usize::try_from(CACHE_CHUNK_BYTES - *open_bytes).unwrap_or(usize::MAX);
            let (now, later) = piece.split_at(piece.len().min(room));
            spend(now.len()).await;
            open.update(now);
            *open_bytes += now.len() as u64;
            if *open_bytes == CACHE_CHUNK_BYTES {
                done.push(std::mem::take(open).finish());
                *open_bytes = 0;
            }
            piece = later;
        }
    }

    /// The hashes of all chunks, and how long those are.
    async fn hashes(&mut self) -> Result<(u64, Vec<Digest>), CacheError> {
        match std::mem::replace(&mut self.hashes, Hashes::AtTheEnd) {
            Hashes::AsItComes { mut done, open, open_bytes } => {
                if open_bytes > 0 {
                    done.push(open.finish());
                }
                Ok((CACHE_CHUNK_BYTES, done))
            }
            Hashes::AtTheEnd => {
                let chunk_bytes = chunk_bytes_for(self.len).ok_or(CacheError::Unfit { size: self.len })?;
                let chunks = Chunks::none(self.len, chunk_bytes);
                let (mut hashes, mut buffer) = (Vec::new(), Vec::new());
                for chunk in 0..chunks.count() {
                    let (at, len) = (chunks.range(chunk).start, chunks.len_of(chunk));
                    let read = self.core.flash.read_at(&self.file, at, len, buffer).await;
                    buffer = read.map_err(CacheError::on(Duty::Read))?;
                    hashes.push(hash_of(&buffer).await);
                }
                Ok((chunk_bytes, hashes))
            }
        }
    }

    /// Makes it last: flushed, recorded, and in the place of an older upload of the same resource.
    ///
    /// # Errors
    /// It is discarded.
    pub async fn accept(mut self, accepted: Accepted) -> Result<Rc<Upload<F>>, CacheError> {
        let core = Rc::clone(&self.core);
        let outcome = self.make_last(accepted).await;
        core.told(outcome)
    }

    async fn make_last(&mut self, accepted: Accepted) -> Result<Rc<Upload<F>>, CacheError> {
        let core = Rc::clone(&self.core);
        let on = CacheError::on(Duty::Upload);
        let Accepted { folder, name, version, owner, small_boxed } = accepted;
        if small_boxed.len() > CACHE_SMALL_BYTES {
            return Err(CacheError::TooLong { bytes: small_boxed.len(), limit: CACHE_SMALL_BYTES });
        }
        let (chunk_bytes, hashes) = self.hashes().await?;
        core.flash.sync(&self.file).await.map_err(&on)?;
        let stem = Stem::of(&folder, &name);
        let hidden = core.key.hide(&folder, &name, random().map_err(&on)?);
        let head = Head { stem, version, size: self.len, chunk_bytes, etag: String::new(), hidden };
        let _gate = core.gate.lock().await;
        let number = core.uploads.borrow().iter().map(|upload| upload.number() + 1).max().unwrap_or_default();
        let record = Record { head, folder, name, owner, number, small_boxed };
        let (bytes, chain) = record.write(&core.key, &hashes).await;
        let file = self.id.file(Ending::Upload);
        core.put(&self.id.file(Ending::New), &file, &bytes, Duty::Upload).await?;
        let made = async {
            core.flash.sync_names().await?;
            core.flash.open(&file).await?.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
        };
        let log = match made.await {
            Ok(log) => log,
            Err(error) => {
                // Told as failed, so it must not come back at the next start.
                let _gone = core.flash.remove(&file).await;
                return Err(on(error));
            }
        };
        let older: Vec<_> = core.uploads.borrow().iter().filter(|known| known.head().stem == stem).cloned().collect();
        let progress = UploadProgress::default();
        let read = Replayed { record, hashes, progress, end: bytes.len() as u64, chain };
        let upload = Upload::of(&core, self.id, read, log, Some(self.file.clone()));
        core.uploads.borrow_mut().push(Rc::clone(&upload));
        self.is_accepted = true;
        for old in older {
            old.end();
            // If it stays on flash, the next start finds two and keeps the newer.
            if let Err(error) = old.remove(&core).await {
                log::debug!("cache: a superseded upload stays until the next start: {error}");
                core.uploads.borrow_mut().retain(|known| !Rc::ptr_eq(known, &old));
            }
        }
        Ok(upload)
    }
}

impl<F: Flash> Drop for Staging<F> {
    fn drop(&mut self) {
        self.core.staged.set(self.core.staged.get().saturating_sub(self.granted));
        if !self.is_accepted {
            let name = self.id.file(Ending::Stage);
            // A lent call runs to its end though nobody waits for it; one poll hands it over. If it fails, the next
            // start removes what no record names.
            let removal = pin!(self.core.flash.remove(&name));
            let _handed_over = removal.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl<F: Flash> fmt::Debug for Staging<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging").field("len", &self.len).finish_non_exhaustive()
    }
}
