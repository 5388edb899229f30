//! The publisher's signature of a seal, made by the ordinary minisign tool.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use minisign_verify::{PublicKey, Signature};

use super::{Failure, exit, failed, told};
use crate::limits::MINISIGN_FILE_BYTES;

/// The keys that these arguments are, or are files of.
///
/// # Errors
/// One is neither.
pub(super) fn keys(arguments: &[String]) -> Result<Vec<PublicKey>, Failure> {
    arguments.iter().map(|argument| key(argument)).collect()
}

fn key(argument: &str) -> Result<PublicKey, Failure> {
    if let Ok(key) = PublicKey::from_base64(argument) {
        return Ok(key);
    }
    let next = "next: give the 56 characters that minisign -G printed, or the file publisher.pub that it wrote";
    let path = Path::new(argument);
    let text = text(path).map_err(|error| {
        Failure::new(exit::USAGE, format_args!("the publisher's key {}: {error}\n{next}", told(path)))
    })?;
    PublicKey::decode(&text)
        .or_else(|_| PublicKey::from_base64(text.trim()))
        .map_err(|_| Failure::new(exit::USAGE, format_args!("{} holds no publisher's key\n{next}", told(path))))
}

/// Whether one of the keys has signed the seal.
///
/// # Errors
/// There is no signature, or it is of none of them.
pub(super) fn check(keys: &[PublicKey], seal: &[u8], path: &Path) -> Result<(), Failure> {
    let next = "next: minisign -S -s publisher.key -m images.enc.seal, or copy the signature again";
    let signature =
        text(path).map_err(|error| failed(format_args!("the signature {}: {error}\n{next}", told(path))))?;
    let signature = Signature::decode(&signature)
        .map_err(|error| failed(format_args!("the signature {}: {error}\n{next}", told(path))))?;
    if keys.iter().any(|key| key.verify(seal, &signature, false).is_ok()) {
        return Ok(());
    }
    Err(failed(format_args!("the signature {} is not one by the publisher's key over this seal\n{next}", told(path))))
}

/// A small text file.
fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MINISIGN_FILE_BYTES as u64).read_to_string(&mut text)?;
    Ok(text)
}
