//! The cache looked at from outside the agent, with or without one running: `azaion-loader cache`.
//!
//! It takes no lock of the directory. An entry that an agent uses is locked by it and is never taken away.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::Version;
use super::chunks::Chunks;
use super::entry::{Entry, read_chunk};
use super::error::{CacheError, Duty, ReadError};
use super::flash::{BoardFlash, Flash, Hold, Seen};
use super::key::CacheKey;
use super::names::{Ending, Named, Stem};
use super::shelf::{Core, Found};
use super::upload::read_record;
use crate::limits::CACHE_UPLOAD_RECORD_BYTES;
use crate::name::{Folder, ResourceName};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Every chunk is recorded.
    Whole,
    /// A download that goes on.
    Part,
    /// An upload that waits for the cloud.
    Upload,
    /// Index, journal or record cannot be read with these salts; or a file that was set aside.
    Damaged,
}

/// How much of it there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Chunks that are recorded.
    pub held: u32,
    /// Chunks there are.
    pub of: u32,
}

/// One row of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What it is called; `None` if its record is damaged.
    pub name: Option<(Folder, ResourceName)>,
    /// Length of the big part, or bytes on flash if that is not known.
    pub size: u64,
    /// Its chunks.
    pub chunks: Held,
    /// 1 for the most recently used one; `None` if that is not known.
    pub last_use: Option<usize>,
    /// What it is.
    pub state: State,
    /// The version it belongs to.
    pub version: Option<Version>,
    /// What its files begin with: the way to name a damaged one.
    pub stem: String,
}

/// Which entries are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All,
    /// One.
    One(Folder, ResourceName),
}

/// What an eviction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Entries that are gone, damaged ones included.
    pub removed: usize,
    /// Bytes that they took.
    pub bytes: u64,
    /// Entries that somebody uses.
    pub in_use: usize,
}

/// The directory, looked at from outside.
pub struct Offline<F: Flash = BoardFlash> {
    core: Rc<Core<F>>,
}

impl Offline {
    /// Opens the directory; it must be there.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn open(dir: &Path, key: CacheKey) -> Result<Self, CacheError> {
        let flash = BoardFlash::look(dir).await.map_err(CacheError::on(Duty::Directory))?;
        Ok(Self::on(flash, key))
    }
}

impl<F: Flash> Offline<F> {
    /// The same on another flash.
    pub fn on(flash: F, key: CacheKey) -> Self {
        Self { core: Core::new(flash, key, u64::MAX, 0) }
    }

    async fn files(&self) -> Result<(BTreeMap<Stem, u64>, Vec<Seen>), CacheError> {
        let mut stems = BTreeMap::new();
        let seen = self.core.flash.list().await.map_err(CacheError::on(Duty::Directory))?;
        for Seen { name, bytes } in &seen {
            if let Named::Resource(stem, ending) = Named::of(name)
                && matches!(ending, Ending::Big | Ending::Index | Ending::Journal | Ending::Kept | Ending::Seal)
            {
                *stems.entry(stem).or_insert(0) += bytes;
            }
        }
        Ok((stems, seen))
    }

    /// Everything there is, the most recently used first. Nothing is changed.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub async fn list(&self) -> Result<Vec<Listed>, CacheError> {
        let (stems, seen) = self.files().await?;
        let order = self.core.read_order().await;
        let rank = |stem: &Stem| order.iter().rev().position(|known| known == stem).map(|at| at + 1);
        let mut rows = Vec::new();
        for (stem, bytes) in stems {
            rows.push(Entry::look(&self.core, stem, bytes, rank(&stem)).await);
        }
        rows.sort_by_key(|row| row.last_use.unwrap_or(usize::MAX));
        for Seen { name, bytes } in seen {
            match Named::of(&name) {
                Named::Upload(_, Ending::Upload) => rows.push(self.upload(&name).await),
                Named::Resource(_, Ending::BadData) | Named::Upload(_, Ending::BadData) => {
                    rows.push(damaged(&name, bytes));
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    async fn upload(&self, file: &str) -> Listed {
        let Found::File(bytes, _) = self.core.read(file, CACHE_UPLOAD_RECORD_BYTES).await else {
            return damaged(file, 0);
        };
        let Ok(read) = read_record(&bytes, &self.core.key).await else { return damaged(file, 0) };
        let count = u32::try_from(read.hashes.len()).unwrap_or(u32::MAX);
        Listed {
            name: Some((read.record.folder, read.record.name)),
            size: read.record.head.size,
            chunks: Held { held: count, of: count },
            last_use: None,
            state: State::Upload,
            version: Some(read.record.head.version),
            stem: file.split('.').next().unwrap_or_default().to_owned(),
        }
    }

    /// Reads every recorded chunk of every entry and tells each entry's damaged ones as it goes. Nothing is changed:
    /// the agent finds the same and repairs it.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub async fn verify(&self, mut told: impl FnMut(&Listed, &[u32])) -> Result<(), CacheError> {
        for row in self.list().await? {
            let wrong = match (&row.name, row.state) {
                (Some((folder, name)), State::Whole | State::Part) => self.wrong_chunks(Stem::of(folder, name)).await,
                (_, State::Upload) => self.wrong_chunks_of_upload(&row.stem).await,
                _ => Vec::new(),
            };
            told(&row, &wrong);
        }
        Ok(())
    }

    async fn wrong_chunks(&self, stem: Stem) -> Vec<u32> {
        let Some((chunks, is_whole)) = Entry::recorded(&self.core, stem).await else { return Vec::new() };
        match self.core.flash.open(&stem.file(Ending::Big)).await {
            // Locked, so that nobody evicts it meanwhile.
            Ok(Some(file)) if self.core.flash.lock(&file, Hold::Shared).await.unwrap_or(true) => {
                self.wrong_of(&file, chunks).await
            }
            // It is being evicted.
            Ok(Some(_)) => Vec::new(),
            // It went since it was listed, and its record with it.
            Ok(None) if Entry::recorded(&self.core, stem).await.is_none_or(|now| now.1 != is_whole) => Vec::new(),
            Ok(None) | Err(_) => (0..chunks.count()).filter(|chunk| chunks.has(*chunk)).collect(),
        }
    }

    async fn wrong_chunks_of_upload(&self, id: &str) -> Vec<u32> {
        // Published meanwhile, it is an entry; one whose publication was cut has its big part there too.
        let Named::Upload(id, _) = Named::of(&format!("{id}.up")) else { return Vec::new() };
        let file = id.file(Ending::Upload);
        let Found::File(bytes, _) = self.core.read(&file, CACHE_UPLOAD_RECORD_BYTES).await else { return Vec::new() };
        let Ok(read) = read_record(&bytes, &self.core.key).await else { return Vec::new() };
        let Ok(Some(stage)) = self.core.flash.open(&id.file(Ending::Stage)).await else { return Vec::new() };
        let head = read.record.head;
        self.wrong_of(&stage, Chunks::all(head.size, head.chunk_bytes, read.hashes)).await
    }

    async fn wrong_of(&self, file: &F::File, chunks: Chunks) -> Vec<u32> {
        let chunks = RefCell::new(chunks);
        let count = chunks.borrow().count();
        let (mut wrong, mut buffer) = (Vec::new(), Vec::new());
        for chunk in 0..count {
            match read_chunk(&self.core.flash, file, &chunks, chunk, &mut buffer).await {
                Ok(()) | Err(ReadError::Absent) => {}
                Err(ReadError::Damaged | ReadError::Unreadable(_)) => wrong.push(chunk),
            }
        }
        wrong
    }

    /// Removes entries that nobody uses; uploads stay. With everything go the files that were set aside.
    ///
    /// # Errors
    /// Something cannot be removed; what went before is gone.
    pub async fn evict(&self, wanted: &Wanted) -> Result<Evicted, CacheError> {
        let on = CacheError::on(Duty::Evict);
        let (stems, seen) = self.files().await?;
        let mut done = Evicted::default();
        for (stem, bytes) in stems {
            if matches!(wanted, Wanted::One(folder, name) if Stem::of(folder, name) != stem) {
                continue;
            }
            // What cannot be opened is used by nobody. The lock is held until the names are gone.
            let file = self.core.flash.open(&stem.file(Ending::Big)).await.ok().flatten();
            if let Some(file) = &file
                && !self.core.flash.lock(file, Hold::Alone).await.map_err(&on)?
            {
                done.in_use += 1;
                continue;
            }
            self.core.drop_files(stem).await?;
            done.removed += 1;
            done.bytes += bytes;
        }
        if *wanted == Wanted::All {
            for Seen { name, bytes } in seen {
                let named = Named::of(&name);
                if let Named::Resource(_, ending) | Named::Upload(_, ending) = named
                    && matches!(ending, Ending::Bad | Ending::BadData)
                {
                    self.core.flash.remove(&name).await.map_err(&on)?;
                    done.removed += usize::from(ending == Ending::BadData);
                    done.bytes += bytes;
                }
            }
        }
        self.core.flash.sync_names().await.map_err(&on)?;
        Ok(done)
    }
}

pub(super) fn damaged(file: &str, bytes: u64) -> Listed {
    Listed {
        name: None,
        size: bytes,
        chunks: Held { held: 0, of: 0 },
        last_use: None,
        state: State::Damaged,
        version: None,
        stem: file.split('.').next().unwrap_or_default().to_owned(),
    }
}
