//! Behind a seal: what is read is what was sealed, and everything else is one and the same error.

use std::cell::{Cell, RefCell};

use proptest::prelude::*;
use serde_json::json;
use smol::LocalExecutor;

use super::samples;
use super::*;
use crate::crypto::{AesKey, BLOCK, Digest, Sealer};
use crate::limits::{ENGINE_LANES, SEALED_CHUNKS_KEPT};
use crate::net::turn;
use crate::seal::forgery::changes;
use crate::seal::{ArchiveClaim, ArchiveDraft, ArchiveSeal, SealedImage};
use crate::secret::SecretArray;

const CHUNK: usize = 256 * 1024;

fn run<T>(main: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), main)
}

fn key(byte: u8) -> AesKey {
    AesKey::new(SecretArray::fill(|key| key.fill(byte)))
}

fn encrypt(plain: &[u8]) -> Vec<u8> {
    let (mut sealer, mut out) = (Sealer::new(&key(3), [5; BLOCK]), Vec::new());
    sealer.push(plain, &mut out);
    sealer.finish(&mut out);
    out
}

/// An image whose layer fills three chunks and a bit, sealed.
struct Sample {
    tar: Vec<u8>,
    archive: Vec<u8>,
    images: Vec<SealedImage>,
}

impl Sample {
    fn new() -> Self {
        let layers = [samples::layer(1, 2 * CHUNK + 7000)];
        let config = samples::config(&layers);
        let name = format!("{}.json", samples::hex(&config));
        let mut tar = samples::Tar::new();
        tar.file("one/layer.tar", &layers[0]).file(&name, &config);
        tar.json("manifest.json", &json!([{"Config": name, "RepoTags": ["one:1"], "Layers": ["one/layer.tar"]}]));
        let tar = tar.finish();
        let images = images(&tar);
        let archive = encrypt(&tar);
        Self { tar, archive, images }
    }

    fn seal(&self) -> ArchiveSeal {
        seal(&self.archive, self.images.clone())
    }
}

fn images(tar: &[u8]) -> Vec<SealedImage> {
    let archive = run(Archive::open_source(encrypt(tar), key(3), &Cell::new(0))).expect("an archive");
    archive.images().iter().map(Image::as_sealed).collect()
}

fn seal(archive: &[u8], images: Vec<SealedImage>) -> ArchiveSeal {
    let chunks: Vec<Digest> = archive.chunks(CHUNK).map(Digest::of).collect();
    let draft = ArchiveDraft {
        id: [1; 32],
        name: &"images".parse().expect("a name"),
        version: 1,
        length: archive.len() as u64,
        images,
        chunks: &chunks,
        iv: [2; BLOCK],
    };
    run(async {
        let bytes = draft.seal(&key(3)).await.expect("within the bounds");
        ArchiveClaim::parse(bytes).expect("a seal").authenticate(&key(3)).await.expect("ours")
    })
}

/// Reads the whole tar; what came out before an error, and the error.
fn read<R: ReadAt>(source: R, seal: ArchiveSeal) -> (Vec<u8>, Option<ArchiveError>) {
    let mut all = Vec::new();
    let done = run(async {
        let archive = Archive::open_source(Sealed::new(source, seal)?, key(3), &Cell::new(0)).await?;
        let mut tar = archive.tar();
        while let Some(piece) = tar.next().await? {
            all.extend_from_slice(piece);
        }
        Ok(())
    });
    (all, done.err())
}

#[test]
fn what_was_sealed_is_read_from_anywhere() {
    let sample = Sample::new();
    assert!(sample.archive.len() > 2 * CHUNK, "more than two chunks, to be worth it");
    let (tar, error) = read(sample.archive.clone(), sample.seal());
    assert!(error.is_none() && tar == sample.tar, "{error:?}");
    run(async {
        let sealed = Sealed::new(sample.archive.clone(), sample.seal()).expect("its length is right");
        for (from, len) in [(0, 1), (CHUNK - 1, 2), (7, 2 * CHUNK), (sample.archive.len() - 5, 5)] {
            let read = sealed.read_at(from as u64, vec![0; len]).await.expect("there");
            assert!(read == sample.archive[from..from + len], "{from}");
        }
        let beyond = sealed.read_at(sample.archive.len() as u64 - 2, vec![0; 9]).await.expect("short");
        assert_eq!(beyond, sample.archive[sample.archive.len() - 2..]);
    });
}

#[test]
fn images_that_the_seal_does_not_name_are_refused() {
    let sample = Sample::new();
    let mut images = sample.images.clone();
    images[0].tags[0].push('x');
    let (tar, error) = read(sample.archive.clone(), seal(&sample.archive, images));
    assert!(tar.is_empty() && matches!(error, Some(ArchiveError::NotAuthentic)), "{error:?}");
}

#[test]
fn sealed_and_yet_damaged_or_cut_looks_like_any_other_forgery() {
    let sample = Sample::new();
    let other = encrypt(b"readable, and no archive. ".repeat(40).as_slice());
    let cut = sample.archive[..sample.archive.len() - BLOCK].to_vec();
    let mut flipped = sample.archive.clone();
    flipped[3000] ^= 1;
    for archive in [other, cut, flipped] {
        let seal = seal(&archive, sample.images.clone());
        let (_, error) = read(archive, seal);
        assert!(matches!(error, Some(ArchiveError::NotAuthentic)), "{error:?}");
    }
}

/// Counts what is read of it.
struct Counted {
    bytes: Vec<u8>,
    reads: RefCell<Vec<(u64, usize)>>,
}

impl ReadAt for Counted {
    fn len(&self) -> u64 {
        ReadAt::len(&self.bytes)
    }

    async fn read_at(&self, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        self.reads.borrow_mut().push((offset, buf.len()));
        self.bytes.read_at(offset, buf).await
    }

    async fn unchanged(&self) -> Result<bool, ArchiveError> {
        Ok(true)
    }
}

#[test]
fn each_chunk_is_read_once_from_front_to_back_and_the_one_that_was_read_to_its_end_goes_first() {
    let bytes: Vec<u8> = (0..=255).cycle().take(8 * CHUNK).collect();
    let (chunks, seal) = (bytes.len() / CHUNK, seal(&bytes, vec![]));
    let counted = Counted { bytes, reads: RefCell::default() };
    let sealed = Sealed::new(&counted, seal).expect("its length is right");
    run(async {
        for at in (0..chunks * CHUNK).step_by(CHUNK / 4) {
            sealed.read_at(at as u64, vec![0; CHUNK / 4]).await.expect("there");
        }
        let reads: Vec<_> = (0..chunks).map(|chunk| ((chunk * CHUNK) as u64, CHUNK)).collect();
        assert_eq!(*counted.reads.borrow(), reads);
        counted.reads.borrow_mut().clear();
        for chunk in (0..SEALED_CHUNKS_KEPT - 1).chain([chunks - 1]) {
            sealed.read_at((chunk * CHUNK) as u64, vec![0; 1]).await.expect("there");
        }
        assert_eq!(*counted.reads.borrow(), [], "these are kept");
        let gone = ((chunks - 2) * CHUNK) as u64;
        sealed.read_at(gone, vec![0; 1]).await.expect("there");
        assert_eq!(*counted.reads.borrow(), [(gone, CHUNK)]);
    });
}

#[test]
fn who_reads_slowly_keeps_its_chunk_beside_who_reads_on() {
    let bytes: Vec<u8> = (0..=255).cycle().take(3 * SEALED_CHUNKS_KEPT * CHUNK).collect();
    let (chunks, seal) = (bytes.len() / CHUNK, seal(&bytes, vec![]));
    let counted = Counted { bytes, reads: RefCell::default() };
    let sealed = Sealed::new(&counted, seal).expect("its length is right");
    run(async {
        for lane in 0..ENGINE_LANES - 1 {
            sealed.read_at((lane * CHUNK) as u64, vec![0; 1]).await.expect("there");
        }
        for chunk in ENGINE_LANES..chunks {
            sealed.read_at((chunk * CHUNK) as u64, vec![0; CHUNK]).await.expect("there");
        }
        counted.reads.borrow_mut().clear();
        for lane in 0..ENGINE_LANES - 1 {
            sealed.read_at((lane * CHUNK) as u64 + 1, vec![0; 1]).await.expect("there");
        }
        assert_eq!(*counted.reads.borrow(), [], "none is read again");
    });
}

#[test]
fn readers_side_by_side_hold_no_more_than_the_bound() {
    let bytes: Vec<u8> = (0..=255).cycle().take(16 * CHUNK).collect();
    let seal = seal(&bytes, vec![]);
    let waiting = Waiting(bytes);
    let sealed = Sealed::new(&waiting, seal).expect("its length is right");
    run(async {
        for round in 0..4 {
            let lanes = (0..ENGINE_LANES).map(|lane| ((round * ENGINE_LANES + lane) * CHUNK) as u64);
            let most = Cell::new(0);
            let readers = futures_util::future::join_all(lanes.map(async |at| {
                let read = sealed.read_at(at, vec![0; 1]).await;
                most.set(most.get().max(sealed.held()));
                read.expect("there")
            }));
            let (_, held) = smol::future::zip(readers, async {
                smol::future::yield_now().await;
                sealed.held()
            })
            .await;
            let most = most.get().max(held);
            assert!((ENGINE_LANES as u64..=SEALED_CHUNKS_KEPT as u64).contains(&most), "{most} in round {round}");
        }
        // Who gives up gives its place back.
        let gives_up = sealed.read_at(0, vec![0; 1]);
        assert!(smol::future::poll_once(gives_up).await.is_none(), "it waits");
        assert!(sealed.held() < SEALED_CHUNKS_KEPT as u64, "{}", sealed.held());
    });
}

/// A file that does not answer at once.
struct Waiting(Vec<u8>);

impl ReadAt for Waiting {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read_at(&self, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        smol::future::yield_now().await;
        smol::future::yield_now().await;
        self.0.read_at(offset, buf).await
    }

    async fn unchanged(&self) -> Result<bool, ArchiveError> {
        Ok(true)
    }
}

impl<R: ReadAt> ReadAt for &R {
    fn len(&self) -> u64 {
        R::len(self)
    }

    async fn read_at(&self, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        R::read_at(self, offset, buf).await
    }

    async fn unchanged(&self) -> Result<bool, ArchiveError> {
        R::unchanged(self).await
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// What comes out is a beginning of what was sealed, and then the one error.
    #[test]
    fn a_changed_archive_is_refused(changes in changes(CHUNK)) {
        thread_local! {
            static SAMPLE: Sample = Sample::new();
            static SEAL: ArchiveSeal = SAMPLE.with(Sample::seal);
        }
        SAMPLE.with(|sample| {
            let mut changed = sample.archive.clone();
            for change in &changes {
                change.apply(&mut changed);
            }
            let is_same = changed == sample.archive;
            let (tar, error) = read(changed, SEAL.with(Clone::clone));
            prop_assert!(sample.tar.starts_with(&tar));
            match error {
                None => prop_assert!(is_same),
                Some(error) => prop_assert!(matches!(error, ArchiveError::NotAuthentic), "{error:?}"),
            }
            Ok(())
        })?;
    }
}
