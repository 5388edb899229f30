//! An upload that was accepted: its big part on flash, and a record of how far it came at the CDN.
//!
//! ```text
//! record   head(3) owner(32) number(8) length(2) boxed small part, tag(32), hashes, tag(32), step*
//! step     kind(1) length(2) bytes, tag(32)
//! ```
//!
//! The file of the big part never changes. A step is on flash before the next one is made; a torn one is dropped.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::rc::{Rc, Weak};

use smol::lock::Mutex;

use super::chunks::Chunks;
use super::entry::read_chunk;
use super::error::{CacheError, Duty, ReadError};
use super::flash::{BoardFlash, Flash};
use super::format::{Cursor, Damaged, HEAD_BYTES, Head, Kind, read_hashes, tag_behind, write_hashes, write_index};
use super::key::{CacheKey, Tag};
use super::names::{Ending, UploadId};
use super::shelf::{Core, Shelved};
use super::{Version, retire};
use crate::crypto::Digest;
use crate::limits::{CACHE_ETAG_BYTES, CACHE_SMALL_BYTES, CACHE_UPLOAD_ID_BYTES};
use crate::name::{Folder, ResourceName};

/// How far an upload came at the CDN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadProgress {
    /// The server's id of the multipart upload.
    pub upload_id: Option<String>,
    /// How long its parts are.
    pub part_bytes: u64,
    /// The parts that are there, in the order of their numbers, with their `ETag`s.
    pub parts: Vec<(u32, String)>,
    /// The `ETag` of the whole object, once the CDN showed it with the right size.
    pub confirmed: Option<String>,
}

/// A step at the CDN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadStep {
    /// A multipart upload was begun: the server's id, and how long its parts are.
    Begun(String, u64),
    /// A part is there: its number and `ETag`.
    Part(u32, String),
    /// The server does not know the multipart upload any more: from the beginning.
    Restarted,
    /// The whole object is there: its `ETag`.
    Confirmed(String),
}

impl UploadProgress {
    fn take(&mut self, step: UploadStep) {
        match step {
            UploadStep::Begun(id, part_bytes) => {
                *self = Self { upload_id: Some(id), part_bytes, ..Self::default() };
            }
            UploadStep::Part(number, etag) => match self.parts.binary_search_by_key(&number, |part| part.0) {
                Ok(at) => self.parts[at].1 = etag,
                Err(at) => self.parts.insert(at, (number, etag)),
            },
            UploadStep::Restarted => *self = Self::default(),
            UploadStep::Confirmed(etag) => self.confirmed = Some(etag),
        }
    }
}

impl UploadStep {
    fn write(&self, key: &CacheKey, before: &Tag) -> Result<(Vec<u8>, Tag), CacheError> {
        let (kind, front, text, limit) = match self {
            Self::Begun(id, part_bytes) => (1, part_bytes.to_le_bytes().to_vec(), id.as_str(), CACHE_UPLOAD_ID_BYTES),
            Self::Part(number, etag) => (2, number.to_le_bytes().to_vec(), etag.as_str(), CACHE_ETAG_BYTES),
            Self::Restarted => (3, Vec::new(), "", 0),
            Self::Confirmed(etag) => (4, Vec::new(), etag.as_str(), CACHE_ETAG_BYTES),
        };
        if text.len() > limit {
            return Err(CacheError::TooLong { bytes: text.len(), limit });
        }
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&u16::try_from(front.len() + text.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend_from_slice(&front);
        bytes.extend_from_slice(text.as_bytes());
        let mut tag = key.tag(b"step");
        tag.take(before);
        tag.take(&bytes);
        let tag = tag.finish();
        bytes.extend_from_slice(&tag);
        Ok((bytes, tag))
    }

    /// The step at the front of `cursor`, and its tag.
    fn read(cursor: &mut Cursor<'_>, key: &CacheKey, before: &Tag) -> Result<(Self, Tag), Damaged> {
        let all = cursor.0;
        let [kind] = cursor.array()?;
        let len = cursor.u16()?;
        let mut said = Cursor(cursor.bytes(len)?);
        let mut expected = key.tag(b"step");
        expected.take(before);
        expected.take(&all[..3 + len]);
        let tag: Tag = cursor.array()?;
        expected.verify(&tag).map_err(|_| Damaged)?;
        let text = |bytes: &[u8]| str::from_utf8(bytes).map(str::to_owned).map_err(|_| Damaged);
        let step = match kind {
            1 => {
                let part_bytes = said.u64()?;
                Self::Begun(text(said.0)?, part_bytes)
            }
            2 => {
                let number = said.u32()?;
                Self::Part(number, text(said.0)?)
            }
            3 => Self::Restarted,
            4 => Self::Confirmed(text(said.0)?),
            _ => return Err(Damaged),
        };
        Ok((step, tag))
    }
}

/// What the record of an upload begins with.
pub(super) struct Record {
    pub(super) head: Head,
    pub(super) folder: Folder,
    pub(super) name: ResourceName,
    pub(super) owner: [u8; 32],
    /// Grows from upload to upload: which one is the newer.
    pub(super) number: u64,
    pub(super) small_boxed: Vec<u8>,
}

impl Record {
    /// The bytes of the record without steps, and the tag that they go on from.
    pub(super) async fn write(&self, key: &CacheKey, hashes: &[Digest]) -> (Vec<u8>, Tag) {
        let mut bytes = self.head.write(Kind::Upload, key);
        let head_tag: Tag = *bytes.last_chunk().expect("a head ends in its tag");
        bytes.extend_from_slice(&self.owner);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&u16::try_from(self.small_boxed.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend_from_slice(&self.small_boxed);
        let tag = tag_behind(key, b"upload", &head_tag, &bytes[HEAD_BYTES..]).await;
        bytes.extend_from_slice(&tag);
        let tag = write_hashes(&mut bytes, key, &tag, hashes).await;
        (bytes, tag)
    }
}

/// A record as it was read.
pub(super) struct Replayed {
    pub(super) record: Record,
    pub(super) hashes: Vec<Digest>,
    pub(super) progress: UploadProgress,
    pub(super) end: u64,
    pub(super) chain: Tag,
}

/// Reads a record, up to its first step that does not hold.
pub(super) async fn read_record(bytes: &[u8], key: &CacheKey) -> Result<Replayed, Damaged> {
    let (head, head_tag) = Head::read(bytes, Kind::Upload, key)?;
    let mut cursor = Cursor(&bytes[HEAD_BYTES..]);
    let (owner, number) = (cursor.array()?, cursor.u64()?);
    let small_len = cursor.u16()?;
    if small_len > CACHE_SMALL_BYTES {
        return Err(Damaged);
    }
    let small_boxed = cursor.bytes(small_len)?.to_vec();
    let said = &bytes[HEAD_BYTES..bytes.len() - cursor.0.len()];
    let tag: Tag = cursor.array()?;
    if tag_behind(key, b"upload", &head_tag, said).await != tag {
        return Err(Damaged);
    }
    let (hashes, mut chain) = read_hashes(&mut cursor, &head, key, &tag).await?;
    let mut progress = UploadProgress::default();
    let mut end = bytes.len() - cursor.0.len();
    while let Ok((step, tag)) = UploadStep::read(&mut cursor, key, &chain) {
        progress.take(step);
        chain = tag;
        end = bytes.len() - cursor.0.len();
    }
    let (folder, name) = head.name(key).ok_or(Damaged)?;
    let record = Record { head, folder, name, owner, number, small_boxed };
    Ok(Replayed { record, hashes, progress, end: end as u64, chain })
}

/// An accepted upload.
pub struct Upload<F: Flash = BoardFlash> {
    core: Weak<Core<F>>,
    id: UploadId,
    record: Record,
    chunks: RefCell<Chunks>,
    /// `None`: a publication that was cut left nothing here; only the small part may still be on its way.
    file: Option<F::File>,
    progress: RefCell<UploadProgress>,
    log: Mutex<Log<F>>,
    is_over: Cell<bool>,
}

/// Where the next step goes.
struct Log<F: Flash> {
    file: F::File,
    end: u64,
    chain: Tag,
}

impl<F: Flash> Upload<F> {
    pub(super) fn of(
        core: &Rc<Core<F>>,
        id: UploadId,
        read: Replayed,
        log: F::File,
        file: Option<F::File>,
    ) -> Rc<Self> {
        let chunks = Chunks::all(read.record.head.size, read.record.head.chunk_bytes, read.hashes);
        Rc::new(Self {
            core: Rc::downgrade(core),
            id,
            record: read.record,
            chunks: RefCell::new(chunks),
            file,
            progress: RefCell::new(read.progress),
            log: Mutex::new(Log { file: log, end: read.end, chain: read.chain }),
            is_over: Cell::new(false),
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.record.number
    }

    pub(super) fn head(&self) -> &Head {
        &self.record.head
    }

    /// The folder it goes to.
    pub fn folder(&self) -> &Folder {
        &self.record.folder
    }

    /// The name it gets.
    pub fn name(&self) -> &ResourceName {
        &self.record.name
    }

    /// The version it makes.
    pub fn version(&self) -> Version {
        self.record.head.version
    }

    /// Whose it is.
    pub fn owner(&self) -> &[u8; 32] {
        &self.record.owner
    }

    /// The small part as it was given.
    pub fn small_boxed(&self) -> &[u8] {
        &self.record.small_boxed
    }

    /// Length of the big part.
    pub fn size(&self) -> u64 {
        self.record.head.size
    }

    /// Length of each chunk but the last.
    pub fn chunk_bytes(&self) -> u64 {
        self.record.head.chunk_bytes
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        self.chunks.borrow().count()
    }

    /// What each chunk hashes to.
    pub fn hashes(&self) -> Vec<Digest> {
        self.chunks.borrow().hashes().to_vec()
    }

    /// Where a chunk lies in the big part; empty for one that there is not.
    pub fn chunk_range(&self, chunk: u32) -> Range<u64> {
        self.chunks.borrow().range(chunk)
    }

    /// Reads a chunk into `into`, in place of what is there, and checks it.
    ///
    /// # Errors
    /// [`ReadError`]: the flash lost what was accepted, and nothing here can bring it back.
    pub async fn read(&self, chunk: u32, into: &mut Vec<u8>) -> Result<(), ReadError> {
        let (Some(core), Some(file)) = (self.core.upgrade(), &self.file) else {
            into.clear();
            return Err(ReadError::Absent);
        };
        read_chunk(&core.flash, file, &self.chunks, chunk, into).await
    }

    /// How far it came.
    pub fn progress(&self) -> UploadProgress {
        self.progress.borrow().clone()
    }

    /// Whether a newer upload of the same resource took its place, or it was published or discarded.
    pub fn is_superseded(&self) -> bool {
        self.is_over.get()
    }

    pub(super) fn end(&self) {
        self.is_over.set(true);
    }

    fn core(&self) -> Result<Rc<Core<F>>, CacheError> {
        self.core.upgrade().filter(|_| !self.is_over.get()).ok_or(CacheError::Superseded)
    }

    /// Records a step; it is on flash when this returns.
    ///
    /// # Errors
    /// The step counts as not made.
    pub async fn note(&self, step: UploadStep) -> Result<(), CacheError> {
        let core = self.core()?;
        let mut log = self.log.lock().await;
        let (bytes, tag) = step.write(&core.key, &log.chain)?;
        let outcome = async {
            core.write(&log.file, log.end, &bytes, Duty::Upload).await?;
            core.flash.sync(&log.file).await.map_err(CacheError::on(Duty::Upload))
        };
        core.told(outcome.await)?;
        log.end += bytes.len() as u64;
        log.chain = tag;
        self.progress.borrow_mut().take(step);
        Ok(())
    }

    /// Makes it the whole entry of its version, after the CDN has confirmed it and the API has the small part.
    ///
    /// # Errors
    /// It stays an upload; doing it again goes on where it stopped.
    pub async fn publish(&self) -> Result<(), CacheError> {
        let core = self.core()?;
        let outcome = self.move_in(&core).await;
        core.told(outcome)
    }

    async fn move_in(&self, core: &Rc<Core<F>>) -> Result<(), CacheError> {
        let on = CacheError::on(Duty::Upload);
        let _gate = core.gate.lock().await;
        if self.is_over.get() {
            return Err(CacheError::Superseded);
        }
        let etag = self.progress.borrow().confirmed.clone();
        let (Some(etag), Some(file)) = (etag, &self.file) else {
            return self.remove(core).await;
        };
        let stem = self.record.head.stem;
        let (stage, big) = (self.id.file(Ending::Stage), stem.file(Ending::Big));
        let hashes = self.chunks.borrow().hashes().to_vec();
        let index = write_index(&Head { etag, ..self.record.head.clone() }, &core.key, &hashes).await;
        if core.flash.is_named(file, &stage).await.map_err(&on)? {
            retire(core, stem);
            core.drop_files(stem).await?;
            core.unshelve(stem);
            core.flash.sync_names().await.map_err(&on)?;
            core.flash.rename(&stage, &big).await.map_err(&on)?;
        }
        core.put(&stem.file(Ending::New), &stem.file(Ending::Index), &index, Duty::Upload).await?;
        core.flash.sync_names().await.map_err(&on)?;
        let bytes = self.size();
        self.remove(core).await?;
        core.shelve(Shelved { stem, is_whole: true, bytes, promised: bytes, live: Weak::new() });
        core.write_order().await;
        Ok(())
    }

    /// Ends it: the record goes first, for it is what makes the rest an upload. The gate is held.
    pub(super) async fn remove(&self, core: &Core<F>) -> Result<(), CacheError> {
        let on = CacheError::on(Duty::Upload);
        core.flash.remove(&self.id.file(Ending::Upload)).await.map_err(&on)?;
        core.flash.sync_names().await.map_err(&on)?;
        self.end();
        core.uploads.borrow_mut().retain(|known| known.id != self.id);
        if let Err(error) = core.flash.remove(&self.id.file(Ending::Stage)).await {
            log::debug!("cache: the big part of an ended upload stays until the next start: {error}");
        }
        Ok(())
    }

    /// Throws it away.
    pub async fn discard(&self) {
        let Ok(core) = self.core() else { return };
        let _gate = core.gate.lock().await;
        let outcome = self.remove(&core).await;
        // Whatever flash says, this run goes on without it.
        self.end();
        core.uploads.borrow_mut().retain(|known| known.id != self.id);
        if let Err(error) = core.told(outcome) {
            log::warn!("cache: an upload was not removed and will be found again: {error}");
        }
    }
}

impl<F: Flash> fmt::Debug for Upload<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("id", &self.id).finish_non_exhaustive()
    }
}
