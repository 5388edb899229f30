//! The seal of an image archive (`docs/FORMAT.md`, "The seal of an archive").

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::error::SealRefused;
use super::head::{self, Chunks, Fields, Hashes, Kind, SealName, Writer};
use super::signature::{self, PublisherKey};
use crate::crypto::{AesKey, BLOCK, Digest, Sealer, sealed_len, unseal};
use crate::json;
use crate::limits::{ARCHIVE_IMAGES, SEAL_BYTES, SEAL_CONTENT_BYTES, SEAL_LENGTH_BYTES};

/// What the key of the encrypted content is expanded with.
const CONTENT_LABEL: &[u8] = b"azaion-seal/1 archive content";

/// The seal spells everything out that its tag covers.
const NO_CONTEXT: &[u8] = &[];

/// An image of the archive, as the seal names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedImage {
    /// Its tags, in the archive's order.
    pub tags: Vec<String>,
    /// The digest of its config.
    pub config: Digest,
    /// Its `diff_ids`, the lowest first.
    pub layers: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    images: Vec<SealedImage>,
}

/// What a seal is made of.
#[derive(Debug)]
pub struct ArchiveDraft<'a> {
    /// Drawn for this seal alone.
    pub id: [u8; 32],
    /// Which archives it belongs to.
    pub name: &'a SealName,
    /// Grows from release to release.
    pub version: u64,
    /// Bytes of the archive.
    pub length: u64,
    /// The archive's images.
    pub images: Vec<SealedImage>,
    /// The SHA-256 of every chunk of the archive.
    pub chunks: &'a [Digest],
    /// Drawn for this seal alone.
    pub iv: [u8; BLOCK],
}

impl ArchiveDraft<'_> {
    /// The bytes of the seal under the archive's key.
    ///
    /// # Errors
    /// [`SealRefused::Field`] when a field is beyond what a reader takes.
    ///
    /// # Panics
    /// When there are not as many chunks as the length asks for.
    pub async fn seal(self, key: &AesKey) -> Result<Vec<u8>, SealRefused> {
        check_length(self.length)?;
        let content = serde_json::to_vec(&Content { images: self.images });
        let content = content.map_err(|_| SealRefused::Field { field: "content" })?;
        if sealed_len(content.len() as u64) > SEAL_CONTENT_BYTES as u64 {
            return Err(SealRefused::Field { field: "content" });
        }
        let mut cipher = Sealer::new(&content_key(key, &self.id), self.iv);
        let mut sealed = Vec::new();
        cipher.push(&content, &mut sealed);
        cipher.finish(&mut sealed);

        let name: &str = self.name.as_ref();
        let mut seal = Writer::begin(Kind::Archive, self.length);
        seal.put(&self.id);
        seal.put(&self.version.to_be_bytes());
        seal.put(&self.length.to_be_bytes());
        seal.put(&[u8::try_from(name.len()).expect("a name is short")]);
        seal.put(name.as_bytes());
        seal.put(&u32::try_from(sealed.len()).expect("bounded above").to_be_bytes());
        seal.put(&sealed);
        Ok(seal.end(self.chunks, key, &self.id, NO_CONTEXT).await)
    }
}

/// What a file claims, read without a key.
#[derive(Clone)]
pub struct ArchiveClaim {
    bytes: Vec<u8>,
    id: [u8; 32],
    version: u64,
    name: SealName,
    content: Range<usize>,
    hashes: Hashes,
    is_signed: bool,
}

impl ArchiveClaim {
    /// Reads the bytes of a seal.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, SealRefused> {
        let mut fields = Fields::begin(&bytes, Kind::Archive, SEAL_BYTES)?;
        let id = fields.array("id")?;
        let version = fields.u64("version")?;
        let length = fields.u64("length")?;
        check_length(length)?;
        let [name] = fields.array("name")?;
        let name = fields.text(name.into(), "name")?;
        let name = name.parse().map_err(|_| SealRefused::Field { field: "name" })?;
        let content = u32::from_be_bytes(fields.array("content")?) as usize;
        if !(2 * BLOCK..=SEAL_CONTENT_BYTES).contains(&content) || !content.is_multiple_of(BLOCK) {
            return Err(SealRefused::Field { field: "content" });
        }
        let content = fields.place(content, "content")?;
        let hashes = fields.end(length)?;
        Ok(Self { id, version, name, content, hashes, is_signed: false, bytes })
    }

    /// All bytes of the seal: what a signature signs.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Drawn for this seal alone.
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// The version it claims.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The archives it claims to belong to.
    pub const fn name(&self) -> &SealName {
        &self.name
    }

    /// The length and the chunks it claims.
    pub fn chunks(&self) -> Chunks<'_> {
        self.hashes.of(&self.bytes)
    }

    /// Checks the publisher's signature: the bytes of a minisign file, by one of `keys`.
    ///
    /// # Errors
    /// It does not hold; nothing of the claim is to be believed.
    pub async fn signed_by(mut self, keys: &[PublisherKey], signature: &[u8]) -> Result<Self, SealRefused> {
        signature::verify(&self.bytes, signature, keys).await?;
        self.is_signed = true;
        Ok(self)
    }

    /// Checks the tag under the archive's key, and decrypts the list of images.
    ///
    /// # Errors
    /// [`SealRefused::Mac`]: nothing of it is to be believed. A content that is wrong behind a right tag was made so.
    pub async fn authenticate(self, key: &AesKey) -> Result<ArchiveSeal, SealRefused> {
        head::verify(&self.bytes, NO_CONTEXT, Kind::Archive, key, &self.id).await?;
        let content = unseal(&content_key(key, &self.id), self.bytes[self.content.clone()].to_vec());
        let content = content.map_err(SealRefused::Content)?;
        let content: Content = json::from_slice(content.expose(), SEAL_CONTENT_BYTES).map_err(SealRefused::Images)?;
        if content.images.len() > ARCHIVE_IMAGES {
            return Err(SealRefused::Field { field: "content" });
        }
        Ok(ArchiveSeal { claim: self, images: content.images })
    }
}

impl fmt::Debug for ArchiveClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArchiveClaim({} version {}, {} bytes)", self.name, self.version, self.hashes.length)
    }
}

/// A seal whose tag is right.
#[derive(Debug, Clone)]
pub struct ArchiveSeal {
    claim: ArchiveClaim,
    images: Vec<SealedImage>,
}

impl ArchiveSeal {
    /// Grows from release to release.
    pub const fn version(&self) -> u64 {
        self.claim.version()
    }

    /// The archives it belongs to.
    pub const fn name(&self) -> &SealName {
        self.claim.name()
    }

    /// Whether a publisher's signature was checked.
    pub const fn is_signed(&self) -> bool {
        self.claim.is_signed
    }

    /// The archive's length and chunks.
    pub fn chunks(&self) -> Chunks<'_> {
        self.claim.chunks()
    }

    /// The archive's images.
    pub fn images(&self) -> &[SealedImage] {
        &self.images
    }
}

fn content_key(key: &AesKey, id: &[u8; 32]) -> AesKey {
    AesKey::new(key.expand(id, CONTENT_LABEL))
}

/// An archive is an IV and at least one block, in whole blocks (CONTRACT section 4).
fn check_length(length: u64) -> Result<(), SealRefused> {
    let least = 2 * BLOCK as u64;
    if (least..=SEAL_LENGTH_BYTES).contains(&length) && length.is_multiple_of(BLOCK as u64) {
        Ok(())
    } else {
        Err(SealRefused::Field { field: "length" })
    }
}
