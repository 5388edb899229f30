//! Big parts of resources on flash: downloads that resume, chunks that are verified before use, uploads that survive a
//! power cut.
//!
//! Flash holds ciphertext only, under names that tell nothing. After a power cut at any instant every entry is whole,
//! or a part that goes on, or gone; no byte is ever given that does not have its recorded hash. A cache that cannot be
//! used costs time and nothing else: reads find nothing, writes refuse, the agent goes on. This room must never touch a
//! file outside its directory, follow a link, remove what is in use, or write when nothing happens.
//!
//! The formats and the order of flushes stand in ARCHITECTURE.md, "The cache".

mod chunks;
mod entry;
mod error;
mod flash;
mod format;
mod key;
#[cfg(test)]
mod model;
mod names;
mod offline;
mod open;
#[cfg(test)]
mod power_cut;
mod shelf;
mod staging;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_sealed;
mod upload;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

pub use chunks::{chunk_bytes_for, hash_of};
pub use entry::Entry;
pub use error::{CacheError, Duty, ReadError};
pub use flash::{BoardFlash, Flash, Hold, Seen};
pub use key::CacheKey;
pub use offline::{Evicted, Held, Listed, Offline, State, Wanted};
pub use staging::{Accepted, Staging};
pub use upload::{Upload, UploadProgress, UploadStep};

use crate::error::Report;
use crate::limits::{CACHE_ETAG_BYTES, CACHE_SMALL_BYTES, RESOURCE_SEAL_BYTES};
use crate::name::{Folder, ResourceName};
use format::Head;
use names::{Ending, Stem};
use shelf::{Core, Found, Shelved};

/// Where the cache is and how much it may take.
#[derive(Debug)]
pub struct CacheSettings {
    /// The directory; it is made if it is not there.
    pub dir: PathBuf,
    /// What the cache takes at most.
    pub max_bytes: u64,
    /// What it leaves free on the file system.
    pub reserve_bytes: u64,
    /// For tags and hidden names.
    pub key: CacheKey,
}

/// SHA-256 of a resource's small part: every upload has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(pub [u8; 32]);

impl fmt::Display for Version {
    /// In hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A big part as the CDN has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its length.
    pub size: u64,
    /// Its `ETag`, as it came.
    pub etag: String,
}

/// What `/status` and the metrics tell of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFacts {
    /// Whole entries.
    pub entries: u64,
    /// Entries with holes.
    pub parts: u64,
    /// Bytes of everything, uploads and room promised to downloads included.
    pub bytes: u64,
    /// What it may take.
    pub max_bytes: u64,
    /// Bytes ever written by it; a power cut forgets those since the last entry was finished.
    pub bytes_written: u64,
    /// Uploads that wait for the cloud.
    pub uploads: u64,
    /// Why it cannot be written, if that is so.
    pub unusable: Option<Report>,
}

/// The cache.
pub struct Cache<F: Flash = BoardFlash> {
    core: Result<Rc<Core<F>>, CacheError>,
    max_bytes: u64,
}

impl Cache {
    /// Opens the cache, makes its directory and removes what a cut left over. It never fails: a cache that cannot be
    /// used says so in [`Cache::facts`], finds nothing and refuses every write.
    pub async fn open(settings: CacheSettings) -> Self {
        let CacheSettings { dir, max_bytes, reserve_bytes, key } = settings;
        let core = match BoardFlash::take(&dir).await {
            Ok(flash) => {
                let writable = flash.is_writable().await;
                let core = Core::new(flash, key, max_bytes, reserve_bytes);
                if let Err(error) = writable {
                    core.trouble.replace(Some(CacheError::on(Duty::Directory)(error)));
                }
                open::take_stock(&core).await.map(|()| core)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(CacheError::AnotherAgent),
            Err(error) => Err(CacheError::on(Duty::Directory)(error)),
        };
        if let Err(error) = &core {
            log::warn!("the cache cannot be used: {}", crate::error::chain(error));
        }
        Self { core, max_bytes }
    }
}

impl<F: Flash> Cache<F> {
    /// The same on another flash.
    pub async fn open_on(flash: F, max_bytes: u64, reserve_bytes: u64, key: CacheKey) -> Self {
        let core = Core::new(flash, key, max_bytes, reserve_bytes);
        Self { core: open::take_stock(&core).await.map(|()| core), max_bytes }
    }

    /// Calls `hear` with how many models went whenever some are removed to make room. The first one that asks is told.
    pub fn tell_of_evictions(&self, hear: impl Fn(u64) + 'static) {
        if let Ok(core) = &self.core {
            let _the_first_stays = core.hears_of_evictions.set(Box::new(hear));
        }
    }

    fn core(&self) -> Result<&Rc<Core<F>>, CacheError> {
        self.core.as_ref().map_err(Clone::clone)
    }

    /// What it holds right now.
    pub fn facts(&self) -> CacheFacts {
        let nothing = CacheFacts {
            entries: 0,
            parts: 0,
            bytes: 0,
            max_bytes: self.max_bytes,
            bytes_written: 0,
            uploads: 0,
            unusable: None,
        };
        match &self.core {
            Err(error) => CacheFacts { unusable: Some(Report::of(error)), ..nothing },
            Ok(core) => {
                let whole = core.shelved.borrow().iter().filter(|known| known.is_whole).count() as u64;
                CacheFacts {
                    entries: whole,
                    parts: core.shelved.borrow().len() as u64 - whole,
                    bytes: core.used(),
                    bytes_written: core.written.get(),
                    uploads: core.uploads.borrow().len() as u64,
                    unusable: core.trouble.borrow().as_ref().map(|error| Report::of(error)),
                    ..nothing
                }
            }
        }
    }

    /// The entry of this version, whole or in part, and marks its use. One of another version goes, unless somebody
    /// uses it.
    pub async fn entry(&self, folder: &Folder, name: &ResourceName, version: &Version) -> Option<Rc<Entry<F>>> {
        let core = self.core.as_ref().ok()?;
        let _gate = core.gate.lock().await;
        let stem = Stem::of(folder, name);
        let entry = find(core, stem).await.unwrap_or_else(|error| {
            log::debug!("cache: {}", crate::error::chain(&error));
            None
        })?;
        if entry.version() == *version {
            core.touch(stem);
            return Some(entry);
        }
        if Rc::strong_count(&entry) == 1 {
            drop(entry);
            drop_entry(core, stem).await;
        }
        None
    }

    /// Begins a part of this version and object, or goes on with the one there is. What is of another version or
    /// object goes; whoever uses it may read it to its end.
    ///
    /// # Errors
    /// [`CacheError::NoRoom`] when eviction would not suffice; whatever it is, the caller goes past the cache.
    pub async fn begin(
        &self,
        folder: &Folder,
        name: &ResourceName,
        version: &Version,
        object: &Object,
    ) -> Result<Rc<Entry<F>>, CacheError> {
        let core = self.core()?;
        let _gate = core.gate.lock().await;
        let outcome = begin(core, folder, name, *version, object).await;
        core.told(outcome)
    }

    /// Forgets a resource: its object at the CDN turned out to be another one.
    pub async fn forget(&self, folder: &Folder, name: &ResourceName) {
        let Ok(core) = &self.core else { return };
        let _gate = core.gate.lock().await;
        let stem = Stem::of(folder, name);
        retire(core, stem);
        drop_entry(core, stem).await;
    }

    /// Keeps a small part, boxed, beside its entry, and its seal, if it has one: to be called when there is an entry, for
    /// both go when that goes.
    ///
    /// A cut in between leaves a new seal beside an old box, or the reverse: whether the two belong together, who boxed
    /// the one and checks the other can tell.
    ///
    /// # Errors
    /// What was kept before may stay.
    pub async fn keep_small(
        &self,
        folder: &Folder,
        name: &ResourceName,
        boxed: &[u8],
        seal: Option<&[u8]>,
    ) -> Result<(), CacheError> {
        let core = self.core()?;
        let stem = Stem::of(folder, name);
        let _gate = core.gate.lock().await;
        let outcome = async {
            if let Some(seal) = seal {
                keep(core, stem, Ending::Seal, seal, RESOURCE_SEAL_BYTES).await?;
            }
            keep(core, stem, Ending::Kept, boxed, CACHE_SMALL_BYTES as u64).await
        };
        core.told(outcome.await)
    }

    /// The small part that was kept. Whether it belongs to the entry, who boxed it can tell.
    pub async fn kept_small(&self, folder: &Folder, name: &ResourceName) -> Option<Vec<u8>> {
        self.kept(folder, name, Ending::Kept, CACHE_SMALL_BYTES as u64).await
    }

    /// The seal that was kept. It proves itself, or nothing.
    pub async fn kept_seal(&self, folder: &Folder, name: &ResourceName) -> Option<Vec<u8>> {
        self.kept(folder, name, Ending::Seal, RESOURCE_SEAL_BYTES).await
    }

    async fn kept(&self, folder: &Folder, name: &ResourceName, ending: Ending, limit: u64) -> Option<Vec<u8>> {
        let core = self.core.as_ref().ok()?;
        match core.read(&Stem::of(folder, name).file(ending), limit).await {
            Found::File(bytes, _) => Some(bytes),
            Found::Nothing | Found::Unreadable(_) => None,
        }
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// The flash cannot be written, or too many uploads wait.
    pub async fn stage(&self) -> Result<Staging<F>, CacheError> {
        let core = self.core()?;
        let outcome = Staging::begin(core).await;
        core.told(outcome)
    }

    /// Uploads that were accepted and are not published yet, the oldest first.
    pub fn uploads(&self) -> Vec<Rc<Upload<F>>> {
        self.core.as_ref().map(|core| core.uploads.borrow().clone()).unwrap_or_default()
    }

    /// Writes the order of use if it changed: for the shutdown.
    pub async fn settle(&self) {
        if let Ok(core) = &self.core {
            let _gate = core.gate.lock().await;
            core.write_order().await;
        }
    }
}

impl<F: Flash> fmt::Debug for Cache<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("facts", &self.facts()).finish()
    }
}

/// The entry of a resource, the one in use or the one on flash. The gate is held.
async fn find<F: Flash>(core: &Rc<Core<F>>, stem: Stem) -> Result<Option<Rc<Entry<F>>>, CacheError> {
    let live = {
        let shelved = core.shelved.borrow();
        let Some(known) = shelved.iter().find(|known| known.stem == stem) else { return Ok(None) };
        known.live.upgrade()
    };
    if let Some(live) = live {
        return Ok(Some(live));
    }
    let Some(entry) = Entry::load(core, stem).await? else {
        core.unshelve(stem);
        return Ok(None);
    };
    core.change(stem, |known| {
        known.live = Rc::downgrade(&entry);
        known.promised = entry.object().size;
        known.bytes = entry.held_bytes();
    });
    Ok(Some(entry))
}

async fn begin<F: Flash>(
    core: &Rc<Core<F>>,
    folder: &Folder,
    name: &ResourceName,
    version: Version,
    object: &Object,
) -> Result<Rc<Entry<F>>, CacheError> {
    let size = object.size;
    let chunk_bytes =
        chunk_bytes_for(size).filter(|_| object.etag.len() <= CACHE_ETAG_BYTES).ok_or(CacheError::Unfit { size })?;
    let stem = Stem::of(folder, name);
    if let Some(entry) = find(core, stem).await? {
        if entry.version() == version && entry.object() == object {
            core.touch(stem);
            return Ok(entry);
        }
        entry.retire();
        core.drop_files(stem).await?;
        core.unshelve(stem);
    }
    core.make_room(size, true).await?;
    let hidden = core.key.hide(folder, name, random().map_err(CacheError::on(Duty::Begin))?);
    let head = Head { stem, version, size, chunk_bytes, etag: object.etag.clone(), hidden };
    let entry = Entry::make(core, head).await?;
    let live = Rc::downgrade(&entry);
    core.shelve(Shelved { stem: entry.stem(), is_whole: false, bytes: 0, promised: size, live });
    core.write_order().await;
    Ok(entry)
}

/// Tells whoever uses the entry that it will not stay.
fn retire<F: Flash>(core: &Core<F>, stem: Stem) {
    let live = core.shelved.borrow().iter().find(|known| known.stem == stem).and_then(|known| known.live.upgrade());
    if let Some(entry) = live {
        entry.retire();
    }
}

/// Puts a small file beside an entry, unless it is there as it is. The gate is held.
async fn keep<F: Flash>(
    core: &Core<F>,
    stem: Stem,
    ending: Ending,
    bytes: &[u8],
    limit: u64,
) -> Result<(), CacheError> {
    if bytes.len() as u64 > limit {
        return Err(CacheError::TooLong { bytes: bytes.len(), limit: usize::try_from(limit).unwrap_or(usize::MAX) });
    }
    let file = stem.file(ending);
    if let Found::File(known, _) = core.read(&file, limit).await
        && known == bytes
    {
        return Ok(());
    }
    core.put(&stem.file(Ending::New), &file, bytes, Duty::Small).await?;
    core.flash.sync_names().await.map_err(CacheError::on(Duty::Small))
}

async fn drop_entry<F: Flash>(core: &Core<F>, stem: Stem) {
    match core.drop_files(stem).await {
        Ok(()) => core.unshelve(stem),
        Err(error) => {
            core.change(stem, |known| known.live = Weak::new());
            log::debug!("cache: an entry that is not needed any more stays: {}", crate::error::chain(&error));
        }
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
