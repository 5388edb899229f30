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
use super::sealed::Source;
use super::source::{File, ReadAt};
use super::store::Store;
use super::stream::{Checks, TarStream};
use super::survey::{self, Kept, Survey};
use super::tar::{Index, Member};
use crate::crypto::AesKey;
use crate::seal::ArchiveSeal;

/// An image archive whose key fits. It holds the key, wiped when it is dropped.
pub struct Archive<R = Source> {
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

impl Archive {
    /// Opens the archive at `path` without a seal. A plain one is read in a few thousand small pieces, a compressed one once from
    /// front to back; `done` follows the ciphertext bytes and ends at the archive's length.
    pub async fn open(path: &Path, key: AesKey, done: &Cell<u64>) -> Result<Self, ArchiveError> {
        Self::open_source(Source::Bare(File::open(path).await?), key, done).await
    }
}

impl<R: ReadAt> Archive<R> {
    /// Opens the archive that lies in `source`, as [`Archive::open`] does.
    ///
    /// # Errors
    /// Behind a seal [`ArchiveError::NotAuthentic`] for everything that an archive can be instead of the one that was
    /// sealed.
    pub async fn open_source(source: R, key: AesKey, done: &Cell<u64>) -> Result<Self, ArchiveError> {
        let is_sealed = source.seal().is_some();
        let archive = Self::read_source(source, key, done).await.map_err(|error| error.behind_a_seal(is_sealed))?;
        if let Some(seal) = archive.seal()
            && !archive.images.iter().map(Image::as_sealed).eq(seal.images().iter().cloned())
        {
            return Err(ArchiveError::not_authentic(&"its images are not the ones that its seal names"));
        }
        Ok(archive)
    }

    async fn read_source(source: R, key: AesKey, done: &Cell<u64>) -> Result<Self, ArchiveError> {
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
        if !cipher.source().unchanged().await? {
            return Err(ArchiveError::Changed);
        }
        cipher.source().front_to_back();
        done.set(cipher.source().len());
        Ok(Self { cipher, packing, identity, index, tar_len, end, kept, images })
    }

    /// The seal that stands behind every byte.
    pub fn seal(&self) -> Option<&ArchiveSeal> {
        self.cipher.source().seal()
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
        self.judged(self.store().read(self.name_at(place.offset), place).await)
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
        self.cipher.source().unchanged().await
    }

    /// What a fault of the content is outside: behind a seal, whatever is wrong is one and the same.
    pub fn judge(&self, fault: ArchiveError) -> ArchiveError {
        fault.behind_a_seal(self.seal().is_some())
    }

    pub(super) fn judged<T>(&self, read: Result<T, ArchiveError>) -> Result<T, ArchiveError> {
        read.map_err(|fault| self.judge(fault))
    }

    pub(super) fn name_at(&self, offset: u64) -> &str {
        self.index.name_at(offset)
    }

    fn store(&self) -> Store<'_, R> {
        Store { cipher: &self.cipher, index: &self.index, kept: self.kept.as_ref() }
    }
}

impl<R> fmt::Debug for Archive<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({} images, {} bytes)", self.images.len(), self.tar_len)
    }
}
