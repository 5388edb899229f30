//! The cache on the board's own flash.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use smol::LocalExecutor;

use super::*;
use crate::crypto::AesKey;
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
        cache.keep_small(&folder(), &name("m"), b"boxed", None).await.expect("kept");
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

/// Changes what the next run finds of a whole entry "m" of four chunks, and lets that run repair or replace it.
fn heals(what: &str, harm: impl FnOnce(&Shed)) {
    let shed = Shed::new();
    let content = bytes(3, 3 * CHUNK + 77);
    run(async {
        drop(store(&shed.open().await, "m", version(1), &content).await.expect("stored"));
        harm(&shed);
        let cache = shed.open().await;
        if let Some(entry) = cache.entry(&folder(), &name("m"), &version(1)).await {
            let mut chunk = Vec::new();
            for at in 0..entry.chunks() {
                let right = piece(&content, &entry.chunk_range(at));
                match entry.read(at, &mut chunk).await {
                    Ok(()) => assert_eq!(chunk, right, "{what}"),
                    Err(ReadError::Damaged | ReadError::Unreadable(_)) => {
                        assert!(!entry.has(at) && chunk.is_empty(), "{what}");
                        assert_eq!(entry.expected(at), Some(crate::crypto::Digest::of(right)));
                        let other = vec![0; right.len()];
                        let refused = entry.write(at, &other).await.expect_err("it is another");
                        assert!(matches!(refused, CacheError::Mismatch { chunk } if chunk == at), "{refused}");
                        entry.write(at, right).await.expect("repaired");
                        entry.read(at, &mut chunk).await.expect("right again");
                    }
                    Err(ReadError::Absent) => {}
                }
            }
        }
        let entry = store(&cache, "m", version(1), &content).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(content_of(&entry).await.expect(what), content);
        drop((entry, cache));
        let cache = shed.open().await;
        let entry = cache.entry(&folder(), &name("m"), &version(1)).await.expect(what);
        assert_eq!(content_of(&entry).await.expect(what), content);
    });
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("read");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn damage_anywhere_is_never_given_and_heals() {
    let mut places = bytes(99, 800);
    for place in places.chunks_exact_mut(8) {
        let place = usize::from_le_bytes(place.try_into().expect("eight"));
        for ending in [Ending::Big, Ending::Index] {
            heals(&format!("bit {place} of {ending:?}"), |shed| {
                change(&shed.file("m", ending), |bytes| {
                    let at = place / 8 % bytes.len();
                    bytes[at] ^= 1 << (place % 8);
                });
            });
        }
    }
}

#[test]
fn whatever_stands_in_the_place_of_a_file_heals() {
    for ending in [Ending::Big, Ending::Index] {
        let at = |shed: &Shed| shed.file("m", ending);
        heals("empty", |shed| change(&at(shed), Vec::clear));
        heals("cut", |shed| change(&at(shed), |bytes| bytes.truncate(bytes.len() / 2)));
        heals("longer", |shed| change(&at(shed), |bytes| bytes.extend_from_slice(b"more")));
        heals("gone", |shed| std::fs::remove_file(at(shed)).expect("removed"));
        heals("a second name", |shed| {
            std::fs::hard_link(at(shed), shed.dir.path().join("outside")).expect("linked");
        });
        let outside = tempfile::NamedTempFile::new().expect("a file outside");
        std::fs::write(outside.path(), b"outside").expect("written");
        heals("a link", |shed| {
            std::fs::remove_file(at(shed)).expect("removed");
            symlink(outside.path(), at(shed)).expect("linked");
        });
        heals("a pipe", |shed| {
            std::fs::remove_file(at(shed)).expect("removed");
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mknodat(rustix::fs::CWD, at(shed), rustix::fs::FileType::Fifo, mode, 0).expect("made");
        });
        assert_eq!(std::fs::read(outside.path()).expect("there"), b"outside");
    }
}

#[test]
fn a_directory_in_the_place_of_a_file_is_an_error_and_nothing_more() {
    let shed = Shed::new();
    run(async {
        let cache = shed.open().await;
        std::fs::create_dir(shed.file("m", Ending::Big)).expect("made");
        let refused = store(&cache, "m", version(1), b"abc").await.expect_err("it cannot be removed");
        assert!(matches!(refused, CacheError::Flash { .. }), "{refused}");
        assert!(cache.facts().unusable.is_some());
        store(&cache, "n", version(1), b"abc").await.expect("others can");
        assert!(cache.facts().unusable.is_none());
    });
}

#[test]
fn a_journal_cut_anywhere_resumes_with_what_holds() {
    let content = bytes(5, 3 * CHUNK + 1);
    let whole_length = {
        let shed = Shed::new();
        run(part_of(&shed, &content));
        std::fs::metadata(shed.file("m", Ending::Journal)).expect("there").len()
    };
    for len in (0..whole_length).step_by(13).chain([whole_length]) {
        let shed = Shed::new();
        run(async {
            part_of(&shed, &content).await;
            let journal = std::fs::OpenOptions::new().write(true).open(shed.file("m", Ending::Journal)).expect("there");
            journal.set_len(len).expect("cut");
            let cache = shed.open().await;
            let entry =
                cache.begin(&folder(), &name("m"), &version(1), &object(&content, "\"e\"")).await.expect("begun");
            let held = entry.chunks() - u32::try_from(entry.missing().count()).expect("few");
            if len == whole_length {
                assert_eq!(held, 3);
            }
            fill(&entry, &content).await.expect("filled");
            entry.finish().await.expect("finished");
            assert_eq!(content_of(&entry).await.expect("right"), content, "{len}");
        });
    }
}

/// A part "m" with three of four chunks, each in a record of its own.
async fn part_of(shed: &Shed, content: &[u8]) {
    let cache = shed.open().await;
    let entry = cache.begin(&folder(), &name("m"), &version(1), &object(content, "\"e\"")).await.expect("begun");
    for chunk in [2, 0, 1] {
        entry.write(chunk, piece(content, &entry.chunk_range(chunk))).await.expect("written");
        entry.give_up().await;
    }
    let unfinished = entry.finish().await.expect_err("one is missing");
    assert!(matches!(unfinished, CacheError::Unfinished { missing: 1 }), "{unfinished}");
}

#[test]
fn the_least_recently_used_makes_room_and_what_is_in_use_stays() {
    let shed = Shed::new();
    let content = bytes(6, 2 * CHUNK);
    run(async {
        let cache = shed.open_with(7 * CHUNK as u64).await;
        for of in ["a", "b", "c"] {
            drop(store(&cache, of, version(1), &content).await.expect("room"));
        }
        cache.keep_small(&folder(), &name("b"), b"b", Some(b"seal")).await.expect("kept");
        let used = cache.entry(&folder(), &name("a"), &version(1)).await.expect("there");
        drop(cache.entry(&folder(), &name("c"), &version(1)).await.expect("there"));
        // Too much even for an empty cache: nothing goes.
        let refused = cache.begin(&folder(), &name("d"), &version(1), &object(&bytes(1, 6 * CHUNK), "e")).await;
        assert!(matches!(refused, Err(CacheError::NoRoom { .. })));
        assert_eq!(cache.facts().entries, 3);
        // The order outlives the run.
        drop((used, cache));
        let cache = shed.open_with(7 * CHUNK as u64).await;
        let used = cache.entry(&folder(), &name("a"), &version(1)).await.expect("there");
        drop(store(&cache, "d", version(1), &content).await.expect("room"));
        assert!(cache.entry(&folder(), &name("b"), &version(1)).await.is_none(), "the least recently used");
        assert_eq!(cache.kept_small(&folder(), &name("b")).await, None);
        assert_eq!(cache.kept_seal(&folder(), &name("b")).await, None, "with its entry");
        for of in ["a", "c", "d"] {
            assert!(cache.entry(&folder(), &name(of), &version(1)).await.is_some(), "{of}");
        }
        drop(store(&cache, "e", version(1), &bytes(1, 5 * CHUNK)).await.expect("all but the one in use go"));
        assert_eq!(content_of(&used).await.expect("right"), content);
        assert!(cache.facts().bytes <= 7 * CHUNK as u64);
    });
}

#[test]
fn the_file_system_keeps_its_reserve() {
    let flash = model::Model::new(10 * CHUNK as u64);
    run(async {
        let cache = Cache::open_on(flash, u64::MAX, 3 * CHUNK as u64, key()).await;
        let first = cache.begin(&folder(), &name("a"), &version(1), &object(&bytes(1, 4 * CHUNK), "e")).await;
        let first = first.expect("room");
        // What the first is going to take counts already.
        let second = object(&bytes(2, 4 * CHUNK), "e");
        let refused = cache.begin(&folder(), &name("b"), &version(1), &second).await;
        assert!(matches!(refused, Err(CacheError::NoRoom { needed, .. }) if needed == 4 * CHUNK as u64));
        drop(first);
        cache.begin(&folder(), &name("b"), &version(1), &second).await.expect("the first goes");
        let mut staging = cache.stage().await.expect("begun");
        assert!(matches!(staging.push(&bytes(3, 8 * CHUNK)).await, Err(CacheError::NoRoom { .. })));
    });
}

#[test]
fn another_version_takes_the_place_and_a_reader_reads_on() {
    let shed = Shed::new();
    let (old, new) = (bytes(7, CHUNK + 1), bytes(8, CHUNK + 2));
    run(async {
        let cache = shed.open().await;
        let reader = store(&cache, "m", version(1), &old).await.expect("stored");
        assert!(cache.entry(&folder(), &name("m"), &version(2)).await.is_none());
        let woken = reader.listen();
        let entry = store(&cache, "m", version(2), &new).await.expect("stored");
        woken.await;
        assert!(reader.is_stale() && !entry.is_stale());
        assert_eq!(content_of(&reader).await.expect("right"), old);
        assert_eq!(content_of(&entry).await.expect("right"), new);
        drop((reader, entry));
        assert!(cache.entry(&folder(), &name("m"), &version(1)).await.is_none(), "and drops what is stale");
        assert!(shed.names().iter().all(|file| file == "order"), "{:?}", shed.names());
        // A part goes on only for the same object.
        let part = cache.begin(&folder(), &name("m"), &version(1), &object(&old, "1")).await.expect("begun");
        part.write(0, &old[..CHUNK]).await.expect("written");
        let again = cache.begin(&folder(), &name("m"), &version(1), &object(&old, "2")).await.expect("begun");
        assert!(part.is_stale() && !again.has(0));
        assert!(matches!(part.finish().await, Err(CacheError::Superseded)));
    });
}

#[test]
fn a_command_beside_the_agent_leaves_what_is_used_and_the_agent_misses_what_it_took() {
    let shed = Shed::new();
    let content = bytes(9, CHUNK);
    run(async {
        let cache = shed.open().await;
        let used = store(&cache, "used", version(1), &content).await.expect("stored");
        drop(store(&cache, "idle", version(1), &content).await.expect("stored"));
        let mut staging = cache.stage().await.expect("begun");
        staging.push(b"upload").await.expect("room");
        let beside = Offline::open(&shed.path(), key()).await.expect("there");
        let done = beside.evict(&Wanted::All).await.expect("done");
        assert_eq!((done.removed, done.in_use), (1, 1));
        assert!(cache.entry(&folder(), &name("idle"), &version(1)).await.is_none());
        assert_eq!(cache.facts().entries, 1);
        drop(store(&cache, "idle", version(1), &content).await.expect("again"));
        assert_eq!(content_of(&used).await.expect("right"), content);
        assert_eq!(staging.len(), 6);
        // The directory itself goes: no crash, no wrong byte.
        std::fs::remove_dir_all(shed.path()).expect("removed");
        assert_eq!(content_of(&used).await.expect("an open file stays"), content);
        assert!(cache.entry(&folder(), &name("idle"), &version(1)).await.is_none());
        assert!(store(&cache, "new", version(1), &content).await.is_err());
        assert!(cache.facts().unusable.is_some());
    });
}

#[test]
fn a_cache_that_cannot_be_used_says_so_and_refuses() {
    let shed = Shed::new();
    run(async {
        let first = shed.open().await;
        let second = shed.open().await;
        let told = second.facts().unusable.expect("told");
        assert_eq!(told.message, "another agent uses the cache directory");
        assert!(second.stage().await.is_err() && second.uploads().is_empty());
        assert!(second.entry(&folder(), &name("m"), &version(1)).await.is_none());
        assert!(store(&second, "m", version(1), b"x").await.is_err());
        second.settle().await;
        drop((first, second));
        assert!(shed.open().await.facts().unusable.is_none());
        let file = tempfile::NamedTempFile::new().expect("a file");
        let blocked = Cache::open(settings(file.path())).await;
        assert_eq!(blocked.facts().unusable.expect("told").code, crate::error::Code::CacheUnavailable);
    });
}

#[test]
fn what_is_too_long_is_refused_at_its_bound() {
    let shed = Shed::new();
    run(async {
        let cache = shed.open().await;
        let begin = async |size, etag: usize| {
            let object = Object { size, etag: "e".repeat(etag) };
            cache.begin(&folder(), &name("m"), &version(1), &object).await.map(drop)
        };
        begin(1, CACHE_ETAG_BYTES).await.expect("at the bound");
        assert!(matches!(begin(1, CACHE_ETAG_BYTES + 1).await, Err(CacheError::Unfit { size: 1 })));
        let most = crate::limits::CACHE_OBJECT_BYTES;
        assert!(!matches!(begin(most, 1).await, Err(CacheError::Unfit { .. })));
        assert!(matches!(begin(most + 1, 1).await, Err(CacheError::Unfit { .. })));
        let small = vec![1; CACHE_SMALL_BYTES + 1];
        assert!(matches!(cache.keep_small(&folder(), &name("m"), &small, None).await, Err(CacheError::TooLong { .. })));
        cache.keep_small(&folder(), &name("m"), &small[1..], None).await.expect("at the bound");
        // An object without a byte is whole at once.
        let empty = cache.begin(&folder(), &name("empty"), &version(1), &object(b"", "e")).await.expect("begun");
        empty.finish().await.expect("whole");
        assert!(matches!(empty.write(0, b"").await, Err(CacheError::WrongLength { .. })));
    });
}

#[test]
fn a_staging_that_is_dropped_leaves_nothing() {
    let flash = model::Model::new(1 << 30);
    run(async {
        let cache = Cache::open_on(flash.clone(), 1 << 30, 0, key()).await;
        let mut staging = cache.stage().await.expect("begun");
        staging.push(&bytes(1, 100_000)).await.expect("room");
        assert!(cache.facts().bytes > 0);
        drop(staging);
        assert_eq!(cache.facts().bytes, 0);
        assert!(flash.files().is_empty(), "{:?}", flash.files());
    });
}
