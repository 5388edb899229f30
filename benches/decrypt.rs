//! Decryption of an archive, one thread, against `openssl enc -d -aes-256-cbc` on the same file in the same run.
//!
//! Four ways, medians of [`RUNS`]: openssl; our cipher alone over memory; the archive's plain text front to back (file,
//! loop and cipher: what is compared with openssl, DESIGN: ≥ 0.9 ×); the tar as it goes to the engine (every layer
//! hashed on the way).
//!
//! `cargo bench --bench decrypt`; `AZAION_BENCH_MIB` sets the size (default 1024).

#![expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "sizes of a bench, far below 2^52")]

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use azaion_loader::archive::Archive;
use azaion_loader::crypto::{AesKey, Decryptor, Digest, Encryptor, Fragment, Sealer, Sha256};
use azaion_loader::limits::PIECE_BYTES;
use azaion_loader::net::turn;
use smol::LocalExecutor;

/// Each way is taken so often; the median counts.
const RUNS: usize = 7;

/// The key fragment of the archive.
const FRAGMENT: &[u8] = b"a fragment for the bench";

fn main() {
    let mib: u64 = std::env::var("AZAION_BENCH_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(1024);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("space in the target directory");
    let path = dir.path().join("images.enc");
    let len = make_archive(&path, mib << 20);
    println!("archive of {} MiB, medians of {RUNS} runs, one thread, page cache warm", len >> 20);

    // In turns, so that a busy neighbour meets all of them alike.
    let mut times: [Vec<Duration>; 5] = Default::default();
    for _ in 0..RUNS {
        times[0].push(openssl(&path));
        times[1].push(cipher_alone(len));
        times[2].push(plain_text(&path));
        times[3].push(to_the_engine(&path));
        times[4].push(hash_alone(len));
    }
    let [openssl, cipher, plain, engine, hash] = times.map(median);
    let rate = |time: Duration| len as f64 / time.as_secs_f64() / 1e9;
    for (name, time) in [
        ("openssl enc -d", openssl),
        ("cipher alone", cipher),
        ("archive, plain text", plain),
        ("archive, layers checked", engine),
        ("sha-256 alone", hash),
    ] {
        println!("{name:24} {:6.2} GB/s  {:5.2} x openssl", rate(time), openssl.as_secs_f64() / time.as_secs_f64());
    }
}

fn key() -> AesKey {
    Fragment::new(FRAGMENT.to_vec()).expect("a possible fragment").archive_key()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// One image with one layer of `len` bytes.
fn make_archive(path: &Path, len: u64) -> u64 {
    let noise: Vec<u8> = (0..PIECE_BYTES).map(|i| (i * i % 251) as u8).collect();
    let mut hash = Sha256::new();
    (0..len / noise.len() as u64).for_each(|_| hash.update(&noise));
    let diff_id = hash.finish();
    let mut file = File::create(path).expect("space");
    let mut sealer = Sealer::new(&key(), [7; 16]);
    let mut out = Vec::new();
    let mut member = |name: &str, pieces: &mut dyn Iterator<Item = &[u8]>, len: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).expect("short");
        header.set_size(len);
        header.set_cksum();
        let mut put = |piece: &[u8]| {
            out.clear();
            sealer.push(piece, &mut out);
            file.write_all(&out).expect("space");
        };
        put(header.as_bytes());
        pieces.for_each(&mut put);
        put(&vec![0; (len.next_multiple_of(512) - len) as usize]);
    };
    let config = format!(r#"{{"os":"linux","rootfs":{{"diff_ids":["{diff_id}"]}}}}"#);
    let manifest = r#"[{"Config":"c","RepoTags":["bench:1"],"Layers":["l"]}]"#;
    let count = (len / noise.len() as u64) as usize;
    member("l", &mut std::iter::repeat_n(noise.as_slice(), count), len / noise.len() as u64 * noise.len() as u64);
    member("c", &mut [config.as_bytes()].into_iter(), config.len() as u64);
    member("manifest.json", &mut [manifest.as_bytes()].into_iter(), manifest.len() as u64);
    out.clear();
    sealer.push(&[0; 1024], &mut out);
    sealer.finish(&mut out);
    file.write_all(&out).expect("space");
    fs::metadata(path).expect("just written").len()
}

fn openssl(path: &Path) -> Duration {
    let key = Digest::of(FRAGMENT).hex();
    let iv = "07".repeat(16);
    // openssl wants the IV apart: it reads from behind the first block.
    let mut file = File::open(path).expect("the archive");
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(16)).expect("seekable");
    let started = Instant::now();
    let status = Command::new("openssl")
        .args(["enc", "-d", "-aes-256-cbc", "-bufsize", "65536", "-K", &key, "-iv", &iv])
        .stdin(file)
        .stdout(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(status.success());
    started.elapsed()
}

fn cipher_alone(len: u64) -> Duration {
    let mut buf = vec![0; PIECE_BYTES];
    Encryptor::new(&key(), &[7; 16]).blocks(&mut buf);
    let mut decryptor = Decryptor::new(&key(), &[7; 16]);
    let started = Instant::now();
    (0..len / PIECE_BYTES as u64).for_each(|_| decryptor.blocks(std::hint::black_box(&mut buf)));
    started.elapsed()
}

fn hash_alone(len: u64) -> Duration {
    let buf = vec![1; PIECE_BYTES];
    let mut hash = Sha256::new();
    let started = Instant::now();
    (0..len / PIECE_BYTES as u64).for_each(|_| hash.update(std::hint::black_box(&buf)));
    std::hint::black_box(hash.finish());
    started.elapsed()
}

fn plain_text(path: &Path) -> Duration {
    turn::block_on(&LocalExecutor::new(), async {
        let started = Instant::now();
        let archive = Archive::open(path, key(), &Cell::new(0)).await.expect("a good archive");
        let (mut at, mut buf) = (0, Vec::new());
        while at < archive.tar_len() {
            buf.resize(PIECE_BYTES.min((archive.tar_len() - at) as usize), 0);
            buf = archive.read_into(at, buf).await.expect("a good archive");
            at += std::hint::black_box(&buf).len() as u64;
        }
        started.elapsed()
    })
}

fn to_the_engine(path: &Path) -> Duration {
    turn::block_on(&LocalExecutor::new(), async {
        let started = Instant::now();
        let archive = Archive::open(path, key(), &Cell::new(0)).await.expect("a good archive");
        let mut tar = archive.tar();
        while let Some(piece) = tar.next().await.expect("a good archive") {
            std::hint::black_box(piece);
        }
        started.elapsed()
    })
}
