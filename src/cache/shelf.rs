//! What the cache has, in the order of use, and the room that is left: the part that everything else shares.
//!
//! Whatever gives or takes names holds the gate meanwhile, so that two of them never meet half-way. Reading and writing
//! chunks does not: it works on files that are open already.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::{Rc, Weak};

use smol::lock::Mutex;

use super::entry::Entry;
use super::error::{CacheError, Duty};
use super::flash::{Flash, Hold};
use super::format::{read_order, write_order};
use super::key::CacheKey;
use super::names::{Ending, ORDER, ORDER_NEW, Stem};
use super::upload::Upload;
use crate::limits::CACHE_ENTRIES;

/// One resource of the cache.
pub(super) struct Shelved<F: Flash> {
    pub(super) stem: Stem,
    pub(super) is_whole: bool,
    /// Bytes on flash.
    pub(super) bytes: u64,
    /// Bytes it is going to have; counts only while it is in use.
    pub(super) promised: u64,
    pub(super) live: Weak<Entry<F>>,
}

impl<F: Flash> Shelved<F> {
    fn is_used(&self) -> bool {
        self.live.strong_count() > 0
    }

    fn takes(&self) -> u64 {
        if self.is_used() { self.bytes.max(self.promised) } else { self.bytes }
    }
}

/// Everything that the parts of the cache share.
pub(super) struct Core<F: Flash> {
    pub(super) flash: F,
    pub(super) key: CacheKey,
    pub(super) max_bytes: u64,
    pub(super) reserve_bytes: u64,
    /// Held by whatever gives or takes names.
    pub(super) gate: Mutex<()>,
    /// Least recently used first.
    pub(super) shelved: RefCell<Vec<Shelved<F>>>,
    /// Files set aside, and their bytes: the first to go.
    pub(super) bad: RefCell<Vec<(String, u64)>>,
    pub(super) uploads: RefCell<Vec<Rc<Upload<F>>>>,
    /// Bytes of uploads that are still coming in.
    pub(super) staged: Cell<u64>,
    pub(super) written: Cell<u64>,
    /// What of that stands in the order of use.
    pub(super) told_written: Cell<u64>,
    pub(super) is_order_changed: Cell<bool>,
    /// What writing failed with last, until it works again.
    pub(super) trouble: RefCell<Option<CacheError>>,
    /// Told how many entries went to make room.
    pub(super) hears_of_evictions: OnceCell<Box<dyn Fn(u64)>>,
}

impl<F: Flash> Core<F> {
    pub(super) fn new(flash: F, key: CacheKey, max_bytes: u64, reserve_bytes: u64) -> Rc<Self> {
        Rc::new(Self {
            flash,
            key,
            max_bytes,
            reserve_bytes,
            gate: Mutex::new(()),
            shelved: RefCell::default(),
            bad: RefCell::default(),
            uploads: RefCell::default(),
            staged: Cell::new(0),
            written: Cell::new(0),
            told_written: Cell::new(0),
            is_order_changed: Cell::new(false),
            trouble: RefCell::new(None),
            hears_of_evictions: OnceCell::new(),
        })
    }

    /// Remembers whether flash can be written.
    pub(super) fn told<T>(&self, outcome: Result<T, CacheError>) -> Result<T, CacheError> {
        match &outcome {
            Ok(_) => drop(self.trouble.take()),
            Err(error) if error.is_trouble() => drop(self.trouble.replace(Some(error.clone()))),
            Err(_) => {}
        }
        outcome
    }

    /// Writes, and counts it.
    pub(super) async fn write(&self, file: &F::File, at: u64, bytes: &[u8], duty: Duty) -> Result<(), CacheError> {
        self.flash.write_at(file, at, bytes).await.map_err(CacheError::on(duty))?;
        self.written.set(self.written.get().saturating_add(bytes.len() as u64));
        Ok(())
    }

    /// A new file with this content, flushed, under its final name; the directory is not flushed yet.
    pub(super) async fn put(&self, beside: &str, name: &str, content: &[u8], duty: Duty) -> Result<(), CacheError> {
        let on = CacheError::on(duty);
        self.flash.remove(beside).await.map_err(&on)?;
        let file = self.flash.create(beside).await.map_err(&on)?;
        self.write(&file, 0, content, duty).await?;
        self.flash.sync(&file).await.map_err(&on)?;
        self.flash.rename(beside, name).await.map_err(&on)
    }

    /// The whole of a file of at most `limit` bytes; `None` when there is none, or none that can be read.
    pub(super) async fn read(&self, name: &str, limit: u64) -> Found<F> {
        let read = async {
            let Some(file) = self.flash.open(name).await? else { return Ok(None) };
            let len = self.flash.len(&file).await?;
            let short = usize::try_from(len).ok().filter(|_| len <= limit).ok_or(io::ErrorKind::FileTooLarge)?;
            let bytes = self.flash.read_at(&file, 0, short, Vec::new()).await?;
            Ok(Some((bytes, file)))
        };
        match read.await {
            Ok(Some((bytes, file))) => Found::File(bytes, file),
            Ok(None) => Found::Nothing,
            Err(source) => Found::Unreadable(source),
        }
    }

    // ---- the order of use

    /// Marks a use.
    pub(super) fn touch(&self, stem: Stem) {
        let mut shelved = self.shelved.borrow_mut();
        if let Some(at) = shelved.iter().position(|known| known.stem == stem)
            && at + 1 != shelved.len()
        {
            shelved[at..].rotate_left(1);
            self.is_order_changed.set(true);
        }
    }

    pub(super) fn change(&self, stem: Stem, change: impl FnOnce(&mut Shelved<F>)) {
        if let Some(known) = self.shelved.borrow_mut().iter_mut().find(|known| known.stem == stem) {
            change(known);
        }
    }

    /// Takes a resource up as the most recently used one, in place of what was known of it.
    pub(super) fn shelve(&self, new: Shelved<F>) {
        let mut shelved = self.shelved.borrow_mut();
        shelved.retain(|known| known.stem != new.stem);
        shelved.push(new);
        self.is_order_changed.set(true);
    }

    /// Forgets a resource whose files are gone.
    pub(super) fn unshelve(&self, stem: Stem) {
        self.shelved.borrow_mut().retain(|known| known.stem != stem);
    }

    /// Writes the order of use. It is not flushed: a cut that loses it costs the order and nothing else.
    pub(super) async fn write_order(&self) {
        if !self.is_order_changed.replace(false) && self.told_written == self.written {
            return;
        }
        let stems: Vec<_> = self.shelved.borrow().iter().map(|known| known.stem).collect();
        let content = write_order(&self.key, self.written.get(), &stems);
        let written = async {
            self.flash.remove(ORDER_NEW).await?;
            let file = self.flash.create(ORDER_NEW).await?;
            self.flash.write_at(&file, 0, &content).await?;
            self.flash.rename(ORDER_NEW, ORDER).await
        };
        match written.await {
            Ok(()) => self.written.set(self.written.get().saturating_add(content.len() as u64)),
            // The next change tries again; until then the order is the old one.
            Err(error) => log::debug!("cache: the order of use was not written: {error}"),
        }
        self.told_written.set(self.written.get());
    }

    /// Reads the order of use; without one, everything was used equally long ago.
    pub(super) async fn read_order(&self) -> Vec<Stem> {
        let limit = 16 + 32 * CACHE_ENTRIES as u64 + 32;
        let Found::File(bytes, _) = self.read(ORDER, limit).await else { return Vec::new() };
        let Ok((written, stems)) = read_order(&bytes, &self.key) else { return Vec::new() };
        self.written.set(written);
        self.told_written.set(written);
        stems
    }

    // ---- room

    /// Bytes of everything.
    pub(super) fn used(&self) -> u64 {
        let entries: u64 = self.shelved.borrow().iter().map(Shelved::takes).sum();
        let bad: u64 = self.bad.borrow().iter().map(|(_, bytes)| bytes).sum();
        let uploads: u64 = self.uploads.borrow().iter().map(|upload| upload.size()).sum();
        entries + bad + uploads + self.staged.get()
    }

    /// Makes room for `need` more bytes: files set aside go first, then entries that nobody uses, the least recently
    /// used one first. Nothing goes if that would not suffice. The gate is held.
    pub(super) async fn make_room(&self, need: u64, is_entry: bool) -> Result<(), CacheError> {
        let mut evicted = 0;
        let made = self.make_room_by(need, is_entry, &mut evicted).await;
        if let Some(hear) = self.hears_of_evictions.get().filter(|_| evicted > 0) {
            hear(evicted);
        }
        made
    }

    async fn make_room_by(&self, need: u64, is_entry: bool, evicted: &mut u64) -> Result<(), CacheError> {
        let on = CacheError::on(Duty::Evict);
        let mut busy = Vec::new();
        let mut has_evicted = false;
        loop {
            let free = self.flash.free().await.map_err(&on)?;
            let (mut waiting, mut evictable, mut next, mut count) = (0, 0, None, 0);
            for known in self.shelved.borrow().iter() {
                count += 1;
                if known.is_used() {
                    waiting += known.promised.saturating_sub(known.bytes);
                } else if !busy.contains(&known.stem) {
                    evictable += known.bytes;
                    next = next.or(Some(known.stem));
                }
            }
            evictable += self.bad.borrow().iter().map(|(_, bytes)| bytes).sum::<u64>();
            let over = (self.used().saturating_add(need)).saturating_sub(self.max_bytes);
            let short = need.saturating_add(waiting).saturating_add(self.reserve_bytes).saturating_sub(free);
            let short = over.max(short);
            let is_crowded = is_entry && count >= CACHE_ENTRIES;
            if short == 0 && !is_crowded {
                break;
            }
            if evictable < short || (is_crowded && next.is_none()) {
                return Err(CacheError::NoRoom { needed: need, free: (need + evictable).saturating_sub(short) });
            }
            let bad = self.bad.borrow_mut().pop();
            match (bad, next) {
                (Some((name, _)), _) => self.flash.remove(&name).await.map_err(&on)?,
                (None, Some(stem)) if self.evict(stem).await? => *evicted += 1,
                (None, Some(stem)) => busy.push(stem),
                (None, None) => return Err(CacheError::NoRoom { needed: need, free: 0 }),
            }
            has_evicted = true;
        }
        if has_evicted {
            self.flash.sync_names().await.map_err(&on)?;
            self.write_order().await;
        }
        Ok(())
    }

    /// Removes an entry that nobody uses; false if another process does.
    async fn evict(&self, stem: Stem) -> Result<bool, CacheError> {
        // What cannot be opened is used by nobody.
        if let Ok(Some(file)) = self.flash.open(&stem.file(Ending::Big)).await
            && !self.flash.lock(&file, Hold::Alone).await.unwrap_or(true)
        {
            return Ok(false);
        }
        self.drop_files(stem).await?;
        self.unshelve(stem);
        self.is_order_changed.set(true);
        Ok(true)
    }

    /// Takes all names of a resource. Index and journal first: without them the rest is nothing.
    pub(super) async fn drop_files(&self, stem: Stem) -> Result<(), CacheError> {
        for ending in [Ending::Index, Ending::Journal, Ending::Kept, Ending::Seal, Ending::New, Ending::Big] {
            self.flash.remove(&stem.file(ending)).await.map_err(CacheError::on(Duty::Evict))?;
        }
        Ok(())
    }

    /// Sets a damaged index, journal or record aside with what belongs to it, in place of what was there before.
    pub(super) async fn set_aside(&self, damaged: [(String, String); 2], bytes: u64) {
        let mut sizes = [0, bytes].into_iter();
        for (from, to) in damaged {
            let bytes = sizes.next().unwrap_or_default();
            if self.flash.rename(&from, &to).await.is_ok() {
                let mut bad = self.bad.borrow_mut();
                bad.retain(|(known, _)| *known != to);
                bad.push((to, bytes));
            } else {
                // Nothing is there, or it cannot be changed: then it is found damaged again.
                let _gone = self.flash.remove(&from).await;
            }
        }
    }
}

/// What stands under a name.
pub(super) enum Found<F: Flash> {
    Nothing,
    /// It is no plain file, too long, or the flash does not give it.
    Unreadable(io::Error),
    File(Vec<u8>, F::File),
}
