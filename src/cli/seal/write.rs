//! `seal`: from a tar to an archive and its seal, in one reading of the tar.
//!
//! What was written is read back and checked wholly before it gets a name: a fault of the tar, of the memory or of the disk
//! is told here and not on the boards.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::SystemTime;

use super::super::draft::{Draft, publish};
use super::pass::{self, Hashes};
use super::{Opened, SEAL, SIGNATURE, Shown, failed, is_unchanged, key, open_archive, refused, told, with_ending};
use crate::archive::{Archive, Image};
use crate::cli::args::{SealOptions, Sealed};
use crate::cli::meter::Meter;
use crate::cli::screen::{Screen, size};
use crate::cli::{Failure, exit};
use crate::crypto::{AesKey, BLOCK, Digest, Sealer};
use crate::limits::{PUBLISHER_CHUNKS, SEAL_CHUNK_BYTES, SEAL_LENGTH_BYTES};
use crate::net::turn;
use crate::seal::ArchiveDraft;

/// What can be done about a tar that makes no archive.
const MAKE_AGAIN: &str =
    "make the tar again with docker save; boards load what it writes, also compressed with gzip or zstd";

pub(in crate::cli) fn run(options: &SealOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let key = key(&options.key_fragment, screen)?;
    match &options.sealed {
        Sealed::Tar { tar, out } => from_tar(options, tar.as_deref(), out, &key, screen),
        Sealed::Existing(archive) => existing(options, archive, &key, screen),
    }?;
    Ok(exit::DONE)
}

fn from_tar(
    options: &SealOptions,
    tar: Option<&Path>,
    out: &Path,
    key: &AesKey,
    screen: &mut Screen<'_>,
) -> Result<(), Failure> {
    let beside = with_ending(out, SEAL);
    nothing_there([out, &beside], options.forces)?;
    let (mut input, total) = open_tar(tar)?;
    let unwritten = |error: io::Error| unwritten(out, &error);
    let draft = Draft::begin(out).map_err(unwritten)?;

    let mut meter = Meter::new(Some(screen), "encrypting", total);
    let Written { length, hashes } = encrypt(&mut *input, draft.file(), key, out, |bytes| meter.done(bytes))?;
    let wrong = |error| refused("the tar is not one that boards load", &error, MAKE_AGAIN);
    let archive = open_archive(draft.file(), key).map_err(wrong)?;
    let mut meter = Meter::new(Some(screen), "checking", Some(length));
    let check = Some(archive.check(key));
    let read_back = pass::run(draft.file(), length, Hashes::Compare(&hashes), check, |bytes| meter.done(bytes));
    let read_back = read_back.map_err(unwritten)?;
    if !read_back.damaged.is_empty() {
        let next = "check the disk and the memory of this machine, then seal again";
        return Err(failed(format_args!("{} does not read back as it was written\nnext: {next}", told(out))));
    }
    read_back.checked.map_err(wrong)?;

    let seal = seal(options, key, length, &archive, &hashes)?;
    publish(vec![draft, begun(&beside, &seal.bytes)?]).map_err(unwritten)?;
    tell(options, out, length, &seal, &archive, screen);
    Ok(())
}

fn existing(options: &SealOptions, path: &Path, key: &AesKey, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let beside = with_ending(path, SEAL);
    nothing_there([&beside], options.forces)?;
    let opened = Opened::open(path)?;
    let wrong = |error| refused(&told(path), &error, "copy the archive again, or make it again from a tar");
    let archive = opened.archive(key).map_err(wrong)?;
    let mut meter = Meter::new(Some(screen), "checking", Some(opened.length));
    let check = Some(archive.check(key));
    let passed = pass::run(&opened.file, opened.length, Hashes::Make, check, |bytes| meter.done(bytes));
    let passed = passed.map_err(|error| failed(format_args!("read {}: {error}", told(path))))?;
    passed.checked.map_err(wrong)?;
    if !is_unchanged(&archive).map_err(wrong)? {
        return Err(wrong(crate::archive::ArchiveError::Changed));
    }
    let seal = seal(options, key, opened.length, &archive, &passed.hashes)?;
    publish(vec![begun(&beside, &seal.bytes)?]).map_err(|error| unwritten(&beside, &error))?;
    tell(options, path, opened.length, &seal, &archive, screen);
    Ok(())
}

fn nothing_there<const N: usize>(paths: [&Path; N], forces: bool) -> Result<(), Failure> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(there) if !forces => {
            Err(failed(format_args!("{} is there already\nnext: choose another name, or say --force", told(there))))
        }
        _ => Ok(()),
    }
}

/// The tar, and how long it is where that is known.
fn open_tar(tar: Option<&Path>) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    let Some(path) = tar else {
        let input = io::stdin();
        if input.is_terminal() {
            let next = "docker save IMAGE... | azaion-loader seal …, or name a tar";
            return Err(Failure::new(exit::USAGE, format_args!("no tar was given\nnext: {next}")));
        }
        return Ok((Box::new(input.lock()), None));
    };
    let unreadable = |error: io::Error| failed(format_args!("open the tar {}: {error}", told(path)));
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    failed(format_args!("write {}: {error}\nnext: see that the directory can be written and has room", told(path)))
}

/// A file with this content that has no name yet.
fn begun(path: &Path, content: &[u8]) -> Result<Draft, Failure> {
    let draft = Draft::begin(path).and_then(|draft| draft.file().write_all(content).map(|()| draft));
    draft.map_err(|error| unwritten(path, &error))
}

/// An archive that was written.
struct Written {
    length: u64,
    hashes: Vec<Digest>,
}

/// Encrypts all that comes; a second thread hashes and writes. `done` follows the bytes of the tar.
fn encrypt(
    input: &mut dyn Read,
    output: &File,
    key: &AesKey,
    out: &Path,
    mut done: impl FnMut(u64),
) -> Result<Written, Failure> {
    let sealer = Sealer::new(key, random()?);
    let (send, chunks) = sync_channel::<Vec<u8>>(PUBLISHER_CHUNKS);
    let (give_back, free) = sync_channel::<Vec<u8>>(PUBLISHER_CHUNKS);
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let (mut hashes, mut output) = (Vec::new(), output);
            for chunk in chunks {
                hashes.push(Digest::of(&chunk));
                output.write_all(&chunk)?;
                let _encrypter_may_be_done = give_back.try_send(chunk);
            }
            io::Result::Ok(hashes)
        });
        let chunk_bytes = usize::try_from(SEAL_CHUNK_BYTES).expect("a chunk fits in memory");
        let mut plain = vec![0; chunk_bytes];
        let (mut tar, mut length, mut is_over) = (0, 0, false);
        // The IV stands in the first chunk, so that so much less of the tar goes there.
        let mut wanted = chunk_bytes - BLOCK;
        let mut sealer = Some(sealer);
        while !is_over {
            let n = fill(input, &mut plain[..wanted])
                .map_err(|error| failed(format_args!("read the tar: {error}\nnext: {MAKE_AGAIN}")))?;
            is_over = n < wanted;
            wanted = chunk_bytes;
            tar += n as u64;
            let mut chunk = free.try_recv().unwrap_or_default();
            chunk.clear();
            if let Some(sealer) = &mut sealer {
                sealer.push(&plain[..n], &mut chunk);
            }
            if let Some(sealer) = sealer.take_if(|_| is_over) {
                sealer.finish(&mut chunk);
            }
            length += chunk.len() as u64;
            if length > SEAL_LENGTH_BYTES {
                let next = "seal fewer images, or several archives";
                return Err(failed(format_args!("an archive has at most {}\nnext: {next}", size(SEAL_LENGTH_BYTES))));
            }
            if send.send(chunk).is_err() {
                // The writer has failed, and says below why.
                break;
            }
            done(tar);
        }
        drop(send);
        let hashes = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let hashes = hashes.map_err(|error| unwritten(out, &error))?;
        Ok(Written { length, hashes })
    })
}

/// Reads until `buf` is full or nothing more comes.
fn fill(input: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match input.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| failed(format_args!("no random numbers from the system: {error}")))?;
    Ok(bytes)
}

/// A seal that was made.
struct Made {
    bytes: Vec<u8>,
    version: u64,
}

fn seal(
    options: &SealOptions,
    key: &AesKey,
    length: u64,
    archive: &Archive,
    chunks: &[Digest],
) -> Result<Made, Failure> {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let version = options.version.unwrap_or_else(now);
    let images = archive.images().iter().map(Image::as_sealed).collect();
    let draft = ArchiveDraft { id: random()?, name: &options.name, version, length, images, chunks, iv: random()? };
    let bytes = turn::block_on(&smol::LocalExecutor::new(), draft.seal(key));
    let bytes = bytes.map_err(|refused| failed(format_args!("this archive cannot be sealed: {refused}")))?;
    Ok(Made { bytes, version })
}

fn tell(options: &SealOptions, path: &Path, length: u64, made: &Made, archive: &Archive, screen: &mut Screen<'_>) {
    for image in Shown::of_archive(archive) {
        screen.print(&image.line());
    }
    let seal: PathBuf = with_ending(path, SEAL);
    let (name, version, bytes) = (&options.name, made.version, size(length));
    screen.print(&format!("{}: {bytes}, sealed as {name} version {version} by {}", told(path), told(&seal)));
    let signature = with_ending(&seal, SIGNATURE);
    if signature.exists() {
        let next = format!("minisign -S -s publisher.key -m {}", told(&seal));
        screen.complain(&format!("warning: {} signs an earlier seal\nnext: {next}", told(&signature)));
    }
}
