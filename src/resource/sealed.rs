//! The seal of a resource: the third file, which proves that small and big part are those of one upload, and all of it
//! (`docs/FORMAT.md`, "The seal of a resource").
//!
//! ```text
//!   seal ── tag: resource key, folder, name ── small part: length, hash ── big part: length ── each chunk: hash ── used
//! ```
//!
//! Where there is a seal, no byte of the big part may be used before its chunk's hash was compared, whether it comes from
//! the CDN or from flash; not even its end, by which padding could be guessed. What is sealed and wrong is never taken
//! for unsealed.

use std::fmt;
use std::rc::Rc;
use std::time::SystemTime;

use super::Models;
use super::error::ResourceError;
use super::join::END_BYTES;
use super::login::Login;
use super::small::{Small, Target};
use crate::cache::{CacheError, Entry, Object, ReadError, Upload, chunk_bytes_for, hash_of};
use crate::cloud::{ApiFault, Cdn, CloudError, Tail};
use crate::crypto::{UnsealError, Unsealer};
use crate::error::chain;
use crate::limits::{CACHE_CHUNK_BYTES, CLOCK_WAS_SET, PIECE_BYTES, RESOURCE_SEAL_SEALED_BYTES, SEAL_CHUNK_BYTES};
use crate::name::{Folder, ResourceName};
use crate::net::turn;
use crate::seal::{ResourceClaim, ResourceDraft, ResourceSeal, SealRefused};

// A chunk of the cache is one of the seal: an entry is held to a seal hash by hash.
const _: () = assert!(CACHE_CHUNK_BYTES == SEAL_CHUNK_BYTES);

/// Why a sealed resource is refused: for this board's log alone, outside every reason is one and the same.
#[derive(Debug)]
pub(super) enum Forged {
    /// The seal does not open with this board's API key.
    Layer(UnsealError),
    /// The seal is longer than one can be.
    TooLong,
    /// It is no seal, or not of this resource.
    Seal(SealRefused),
    /// It is not of this small part.
    Small,
    /// The big part is of another length.
    Big {
        /// Bytes there are.
        bytes: u64,
        /// Bytes there were.
        sealed: u64,
    },
    /// A chunk of the big part has another hash.
    Chunk {
        /// Which one.
        chunk: u64,
    },
}

impl Forged {
    /// Takes the reason down here, and tells outside that there is one.
    pub(super) fn refuse(&self) -> ResourceError {
        log::warn!("a sealed model is refused: {}", chain(self));
        ResourceError::NotAuthentic
    }
}

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(_) => f.write_str("its seal does not open with this board's API key"),
            Self::TooLong => f.write_str("its seal is longer than one can be"),
            Self::Seal(_) => f.write_str("its seal is none, or not its own"),
            Self::Small => f.write_str("its small part is not the one that was sealed"),
            Self::Big { bytes, sealed } => write!(f, "its big part has {bytes} bytes, {sealed} were sealed"),
            Self::Chunk { chunk } => write!(f, "chunk {chunk} of its big part is not what was sealed, fetched twice"),
        }
    }
}

impl std::error::Error for Forged {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Layer(source) => Some(source),
            Self::Seal(source) => Some(source),
            Self::TooLong | Self::Small | Self::Big { .. } | Self::Chunk { .. } => None,
        }
    }
}

impl Models {
    /// Asks the API for the seal; `None` when it has none. Whether it fits the small part, the caller looks.
    pub(super) async fn fetch_seal(
        &self,
        login: &Login,
        folder: &Folder,
        name: &ResourceName,
    ) -> Result<Option<Rc<ResourceSeal>>, ResourceError> {
        let (api, hardware) = (&self.parts.api, &self.parts.hardware);
        let (file, limit) = (name.seal(), RESOURCE_SEAL_SEALED_BYTES);
        let sealed = match api.small_resource(&login.session, hardware, folder, &file, limit).await {
            Ok(sealed) => sealed,
            Err(CloudError::Unknown { .. }) => return Ok(None),
            Err(CloudError::Protocol { fault: ApiFault::TooLong { .. }, .. }) => return Err(Forged::TooLong.refuse()),
            Err(error) => return Err(error.into()),
        };
        let mut unsealer = Unsealer::new(&login.api_key);
        let mut bytes = Vec::with_capacity(sealed.len());
        for piece in sealed.chunks(PIECE_BYTES) {
            turn::spend(piece.len()).await;
            unsealer.push(piece, &mut bytes);
        }
        unsealer.finish(&mut bytes).map_err(|error| Forged::Layer(error).refuse())?;
        let seal = self.opened(bytes, folder, name).await.map_err(|refused| Forged::Seal(refused).refuse())?;
        Ok(Some(seal))
    }

    /// The seal that was kept beside this small part. One that is gone, or not its own, is none.
    pub(super) async fn kept_seal(
        &self,
        folder: &Folder,
        name: &ResourceName,
        small: &[u8],
    ) -> Option<Rc<ResourceSeal>> {
        let bytes = self.parts.cache.kept_seal(folder, name).await?;
        let seal = self.opened(bytes, folder, name).await.ok()?;
        seal.fits_small(small).then_some(seal)
    }

    /// Makes the seal of an upload from what is on flash of it: anew for each attempt, which does no harm, because the
    /// small part follows it each time.
    ///
    /// # Errors
    /// The board has no randomness; or an older program staged it in chunks that no seal has.
    pub(super) async fn seal_upload(&self, upload: &Upload, small: &[u8]) -> Result<Rc<ResourceSeal>, ResourceError> {
        if chunk_bytes_for(upload.size()) != Some(upload.chunk_bytes()) {
            return Err(ResourceError::Staged(ReadError::Damaged));
        }
        let unfit = |refused: SealRefused| ResourceError::Board(std::io::Error::other(refused));
        let (folder, name) = (upload.folder(), upload.name());
        let mut id = [0; 32];
        getrandom::fill(&mut id).map_err(|error| ResourceError::Board(std::io::Error::other(error)))?;
        let chunks = upload.hashes();
        let version = version_now();
        let draft = ResourceDraft { id, version, folder, name, small, big: upload.size(), chunks: &chunks };
        let bytes = draft.seal(&self.resource_key).await.map_err(unfit)?;
        // What does not open here would open nowhere.
        self.opened(bytes, folder, name).await.map_err(unfit)
    }

    async fn opened(
        &self,
        bytes: Vec<u8>,
        folder: &Folder,
        name: &ResourceName,
    ) -> Result<Rc<ResourceSeal>, SealRefused> {
        let claim = ResourceClaim::parse(bytes)?;
        claim.authenticate(&self.resource_key, folder, name).await.map(Rc::new)
    }

    /// The entry of this version; where there is a seal, one that is held to it. Another one goes.
    pub(super) async fn entry_of(&self, target: &Target, small: &Small) -> Option<Rc<Entry>> {
        let Target { folder, name, version } = target;
        let entry = self.parts.cache.entry(folder, name, version).await?;
        if small.binds(&entry) {
            return Some(entry);
        }
        log::warn!("what is on flash of a model is not what was sealed: it is fetched again");
        self.parts.cache.forget(folder, name).await;
        None
    }

    /// Begins an entry or goes on with one, held to the seal where there is one, and puts in what the end brought.
    pub(super) async fn begin_entry(&self, target: &Target, small: &Small, end: &End) -> Result<Rc<Entry>, CacheError> {
        let Target { folder, name, version } = target;
        let entry = self.parts.cache.begin(folder, name, version, &end.object).await?;
        // Of one that holds something else only flash that cannot be changed has anything left.
        if !small.binds(&entry) {
            return Err(CacheError::Unfit { size: end.object.size });
        }
        for chunk in end.first_chunk.map_or(0..0, |first| first..entry.chunks()) {
            entry.write(chunk, end.chunk(&entry.chunk_range(chunk))).await?;
        }
        Ok(entry)
    }
}

impl Small {
    /// Holds an entry to the seal; `false` when it is of something else. Without a seal every entry is right.
    pub(super) fn binds(&self, entry: &Entry) -> bool {
        self.seal.as_ref().is_none_or(|seal| entry.hold_to(&seal.big()))
    }
}

/// The end of a big part, and of which object.
pub(super) struct End {
    pub(super) object: Object,
    /// Its last bytes.
    pub(super) bytes: Vec<u8>,
    /// The chunk that they begin with, where they are whole chunks that were just compared with the seal.
    pub(super) first_chunk: Option<u32>,
}

impl End {
    /// The bytes of this range of the big part.
    fn chunk(&self, range: &std::ops::Range<u64>) -> &[u8] {
        let before = self.object.size - self.bytes.len() as u64;
        let at = |n: u64| usize::try_from(n.saturating_sub(before)).unwrap_or(usize::MAX);
        self.bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
    }
}

/// The end of a sealed big part at the CDN, in whole chunks that were compared: enough of them for whoever looks at the
/// padding.
pub(super) async fn end_at_cdn(cdn: &Cdn, target: &Target, seal: &ResourceSeal) -> Result<End, ResourceError> {
    let big = seal.big();
    let mut first = big.count() - 1;
    if big.length() - big.range(first).start < END_BYTES as u64 {
        first = first.saturating_sub(1);
    }
    let asked = big.length() - big.range(first).start;
    let Tail { size, etag, bytes, .. } = cdn.tail(&target.folder, &target.name, asked).await?;
    let first_chunk = u32::try_from(first).ok();
    let mut end = End { object: sized(size, etag, seal)?, bytes, first_chunk };
    for chunk in first..big.count() {
        let range = big.range(chunk);
        if !is_chunk(seal, chunk, end.chunk(&range)).await {
            let at = usize::try_from(range.start - big.range(first).start).unwrap_or(usize::MAX);
            let len = end.chunk(&range).len();
            fetch_again(cdn, target, &end.object, seal, chunk, &mut end.bytes[at..at + len]).await?;
        }
    }
    Ok(end)
}

/// Which object a sealed big part is at the CDN, for whoever has its end already.
pub(super) async fn object_at_cdn(cdn: &Cdn, target: &Target, seal: &ResourceSeal) -> Result<Object, ResourceError> {
    // A byte is the least that can be asked for; nobody looks at it.
    let Tail { size, etag, .. } = cdn.tail(&target.folder, &target.name, 1).await?;
    sized(size, etag, seal)
}

fn sized(size: u64, etag: String, seal: &ResourceSeal) -> Result<Object, ResourceError> {
    let sealed = seal.big().length();
    if size == sealed { Ok(Object { size, etag }) } else { Err(Forged::Big { bytes: size, sealed }.refuse()) }
}

/// Whether this is what was sealed as this chunk.
pub(super) async fn is_chunk(seal: &ResourceSeal, chunk: u64, bytes: &[u8]) -> bool {
    seal.big().hash(chunk) == Some(hash_of(bytes).await)
}

/// Fetches a chunk that was not what was sealed once more, as a range of its own.
///
/// # Errors
/// It is the same again.
pub(super) async fn fetch_again(
    cdn: &Cdn,
    target: &Target,
    object: &Object,
    seal: &ResourceSeal,
    chunk: u64,
    into: &mut [u8],
) -> Result<(), ResourceError> {
    log::warn!("chunk {chunk} of a model came from the CDN as something else than was sealed: it is fetched again");
    let range = seal.big().range(chunk);
    cdn.read(&target.folder, &target.name, &object.etag, range).await?.fill(into).await?;
    if is_chunk(seal, chunk, into).await { Ok(()) } else { Err(Forged::Chunk { chunk }.refuse()) }
}

/// Seconds since 1970; 0 where nobody has set the clock.
fn version_now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if now < CLOCK_WAS_SET { 0 } else { now.as_secs() }
}

#[cfg(test)]
mod tests {
    use smol::LocalExecutor;

    use super::*;
    use crate::crypto::Digest;
    use crate::limits::{CACHE_CHUNKS, CACHE_OBJECT_BYTES, RESOURCE_SEAL_BYTES};
    use crate::resource::samples::key;

    fn seal(big: u64) -> ResourceSeal {
        let (folder, name) = (Folder::default(), ResourceName::new("m").expect("a name"));
        let chunk_bytes = chunk_bytes_for(big).expect("it can be cached");
        let chunks = vec![Digest::of(b""); usize::try_from(big.div_ceil(chunk_bytes)).expect("few")];
        turn::block_on(&LocalExecutor::new(), async {
            let draft = ResourceDraft {
                id: [1; 32],
                version: 0,
                folder: &folder,
                name: &name,
                small: &[1; 9],
                big,
                chunks: &chunks,
            };
            let bytes = draft.seal(&key(1)).await.expect("within the bounds");
            assert!(bytes.len() as u64 <= RESOURCE_SEAL_BYTES);
            let claim = ResourceClaim::parse(bytes).expect("a seal");
            claim.authenticate(&key(1), &folder, &name).await.expect("ours")
        })
    }

    #[test]
    fn what_can_be_staged_can_be_sealed_in_the_same_chunks() {
        let longest_of = |chunk_bytes: u64| chunk_bytes * CACHE_CHUNKS;
        let edges = [longest_of(CACHE_CHUNK_BYTES), longest_of(2 * CACHE_CHUNK_BYTES), CACHE_OBJECT_BYTES];
        let around = edges.into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]);
        for big in around.chain([1, CACHE_CHUNK_BYTES, CACHE_CHUNK_BYTES + 1]).filter(|big| *big <= CACHE_OBJECT_BYTES)
        {
            assert_eq!(Some(seal(big).big().chunk_bytes()), chunk_bytes_for(big), "{big}");
        }
        assert_eq!(chunk_bytes_for(CACHE_OBJECT_BYTES + 1), None);
    }

    #[test]
    fn an_end_is_cut_into_its_chunks() {
        let object = Object { size: 2 * CACHE_CHUNK_BYTES + 16, etag: String::new() };
        let end = End {
            object,
            bytes: vec![3; usize::try_from(CACHE_CHUNK_BYTES).expect("fits") + 16],
            first_chunk: Some(1),
        };
        assert_eq!(end.chunk(&(CACHE_CHUNK_BYTES..2 * CACHE_CHUNK_BYTES)).len() as u64, CACHE_CHUNK_BYTES);
        assert_eq!(end.chunk(&(2 * CACHE_CHUNK_BYTES..2 * CACHE_CHUNK_BYTES + 16)), [3; 16]);
        assert!(end.chunk(&(2 * CACHE_CHUNK_BYTES..2 * CACHE_CHUNK_BYTES + 17)).is_empty(), "it ends before");
    }

    #[test]
    fn outside_every_reason_looks_the_same() {
        use crate::error::{Code, Report};
        let reasons = [
            Forged::Layer(UnsealError::TooShort { len: 3 }),
            Forged::TooLong,
            Forged::Seal(SealRefused::NotASeal),
            Forged::Small,
            Forged::Big { bytes: 1, sealed: 2 },
            Forged::Chunk { chunk: 3 },
        ];
        let told: Vec<_> = reasons.iter().map(|reason| Report::of(&reason.refuse())).collect();
        assert!(told.iter().all(|report| *report == told[0] && report.code == Code::ResourceNotAuthentic), "{told:?}");
        let logged: std::collections::BTreeSet<_> = reasons.iter().map(chain).collect();
        assert_eq!(logged.len(), reasons.len(), "in the log each is its own");
    }
}
