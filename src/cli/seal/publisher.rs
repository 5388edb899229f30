//! The publisher's signature of a seal, made by the ordinary minisign tool.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{Failure, exit, failed, told};
use crate::limits::SIGNATURE_BYTES;
use crate::net::turn;
use crate::seal::{ArchiveClaim, PublisherKey, PublisherKeyRefused};

/// The keys that these arguments are, or are files of.
///
/// # Errors
/// One is neither.
pub(super) fn keys(arguments: &[String]) -> Result<Vec<PublisherKey>, Failure> {
    arguments.iter().map(|argument| key(argument)).collect()
}

fn key(argument: &str) -> Result<PublisherKey, Failure> {
    if let Ok(key) = argument.parse() {
        return Ok(key);
    }
    let path = Path::new(argument);
    let told = told(path);
    let next = "next: give the key itself, or the file minisign.pub that minisign -G wrote";
    let wrong = |said: &dyn std::fmt::Display| {
        Failure::new(exit::USAGE, format_args!("the publisher's key {told}: {said}\n{next}"))
    };
    let text = read(path).map_err(|error| wrong(&error))?;
    let text = String::from_utf8_lossy(&text);
    // A comment, then the key; or the key alone.
    let key = text.lines().find_map(|line| line.trim().parse().ok());
    key.ok_or_else(|| wrong(&PublisherKeyRefused))
}

/// The seal with its signature checked: one by one of the keys.
///
/// # Errors
/// There is no signature, or it is of none of them.
pub(super) fn signed(claim: ArchiveClaim, keys: &[PublisherKey], path: &Path) -> Result<ArchiveClaim, Failure> {
    let told = told(path);
    let next = "next: copy the signature again, or make it: minisign -S -s publisher.key -m images.enc.seal";
    let signature = read(path).map_err(|error| failed(format_args!("the signature {told}: {error}\n{next}")))?;
    let signed = turn::block_on(&smol::LocalExecutor::new(), claim.signed_by(keys, &signature));
    signed.map_err(|refused| failed(format_args!("{told}: {refused}\n{next}")))
}

/// A small file.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SIGNATURE_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
