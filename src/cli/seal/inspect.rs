//! `inspect`: what a seal claims, for people without a key, and which chunks of a copy are damaged.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::pass::{self, Hashes};
use super::verify::print_json;
use super::{Opened, SEAL, Shown, chunks_named, failed, key, seal_bytes, seal_refused, told, with_ending};
use crate::cli::args::InspectOptions;
use crate::cli::meter::Meter;
use crate::cli::screen::{Screen, size};
use crate::cli::{Failure, exit};
use crate::error::chain;
use crate::net::turn;
use crate::seal::ArchiveClaim;

/// What is said of a seal. Without a key, all of it is claims.
#[derive(Debug, Serialize)]
struct Found {
    name: String,
    version: u64,
    archive_bytes: u64,
    chunk_bytes: u64,
    chunks: u64,
    id: String,
    /// Whether the key has proved the claims; null without one.
    authentic: Option<bool>,
    /// What is wrong with it under this key.
    wrong: Option<String>,
    images: Option<Vec<Shown>>,
    archive: Option<Beside>,
}

/// The archive beside the seal.
#[derive(Debug, Serialize)]
struct Beside {
    bytes: u64,
    length_fits: bool,
    /// Null where they were not looked at.
    damaged_chunks: Option<Vec<u64>>,
}

impl Found {
    fn is_right(&self) -> bool {
        let archive_fits =
            |archive: &Beside| archive.length_fits && archive.damaged_chunks.as_ref().is_none_or(Vec::is_empty);
        self.authentic != Some(false) && self.archive.as_ref().is_none_or(archive_fits)
    }
}

pub(in crate::cli) fn run(options: &InspectOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let (path, seal) = both(&options.path);
    let Some(bytes) = seal_bytes(&seal)? else {
        let next = "name a seal, or an archive that has one beside it; azaion-loader verify checks unsealed archives";
        return Err(failed(format_args!("there is no seal {}\nnext: {next}", told(&seal))));
    };
    let claim = ArchiveClaim::parse(bytes).map_err(|refused| seal_refused(&seal, &refused))?;
    let chunks = claim.chunks();
    let mut found = Found {
        name: claim.name().to_string(),
        version: claim.version(),
        archive_bytes: chunks.length(),
        chunk_bytes: chunks.chunk_bytes(),
        chunks: chunks.count(),
        id: hex(claim.id()),
        authentic: None,
        wrong: None,
        images: None,
        archive: None,
    };
    if path.exists() {
        let opened = Opened::open(&path)?;
        let damaged_chunks = if options.reads_chunks {
            let mut meter = Meter::new((!options.as_json).then_some(&mut *screen), "hashing", Some(opened.length));
            let listed = pass::listed(&chunks);
            // What follows the last chunk is in none; the length tells of it.
            let length = opened.length.min(chunks.length());
            let passed = pass::run(&opened.file, length, Hashes::Compare(&listed), None, |bytes| meter.done(bytes));
            let passed = passed.map_err(|error| failed(format_args!("read {}: {error}", told(&path))))?;
            // Of a copy that was cut, what is missing is damaged too.
            let read = length.div_ceil(chunks.chunk_bytes());
            Some(passed.damaged.into_iter().chain(read..chunks.count()).collect())
        } else {
            None
        };
        let length_fits = opened.length == chunks.length();
        found.archive = Some(Beside { bytes: opened.length, length_fits, damaged_chunks });
    } else if options.reads_chunks {
        return Err(failed(format_args!("there is no archive {}\nnext: copy it beside its seal", told(&path))));
    }
    if let Some(fragment) = &options.key_fragment {
        let key = key(fragment, screen)?;
        match turn::block_on(&smol::LocalExecutor::new(), claim.authenticate(&key)) {
            Ok(authentic) => {
                found.authentic = Some(true);
                found.images = Some(authentic.images().iter().cloned().map(Shown::of).collect());
            }
            Err(refused) => {
                found.authentic = Some(false);
                found.wrong = Some(chain(&refused));
            }
        }
    }
    if options.as_json {
        print_json(&found, screen)?;
    } else {
        for line in lines(&found, &path, &seal) {
            screen.print(&line);
        }
    }
    Ok(if found.is_right() { exit::DONE } else { exit::FAILED })
}

/// The archive and its seal, whichever was named.
fn both(path: &Path) -> (PathBuf, PathBuf) {
    let text = path.as_os_str();
    match text.to_str().and_then(|text| text.strip_suffix(SEAL)).filter(|rest| !rest.is_empty()) {
        Some(archive) => (archive.into(), path.to_owned()),
        None => (path.to_owned(), with_ending(path, SEAL)),
    }
}

fn lines(found: &Found, path: &Path, seal: &Path) -> Vec<String> {
    let mut lines = vec![match (found.authentic, &found.wrong) {
        (None, _) => format!("{} claims (nothing of it is proved; --key-fragment proves it):", told(seal)),
        (Some(true), _) => format!("{} says, and the key proves it:", told(seal)),
        (Some(false), wrong) => format!("{} claims, wrongly: {}:", told(seal), wrong.as_deref().unwrap_or_default()),
    }];
    lines.push(format!("  name       {}", found.name));
    lines.push(format!("  version    {}", found.version));
    lines.push(format!("  length     {} ({})", found.archive_bytes, size(found.archive_bytes)));
    lines.push(format!("  chunks     {} of {}", found.chunks, size(found.chunk_bytes)));
    lines.push(format!("  id         {}", found.id));
    let authentic = found.authentic.map_or("not known", |yes| if yes { "yes" } else { "no" });
    lines.push(format!("  authentic: {authentic}"));
    lines.extend(found.images.iter().flatten().map(|image| format!("  image      {}", image.line())));
    let path = told(path);
    match &found.archive {
        None => lines.push(format!("{path} is not there")),
        Some(archive) if !archive.length_fits => {
            lines.push(format!("{path} has another length: {} bytes", archive.bytes));
        }
        Some(archive) if archive.damaged_chunks.is_none() => {
            lines.push(format!("{path} has that length; --chunks compares its chunks"));
        }
        Some(_) => {}
    }
    match found.archive.as_ref().and_then(|archive| archive.damaged_chunks.as_ref()) {
        Some(damaged) if damaged.is_empty() => lines.push(format!("{path} has the chunks that are listed")),
        Some(damaged) => {
            let (count, of, named) = (damaged.len(), found.chunks, chunks_named(damaged));
            lines.push(format!("{path}: {count} of {of} chunks are not the ones listed, number {named}"));
        }
        None => {}
    }
    lines
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _never_fails = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_or_seal_may_be_named() {
        let both_of = |text: &str| both(Path::new(text));
        assert_eq!(both_of("d/images.enc"), ("d/images.enc".into(), "d/images.enc.seal".into()));
        assert_eq!(both_of("d/images.enc.seal"), ("d/images.enc".into(), "d/images.enc.seal".into()));
        assert_eq!(both_of(".seal"), (".seal".into(), ".seal.seal".into()));
    }
}
