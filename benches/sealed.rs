//! Opening an archive of 10 GiB through its seal and without one, and reading a real one to its end both ways.
//!
//! The large one is sparse: 60 layers that are holes, between headers and documents that are not. Behind a seal each
//! place that is looked at costs a chunk of 256 KiB, and the list of 40,960 hashes its tag.
//!
//! `cargo bench --bench sealed`; `AZAION_BENCH_MIB` sets the size of the one that is read (default 1024).

#![expect(clippy::cast_precision_loss, reason = "sizes of a bench, far below 2^52")]

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use azaion_loader::archive::{self, Archive, Image, ReadAt, Sealed, Source};
use azaion_loader::crypto::{AesKey, BLOCK, Digest, Encryptor, Fragment, Sha256, pad};
use azaion_loader::limits::{PIECE_BYTES, SEAL_CHUNK_BYTES};
use azaion_loader::net::turn;
use azaion_loader::seal::{ArchiveClaim, ArchiveDraft, ArchiveSeal};
use serde_json::json;
use smol::LocalExecutor;

/// Each way is taken so often, in turns; the median counts.
const RUNS: usize = 7;

/// The large one.
const SPARSE_BYTES: u64 = 10 << 30;

/// Its layers.
const LAYERS: u64 = 60;

fn main() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("space in the target directory");
    let sparse = dir.path().join("sparse.enc");
    write(&sparse, LAYERS, SPARSE_BYTES / LAYERS / 512 * 512);
    let seal = run(sealed(&sparse));
    let (mut bare, mut behind) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        bare.push(timed(|| drop(run(open(&sparse, None)))));
        behind.push(timed(|| drop(run(open(&sparse, Some(seal.clone()))))));
    }
    let length = sparse.metadata().expect("written").len();
    println!("opening {:.1} GiB, {LAYERS} layers, sparse; medians of {RUNS}, page cache warm", gib(length));
    println!("without a seal  {:8.2?}", median(bare));
    println!("sealed          {:8.2?}  the tag over {} bytes of seal compared each time", median(behind), seal.len());

    let mib: u64 = std::env::var("AZAION_BENCH_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(1024);
    let path = dir.path().join("images.enc");
    write(&path, 8, (mib << 20) / 8);
    fill(&path);
    let seal = run(sealed(&path));
    let (mut bare, mut behind) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        bare.push(timed(|| run(read(&path, None))));
        behind.push(timed(|| run(read(&path, Some(seal.clone())))));
    }
    let (bare, behind) = (median(bare), median(behind));
    let rate = |time: Duration| (mib << 20) as f64 / time.as_secs_f64() / 1e9;
    println!("layers of {mib} MiB as they go to the engine; medians of {RUNS}, one thread, page cache warm");
    println!("without a seal  {:5.2} GB/s, each layer hashed", rate(bare));
    println!("sealed          {:5.2} GB/s, each chunk hashed: {:.2} x the time", rate(behind), ratio(behind, bare));
}

fn run<T>(main: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), main)
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

fn key() -> AesKey {
    Fragment::new(b"a fragment for the bench".to_vec()).expect("a possible fragment").archive_key()
}

/// An archive whose layers are holes in the ciphertext: CBC goes on behind one from its last block, which is zero.
fn write(path: &Path, layers: u64, layer_bytes: u64) {
    let file = File::create(path).expect("created");
    let mut at = BLOCK as u64;
    let mut iv = [0; BLOCK];
    let mut put = |mut plain: Vec<u8>, hole: u64| {
        Encryptor::new(&key(), &iv).blocks(&mut plain);
        file.write_all_at(&plain, at).expect("written");
        at += plain.len() as u64 + hole;
        iv = [0; BLOCK];
    };
    let diff_ids: Vec<Digest> = (0..layers).map(|layer| Digest::of(&layer.to_be_bytes())).collect();
    for layer in 0..layers {
        put(header(&format!("{layer}/layer.tar"), layer_bytes), layer_bytes);
    }
    let config = json!({"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", Digest::of(&config).hex());
    let paths: Vec<String> = (0..layers).map(|layer| format!("{layer}/layer.tar")).collect();
    let manifest = json!([{"Config": name, "RepoTags": ["bench:1"], "Layers": paths}]).to_string().into_bytes();
    let mut rest = Vec::new();
    for (name, content) in [(name.as_str(), config), ("manifest.json", manifest)] {
        rest.extend(header(name, content.len() as u64));
        rest.extend(&content);
        rest.resize(rest.len().next_multiple_of(512), 0);
    }
    rest.extend([0; 1024]);
    rest.extend(pad(&[]));
    put(rest, 0);
}

/// Puts what is not a hole into the holes, so that it is read from memory as anything else is.
fn fill(path: &Path) {
    let file = File::options().read(true).write(true).open(path).expect("written");
    let length = file.metadata().expect("written").len();
    let mut piece = vec![0; PIECE_BYTES];
    for at in (0..length - 64 * 1024).step_by(PIECE_BYTES) {
        file.read_exact_at(&mut piece, at).expect("there");
        file.write_all_at(&piece, at).expect("written");
    }
}

fn header(name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).expect("short");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// The bytes of the archive's seal.
async fn sealed(path: &Path) -> Vec<u8> {
    let archive = Archive::open(path, key(), &Cell::new(0)).await.expect("an archive");
    let file = File::open(path).expect("written");
    let length = file.metadata().expect("written").len();
    let mut chunks = Vec::new();
    let mut buffer = Vec::new();
    for from in (0..length).step_by(usize::try_from(SEAL_CHUNK_BYTES).expect("fits")) {
        buffer.resize(usize::try_from(SEAL_CHUNK_BYTES.min(length - from)).expect("fits"), 0);
        file.read_exact_at(&mut buffer, from).expect("there");
        let mut hash = Sha256::new();
        hash.update(&buffer);
        chunks.push(hash.finish());
    }
    let draft = ArchiveDraft {
        id: [1; 32],
        name: &"images".parse().expect("a name"),
        version: 1,
        length,
        images: archive.images().iter().map(Image::as_sealed).collect(),
        chunks: &chunks,
        iv: [2; BLOCK],
    };
    draft.seal(&key()).await.expect("within the bounds")
}

/// Everything that an unlock does before it looks at the engine, behind the reading of the seal's file.
async fn open(path: &Path, seal: Option<Vec<u8>>) -> Archive {
    let file = archive::File::open(path).await.expect("written");
    let source = match seal {
        None => Source::Bare(file),
        Some(bytes) => {
            let seal: ArchiveSeal =
                ArchiveClaim::parse(bytes).expect("a seal").authenticate(&key()).await.expect("ours");
            Source::Sealed(Box::new(Sealed::new(file, seal).expect("of this archive")))
        }
    };
    assert!(!source.is_empty());
    Archive::open_source(source, key(), &Cell::new(0)).await.expect("an archive")
}

/// All layers, as the engine gets them. Their digests are not right: they are hashed all the same.
async fn read(path: &Path, seal: Option<Vec<u8>>) {
    let archive = open(path, seal).await;
    for layer in &archive.images()[0].layers {
        let place = archive::Place { offset: layer.offset, size: layer.size };
        let (mut span, mut piece) = (archive.span(place, layer.stored_digest()), Vec::new());
        loop {
            match span.next(piece).await {
                Ok(next) if next.is_empty() => break,
                Ok(next) => piece = next,
                // Told with the last piece.
                Err(archive::ArchiveError::Digest { .. }) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}
