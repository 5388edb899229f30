//! An OCI image layout on this board's flash, in the place of an engine.
//!
//! Format: OCI image specification v1.1, `image-layout.md`; `skopeo`, `podman` and `crun` tools read it. `index.json`
//! is replaced last, in one step: before it the old images are there, after it the new ones, and a power cut at any
//! call finds one of the two. Blobs are written only when they are not there, and verified while they are written. This
//! module must never touch a file that the agent did not write, but for `index.json` and `oci-layout`.

mod flash;
mod layout;
#[cfg(test)]
mod model;
mod plan;
mod store;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

pub use flash::{BoardFlash, Flash};

use self::layout::{Descriptor, Entry, Index, Manifest, Record, diff_ids, references};
use self::plan::{Part, Passage, Plan, contents_of, manifest_of};
use self::store::{Store, Unlike};
use super::error::{Difference, Duty, EngineError, LoadError, Place};
use super::{EngineFacts, EngineStore, Expected};
use crate::archive::{Archive, ArchiveError};
use crate::crypto::Digest;
use crate::limits::{LAYOUT_DOCUMENTS, LAYOUT_SPARE_BYTES, PIECE_BYTES};

/// A directory of images.
pub struct Directory<F: Flash> {
    root: PathBuf,
    store: Store<F>,
}

impl<F: Flash> Directory<F> {
    /// The directory at `root`; its parent must exist, it need not.
    pub fn new(root: PathBuf, flash: F) -> Self {
        Self { store: Store::new(root.clone(), flash), root }
    }

    /// Where it is, and who it is once something was loaded into it.
    pub async fn survey(&self) -> Result<EngineFacts, EngineError> {
        Ok(EngineFacts {
            version: None,
            api_version: None,
            driver: None,
            store: EngineStore::Layout,
            root_dir: self.root.clone(),
            id: self.store.record().await?.map(|record| record.id),
        })
    }

    /// Writes all images of the archive, then makes them the ones that are shown. Images of an earlier archive, and
    /// blobs that only they used, are removed after that.
    ///
    /// # Errors
    /// The index still shows what it showed before.
    pub async fn load(&self, archive: &Archive, done: &Cell<u64>) -> Result<(), LoadError> {
        let loaded = self.take_in(archive, done).await.map_err(|error| match error {
            LoadError::Archive(fault) => archive.judge(fault).into(),
            engine @ LoadError::Engine(_) => engine,
        });
        if loaded.is_err()
            && let Err(error) = self.store.sweep().await
        {
            log::warn!("a half-written blob stays in the image directory until the next load: {error}");
        }
        let (index, record) = loaded?;
        // From here on the new images are the ones there are: what goes wrong below costs room, nothing else.
        if let Err(error) = self.clean(&index, &record).await {
            log::warn!("blobs of an earlier archive stay: {}", crate::error::chain(&error));
        }
        done.set(archive.tar_len());
        Ok(())
    }

    /// Everything up to the switch.
    async fn take_in(&self, archive: &Archive, done: &Cell<u64>) -> Result<(Index, Record), LoadError> {
        done.set(0);
        self.store.prepare().await?;
        let index = self.store.index().await?;
        let record = self.store.record().await?;
        let is_new = record.is_none();
        let record = record.map_or_else(Record::new, Ok).map_err(no_randomness)?;
        if is_new {
            self.store.write_record(&record).await?;
        }
        let plan = Plan::of(archive.images());
        let record = RefCell::new(record);
        let written = self.write_parts(archive, &plan, &record, done).await?;
        let mut entries = Vec::new();
        for image in archive.images() {
            let manifest = match manifest_of(image) {
                Some(manifest) => manifest,
                None => self.make_manifest(contents_of(image, &written), &record).await?,
            };
            let tags: Vec<_> = image.tags.iter().cloned().map(Some).collect();
            let tags = if tags.is_empty() { vec![None] } else { tags };
            let entry = |tag| Entry { manifest: manifest.clone(), config: image.config, tag };
            entries.extend(tags.into_iter().map(entry));
        }
        // What was read may be of two files when one was put in the other's place meanwhile.
        if !archive.is_unchanged().await? {
            return Err(ArchiveError::Changed.into());
        }
        let index = index.with(&entries);
        self.store.switch(&index).await?;
        Ok((index, record.into_inner()))
    }

    /// Writes what is not there yet, in the order of the tar. Returns the digest of every part by its place.
    async fn write_parts(
        &self,
        archive: &Archive,
        plan: &Plan,
        record: &RefCell<Record>,
        done: &Cell<u64>,
    ) -> Result<BTreeMap<u64, Digest>, LoadError> {
        let mut digests = BTreeMap::new();
        let mut missing = Vec::new();
        for part in plan.parts() {
            match part.digest {
                Some(digest) if self.is_held(&digest, part.size, record).await? => {
                    digests.insert(part.offset, digest);
                }
                Some(_) | None => missing.push(part),
            }
        }
        let needed = missing.iter().map(|part| part.size).sum::<u64>().saturating_add(LAYOUT_SPARE_BYTES);
        let free = self.store.free().await?;
        if free < needed {
            return Err(EngineError::NoRoom { place: Place::Directory, needed, free }.into());
        }
        let mut passage = Passage::through(archive);
        for part in missing {
            let digest = self.write_part(&mut passage, part, record, done).await?;
            digests.insert(part.offset, digest);
        }
        Ok(digests)
    }

    async fn write_part(
        &self,
        passage: &mut Passage<'_>,
        part: &Part,
        record: &RefCell<Record>,
        done: &Cell<u64>,
    ) -> Result<Digest, LoadError> {
        let mut blob = self.store.begin().await?;
        let mut at = part.offset;
        let end = part.offset + part.size;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let piece = passage.read(at, wanted).await?;
            self.store.append(&mut blob, &piece).await?;
            at += piece.len() as u64;
            done.set(at);
        }
        let finished = self.store.finish(blob, part.digest, record).await?;
        finished.map_err(|Unlike { expected, found }| {
            ArchiveError::Digest { name: "a layer or document".to_owned(), expected, found }.into()
        })
    }

    /// Writes the manifest that a classic archive does not have.
    async fn make_manifest(
        &self,
        (config, layers): (Descriptor, Vec<Descriptor>),
        record: &RefCell<Record>,
    ) -> Result<Descriptor, EngineError> {
        let bytes = Manifest::bytes(config, layers);
        let descriptor = Descriptor {
            media_type: layout::MANIFEST.to_owned(),
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
        };
        if !self.is_held(&descriptor.digest, descriptor.size, record).await? {
            let mut blob = self.store.begin().await?;
            for piece in bytes.chunks(PIECE_BYTES) {
                self.store.append(&mut blob, piece).await?;
            }
            // Its digest was taken from the same bytes.
            let _same = self.store.finish(blob, None, record).await?;
        }
        Ok(descriptor)
    }

    async fn is_held(&self, digest: &Digest, size: u64, record: &RefCell<Record>) -> Result<bool, EngineError> {
        let is_ours = record.borrow().blobs.get(digest) == Some(&size);
        Ok(is_ours && self.store.has(digest, size).await?)
    }

    /// Removes blobs of ours that nothing in the index leads to, whoever's entry it is.
    async fn clean(&self, index: &Index, record: &Record) -> Result<(), EngineError> {
        let mut used = BTreeSet::new();
        let mut ahead: Vec<_> = index.pointed_to().collect();
        let mut documents = 0;
        while let Some(reference) = ahead.pop() {
            let Some(digest) = reference.digest() else { continue };
            if !used.insert(digest) || !reference.points_on() {
                continue;
            }
            documents += 1;
            let document = self.store.document(&digest).await?;
            match document.filter(|_| documents <= LAYOUT_DOCUMENTS) {
                Some(document) => ahead.extend(read(&document)?),
                // What a document points to that is not there cannot be told: nothing is removed.
                None => return Ok(()),
            }
        }
        self.store.clean(record, |digest| used.contains(digest)).await
    }

    /// Compares what the index shows of one image: its config, and down to the presence of every blob.
    pub async fn find(&self, image: &Expected) -> Result<Result<(), Difference>, EngineError> {
        let entries: Vec<_> = self.store.index().await?.ours().collect();
        let mut found = Vec::new();
        for tag in &image.tags {
            found.push(entries.iter().find(|entry| entry.tag.as_ref() == Some(tag)));
        }
        if image.tags.is_empty() {
            found.push(entries.iter().find(|entry| entry.config == image.config));
        }
        for entry in found {
            let Some(entry) = entry else { return Ok(Err(Difference::Missing)) };
            if let Err(difference) = self.compare(entry, image).await? {
                return Ok(Err(difference));
            }
        }
        Ok(Ok(()))
    }

    async fn compare(&self, entry: &Entry, image: &Expected) -> Result<Result<(), Difference>, EngineError> {
        let missing = Ok(Err(Difference::Missing));
        // Equal layers do not make it the same image: the entry point may differ.
        if entry.config != image.config {
            return missing;
        }
        let Some(manifest) = self.store.document(&entry.manifest.digest).await? else { return missing };
        for reference in read(&manifest)? {
            match reference.digest() {
                Some(digest) if self.store.has(&digest, reference.size).await? => {}
                Some(_) | None => return missing,
            }
        }
        let Some(config) = self.store.document(&entry.config).await? else { return missing };
        let shown = diff_ids(&config).map_err(|source| EngineError::Layout { document: "an image config", source })?;
        Ok(if shown == image.diff_ids { Ok(()) } else { Err(Difference::Layers) })
    }
}

fn read(document: &[u8]) -> Result<Vec<layout::Reference>, EngineError> {
    references(document).map_err(|source| EngineError::Layout { document: "a manifest", source })
}

fn no_randomness(error: getrandom::Error) -> EngineError {
    EngineError::Flash { duty: Duty::Record, source: io::Error::other(error) }
}
