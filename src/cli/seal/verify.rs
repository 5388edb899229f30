//! `verify`: everything about an archive and its seal that can be checked without an engine.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::pass::{self, Hashes};
use super::publisher;
use super::{
    Opened, SEAL, SIGNATURE, Shown, chunks_named, failed, is_unchanged, key, refused, seal_bytes, seal_refused,
};
use super::{told, with_ending};
use crate::archive::{ArchiveError, Image, Packing};
use crate::cli::args::VerifyOptions;
use crate::cli::meter::Meter;
use crate::cli::screen::{Screen, size};
use crate::cli::{Failure, exit};
use crate::crypto::AesKey;
use crate::net::turn;
use crate::seal::{ArchiveClaim, ArchiveSeal, PublisherKey};

/// What can be done about damage.
const COPY_AGAIN: &str = "copy the archive and its seal again, both of one release";

/// An archive that is good.
#[derive(Debug, Serialize)]
struct Good {
    ok: bool,
    sealed: bool,
    /// Whether a publisher's signature was checked.
    signed: bool,
    name: Option<String>,
    version: Option<u64>,
    archive_bytes: u64,
    tar_bytes: u64,
    packing: &'static str,
    images: Vec<Shown>,
}

/// Why one is not.
struct Bad {
    failure: Failure,
    damaged: Vec<u64>,
}

impl From<Failure> for Bad {
    fn from(failure: Failure) -> Self {
        Self { failure, damaged: Vec::new() }
    }
}

/// The same for programs.
#[derive(Serialize)]
struct BadJson<'a> {
    ok: bool,
    error: &'a str,
    next: &'a str,
    damaged_chunks: &'a [u64],
}

pub(in crate::cli) fn run(options: &VerifyOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let good = match check(options, screen) {
        Ok(good) => good,
        Err(Bad { failure, damaged }) if options.as_json && failure.exit == exit::FAILED => {
            let (error, next) = failure.said.split_once("\nnext: ").unwrap_or((&failure.said, ""));
            print_json(&BadJson { ok: false, error, next, damaged_chunks: &damaged }, screen)?;
            return Ok(exit::FAILED);
        }
        Err(Bad { failure, .. }) => return Err(failure),
    };
    if options.as_json {
        print_json(&good, screen)?;
        return Ok(exit::DONE);
    }
    for image in &good.images {
        screen.print(&image.line());
    }
    let sealed = match (&good.name, good.version) {
        (Some(name), Some(version)) => format!("sealed as {name} version {version}"),
        _ => "unsealed".to_owned(),
    };
    let signed = if good.signed { ", signed by the publisher" } else { "" };
    let (bytes, tar, packing) = (size(good.archive_bytes), size(good.tar_bytes), good.packing);
    screen.print(&format!("{}: good, {sealed}{signed}; {bytes}, {packing}, tar {tar}", told(&options.archive)));
    Ok(exit::DONE)
}

pub(super) fn print_json(value: &impl Serialize, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value).map_err(failed)?;
    screen.print(&json);
    Ok(())
}

fn check(options: &VerifyOptions, screen: &mut Screen<'_>) -> Result<Good, Bad> {
    let publisher_keys = publisher::keys(&options.publisher_keys)?;
    let key = key(&options.key_fragment, screen)?;
    let path = options.seal.clone().unwrap_or_else(|| with_ending(&options.archive, SEAL));
    let seal = match seal_bytes(&path)? {
        Some(bytes) => Some((authentic(&path, bytes, &publisher_keys, &key)?, path)),
        None if options.seal.is_some() || !publisher_keys.is_empty() => {
            let next = "copy it beside the archive, or name it with --seal";
            return Err(failed(format_args!("there is no seal {}\nnext: {next}", told(&path))).into());
        }
        None => None,
    };
    let screen = (!options.as_json).then_some(screen);
    contents(&options.archive, seal.as_ref(), &key, screen)
}

/// Reads the seal, checks its signature, then its tag.
fn authentic(
    path: &Path,
    bytes: Vec<u8>,
    publisher_keys: &[PublisherKey],
    key: &AesKey,
) -> Result<ArchiveSeal, Failure> {
    let mut claim = ArchiveClaim::parse(bytes).map_err(|refused| seal_refused(path, &refused))?;
    if !publisher_keys.is_empty() {
        claim = publisher::signed(claim, publisher_keys, &with_ending(path, SIGNATURE))?;
    }
    let seal = turn::block_on(&smol::LocalExecutor::new(), claim.authenticate(key));
    seal.map_err(|refused| seal_refused(path, &refused))
}

fn contents(
    path: &Path,
    seal: Option<&(ArchiveSeal, PathBuf)>,
    key: &AesKey,
    screen: Option<&mut Screen<'_>>,
) -> Result<Good, Bad> {
    let opened = Opened::open(path)?;
    let wrong = |error| refused(&told(path), &error, COPY_AGAIN);
    let listed = seal.map(|(seal, _)| pass::listed(&seal.chunks()));
    if let Some((seal, _)) = seal {
        length_fits(path, opened.length, seal.chunks().length())?;
    }
    // Where it does not open, the hashes may still say which chunks are the reason.
    let archive = match (opened.archive(key), seal) {
        (Err(error), None) => return Err(wrong(error).into()),
        (opened, _) => opened,
    };
    let mut meter = Meter::new(screen, "checking", Some(opened.length));
    let hashes = listed.as_deref().map_or(Hashes::Unknown, Hashes::Compare);
    let check = archive.as_ref().ok().map(|archive| archive.check(key));
    let passed = pass::run(&opened.file, opened.length, hashes, check, |bytes| meter.done(bytes));
    let passed = passed.map_err(|error| failed(format_args!("read {}: {error}", told(path))))?;
    if !passed.damaged.is_empty() {
        return Err(Bad { failure: damaged(path, &passed.damaged), damaged: passed.damaged });
    }
    let archive = archive.map_err(wrong)?;
    passed.checked.map_err(wrong)?;
    if !is_unchanged(&archive).map_err(wrong)? {
        return Err(wrong(ArchiveError::Changed).into());
    }
    if let Some((seal, beside)) = seal
        && !archive.images().iter().map(Image::as_sealed).eq(seal.images().iter().cloned())
    {
        let said = format_args!("{} lists other images than {} has\nnext: {COPY_AGAIN}", told(beside), told(path));
        return Err(failed(said).into());
    }
    Ok(Good {
        ok: true,
        sealed: seal.is_some(),
        signed: seal.is_some_and(|(seal, _)| seal.is_signed()),
        name: seal.map(|(seal, _)| seal.name().to_string()),
        version: seal.map(|(seal, _)| seal.version()),
        archive_bytes: opened.length,
        tar_bytes: archive.tar_len(),
        packing: match archive.packing() {
            Packing::Plain => "plain",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        },
        images: Shown::of_archive(&archive),
    })
}

pub(super) fn length_fits(path: &Path, has: u64, sealed: u64) -> Result<(), Failure> {
    if has == sealed {
        return Ok(());
    }
    let what = if has < sealed { "was cut" } else { "is too long" };
    let said = format_args!("{} {what}: it has {has} bytes, its seal says {sealed}\nnext: {COPY_AGAIN}", told(path));
    Err(failed(said))
}

pub(super) fn damaged(path: &Path, chunks: &[u64]) -> Failure {
    let (count, named) = (chunks.len(), chunks_named(chunks));
    failed(format_args!("{}: {count} chunks are not the ones sealed, number {named}\nnext: {COPY_AGAIN}", told(path)))
}
