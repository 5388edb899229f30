//! The bytes of index, journal and order of use (ARCHITECTURE.md, "The cache"). Whole numbers are little-endian.
//!
//! ```text
//! head     "AZCACHE1" kind stem(32) version(32) size(8) chunk bytes(4) hidden name(368) etag length(2) etag(256) tag(32)
//! index    head(1) hashes(32 × chunks) tag(32)
//! journal  head(2) record*      record = count(4) (chunk(4) hash(32))×count tag(32)
//! upload   head(3) …            see `super::upload`
//! order    "AZCACHEO" bytes written(8) stem(32)* tag(32), least recently used first
//! ```
//!
//! A tag covers what stands before it in its part and the tag before that one, so that no part can be moved into
//! another file or place. This module must never trust a number before the tag over it has held.

use super::Version;
use super::chunks::is_geometry;
use super::key::{CacheKey, HIDDEN_BYTES, TAG_BYTES, Tag};
use super::names::Stem;
use crate::crypto::Digest;
use crate::limits::{CACHE_ETAG_BYTES, PIECE_BYTES};
use crate::name::{Folder, ResourceName};
use crate::net::turn::spend;

const MAGIC: &[u8; 8] = b"AZCACHE1";
const ORDER_MAGIC: &[u8; 8] = b"AZCACHEO";

/// A head, its tag included.
pub(super) const HEAD_BYTES: usize = 8 + 1 + 32 + 32 + 8 + 4 + HIDDEN_BYTES + 2 + CACHE_ETAG_BYTES + TAG_BYTES;

/// One chunk in a record of the journal.
const NAMED_CHUNK_BYTES: usize = 4 + 32;

/// Chunks that one record may name.
const RECORD_CHUNKS: usize = 4096;

/// What a file with a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Index = 1,
    Journal = 2,
    Upload = 3,
}

/// The head of an index, a journal or an upload's record.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) stem: Stem,
    pub(super) version: Version,
    pub(super) size: u64,
    pub(super) chunk_bytes: u64,
    pub(super) etag: String,
    pub(super) hidden: [u8; HIDDEN_BYTES],
}

/// The file is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// Takes bytes apart from the front.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.bytes(N)?.try_into().map_err(|_| Damaged)
    }

    pub(super) fn u16(&mut self) -> Result<usize, Damaged> {
        Ok(u16::from_le_bytes(self.array()?).into())
    }

    pub(super) fn u32(&mut self) -> Result<u32, Damaged> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Damaged> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

impl Head {
    /// The bytes of the head; their end is its tag.
    pub(super) fn write(&self, kind: Kind, key: &CacheKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.push(kind as u8);
        bytes.extend_from_slice(&self.stem.0);
        bytes.extend_from_slice(&self.version.0);
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.chunk_bytes).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&self.hidden);
        let etag = &self.etag.as_bytes()[..self.etag.len().min(CACHE_ETAG_BYTES)];
        bytes.extend_from_slice(&u16::try_from(etag.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend_from_slice(etag);
        bytes.resize(HEAD_BYTES - TAG_BYTES, 0);
        let mut tag = key.tag(b"head");
        tag.take(&bytes);
        bytes.extend_from_slice(&tag.finish());
        bytes
    }

    /// Reads a head and its tag.
    pub(super) fn read(bytes: &[u8], kind: Kind, key: &CacheKey) -> Result<(Self, Tag), Damaged> {
        let bytes = bytes.get(..HEAD_BYTES).ok_or(Damaged)?;
        let (said, tag) = bytes.split_at(HEAD_BYTES - TAG_BYTES);
        let mut expected = key.tag(b"head");
        expected.take(said);
        expected.verify(tag).map_err(|_| Damaged)?;
        let mut cursor = Cursor(said);
        if cursor.bytes(MAGIC.len())? != MAGIC || cursor.bytes(1)? != [kind as u8] {
            return Err(Damaged);
        }
        let (stem, version) = (Stem(cursor.array()?), Version(cursor.array()?));
        let (size, chunk_bytes) = (cursor.u64()?, u64::from(cursor.u32()?));
        let hidden = cursor.array()?;
        let etag_len = cursor.u16()?;
        let etag = cursor.0.get(..etag_len).ok_or(Damaged)?;
        let etag = str::from_utf8(etag).map_err(|_| Damaged)?.to_owned();
        if !is_geometry(size, chunk_bytes) {
            return Err(Damaged);
        }
        let tag = tag.try_into().map_err(|_| Damaged)?;
        Ok((Self { stem, version, size, chunk_bytes, etag, hidden }, tag))
    }

    /// What the resource is called.
    pub(super) fn name(&self, key: &CacheKey) -> Option<(Folder, ResourceName)> {
        key.reveal(&self.hidden)
    }

    fn hash_bytes(&self) -> usize {
        usize::try_from(self.size.div_ceil(self.chunk_bytes)).unwrap_or(usize::MAX).saturating_mul(32)
    }
}

/// The tag over `bytes` behind `before`, a turn's share at a time.
pub(super) async fn tag_behind(key: &CacheKey, purpose: &'static [u8], before: &Tag, bytes: &[u8]) -> Tag {
    let mut tag = key.tag(purpose);
    tag.take(before);
    for piece in bytes.chunks(PIECE_BYTES) {
        spend(piece.len()).await;
        tag.take(piece);
    }
    tag.finish()
}

/// Takes hashes behind a head, and the tag over them.
pub(super) async fn write_hashes(bytes: &mut Vec<u8>, key: &CacheKey, before: &Tag, hashes: &[Digest]) -> Tag {
    let start = bytes.len();
    for hash in hashes {
        bytes.extend_from_slice(hash.as_bytes());
    }
    let tag = tag_behind(key, b"hashes", before, &bytes[start..]).await;
    bytes.extend_from_slice(&tag);
    tag
}

/// Reads hashes and the tag over them from the front of `cursor`.
pub(super) async fn read_hashes(
    cursor: &mut Cursor<'_>,
    head: &Head,
    key: &CacheKey,
    before: &Tag,
) -> Result<(Vec<Digest>, Tag), Damaged> {
    let hashes = cursor.bytes(head.hash_bytes())?;
    let tag: Tag = cursor.array()?;
    if tag_behind(key, b"hashes", before, hashes).await != tag {
        return Err(Damaged);
    }
    let hashes = hashes.as_chunks::<32>().0.iter().map(|hash| Digest::from(*hash)).collect();
    Ok((hashes, tag))
}

/// A whole index.
pub(super) async fn write_index(head: &Head, key: &CacheKey, hashes: &[Digest]) -> Vec<u8> {
    let mut bytes = head.write(Kind::Index, key);
    let tag = *bytes.last_chunk().expect("a head ends in its tag");
    write_hashes(&mut bytes, key, &tag, hashes).await;
    bytes
}

/// Reads a whole index of the resource `stem`.
pub(super) async fn read_index(bytes: &[u8], stem: Stem, key: &CacheKey) -> Result<(Head, Vec<Digest>), Damaged> {
    let (head, tag) = Head::read(bytes, Kind::Index, key)?;
    let mut cursor = Cursor(&bytes[HEAD_BYTES..]);
    let (hashes, _) = read_hashes(&mut cursor, &head, key, &tag).await?;
    if head.stem != stem || !cursor.0.is_empty() {
        return Err(Damaged);
    }
    Ok((head, hashes))
}

/// One record of a journal, behind `before`.
pub(super) fn write_record(key: &CacheKey, before: &Tag, chunks: &[(u32, Digest)]) -> (Vec<u8>, Tag) {
    debug_assert!(chunks.len() <= RECORD_CHUNKS, "the caller flushes earlier");
    let mut bytes = Vec::with_capacity(4 + chunks.len() * NAMED_CHUNK_BYTES + TAG_BYTES);
    bytes.extend_from_slice(&u32::try_from(chunks.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (chunk, hash) in chunks {
        bytes.extend_from_slice(&chunk.to_le_bytes());
        bytes.extend_from_slice(hash.as_bytes());
    }
    let mut tag = key.tag(b"record");
    tag.take(before);
    tag.take(&bytes);
    let tag = tag.finish();
    bytes.extend_from_slice(&tag);
    (bytes, tag)
}

/// What a journal says.
pub(super) struct Replay {
    pub(super) head: Head,
    pub(super) chunks: Vec<(u32, Digest)>,
    /// Where the next record goes: behind the last one that holds. What follows is a torn tail.
    pub(super) end: u64,
    pub(super) chain: Tag,
}

/// Reads a journal of the resource `stem`, up to its first record that does not hold.
pub(super) async fn read_journal(bytes: &[u8], stem: Stem, key: &CacheKey) -> Result<Replay, Damaged> {
    let (head, mut chain) = Head::read(bytes, Kind::Journal, key)?;
    if head.stem != stem {
        return Err(Damaged);
    }
    let mut chunks = Vec::new();
    let mut end = HEAD_BYTES;
    while let Ok((named, len, tag)) = read_record(&bytes[end..], key, &chain) {
        spend(len.min(PIECE_BYTES)).await;
        chunks.extend(named);
        end += len;
        chain = tag;
    }
    Ok(Replay { head, chunks, end: end as u64, chain })
}

type Record = (Vec<(u32, Digest)>, usize, Tag);

fn read_record(bytes: &[u8], key: &CacheKey, before: &Tag) -> Result<Record, Damaged> {
    let mut cursor = Cursor(bytes);
    let count = usize::try_from(cursor.u32()?).map_err(|_| Damaged)?;
    if count == 0 || count > RECORD_CHUNKS {
        return Err(Damaged);
    }
    let mut named = Cursor(cursor.bytes(count * NAMED_CHUNK_BYTES)?);
    let said = bytes.len() - cursor.0.len();
    let tag: Tag = cursor.array()?;
    let mut expected = key.tag(b"record");
    expected.take(before);
    expected.take(&bytes[..said]);
    expected.verify(&tag).map_err(|_| Damaged)?;
    let chunks: Result<Vec<_>, Damaged> =
        (0..count).map(|_| Ok((named.u32()?, Digest::from(named.array::<32>()?)))).collect();
    Ok((chunks?, said + TAG_BYTES, tag))
}

/// The order of use, least recently used first, and the bytes written ever.
pub(super) fn write_order(key: &CacheKey, written: u64, stems: &[Stem]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + stems.len() * 32 + TAG_BYTES);
    bytes.extend_from_slice(ORDER_MAGIC);
    bytes.extend_from_slice(&written.to_le_bytes());
    for stem in stems {
        bytes.extend_from_slice(&stem.0);
    }
    let mut tag = key.tag(b"order");
    tag.take(&bytes);
    bytes.extend_from_slice(&tag.finish());
    bytes
}

/// Reads the order of use.
pub(super) fn read_order(bytes: &[u8], key: &CacheKey) -> Result<(u64, Vec<Stem>), Damaged> {
    let (said, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(Damaged)?;
    let mut expected = key.tag(b"order");
    expected.take(said);
    expected.verify(tag).map_err(|_| Damaged)?;
    let mut cursor = Cursor(said);
    if cursor.bytes(ORDER_MAGIC.len())? != ORDER_MAGIC {
        return Err(Damaged);
    }
    let written = cursor.u64()?;
    let (stems, rest) = cursor.0.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Damaged);
    }
    Ok((written, stems.iter().map(|stem| Stem(*stem)).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{folder, key, name, run, version};
    use super::*;

    fn head() -> Head {
        let (folder, name) = (folder(), name("модель"));
        let stem = Stem::of(&folder, &name);
        let hidden = key().hide(&folder, &name, [5; 16]);
        Head { stem, version: version(1), size: 700_000, chunk_bytes: 262_144, etag: "\"e\"".into(), hidden }
    }

    fn index() -> Vec<u8> {
        run(write_index(&head(), &key(), &[1, 2, 3].map(|n| Digest::of(&[n]))))
    }

    fn journal() -> Vec<u8> {
        let mut bytes = head().write(Kind::Journal, &key());
        let mut chain = *bytes.last_chunk().expect("a tag");
        for n in 0..3 {
            let (record, tag) = write_record(&key(), &chain, &[(n, Digest::of(&[1]))]);
            bytes.extend_from_slice(&record);
            chain = tag;
        }
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let (read, hashes) = run(read_index(&index(), head().stem, &key())).expect("whole");
        assert_eq!((read.version, read.size, read.chunk_bytes, &*read.etag), (version(1), 700_000, 262_144, "\"e\""));
        assert_eq!(read.name(&key()), Some((folder(), name("модель"))));
        assert_eq!(hashes.len(), 3);
        let replay = run(read_journal(&journal(), head().stem, &key())).expect("whole");
        assert_eq!((replay.chunks.len(), replay.end), (3, journal().len() as u64));
        let order = write_order(&key(), 77, &[head().stem]);
        assert_eq!(read_order(&order, &key()), Ok((77, vec![head().stem])));
        // No file is another's.
        assert!(run(read_index(&index(), Stem([0; 32]), &key())).is_err());
        assert!(run(read_journal(&index(), head().stem, &key())).is_err());
        assert!(run(read_index(&journal(), head().stem, &key())).is_err());
    }

    proptest! {
        #[test]
        fn one_changed_byte_is_noticed(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let mut changed = index();
            let place = at.index(changed.len());
            changed[place] ^= flip;
            prop_assert!(run(read_index(&changed, head().stem, &key())).is_err());
            let mut changed = journal();
            let place = at.index(changed.len());
            changed[place] ^= flip;
            match run(read_journal(&changed, head().stem, &key())) {
                Ok(replay) => {
                    prop_assert!(replay.chunks.len() < 3 && replay.end as usize <= place);
                    prop_assert!(replay.chunks.iter().all(|(_, hash)| *hash == Digest::of(&[1])));
                }
                Err(Damaged) => prop_assert!(place < HEAD_BYTES),
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(run(read_index(&bytes, head().stem, &key())).is_err());
            prop_assert!(run(read_journal(&bytes, head().stem, &key())).is_err());
            prop_assert!(read_order(&bytes, &key()).is_err());
            prop_assert!(run(super::super::upload::read_record(&bytes, &key())).is_err());
        }
    }
}
