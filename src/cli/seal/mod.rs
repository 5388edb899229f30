//! The publisher's commands: `seal`, `verify`, `inspect` (`docs/FORMAT.md`).
//!
//! They work on files alone, beside no agent, and each uses two threads for as long as it runs: the rule of one thread
//! is the agent's. The key fragment is wiped; nothing here prints it or writes plain text anywhere.

pub(super) mod inspect;
mod pass;
mod publisher;
pub(super) mod verify;
pub(super) mod write;

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use smol::LocalExecutor;
use zeroize::Zeroizing;

use super::screen::{Screen, plain, size};
use super::{Failure, exit};
use crate::archive::{Archive, ArchiveError};
use crate::crypto::{AesKey, Digest, Fragment};
use crate::error::chain;
use crate::limits::{KEY_FRAGMENT_BYTES, SEAL_BYTES};
use crate::net::turn;
use crate::seal::{SealRefused, SealedImage};

/// What a seal's name ends with.
const SEAL: &str = ".seal";

/// What a signature's name ends with.
const SIGNATURE: &str = ".minisig";

fn failed(said: impl std::fmt::Display) -> Failure {
    Failure::new(exit::FAILED, said)
}

/// A path as it is told.
fn told(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The archive's key, of the fragment in this file.
fn key(path: &Path, screen: &mut Screen<'_>) -> Result<AesKey, Failure> {
    let unreadable = |error: io::Error| {
        let next = "name the file with the key fragment of the release, 1 to 4096 raw bytes";
        failed(format_args!("read the key fragment {}: {error}\nnext: {next}", told(path)))
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        let path = told(path);
        screen.complain(&format!("warning: others can read the key fragment {path}\nnext: chmod 600 {path}"));
    }
    // So large from the start: growing would leave copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FRAGMENT_BYTES + 1));
    file.take(KEY_FRAGMENT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let fragment = Fragment::new(std::mem::take(&mut *bytes));
    let fragment = fragment.map_err(|refused| failed(format_args!("{}: {refused}", told(path))))?;
    Ok(fragment.archive_key())
}

/// The bytes of a seal; none where there is no such file.
fn seal_bytes(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let unreadable = |error: io::Error| failed(format_args!("read the seal {}: {error}", told(path)));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(SEAL_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Some(bytes))
}

fn seal_refused(path: &Path, refused: &SealRefused) -> Failure {
    let next = match refused {
        SealRefused::FormatVersion { .. } => "use the azaion-loader that this seal was made for",
        SealRefused::Kind { .. } => "name the seal of an archive; the seals of resources are checked by the agent",
        SealRefused::Mac(_) => "check that key fragment and seal are of one release, or copy the seal again",
        _ => "copy the seal again",
    };
    failed(format_args!("{}: {}\nnext: {next}", told(path), chain(refused)))
}

/// An archive that is not right, and what can be done about damage.
fn refused(what: &str, error: &ArchiveError, damage: &str) -> Failure {
    let next = match error {
        ArchiveError::WrongKey => "check that key fragment and archive are of one release",
        ArchiveError::Changed => "wait until nobody writes the archive, then repeat this",
        ArchiveError::NotAnArchive(_) | ArchiveError::Unsupported(_) => {
            "make the archive from what docker save writes, also compressed with gzip or zstd"
        }
        _ => damage,
    };
    failed(format_args!("{what}: {}\nnext: {next}", chain(error)))
}

/// An archive that is open for both ways of reading.
struct Opened {
    file: File,
    length: u64,
}

impl Opened {
    fn open(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| failed(format_args!("open the archive {}: {error}", told(path)));
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(failed(format_args!("the archive {} must be a regular file", told(path))));
        }
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        Ok(Self { file, length })
    }

    /// Opens the same file as a board would.
    fn archive(&self, key: &AesKey) -> Result<Archive, ArchiveError> {
        open_archive(&self.file, key)
    }
}

/// Reads this file as an archive, as a board does, also one that has no name yet.
fn open_archive(file: &File, key: &AesKey) -> Result<Archive, ArchiveError> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    turn::block_on(&LocalExecutor::new(), Archive::open(&path, key.duplicate(), &Cell::new(0)))
}

/// Whether the file is what it was when it was opened.
fn is_unchanged(archive: &Archive) -> Result<bool, ArchiveError> {
    turn::block_on(&LocalExecutor::new(), archive.is_unchanged())
}

/// An image as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    tags: Vec<String>,
    config: Digest,
    layers: Vec<Digest>,
    /// Bytes of its layers as they lie in the archive; only the archive knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Shown {
    fn of_archive(archive: &Archive) -> Vec<Self> {
        let bytes = |image: &crate::archive::Image| image.layers.iter().map(|layer| layer.size).sum();
        let shown = |image: &crate::archive::Image| Self { bytes: Some(bytes(image)), ..Self::of(image.as_sealed()) };
        archive.images().iter().map(shown).collect()
    }

    fn of(image: SealedImage) -> Self {
        Self { tags: image.tags, config: image.config, layers: image.layers, bytes: None }
    }

    /// `azaion/a:1, azaion/a:latest  sha256:…  3 layers  120.0 MiB`
    fn line(&self) -> String {
        let tags = if self.tags.is_empty() { "(no tag)".to_owned() } else { plain(&self.tags.join(", ")) };
        let mut parts = vec![tags, self.config.to_string(), format!("{} layers", self.layers.len())];
        parts.extend(self.bytes.map(size));
        parts.join("  ")
    }
}

/// Numbers of chunks as they are told; a wholly wrong copy has very many.
fn chunks_named(chunks: &[u64]) -> String {
    const NAMED: usize = 16;
    let named: Vec<_> = chunks.iter().take(NAMED).map(u64::to_string).collect();
    let more = chunks.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}
