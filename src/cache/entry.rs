//! One big part on flash, whole or with holes. In use, and never evicted, for as long as somebody holds it.
//!
//! No byte leaves it that does not have its recorded hash. A chunk is on flash before the journal names it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use event_listener::{Event, EventListener};
use smol::lock::Mutex;

use super::chunks::{Chunks, hash_of};
use super::error::{CacheError, Duty, ReadError};
use super::flash::{BoardFlash, Flash, Hold, is_lasting};
use super::format::{HEAD_BYTES, Head, Kind, read_index, read_journal, write_index, write_record};
use super::key::Tag;
use super::names::{Ending, Stem};
use super::offline::{Held, Listed, State, damaged};
use super::shelf::{Core, Found};
use super::{Object, Version};
use crate::crypto::Digest;
use crate::limits::{CACHE_CHUNKS, CACHE_FLUSH_BYTES, CACHE_JOURNAL_BYTES};
use crate::seal;

/// A big part in the cache.
pub struct Entry<F: Flash = BoardFlash> {
    core: Rc<Core<F>>,
    head: Head,
    object: Object,
    file: F::File,
    chunks: RefCell<Chunks>,
    is_stale: Cell<bool>,
    is_sealed: Cell<bool>,
    journal: Mutex<Journal<F>>,
    told: Event,
}

/// What a part is recorded in; a whole entry has none any more.
struct Journal<F: Flash> {
    file: Option<F::File>,
    /// Where the next record goes.
    end: u64,
    chain: Tag,
    /// Written, not flushed.
    pending: Vec<u32>,
    pending_bytes: u64,
}

impl<F: Flash> Journal<F> {
    fn none() -> Self {
        Self { file: None, end: 0, chain: Tag::default(), pending: Vec::new(), pending_bytes: 0 }
    }
}

impl<F: Flash> Entry<F> {
    /// A new part: its files are made, its journal has a head. The gate is held, and there is room.
    pub(super) async fn make(core: &Rc<Core<F>>, head: Head) -> Result<Rc<Self>, CacheError> {
        let on = CacheError::on(Duty::Begin);
        let stem = head.stem;
        // Nothing of an older one may be found beside it after a cut.
        core.drop_files(stem).await?;
        core.flash.sync_names().await.map_err(&on)?;
        let file = core.flash.create(&stem.file(Ending::Big)).await.map_err(&on)?;
        if !core.flash.lock(&file, Hold::Shared).await.map_err(&on)? {
            return Err(CacheError::Busy);
        }
        let journal = core.flash.create(&stem.file(Ending::Journal)).await.map_err(&on)?;
        let bytes = head.write(Kind::Journal, &core.key);
        core.write(&journal, 0, &bytes, Duty::Begin).await?;
        core.flash.sync(&journal).await.map_err(&on)?;
        core.flash.sync_names().await.map_err(&on)?;
        let chain = *bytes.last_chunk().expect("a head ends in its tag");
        let journal = Journal { file: Some(journal), end: HEAD_BYTES as u64, chain, ..Journal::none() };
        Ok(Rc::new(Self::of(core, head, file, None, journal)))
    }

    /// What is on flash for `stem`, opened and locked; damaged things are set aside. The gate is held.
    pub(super) async fn load(core: &Rc<Core<F>>, stem: Stem) -> Result<Option<Rc<Self>>, CacheError> {
        let (head, chunks, journal) = match Self::record(core, stem).await {
            Recorded::Whole(head, hashes) => {
                let chunks = Chunks::all(head.size, head.chunk_bytes, hashes);
                (head, chunks, Journal::none())
            }
            Recorded::Part(head, chunks, journal) => (head, chunks, journal),
            Recorded::Nothing => return Ok(None),
            Recorded::Unreadable(source) => return Err(CacheError::on(Duty::Read)(source)),
            Recorded::Damaged(ending) => {
                log::warn!("cache: an index is damaged; its big part is fetched again");
                aside(core, stem, ending).await;
                return Ok(None);
            }
        };
        let ending = if journal.file.is_some() { Ending::Journal } else { Ending::Index };
        let name = stem.file(Ending::Big);
        let on = CacheError::on(Duty::Read);
        let file = match core.flash.open(&name).await {
            Ok(Some(file)) => file,
            Ok(None) => {
                // Somebody took it away; what was recorded of it goes too.
                let _gone = core.drop_files(stem).await;
                return Ok(None);
            }
            Err(error) if is_lasting(&error) => {
                log::warn!("cache: a big part cannot be opened; it is fetched again");
                aside(core, stem, ending).await;
                return Ok(None);
            }
            Err(error) => return Err(on(error)),
        };
        if !core.flash.lock(&file, Hold::Shared).await.map_err(&on)? {
            return Err(CacheError::Busy);
        }
        // Between opening and locking another process may have removed it.
        if !core.flash.is_named(&file, &name).await.map_err(&on)? {
            return Ok(None);
        }
        Ok(Some(Rc::new(Self::of(core, head, file, Some(chunks), journal))))
    }

    /// What the records on flash say of `stem`, for a list; nothing is changed.
    pub(super) async fn look(core: &Core<F>, stem: Stem, bytes: u64, last_use: Option<usize>) -> Listed {
        let (state, head, chunks) = match Self::record(core, stem).await {
            Recorded::Whole(head, hashes) => {
                let chunks = Chunks::all(head.size, head.chunk_bytes, hashes);
                (State::Whole, head, chunks)
            }
            Recorded::Part(head, chunks, _) => (State::Part, head, chunks),
            Recorded::Nothing | Recorded::Damaged(_) | Recorded::Unreadable(_) => {
                return damaged(&stem.file(Ending::Big), bytes);
            }
        };
        Listed {
            name: head.name(&core.key),
            size: head.size,
            chunks: Held { held: chunks.count() - chunks.missing(), of: chunks.count() },
            last_use,
            state,
            version: Some(head.version),
            ..damaged(&stem.file(Ending::Big), bytes)
        }
    }

    /// The chunks that the records on flash name, and whether it is whole, to be read beside an agent.
    pub(super) async fn recorded(core: &Core<F>, stem: Stem) -> Option<(Chunks, bool)> {
        match Self::record(core, stem).await {
            Recorded::Whole(head, hashes) => Some((Chunks::all(head.size, head.chunk_bytes, hashes), true)),
            Recorded::Part(_, chunks, _) => Some((chunks, false)),
            Recorded::Nothing | Recorded::Damaged(_) | Recorded::Unreadable(_) => None,
        }
    }

    async fn record(core: &Core<F>, stem: Stem) -> Recorded<F> {
        let index_bytes = HEAD_BYTES as u64 + 32 * CACHE_CHUNKS + 32;
        match core.read(&stem.file(Ending::Index), index_bytes).await {
            Found::File(bytes, _) => {
                return match read_index(&bytes, stem, &core.key).await {
                    Ok((head, hashes)) => Recorded::Whole(head, hashes),
                    Err(_) => Recorded::Damaged(Ending::Index),
                };
            }
            Found::Unreadable(source) => return Recorded::unreadable(source, Ending::Index),
            Found::Nothing => {}
        }
        match core.read(&stem.file(Ending::Journal), CACHE_JOURNAL_BYTES).await {
            Found::File(bytes, file) => match read_journal(&bytes, stem, &core.key).await {
                Ok(replay) => {
                    let mut chunks = Chunks::none(replay.head.size, replay.head.chunk_bytes);
                    for (chunk, hash) in replay.chunks {
                        chunks.put(chunk, hash);
                    }
                    let journal = Journal { file: Some(file), end: replay.end, chain: replay.chain, ..Journal::none() };
                    Recorded::Part(replay.head, chunks, journal)
                }
                Err(_) => Recorded::Damaged(Ending::Journal),
            },
            Found::Unreadable(source) => Recorded::unreadable(source, Ending::Journal),
            Found::Nothing => Recorded::Nothing,
        }
    }

    fn of(core: &Rc<Core<F>>, head: Head, file: F::File, chunks: Option<Chunks>, journal: Journal<F>) -> Self {
        let chunks = chunks.unwrap_or_else(|| Chunks::none(head.size, head.chunk_bytes));
        Self {
            core: Rc::clone(core),
            object: Object { size: head.size, etag: head.etag.clone() },
            head,
            file,
            chunks: RefCell::new(chunks),
            is_stale: Cell::new(false),
            is_sealed: Cell::new(false),
            journal: Mutex::new(journal),
            told: Event::new(),
        }
    }

    pub(super) fn stem(&self) -> Stem {
        self.head.stem
    }

    /// Bytes of the chunks that are here.
    pub(super) fn held_bytes(&self) -> u64 {
        let chunks = self.chunks.borrow();
        (0..chunks.count()).filter(|chunk| chunks.has(*chunk)).map(|chunk| chunks.len_of(chunk) as u64).sum()
    }

    /// The version it belongs to.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The big part as the CDN has it.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Length of each chunk but the last.
    pub fn chunk_bytes(&self) -> u64 {
        self.head.chunk_bytes
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        self.chunks.borrow().count()
    }

    /// Where a chunk lies in the big part; empty for one that there is not.
    pub fn chunk_range(&self, chunk: u32) -> Range<u64> {
        self.chunks.borrow().range(chunk)
    }

    /// Whether a chunk is here.
    pub fn has(&self, chunk: u32) -> bool {
        self.chunks.borrow().has(chunk)
    }

    /// Holds every chunk, those that are here and those that come, to what was sealed of it. `false` when that cannot
    /// be, because another hash is recorded or the chunks are of another length: then the entry is not of what was
    /// sealed, and goes on as it was.
    pub fn hold_to(&self, sealed: &seal::Chunks<'_>) -> bool {
        let holds = self.chunks.borrow_mut().hold_to(sealed);
        self.is_sealed.set(self.is_sealed.get() || holds);
        holds
    }

    /// Whether a seal says what its chunks are.
    pub fn is_sealed(&self) -> bool {
        self.is_sealed.get()
    }

    /// What a chunk must hash to, if it was here once or a seal says so.
    pub fn expected(&self, chunk: u32) -> Option<Digest> {
        self.chunks.borrow().expected(chunk)
    }

    /// Whether every chunk is here.
    pub fn is_whole(&self) -> bool {
        self.chunks.borrow().missing() == 0
    }

    /// The chunks that are not here, in order, as of the moment of each step.
    pub fn missing(&self) -> impl Iterator<Item = u32> {
        (0..self.chunks()).filter(|chunk| !self.has(*chunk))
    }

    /// Whether another version took its place: it can still be read and filled, it will not stay.
    pub fn is_stale(&self) -> bool {
        self.is_stale.get()
    }

    pub(super) fn retire(&self) {
        self.is_stale.set(true);
        self.wake();
    }

    /// Waits for the next chunk, or for [`Entry::wake`].
    pub fn listen(&self) -> EventListener {
        self.told.listen()
    }

    /// Wakes everybody who listens.
    pub fn wake(&self) {
        self.told.notify(usize::MAX);
    }

    /// Reads a chunk into `into`, in place of what is there, and checks it.
    ///
    /// # Errors
    /// [`ReadError`]; `into` is empty, and the chunk counts as missing until it is written again.
    pub async fn read(&self, chunk: u32, into: &mut Vec<u8>) -> Result<(), ReadError> {
        read_chunk(&self.core.flash, &self.file, &self.chunks, chunk, into).await
    }

    /// Writes a whole chunk. Every [`CACHE_FLUSH_BYTES`] what was written is flushed and recorded.
    ///
    /// # Errors
    /// [`CacheError::Mismatch`] for a chunk that was here once, or was sealed, and was another. After a failed flush, the chunks since
    /// the one before count as missing again.
    pub async fn write(&self, chunk: u32, bytes: &[u8]) -> Result<(), CacheError> {
        let outcome = self.take(chunk, bytes).await;
        self.wake();
        self.core.told(outcome)
    }

    async fn take(&self, chunk: u32, bytes: &[u8]) -> Result<(), CacheError> {
        let (range, expected, is_first) = {
            let chunks = self.chunks.borrow();
            if chunk >= chunks.count() || chunks.len_of(chunk) != bytes.len() {
                return Err(CacheError::WrongLength { chunk, bytes: bytes.len() });
            }
            (chunks.range(chunk), chunks.expected(chunk), !chunks.came(chunk))
        };
        let hash = hash_of(bytes).await;
        if expected.is_some_and(|expected| expected != hash) {
            return Err(CacheError::Mismatch { chunk });
        }
        self.core.write(&self.file, range.start, bytes, Duty::Chunk).await?;
        self.chunks.borrow_mut().put(chunk, hash);
        self.wake();
        let mut journal = self.journal.lock().await;
        if journal.file.is_none() {
            // A repair of a whole entry: its index names the hash already. Lost in a cut, it is damaged as before.
            return Ok(());
        }
        if is_first && !self.is_stale.get() {
            self.core.change(self.head.stem, |known| known.bytes = known.bytes.saturating_add(bytes.len() as u64));
        }
        journal.pending.push(chunk);
        journal.pending_bytes += bytes.len() as u64;
        if journal.pending_bytes >= CACHE_FLUSH_BYTES { self.flush(&mut journal).await } else { Ok(()) }
    }

    /// Flushes what was written, then records it.
    async fn flush(&self, journal: &mut Journal<F>) -> Result<(), CacheError> {
        if journal.pending.is_empty() {
            return Ok(());
        }
        let outcome = self.flush_pending(journal).await;
        let pending = std::mem::take(&mut journal.pending);
        journal.pending_bytes = 0;
        if outcome.is_err() {
            // A failed flush may have thrown the pages away; the kernel tells it once.
            let mut chunks = self.chunks.borrow_mut();
            for chunk in pending {
                chunks.lose(chunk);
            }
        }
        outcome
    }

    async fn flush_pending(&self, journal: &mut Journal<F>) -> Result<(), CacheError> {
        self.core.flash.sync(&self.file).await.map_err(CacheError::on(Duty::Chunk))?;
        let Some(file) = journal.file.clone() else { return Ok(()) };
        let named: Vec<_> = {
            let chunks = self.chunks.borrow();
            // One that was read and found damaged meanwhile is not recorded.
            journal
                .pending
                .iter()
                .filter(|c| chunks.has(**c))
                .filter_map(|c| Some((*c, chunks.expected(*c)?)))
                .collect()
        };
        if named.is_empty() {
            return Ok(());
        }
        let (record, tag) = write_record(&self.core.key, &journal.chain, &named);
        self.core.write(&file, journal.end, &record, Duty::Journal).await?;
        self.core.flash.sync(&file).await.map_err(CacheError::on(Duty::Journal))?;
        journal.end += record.len() as u64;
        journal.chain = tag;
        Ok(())
    }

    /// Makes a part whose chunks are all here a whole entry. Once is enough; twice is fine.
    ///
    /// # Errors
    /// It stays a part; a next run resumes it.
    pub async fn finish(&self) -> Result<(), CacheError> {
        let outcome = self.complete().await;
        self.wake();
        self.core.told(outcome)
    }

    async fn complete(&self) -> Result<(), CacheError> {
        let core = &self.core;
        let _gate = core.gate.lock().await;
        let mut journal = self.journal.lock().await;
        if journal.file.is_none() {
            return Ok(());
        }
        if self.is_stale.get() {
            return Err(CacheError::Superseded);
        }
        self.flush(&mut journal).await?;
        let missing = self.chunks.borrow().missing();
        if missing > 0 {
            return Err(CacheError::Unfinished { missing });
        }
        let hashes = self.chunks.borrow().hashes().to_vec();
        let stem = self.head.stem;
        let index = write_index(&self.head, &core.key, &hashes).await;
        core.put(&stem.file(Ending::New), &stem.file(Ending::Index), &index, Duty::Index).await?;
        core.flash.sync_names().await.map_err(CacheError::on(Duty::Index))?;
        // The index counts from here on, so a journal that stays is only a leftover.
        journal.file = None;
        core.change(stem, |known| {
            known.is_whole = true;
            known.bytes = self.object.size;
        });
        if let Err(error) = core.flash.remove(&stem.file(Ending::Journal)).await {
            log::debug!("cache: a journal that is not needed any more stays: {error}");
        }
        core.write_order().await;
        Ok(())
    }

    /// Flushes and records what there is, so that a next run resumes it.
    pub async fn give_up(&self) {
        let mut journal = self.journal.lock().await;
        if let Err(error) = self.flush(&mut journal).await {
            log::debug!("cache: what was loaded since the last flush is lost: {error}");
        }
    }
}

impl<F: Flash> fmt::Debug for Entry<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("object", &self.object).finish_non_exhaustive()
    }
}

/// What index and journal say.
enum Recorded<F: Flash> {
    Nothing,
    Damaged(Ending),
    /// For now.
    Unreadable(io::Error),
    Whole(Head, Vec<Digest>),
    Part(Head, Chunks, Journal<F>),
}

impl<F: Flash> Recorded<F> {
    fn unreadable(source: io::Error, ending: Ending) -> Self {
        if is_lasting(&source) { Self::Damaged(ending) } else { Self::Unreadable(source) }
    }
}

/// Sets aside what is damaged, with the big part.
async fn aside<F: Flash>(core: &Core<F>, stem: Stem, damaged: Ending) {
    let bytes = core.shelved.borrow().iter().find(|known| known.stem == stem).map_or(0, |known| known.bytes);
    let pairs = [(damaged, Ending::Bad), (Ending::Big, Ending::BadData)];
    core.set_aside(pairs.map(|(from, to)| (stem.file(from), stem.file(to))), bytes).await;
    // What is left of it would be half an entry.
    let _gone = core.drop_files(stem).await;
}

/// Reads and checks one chunk of an open file.
pub(super) async fn read_chunk<F: Flash>(
    flash: &F,
    file: &F::File,
    chunks: &RefCell<Chunks>,
    chunk: u32,
    into: &mut Vec<u8>,
) -> Result<(), ReadError> {
    let wanted = {
        let chunks = chunks.borrow();
        chunks
            .expected(chunk)
            .filter(|_| chunks.has(chunk))
            .map(|hash| (chunks.range(chunk).start, chunks.len_of(chunk), hash))
    };
    let mut buffer = std::mem::take(into);
    let Some((at, len, expected)) = wanted else {
        buffer.clear();
        *into = buffer;
        return Err(ReadError::Absent);
    };
    let outcome: io::Result<Vec<u8>> = flash.read_at(file, at, len, buffer).await;
    match outcome {
        Ok(bytes) if bytes.len() == len && hash_of(&bytes).await == expected => {
            *into = bytes;
            Ok(())
        }
        Ok(_) => {
            chunks.borrow_mut().lose(chunk);
            Err(ReadError::Damaged)
        }
        Err(source) => {
            chunks.borrow_mut().lose(chunk);
            Err(ReadError::Unreadable(source))
        }
    }
}
