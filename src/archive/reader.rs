//! An opened archive: key, structure, documents and digests of configs were found right before it exists.

use std::cell::Cell;
use std::fmt;
use std::path::Path;

use super::cipher::CipherReader;
use super::error::ArchiveError;
use super::flow::Flow;
use super::identity::Identity;
use super::look::{self, Packing};
use super::manifest::{self, Image, Place};
use super::source::{File, ReadAt};
use super::store::Store;
use super::stream::{Checks, TarStream};
use super::survey::{self, Kept, Survey};
use super::tar::{Index, Member};
use crate::crypto::AesKey;

/// An image archive whose key fits. It holds the key, wiped when it is dropped.
pub struct Archive<R = File> {
    pub(super) cipher: CipherReader<R>,
    packing: Packing,
    identity: Identity,
    index: Index,
    tar_len: u64,
    /// Where the tar's end marker ends.
    pub(super) end: u64,
    kept: Option<Kept>,
    images: Vec<Image>,
}

impl Archive<File> {
    /// Opens the archive at `path`. A plain one is read in a few thousand small pieces, a compressed one once from
    /// front to back; `done` follows the ciphertext bytes and ends at the archive's length.
    pub async fn open(path: &Path, key: AesKey, done: &Cell<u64>) -> Result<Self, ArchiveError> {
        Self::open_source(File::open(path).await?, key, done).await
    }
}

impl<R: ReadAt> Archive<R> {
    /// Opens the archive that lies in `source`, as [`Archive::open`] does.
    pub async fn open_source(source: R, key: AesKey, done: &Cell<u64>) -> Result<Self, ArchiveError> {
        let (cipher, ends) = CipherReader::open(source, &key).await?;
        // The cipher has its own key schedule; the key itself is wiped here.
        drop(key);
        let packing = look::judge(&ends.start, ends.padding)?;
        let survey = match packing {
            Packing::Plain => survey::walk(&cipher).await?,
            Packing::Gzip | Packing::Zstd => {
                cipher.source().front_to_back();
                survey::pass(&cipher, packing, done).await?
            }
        };
        let Survey { index, tar_len, end, kept } = survey;
        let images = manifest::images(&Store { cipher: &cipher, index: &index, kept: kept.as_ref() }).await?;
        let identity = Identity::of_source(cipher.source()).await?;
        if !is_unchanged(cipher.source()).await? {
            return Err(ArchiveError::Changed);
        }
        cipher.source().front_to_back();
        done.set(cipher.source().len());
        Ok(Self { cipher, packing, identity, index, tar_len, end, kept, images })
    }

    /// The images, in the archive's own order.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// Bytes of the plain tar, to its very end.
    pub fn tar_len(&self) -> u64 {
        self.tar_len
    }

    /// How the whole archive is packed.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// By what the archive is known again.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// All members of the tar, in its order.
    pub fn members(&self) -> &[Member] {
        self.index.members()
    }

    /// The regular file this name leads to, over links; the last one of that name counts.
    pub fn file(&self, name: &str) -> Option<&Member> {
        self.index.file(name)
    }

    /// The whole plain tar, from front to back, checked on the way.
    pub fn tar(&self) -> TarStream<'_, R> {
        TarStream::new(self, Flow::new(&self.cipher, self.packing), Checks::of(self, &self.images))
    }

    /// The bytes of a config or manifest, plain archive or not. They were compared with their digest at the opening.
    pub async fn document(&self, place: Place) -> Result<Vec<u8>, ArchiveError> {
        self.store().read(self.name_at(place.offset), place).await
    }

    /// Fills `buf` from the plain tar and gives it back, for layers; nothing is checked on this way.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::NotSeekable`] for a compressed archive, else a failed read.
    pub async fn read_into(&self, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        match self.packing {
            Packing::Plain => self.cipher.read_at(offset, buf).await,
            Packing::Gzip | Packing::Zstd => Err(ArchiveError::NotSeekable),
        }
    }

    /// `len` bytes of the plain tar, as [`Archive::read_into`].
    pub async fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, ArchiveError> {
        self.read_into(offset, vec![0; len]).await
    }

    /// Whether the file still is the one that was opened: to be asked before anything that was read is acted on.
    pub async fn is_unchanged(&self) -> Result<bool, ArchiveError> {
        is_unchanged(self.cipher.source()).await
    }

    pub(super) fn name_at(&self, offset: u64) -> &str {
        self.index.name_at(offset)
    }

    fn store(&self) -> Store<'_, R> {
        Store { cipher: &self.cipher, index: &self.index, kept: self.kept.as_ref() }
    }
}

async fn is_unchanged<R: ReadAt>(source: &R) -> Result<bool, ArchiveError> {
    source.unchanged().await.map_err(|source| ArchiveError::Read { offset: 0, source })
}

impl<R> fmt::Debug for Archive<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({} images, {} bytes)", self.images.len(), self.tar_len)
    }
}
