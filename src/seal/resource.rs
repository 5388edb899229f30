//! The seal of a split resource (`docs/FORMAT.md`, "The seal of a resource"): the third file beside small and big.
//!
//! Its tag covers folder and name, which it does not spell out: a seal that is kept on flash tells no names.

use std::fmt;

use super::error::SealRefused;
use super::head::{self, Chunks, Fields, Hashes, Kind, Writer};
use crate::crypto::{AesKey, Digest};
use crate::limits::{CACHE_OBJECT_BYTES, RESOURCE_SEAL_BYTES, SMALL_BYTES};
use crate::name::{Folder, ResourceName};

/// What a seal is made of.
#[derive(Debug)]
pub struct ResourceDraft<'a> {
    /// Drawn for this seal alone.
    pub id: [u8; 32],
    /// Grows from upload to upload; shown to people, compared with nothing.
    pub version: u64,
    /// The resource's folder.
    pub folder: &'a Folder,
    /// The resource's name.
    pub name: &'a ResourceName,
    /// The small part.
    pub small: &'a [u8],
    /// Bytes of the big part.
    pub big: u64,
    /// The SHA-256 of every chunk of the big part.
    pub chunks: &'a [Digest],
}

impl ResourceDraft<'_> {
    /// The bytes of the seal under the resources' key.
    ///
    /// # Errors
    /// [`SealRefused::Field`] when a part is longer than a reader takes.
    ///
    /// # Panics
    /// When there are not as many chunks as the length asks for.
    pub async fn seal(self, key: &AesKey) -> Result<Vec<u8>, SealRefused> {
        check_lengths(self.small.len() as u64, self.big)?;
        let mut seal = Writer::begin(Kind::Resource, self.big);
        seal.put(&self.id);
        seal.put(&self.version.to_be_bytes());
        seal.put(&self.big.to_be_bytes());
        seal.put(&u16::try_from(self.small.len()).expect("checked above").to_be_bytes());
        seal.put(Digest::of(self.small).as_bytes());
        Ok(seal.end(self.chunks, key, &self.id, &context(self.folder, self.name)).await)
    }
}

/// What a file claims, read without a key.
#[derive(Clone)]
pub struct ResourceClaim {
    bytes: Vec<u8>,
    id: [u8; 32],
    version: u64,
    small_bytes: u16,
    small: Digest,
    hashes: Hashes,
}

impl ResourceClaim {
    /// Reads the bytes of a seal.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, SealRefused> {
        let mut fields = Fields::begin(&bytes, Kind::Resource, RESOURCE_SEAL_BYTES)?;
        let id = fields.array("id")?;
        let version = fields.u64("version")?;
        let big = fields.u64("big part's length")?;
        let small_bytes = u16::from_be_bytes(fields.array("small part's length")?);
        check_lengths(small_bytes.into(), big)?;
        let small = Digest::from(fields.array::<32>("small part's hash")?);
        let hashes = fields.end(big)?;
        Ok(Self { bytes, id, version, small_bytes, small, hashes })
    }

    /// Checks the tag under the resources' key, for the resource of this folder and name.
    ///
    /// # Errors
    /// [`SealRefused::Mac`]: nothing of it is to be believed, or it is another resource's.
    pub async fn authenticate(
        self,
        key: &AesKey,
        folder: &Folder,
        name: &ResourceName,
    ) -> Result<ResourceSeal, SealRefused> {
        head::verify(&self.bytes, &context(folder, name), Kind::Resource, key, &self.id).await?;
        Ok(ResourceSeal(self))
    }
}

impl fmt::Debug for ResourceClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceClaim(version {}, {} bytes)", self.version, self.hashes.length)
    }
}

/// A seal whose tag is right.
#[derive(Debug, Clone)]
pub struct ResourceSeal(ResourceClaim);

impl ResourceSeal {
    /// All bytes of the seal.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Grows from upload to upload.
    pub const fn version(&self) -> u64 {
        self.0.version
    }

    /// Whether this is the small part.
    pub fn fits_small(&self, small: &[u8]) -> bool {
        small.len() == usize::from(self.0.small_bytes) && Digest::of(small) == self.0.small
    }

    /// The big part's length and chunks.
    pub fn big(&self) -> Chunks<'_> {
        self.0.hashes.of(&self.0.bytes)
    }
}

/// Whose seal it is: folder and name, each behind one byte with its length.
fn context(folder: &Folder, name: &ResourceName) -> Vec<u8> {
    let mut context = Vec::new();
    for text in [folder.as_str(), name.as_str()] {
        context.push(u8::try_from(text.len()).expect("names are short"));
        context.extend_from_slice(text.as_bytes());
    }
    context
}

/// A small part has 9 to [`SMALL_BYTES`] bytes (30 % of at least 32), a big part what a cache takes.
fn check_lengths(small: u64, big: u64) -> Result<(), SealRefused> {
    if !(9..=SMALL_BYTES as u64).contains(&small) {
        return Err(SealRefused::Field { field: "small part's length" });
    }
    if !(1..=CACHE_OBJECT_BYTES).contains(&big) {
        return Err(SealRefused::Field { field: "big part's length" });
    }
    Ok(())
}
