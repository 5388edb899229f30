//! A model on its way to a client: piece by piece, decrypted where it lies.
//!
//! ```text
//!   Kept(chunks of an entry) ── unreadable, or the download cannot write ──→ Direct(range of the CDN)
//! ```
//!
//! Of a chunk only what was verified is decrypted; a damaged one is fetched again first. Straight from the CDN a sealed
//! big part comes chunk by chunk, too, and each is compared with the seal. Both feeds give whole blocks of the big part,
//! in order, so that one decryptor runs through, whichever they come from.

use std::rc::Rc;

use zeroize::Zeroizing;

use super::download::Download;
use super::error::{NotKept, ResourceError};
use super::join::Join;
use super::login::Guest;
use super::sealed::{fetch_again, is_chunk};
use super::small::Target;
use super::{Damage, Models};
use crate::cache::{CacheError, Entry, Object, ReadError};
use crate::cloud::{CdnRead, ResourceBody};
use crate::crypto::Unsealer;
use crate::limits::{CHUNK_REPAIRS, PIECE_BYTES};
use crate::net::turn;
use crate::seal::ResourceSeal;

/// A model, or a resource that was never split, decrypted.
pub struct Model {
    source: Source,
    length: Option<u64>,
}

enum Source {
    /// In memory, whole.
    Memory(Option<Zeroizing<Vec<u8>>>, Zeroizing<Vec<u8>>),
    /// In two parts.
    Parts(Box<Parts>),
    /// Never split: the API's answer.
    Whole(Box<Whole>),
}

impl Model {
    /// What is decrypted already.
    pub(super) fn memory(plain: Zeroizing<Vec<u8>>) -> Self {
        let length = Some(plain.len() as u64);
        Self { source: Source::Memory(Some(plain), Zeroizing::default()), length }
    }

    /// Two parts, of which `head` is the plain text of the small one.
    pub(super) fn parts(join: Join, head: Zeroizing<Vec<u8>>, origin: Origin, feed: Feed) -> Self {
        let length = Some(head.len() as u64 + join.left());
        let sent = Zeroizing::default();
        let parts =
            Parts { join, head: Some(head), sent, origin, feed, buffer: Vec::new(), at: 0, kept: 0, position: 0 };
        Self { source: Source::Parts(Box::new(parts)), length }
    }

    /// A resource that was never split: its length is known at its end.
    pub(super) fn whole(body: ResourceBody, unsealer: Unsealer) -> Self {
        let whole = Whole { body, unsealer: Some(unsealer), sealed: vec![0; PIECE_BYTES], plain: Vec::new() };
        Self { source: Source::Whole(Box::new(whole)), length: None }
    }

    /// Bytes of plain text, where they are known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece, at most 64 KiB and never empty; `None` at the end.
    ///
    /// # Errors
    /// Nothing more comes then, and what came is not the whole model.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, ResourceError> {
        match &mut self.source {
            Source::Memory(unsent, sent) => match unsent.take() {
                Some(plain) if !plain.is_empty() => {
                    *sent = plain;
                    Ok(Some(sent))
                }
                Some(_) | None => Ok(None),
            },
            Source::Parts(parts) => parts.next().await,
            Source::Whole(whole) => whole.next().await,
        }
    }
}

/// Whose model it is and where it comes from: for whatever has to be fetched on the way.
pub(super) struct Origin {
    pub(super) models: Rc<Models>,
    pub(super) guest: Guest,
    pub(super) target: Rc<Target>,
    pub(super) object: Object,
    /// What every chunk of the big part is compared with.
    pub(super) seal: Option<Rc<ResourceSeal>>,
}

/// Where the big part comes from.
pub(super) enum Feed {
    /// An entry of the cache, and the download that fills it, if any.
    Kept(Rc<Entry>, Option<Rc<Download>>),
    /// Straight from the CDN; begun when it is needed.
    Direct(Option<Box<CdnRead>>),
}

struct Parts {
    join: Join,
    /// The plain text of the small part: goes out first.
    head: Option<Zeroizing<Vec<u8>>>,
    /// The same while it is going out.
    sent: Zeroizing<Vec<u8>>,
    origin: Origin,
    feed: Feed,
    /// Bytes of the big part: decrypted up to `at`, of which the last `kept` came out as the last piece.
    buffer: Vec<u8>,
    at: usize,
    kept: usize,
    /// Bytes of the big part that went into the buffer so far.
    position: u64,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<&[u8]>, ResourceError> {
        if let Some(head) = self.head.take() {
            // What its first chunk tells is told before a byte is out.
            if self.origin.seal.is_some() {
                self.fill().await?;
            }
            self.sent = head;
            return Ok(Some(&self.sent));
        }
        self.sent = Zeroizing::default();
        loop {
            if self.at == self.buffer.len() {
                if self.position == self.origin.object.size {
                    return Ok(None);
                }
                self.fill().await?;
            }
            let start = self.at;
            let end = self.buffer.len().min(start + PIECE_BYTES);
            self.at = end;
            // What a chunk's hash has cost is spent by whoever took it: this is the cipher's share.
            turn::spend((end - start) / CIPHER_SHARE).await;
            self.kept = self.join.piece(&mut self.buffer[start..end])?;
            // The last block may be padding alone.
            if self.kept > 0 {
                return Ok(Some(&self.buffer[start..start + self.kept]));
            }
        }
    }

    /// Brings the next bytes of the big part into the buffer: a chunk, or a piece.
    async fn fill(&mut self) -> Result<(), ResourceError> {
        self.at = 0;
        self.buffer.clear();
        if let Feed::Kept(entry, download) = &mut self.feed {
            let chunk = u32::try_from(self.position / entry.chunk_bytes()).unwrap_or(u32::MAX);
            if self.origin.chunk(entry, download, chunk, &mut self.buffer).await? {
                self.position += self.buffer.len() as u64;
                return Ok(());
            }
            self.feed = Feed::Direct(None);
        }
        self.buffer.clear();
        if let Feed::Direct(read) = &mut self.feed {
            if read.is_none() {
                *read = Some(Box::new(self.origin.read_from(self.position).await?));
            }
            if let Some(read) = read {
                self.origin.next(read, self.position, &mut self.buffer).await?;
                self.position += self.buffer.len() as u64;
            }
        }
        Ok(())
    }
}

/// The cipher costs a quarter of what the hash of the same bytes does, with and without instructions for both.
const CIPHER_SHARE: usize = 4;

impl Origin {
    /// Reads a chunk when it is there; `false` when the flash is of no more use and the CDN must do.
    async fn chunk(
        &self,
        entry: &Rc<Entry>,
        download: &mut Option<Rc<Download>>,
        chunk: u32,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, ResourceError> {
        let mut damaged = 0;
        loop {
            match entry.read(chunk, buffer).await {
                Ok(()) => return Ok(true),
                Err(ReadError::Absent) => {}
                Err(ReadError::Damaged) => {
                    damaged += 1;
                    log::warn!("chunk {chunk} of a cached model is damaged: it is fetched again");
                    if damaged > CHUNK_REPAIRS {
                        return Ok(false);
                    }
                }
                Err(ReadError::Unreadable(error)) => {
                    log::warn!("a cached model cannot be read, it comes from the CDN: {error}");
                    return Ok(false);
                }
            }
            if !self.arrival(entry, download, chunk).await? {
                return Ok(false);
            }
        }
    }

    /// Waits for a chunk that is missing; `false` when it will not come to flash.
    async fn arrival(
        &self,
        entry: &Rc<Entry>,
        download: &mut Option<Rc<Download>>,
        chunk: u32,
    ) -> Result<bool, ResourceError> {
        loop {
            // Before the look, so that nothing is missed in between.
            let listener = entry.listen();
            if entry.has(chunk) {
                return Ok(true);
            }
            match download.as_ref().map(|download| download.ending()) {
                Some(None) => {
                    if let Some(download) = download {
                        download.want(chunk);
                    }
                    listener.await;
                }
                Some(Some(Err(error))) => match *error {
                    // Not the bytes that were there under the same tag: somebody's are wrong, and nobody can say whose.
                    ResourceError::Cache(CacheError::Mismatch { .. }) => return Err(ResourceError::Shared(error)),
                    ResourceError::Cache(_) => return Ok(false),
                    _ => return Err(ResourceError::Shared(error)),
                },
                // None runs, or it ended before this chunk was found damaged.
                None | Some(Some(Ok(()))) => match self.begin(entry).await? {
                    Some(begun) => *download = Some(begun),
                    None => return Ok(false),
                },
            }
        }
    }

    /// Begins a download of what is missing; `None` when too many run.
    async fn begin(&self, entry: &Rc<Entry>) -> Result<Option<Rc<Download>>, ResourceError> {
        let cdn = self.cdn().await?;
        let parts = &self.models.parts;
        Ok(self.models.downloads.begin(&self.target, entry, cdn, &parts.clock, &parts.executor))
    }

    /// The rest of the big part, straight from the CDN.
    async fn read_from(&self, position: u64) -> Result<CdnRead, ResourceError> {
        let Target { folder, name, .. } = &*self.target;
        let range = position..self.object.size;
        Ok(self.cdn().await?.read(folder, name, &self.object.etag, range).await?)
    }

    /// The next bytes straight from the CDN: a piece, or of a sealed big part the next chunk, compared with the seal.
    async fn next(&self, read: &mut CdnRead, position: u64, buffer: &mut Vec<u8>) -> Result<(), ResourceError> {
        let left = usize::try_from(read.remaining()).unwrap_or(usize::MAX);
        let Some(seal) = &self.seal else {
            buffer.resize(left.min(PIECE_BYTES), 0);
            return Ok(read.fill(buffer).await?);
        };
        // A feed changes between two chunks only, and those of an entry are the seal's.
        let chunk = position / seal.big().chunk_bytes();
        let range = seal.big().range(chunk);
        buffer.resize(usize::try_from(range.end - position).unwrap_or(usize::MAX).min(left), 0);
        read.fill(buffer).await?;
        if !is_chunk(seal, chunk, buffer).await {
            let cdn = self.cdn().await?;
            fetch_again(&cdn, &self.target, &self.object, seal, chunk, buffer).await?;
        }
        Ok(())
    }

    async fn cdn(&self) -> Result<Rc<crate::cloud::Cdn>, ResourceError> {
        let cdn = self.models.cdn(self.guest.login().map(|login| &**login)).await?;
        cdn.ok_or(ResourceError::Offline { cause: None, why: NotKept::Incomplete })
    }
}

/// The answer of the API to a resource that was never split.
struct Whole {
    body: ResourceBody,
    unsealer: Option<Unsealer>,
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

impl Whole {
    async fn next(&mut self) -> Result<Option<&[u8]>, ResourceError> {
        self.plain.clear();
        while let Some(unsealer) = &mut self.unsealer {
            let read = self.body.chunk(&mut self.sealed).await?;
            if read > 0 {
                turn::spend(read).await;
                unsealer.push(&self.sealed[..read], &mut self.plain);
            } else if let Some(unsealer) = self.unsealer.take() {
                let finished = unsealer.finish(&mut self.plain);
                finished.map_err(|error| ResourceError::Damaged(Damage::ApiKey(error)))?;
            }
            if !self.plain.is_empty() {
                return Ok(Some(&self.plain));
            }
        }
        Ok(None)
    }
}
