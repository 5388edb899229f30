//! The files of an OCI directory, written so that a power cut leaves the old file or the new one.
//!
//! The order is always the same: temporary name in the same directory, content, flush, rename, flush the directory.
//! There is one temporary name in each directory, so what a cut left over is found without a search. Blobs are hashed
//! while they are written and get their name only when it is theirs.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use super::flash::Flash;
use super::layout::{Index, OCI_LAYOUT, Record};
use crate::crypto::{Digest, Sha256};
use crate::engine::{Duty, EngineError};
use crate::limits::{LAYOUT_DOCUMENT_BYTES, LAYOUT_INDEX_BYTES, LAYOUT_RECORD_BYTES};
use crate::net::turn::spend;

/// The one temporary name. It begins with a dot, so that no tool takes it for a blob.
const UNFINISHED: &str = ".azaion-unfinished";
/// The record of what is ours.
const RECORD: &str = ".azaion-loader.json";
const INDEX: &str = "index.json";

/// The files of one directory.
pub(super) struct Store<F> {
    root: PathBuf,
    blobs: PathBuf,
    flash: F,
}

/// A blob that is being written under the temporary name.
pub(super) struct Blob<F: Flash> {
    file: F::File,
    hash: Sha256,
    size: u64,
}

/// A blob that is not what its digest says.
pub(super) struct Unlike {
    pub(super) expected: Digest,
    pub(super) found: Digest,
}

impl<F: Flash> Store<F> {
    pub(super) fn new(root: PathBuf, flash: F) -> Self {
        let blobs = root.join("blobs/sha256");
        Self { root, blobs, flash }
    }

    /// Makes the directories and removes what a cut left over.
    pub(super) async fn prepare(&self) -> Result<(), EngineError> {
        let prepared = async {
            let (above, middle) = (self.root.parent().unwrap_or(Path::new("/")), self.root.join("blobs"));
            for (dir, parent) in [(&self.root, above), (&middle, &self.root), (&self.blobs, &middle)] {
                self.flash.make_dir(dir).await?;
                self.flash.sync_dir(parent).await?;
            }
            self.sweep().await
        };
        prepared.await.map_err(failed(Duty::Prepare))?;
        if self.flash.size(&self.root.join("oci-layout")).await.map_err(failed(Duty::Prepare))?.is_none() {
            self.replace("oci-layout", OCI_LAYOUT).await.map_err(failed(Duty::Prepare))?;
        }
        Ok(())
    }

    /// Removes the temporary files.
    pub(super) async fn sweep(&self) -> io::Result<()> {
        self.flash.remove(&self.blobs.join(UNFINISHED)).await?;
        self.flash.remove(&self.root.join(UNFINISHED)).await
    }

    /// `index.json`; an empty one when there is none.
    pub(super) async fn index(&self) -> Result<Index, EngineError> {
        match self.flash.read(&self.root.join(INDEX), LAYOUT_INDEX_BYTES).await.map_err(failed(Duty::Read))? {
            Some(bytes) => Index::parse(&bytes).map_err(|source| EngineError::Layout { document: "the index", source }),
            None => Ok(Index::default()),
        }
    }

    /// The step from old to new.
    pub(super) async fn switch(&self, index: &Index) -> Result<(), EngineError> {
        self.replace(INDEX, &index.bytes()).await.map_err(failed(Duty::Switch))
    }

    /// The agent's record, if there is one that can be read. A spoilt one is as good as none: its blobs are foreign.
    pub(super) async fn record(&self) -> Result<Option<Record>, EngineError> {
        let found = self.flash.read(&self.root.join(RECORD), LAYOUT_RECORD_BYTES).await;
        Ok(found.map_err(failed(Duty::Read))?.and_then(|bytes| Record::parse(&bytes).ok()))
    }

    pub(super) async fn write_record(&self, record: &Record) -> Result<(), EngineError> {
        self.replace(RECORD, &record.bytes()).await.map_err(failed(Duty::Record))
    }

    /// Bytes that can still be written. Asked of the directory itself, or of the one it will be made in.
    pub(super) async fn free(&self) -> Result<u64, EngineError> {
        self.flash.free(&self.root).await.map_err(failed(Duty::Prepare))
    }

    /// Whether a blob of this size is there.
    pub(super) async fn has(&self, digest: &Digest, size: u64) -> Result<bool, EngineError> {
        Ok(self.flash.size(&self.path(digest)).await.map_err(failed(Duty::Read))? == Some(size))
    }

    /// A manifest, an index or a configuration; `None` when it is not there.
    pub(super) async fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, EngineError> {
        self.flash.read(&self.path(digest), LAYOUT_DOCUMENT_BYTES).await.map_err(failed(Duty::Read))
    }

    /// Begins a blob. Only one is written at a time.
    pub(super) async fn begin(&self) -> Result<Blob<F>, EngineError> {
        let file = self.flash.create(&self.blobs.join(UNFINISHED)).await.map_err(failed(Duty::Blob))?;
        Ok(Blob { file, hash: Sha256::new(), size: 0 })
    }

    /// Writes on; `piece` is at most one turn's share of hashing.
    pub(super) async fn append(&self, blob: &mut Blob<F>, piece: &[u8]) -> Result<(), EngineError> {
        spend(piece.len()).await;
        blob.hash.update(piece);
        blob.size += piece.len() as u64;
        self.flash.append(&mut blob.file, piece).await.map_err(failed(Duty::Blob))
    }

    /// Ends a blob: flushed, named by its digest, and recorded as ours. One that is unlike what was expected gets no
    /// name.
    pub(super) async fn finish(
        &self,
        blob: Blob<F>,
        expected: Option<Digest>,
        record: &RefCell<Record>,
    ) -> Result<Result<Digest, Unlike>, EngineError> {
        let found = blob.hash.finish();
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Ok(Err(Unlike { expected, found }));
        }
        self.flash.sync(blob.file).await.map_err(failed(Duty::Blob))?;
        // A name that nobody has is recorded before it is given, so that a cut between the two leaves no blob that
        // nobody owns. A name that someone else's file has is recorded only when that file is replaced: until then
        // the record would vouch for bytes that were never verified.
        let path = self.path(&found);
        let is_taken = self.flash.size(&path).await.map_err(failed(Duty::Blob))?.is_some();
        if !is_taken {
            self.note(found, blob.size, record).await?;
        }
        self.flash.rename(&self.blobs.join(UNFINISHED), &path).await.map_err(failed(Duty::Blob))?;
        self.flash.sync_dir(&self.blobs).await.map_err(failed(Duty::Blob))?;
        if is_taken {
            self.note(found, blob.size, record).await?;
        }
        Ok(Ok(found))
    }

    async fn note(&self, digest: Digest, size: u64, record: &RefCell<Record>) -> Result<(), EngineError> {
        let known = record.borrow_mut().blobs.insert(digest, size);
        if known == Some(size) {
            return Ok(());
        }
        let record = record.borrow().clone();
        self.write_record(&record).await
    }

    /// Removes blobs of ours that `is_used` does not keep, and their lines in the record.
    pub(super) async fn clean(&self, record: &Record, is_used: impl Fn(&Digest) -> bool) -> Result<(), EngineError> {
        let mut rest = record.clone();
        rest.blobs.retain(|digest, _| is_used(digest));
        if rest == *record {
            return Ok(());
        }
        for digest in record.blobs.keys().filter(|digest| !is_used(digest)) {
            self.flash.remove(&self.path(digest)).await.map_err(failed(Duty::Clean))?;
        }
        self.flash.sync_dir(&self.blobs).await.map_err(failed(Duty::Clean))?;
        self.write_record(&rest).await
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// Replaces a small file of the root, old or new.
    async fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let beside = self.root.join(UNFINISHED);
        let written = async {
            let mut file = self.flash.create(&beside).await?;
            self.flash.append(&mut file, content).await?;
            self.flash.sync(file).await?;
            self.flash.rename(&beside, &self.root.join(name)).await?;
            self.flash.sync_dir(&self.root).await
        };
        written.await
    }
}

fn failed(duty: Duty) -> impl Fn(io::Error) -> EngineError {
    move |source| EngineError::Flash { duty, source }
}
