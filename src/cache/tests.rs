//! The cache on the board's own flash.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use smol::LocalExecutor;

use super::*;
use crate::crypto::{AesKey, Digest};
use crate::net::turn;
use crate::secret::SecretArray;

pub(super) const CHUNK: usize = 256 * 1024;

pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), future)
}

pub(super) fn key() -> CacheKey {
    CacheKey::of(&AesKey::new(SecretArray::fill(|key| key.fill(7))))
}

pub(super) fn folder() -> Folder {
    Folder::new("models").expect("plain")
}

pub(super) fn name(text: &str) -> ResourceName {
    ResourceName::new(text).expect("plain")
}

pub(super) fn version(of: u8) -> Version {
    Version([of; 32])
}

/// Bytes that differ from chunk to chunk and from seed to seed.
pub(super) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| step()).collect();
    bytes.truncate(len);
    bytes
}

pub(super) fn object(of: &[u8], etag: &str) -> Object {
    Object { size: of.len() as u64, etag: etag.to_owned() }
}

/// Writes every missing chunk.
pub(super) async fn fill<F: Flash>(entry: &Entry<F>, content: &[u8]) -> Result<(), CacheError> {
    let missing: Vec<_> = entry.missing().collect();
    for chunk in missing {
        entry.write(chunk, piece(content, &entry.chunk_range(chunk))).await?;
    }
    Ok(())
}

pub(super) fn piece<'a>(content: &'a [u8], range: &std::ops::Range<u64>) -> &'a [u8] {
    let at = |n: u64| usize::try_from(n).expect("small");
    &content[at(range.start)..at(range.end)]
}

/// The whole content of an entry.
pub(super) async fn content_of<F: Flash>(entry: &Entry<F>) -> Result<Vec<u8>, ReadError> {
    let (mut all, mut chunk) = (Vec::new(), Vec::new());
    for at in 0..entry.chunks() {
        entry.read(at, &mut chunk).await?;
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

pub(super) fn settings(dir: &Path) -> CacheSettings {
    CacheSettings { dir: dir.to_owned(), max_bytes: 1 << 40, reserve_bytes: 0, key: key() }
}

/// A cache in a directory of its own.
struct Shed {
    dir: tempfile::TempDir,
}

impl Shed {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory for the test") }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    async fn open(&self) -> Cache {
        Cache::open(settings(&self.path())).await
    }

    async fn open_with(&self, max_bytes: u64) -> Cache {
        Cache::open(CacheSettings { max_bytes, ..settings(&self.path()) }).await
    }

    fn file(&self, of: &str, ending: Ending) -> PathBuf {
        self.path().join(Stem::of(&folder(), &name(of)).file(ending))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.path())
            .expect("listed")
            .map(|entry| entry.expect("read").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }
}

async fn store(cache: &Cache, of: &str, version: Version, content: &[u8]) -> Result<Rc<Entry>, CacheError> {
    let entry = cache.begin(&folder(), &name(of), &version, &object(content, "\"e\"")).await?;
    fill(&entry, content).await?;
    entry.finish().await?;
    Ok(entry)
}

#[test]
fn what_is_stored_is_found_again_by_the_next_run() {
    let shed = Shed::new();
    let content = bytes(1, 3 * CHUNK + 5);
    run(async {
        let cache = shed.open().await;
        assert_eq!(cache.facts().unusable, None);
        let entry = store(&cache, "m", version(1), &content).await.expect("stored");
        entry.finish().await.expect("twice is fine");
        assert!(entry.is_whole());
        cache.keep_small(&folder(), &name("m"), b"boxed").await.expect("kept");
        cache.settle().await;
    });
    run(async {
        let cache = shed.open().await;
        let facts = cache.facts();
        assert_eq!((facts.entries, facts.parts, facts.uploads), (1, 0, 0));
        assert!(facts.bytes_written > content.len() as u64, "{facts:?}");
        let entry = cache.entry(&folder(), &name("m"), &version(1)).await.expect("there");
        assert!(entry.is_whole());
        assert_eq!(content_of(&entry).await.expect("right"), content);
        assert_eq!(cache.kept_small(&folder(), &name("m")).await.as_deref(), Some(&b"boxed"[..]));
        assert!(cache.entry(&folder(), &name("n"), &version(1)).await.is_none());
        assert!(cache.entry(&Folder::default(), &name("m"), &version(1)).await.is_none());
    });
}

#[test]
fn an_upload_goes_its_way_and_becomes_an_entry() {
    let shed = Shed::new();
    let content = bytes(2, 2 * CHUNK + 100);
    run(async {
        let cache = shed.open().await;
        let mut staging = cache.stage().await.expect("begun");
        for piece in content.chunks(10_007) {
            staging.push(piece).await.expect("room");
        }
        assert_eq!(staging.len(), content.len() as u64);
        let accepted = Accepted {
            folder: folder(),
            name: name("m"),
            version: version(9),
            owner: [3; 32],
            small_boxed: b"boxed".to_vec(),
        };
        let upload = staging.accept(accepted).await.expect("accepted");
        upload.note(UploadStep::Begun("id".into(), 5)).await.expect("noted");
        upload.note(UploadStep::Part(2, "b".into())).await.expect("noted");
        upload.note(UploadStep::Part(1, "a".into())).await.expect("noted");
    });
    run(async {
        let cache = shed.open().await;
        let uploads = cache.uploads();
        let [upload] = &uploads[..] else { panic!("{uploads:?}") };
        assert_eq!((upload.folder(), upload.name()), (&folder(), &name("m")));
        assert_eq!((upload.version(), upload.owner(), upload.small_boxed()), (version(9), &[3; 32], &b"boxed"[..]));
        let progress = upload.progress();
        assert_eq!((progress.upload_id.as_deref(), progress.part_bytes), (Some("id"), 5));
        assert_eq!(progress.parts, [(1, "a".into()), (2, "b".into())]);
        let (mut all, mut chunk) = (Vec::new(), Vec::new());
        for at in 0..upload.chunks() {
            upload.read(at, &mut chunk).await.expect("right");
            all.extend_from_slice(&chunk);
        }
        assert_eq!(all, content);
        upload.note(UploadStep::Confirmed("\"whole\"".into())).await.expect("noted");
        upload.publish().await.expect("published");
        assert!(cache.uploads().is_empty());
        let entry = cache.entry(&folder(), &name("m"), &version(9)).await.expect("there");
        assert_eq!(entry.object(), &object(&content, "\"whole\""));
        assert_eq!(content_of(&entry).await.expect("right"), content);
    });
}
