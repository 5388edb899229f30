//! The ways to tamper with an archive: what a thief, the CDN's owner or bad flash can do without the key.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Bytes of a chunk (docs/FORMAT.md).
pub(crate) const CHUNK: usize = 256 * 1024;

const BLOCK: usize = 16;

/// What the publisher made.
pub(crate) struct Original {
    pub(crate) archive: Vec<u8>,
    pub(crate) seal: Vec<u8>,
    /// Where in the plain tar a stretch of zeros begins that is longer than the end of a tar.
    pub(crate) zeros: usize,
    /// Where in the plain tar a member begins, behind the first one.
    pub(crate) member: usize,
    /// An earlier release, with its seal.
    pub(crate) old: (Vec<u8>, Vec<u8>),
}

/// How the file comes to lie there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lies {
    Whole,
    /// This chunk is a hole.
    Sparse(usize),
    /// It grows for as long as it is read.
    Growing,
}

/// A forgery.
pub(crate) struct Tamper {
    pub(crate) what: String,
    pub(crate) archive: Vec<u8>,
    pub(crate) seal: Vec<u8>,
    pub(crate) lies: Lies,
    /// The code behind a seal.
    pub(crate) sealed: &'static str,
}

impl Tamper {
    fn of(what: impl Into<String>, archive: Vec<u8>, original: &Original) -> Self {
        let seal = original.seal.clone();
        Self { what: what.into(), archive, seal, lies: Lies::Whole, sealed: "archive_not_authentic" }
    }

    /// Puts it in the place of the archive; whoever gets the guard drops it when it was read.
    pub(crate) fn put(&self, archive: &Path) -> Option<Growth> {
        let new = archive.with_extension("new");
        match self.lies {
            Lies::Sparse(chunk) => {
                let file = File::create(&new).expect("created");
                file.set_len(self.archive.len() as u64).expect("sparse");
                for (number, bytes) in self.archive.chunks(CHUNK).enumerate().filter(|(number, _)| *number != chunk) {
                    std::os::unix::fs::FileExt::write_all_at(&file, bytes, (number * CHUNK) as u64).expect("written");
                }
            }
            Lies::Whole | Lies::Growing => fs::write(&new, &self.archive).expect("written"),
        }
        fs::rename(&new, archive).expect("renamed");
        (self.lies == Lies::Growing).then(|| Growth::of(archive))
    }
}

/// A file that grows until this is dropped.
pub(crate) struct Growth {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Growth {
    fn of(archive: &Path) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let mut file = OpenOptions::new().append(true).open(archive).expect("there");
        let ended = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                file.write_all(&[7; 16]).expect("written");
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it writes");
        }
    }
}

/// All of them.
pub(crate) fn all(original: &Original) -> Vec<Tamper> {
    let mut all = Vec::new();
    in_place(original, &mut all);
    in_chunks(original, &mut all);
    in_length(original, &mut all);

    // The IV makes the first plain block; after it everything is right.
    let mut spliced = original.archive.clone();
    let (from, to) = (BLOCK + original.zeros, BLOCK + original.member);
    // One block more in front: what stands before zeros decides what the first one decrypts to.
    spliced.copy_within(from..from + 1024 + BLOCK, to - BLOCK);
    all.push(Tamper::of("an early end of the tar, spliced from zeros", spliced, original));

    let (old, old_seal) = &original.old;
    let mut older = Tamper::of("an old archive with its old seal", old.clone(), original);
    older.seal.clone_from(old_seal);
    older.sealed = "archive_older";
    all.push(older);
    all.push(Tamper::of("an old archive with the new seal", old.clone(), original));
    let mut stale = Tamper::of("the archive with an old seal", original.archive.clone(), original);
    stale.seal.clone_from(old_seal);
    all.push(stale);
    let mut cut = Tamper::of("half a seal", original.archive.clone(), original);
    cut.seal.truncate(original.seal.len() / 2);
    all.push(cut);
    let mut empty = Tamper::of("an empty seal", original.archive.clone(), original);
    empty.seal.clear();
    all.push(empty);
    for at in [0, 8, 12, 44, 52, 61, 90, original.seal.len() - 40, original.seal.len() - 1] {
        let mut flipped = Tamper::of(format!("a bit of the seal at {at}"), original.archive.clone(), original);
        flipped.seal[at] ^= 1;
        all.push(flipped);
    }
    all
}

/// The first, a middle and the last chunk.
fn places(archive: &[u8]) -> [(&'static str, usize); 3] {
    let last = (archive.len() - 1) / CHUNK;
    [("first", 0), ("middle", last / 2), ("last", last)]
}

fn in_place(original: &Original, all: &mut Vec<Tamper>) {
    let edited = |edit: &dyn Fn(&mut [u8])| {
        let mut archive = original.archive.clone();
        edit(&mut archive);
        archive
    };
    all.push(Tamper::of("a bit of the IV", edited(&|bytes| bytes[3] ^= 1), original));
    for (place, chunk) in places(&original.archive) {
        let start = chunk * CHUNK;
        let end = (start + CHUNK).min(original.archive.len());
        let inside = start + (end - start) / 2;
        all.push(Tamper::of(format!("a bit in the {place} chunk"), edited(&|bytes| bytes[inside] ^= 0x10), original));
        if chunk > 0 {
            let what = format!("a bit in the block before the {place} chunk");
            all.push(Tamper::of(what, edited(&|bytes| bytes[start - 1] ^= 1), original));
        }
        let foreign = edited(&|bytes| {
            let from = &original.old.0[..end - start];
            bytes[start..end].copy_from_slice(from);
        });
        all.push(Tamper::of(format!("another archive's chunk as the {place} one"), foreign, original));
        let hole = edited(&|bytes| bytes[start..end].fill(0));
        all.push(Tamper {
            lies: Lies::Sparse(chunk),
            ..Tamper::of(format!("a hole as the {place} chunk"), hole, original)
        });
    }
}

fn in_chunks(original: &Original, all: &mut Vec<Tamper>) {
    let chunks: Vec<&[u8]> = original.archive.chunks(CHUNK).collect();
    let [(_, first), (_, middle), (_, last)] = places(&original.archive);
    for (one, other) in [(first, middle), (middle, last - 1)] {
        let mut swapped = chunks.clone();
        swapped.swap(one, other);
        all.push(Tamper::of(format!("chunks {one} and {other} swapped"), swapped.concat(), original));
    }
    for (place, chunk) in places(&original.archive) {
        let mut dropped = chunks.clone();
        dropped.remove(chunk);
        all.push(Tamper::of(format!("the {place} chunk dropped"), dropped.concat(), original));
        let mut doubled = chunks.clone();
        doubled.insert(chunk, chunks[chunk]);
        all.push(Tamper::of(format!("the {place} chunk doubled"), doubled.concat(), original));
    }
}

fn in_length(original: &Original, all: &mut Vec<Tamper>) {
    let archive = &original.archive;
    let half = archive.len() / 2 / BLOCK * BLOCK;
    for (what, len) in [
        ("at a block", half + BLOCK),
        ("at a chunk", CHUNK),
        ("at half", half),
        ("to nothing", 0),
        ("by its last block", archive.len() - BLOCK),
        ("within a block", archive.len() - 1),
    ] {
        all.push(Tamper::of(format!("cut {what}"), archive[..len].to_vec(), original));
    }
    for (what, more) in [("1 byte", 1), ("16 bytes", 16), ("1 MiB", 1 << 20)] {
        let longer = [archive.as_slice(), &vec![0x5a; more]].concat();
        all.push(Tamper::of(format!("{what} appended"), longer, original));
    }
    all.push(Tamper { lies: Lies::Growing, ..Tamper::of("a file that grows", archive.clone(), original) });
}
