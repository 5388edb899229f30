//! One reading of an archive from front to back, by two threads: one reads and hashes chunks, the other decrypts them and
//! checks what is inside.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::fs::Advice;

use crate::archive::{ArchiveError, WholeCheck};
use crate::crypto::Digest;
use crate::limits::{PUBLISHER_CHUNKS, SEAL_CHUNK_BYTES};
use crate::seal::Chunks;

/// What is done with the chunks' hashes.
#[derive(Clone, Copy)]
pub(super) enum Hashes<'a> {
    /// Nobody has listed any: there are none.
    Unknown,
    /// They are made.
    Make,
    /// They are compared with these.
    Compare(&'a [Digest]),
}

/// What was found.
pub(super) struct Passed {
    /// The hash of each chunk; empty for [`Hashes::Unknown`].
    pub(super) hashes: Vec<Digest>,
    /// Chunks whose hash is not the listed one.
    pub(super) damaged: Vec<u64>,
    /// What the inner check said. It ends at the first damaged chunk, and then says nothing.
    pub(super) checked: Result<(), ArchiveError>,
}

/// A chunk on its way to the check.
struct Chunk {
    bytes: Vec<u8>,
    number: u64,
    is_right: bool,
}

/// The hashes in a seal, as a list.
pub(super) fn listed(chunks: &Chunks<'_>) -> Vec<Digest> {
    chunks.iter().collect()
}

/// Reads the first `length` bytes of `file`; `done` follows.
///
/// # Errors
/// A read failed, or the file has become shorter.
pub(super) fn run(
    file: &File,
    length: u64,
    hashes: Hashes<'_>,
    check: Option<WholeCheck>,
    mut done: impl FnMut(u64),
) -> io::Result<Passed> {
    // A hint: where it is refused, reading is merely slower.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
    let (send, chunks) = sync_channel(PUBLISHER_CHUNKS);
    let (give_back, free) = sync_channel(PUBLISHER_CHUNKS);
    thread::scope(|scope| {
        let reader = scope.spawn(move || read(file, length, hashes, &send, &free));
        let mut check = check.map(Ok);
        let mut damaged = Vec::new();
        for Chunk { mut bytes, number, is_right } in chunks {
            if !is_right {
                damaged.push(number);
                // Behind a gap nothing can be checked.
                check = None;
            }
            check = check.map(|check| {
                let mut check = check?;
                check.take(&mut bytes)?;
                Ok(check)
            });
            done((number * SEAL_CHUNK_BYTES + bytes.len() as u64).min(length));
            // The reader may have read all it wants.
            let _reader_may_be_done = give_back.try_send(bytes);
        }
        let hashes = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let checked = check.map_or(Ok(()), |check| check?.finish());
        Ok(Passed { hashes, damaged, checked })
    })
}

fn read(
    file: &File,
    length: u64,
    hashes: Hashes<'_>,
    send: &SyncSender<Chunk>,
    free: &Receiver<Vec<u8>>,
) -> io::Result<Vec<Digest>> {
    let mut found = Vec::new();
    for number in 0..length.div_ceil(SEAL_CHUNK_BYTES) {
        let from = number * SEAL_CHUNK_BYTES;
        let len = usize::try_from(SEAL_CHUNK_BYTES.min(length - from)).expect("a chunk fits in memory");
        // As many as the channels hold are made, then the same ones go round.
        let mut bytes = free.try_recv().unwrap_or_default();
        bytes.resize(len, 0);
        file.read_exact_at(&mut bytes, from)?;
        let is_right = match hashes {
            Hashes::Unknown => true,
            Hashes::Make | Hashes::Compare(_) => {
                let hash = Digest::of(&bytes);
                found.push(hash);
                let listed = |listed: &[Digest]| listed.get(found.len() - 1) == Some(&hash);
                !matches!(hashes, Hashes::Compare(list) if !listed(list))
            }
        };
        if send.send(Chunk { bytes, number, is_right }).is_err() {
            break;
        }
    }
    Ok(found)
}
