//! What both kinds of seals share: the beginning, the list of chunks, the tag at the end.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::error::SealRefused;
use crate::crypto::{AesKey, Digest, HmacSha256};
use crate::limits::{CACHE_CHUNKS, PIECE_BYTES, SEAL_CHUNK_BYTES, SEAL_CHUNKS, SEAL_NAME_BYTES};
use crate::net::turn;

/// The first eight bytes. The line ending shows a copy that was made as text (as PNG's signature does).
const MAGIC: [u8; 8] = *b"AZSEAL\r\n";

/// The format that is written and read here.
const FORMAT_VERSION: u8 = 1;

/// Bytes of the tag: HMAC-SHA-256, whole.
pub(super) const TAG_BYTES: usize = 32;

/// Bytes of one hash.
const HASH_BYTES: usize = 32;

/// What is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image archive.
    Archive = 1,
    /// A split resource.
    Resource = 2,
}

impl Kind {
    /// What the key of the tag is expanded with.
    const fn mac_label(self) -> &'static [u8] {
        match self {
            Self::Archive => b"azaion-seal/1 archive mac",
            Self::Resource => b"azaion-seal/1 resource mac",
        }
    }

    /// How many chunks there may be before they get longer.
    const fn most_chunks(self) -> u64 {
        match self {
            Self::Archive => SEAL_CHUNKS,
            // A big part lies in the cache in chunks of the same length.
            Self::Resource => CACHE_CHUNKS,
        }
    }

    /// How long the chunks of a file are, as its binary logarithm: 256 KiB, doubled until they are few enough.
    fn chunk_log2(self, length: u64) -> u8 {
        let mut log2 = SEAL_CHUNK_BYTES.trailing_zeros();
        while length.div_ceil(1 << log2) > self.most_chunks() {
            log2 += 1;
        }
        u8::try_from(log2).expect("64 at most")
    }
}

/// The name in an archive's seal: 1 to 64 of `a-z 0-9 . _ -`, a letter or digit first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealName(String);

/// A text that is not a name for a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealNameRefused;

impl fmt::Display for SealNameRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name has 1 to {SEAL_NAME_BYTES} of a-z, 0-9, '.', '_', '-', and begins with a letter or a digit")
    }
}

impl std::error::Error for SealNameRefused {}

impl FromStr for SealName {
    type Err = SealNameRefused;

    fn from_str(text: &str) -> Result<Self, SealNameRefused> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let may = |byte: u8| is_plain(byte) || matches!(byte, b'.' | b'_' | b'-');
        let is_name = (1..=SEAL_NAME_BYTES).contains(&text.len())
            && text.bytes().all(may)
            && text.bytes().next().is_some_and(is_plain);
        if is_name { Ok(Self(text.to_owned())) } else { Err(SealNameRefused) }
    }
}

impl fmt::Display for SealName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for SealName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The hashes of a file's chunks.
#[derive(Debug, Clone, Copy)]
pub struct Chunks<'a> {
    /// Bytes of the file.
    length: u64,
    /// Bytes of each chunk but the last.
    chunk_bytes: u64,
    /// 32 bytes each.
    hashes: &'a [u8],
}

impl Chunks<'_> {
    /// Bytes of the file.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of each chunk but the last.
    pub const fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.length.div_ceil(self.chunk_bytes)
    }

    /// Where a chunk lies in the file; empty behind the end.
    pub fn range(&self, chunk: u64) -> Range<u64> {
        let from = chunk.saturating_mul(self.chunk_bytes).min(self.length);
        from..(from + self.chunk_bytes).min(self.length)
    }

    /// What a chunk hashes to; none behind the end.
    pub fn hash(&self, chunk: u64) -> Option<Digest> {
        let at = usize::try_from(chunk).ok()?.checked_mul(HASH_BYTES)?;
        let hash: [u8; HASH_BYTES] = self.hashes.get(at..at + HASH_BYTES)?.try_into().ok()?;
        Some(hash.into())
    }

    /// All hashes, in order.
    pub fn iter(&self) -> impl Iterator<Item = Digest> {
        (0..self.count()).map_while(|chunk| self.hash(chunk))
    }
}

/// Where the hashes of a seal lie in its bytes.
#[derive(Debug, Clone)]
pub(super) struct Hashes {
    pub(super) length: u64,
    pub(super) chunk_bytes: u64,
    pub(super) at: Range<usize>,
}

impl Hashes {
    pub(super) fn of<'a>(&self, seal: &'a [u8]) -> Chunks<'a> {
        Chunks { length: self.length, chunk_bytes: self.chunk_bytes, hashes: &seal[self.at.clone()] }
    }
}

/// Reads field after field; every refusal names the field.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    kind: Kind,
    /// The binary logarithm of the chunks' length.
    log2: u8,
}

impl<'a> Fields<'a> {
    /// Behind magic, format version, kind and chunk length.
    pub(super) fn begin(bytes: &'a [u8], kind: Kind, limit: u64) -> Result<Self, SealRefused> {
        if bytes.len() as u64 > limit {
            return Err(SealRefused::TooLarge { len: bytes.len() as u64, limit });
        }
        let mut fields = Fields { bytes, at: 0, kind, log2: 0 };
        if fields.array("magic")? != MAGIC {
            return Err(SealRefused::NotASeal);
        }
        let [version] = fields.array("format version")?;
        if version != FORMAT_VERSION {
            return Err(SealRefused::FormatVersion { found: version });
        }
        let [found] = fields.array("kind")?;
        if found != kind as u8 {
            return Err(SealRefused::Kind { found });
        }
        let [log2, zero] = fields.array("chunk length")?;
        if zero != 0 {
            return Err(SealRefused::Field { field: "zero byte" });
        }
        fields.log2 = log2;
        Ok(fields)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], SealRefused> {
        Ok(self.slice(N, field)?.try_into().expect("so many were taken"))
    }

    pub(super) fn slice(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], SealRefused> {
        let place = self.place(len, field)?;
        Ok(&self.bytes[place])
    }

    /// Where the next bytes lie.
    pub(super) fn place(&mut self, len: usize, field: &'static str) -> Result<Range<usize>, SealRefused> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(SealRefused::Ends { field })?;
        let place = self.at..end;
        self.at = end;
        Ok(place)
    }

    pub(super) fn text(&mut self, len: usize, field: &'static str) -> Result<&'a str, SealRefused> {
        std::str::from_utf8(self.slice(len, field)?).map_err(|_| SealRefused::Field { field })
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, SealRefused> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    /// The hashes of a file of this length, then the tag, then nothing.
    pub(super) fn end(mut self, length: u64) -> Result<Hashes, SealRefused> {
        if self.log2 != self.kind.chunk_log2(length) {
            return Err(SealRefused::Field { field: "chunk length" });
        }
        let chunk_bytes = 1 << self.log2;
        let count = usize::try_from(length.div_ceil(chunk_bytes)).expect("few enough for the kind");
        let at = self.place(count * HASH_BYTES, "list of hashes")?;
        self.place(TAG_BYTES, "authentication tag")?;
        match self.bytes.len() - self.at {
            0 => Ok(Hashes { length, chunk_bytes, at }),
            bytes => Err(SealRefused::Follows { bytes }),
        }
    }
}

/// The bytes of a seal, being written.
pub(super) struct Writer {
    bytes: Vec<u8>,
    kind: Kind,
    length: u64,
}

impl Writer {
    pub(super) fn begin(kind: Kind, length: u64) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[FORMAT_VERSION, kind as u8, kind.chunk_log2(length), 0]);
        Self { bytes, kind, length }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes the hashes and the tag.
    ///
    /// # Panics
    /// When there are not as many hashes as the length asks for.
    pub(super) async fn end(mut self, hashes: &[Digest], key: &AesKey, id: &[u8], context: &[u8]) -> Vec<u8> {
        let chunk_bytes = 1 << self.kind.chunk_log2(self.length);
        assert_eq!(hashes.len() as u64, self.length.div_ceil(chunk_bytes), "one hash for each chunk");
        for hash in hashes {
            self.put(hash.as_bytes());
        }
        let tag = mac(&self.bytes, context, self.kind, key, id).await.finish();
        self.put(&tag);
        self.bytes
    }
}

/// The MAC over everything before the tag and over what the seal does not spell out, piece by piece as the loop's turns
/// have room.
async fn mac(bytes: &[u8], context: &[u8], kind: Kind, key: &AesKey, id: &[u8]) -> HmacSha256 {
    let mut mac = HmacSha256::new(key.expand(id, kind.mac_label()).expose());
    for piece in bytes.chunks(PIECE_BYTES) {
        turn::spend(piece.len()).await;
        mac.update(piece);
    }
    mac.update(context);
    mac
}

/// Whether the tag at the end is right, in constant time.
pub(super) async fn verify(
    bytes: &[u8],
    context: &[u8],
    kind: Kind,
    key: &AesKey,
    id: &[u8],
) -> Result<(), SealRefused> {
    let (sealed, tag) = bytes.split_at(bytes.len() - TAG_BYTES);
    mac(sealed, context, kind, key, id).await.verify(tag).map_err(SealRefused::Mac)
}
