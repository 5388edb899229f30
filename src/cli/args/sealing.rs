//! The arguments of the publisher's commands: `seal`, `verify`, `inspect`.

use std::path::PathBuf;

use lexopt::Parser;

use super::{Command, Item, Options, Parsed, Wrong, help};
use crate::seal::SealName;

/// What `seal` seals.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Sealed {
    /// A tar, `None` for standard input, into a new archive.
    Tar { tar: Option<PathBuf>, out: PathBuf },
    /// An archive that there is already.
    Existing(PathBuf),
}

#[derive(Debug)]
pub(in super::super) struct SealOptions {
    pub(in super::super) key_fragment: PathBuf,
    pub(in super::super) sealed: Sealed,
    pub(in super::super) name: SealName,
    /// Seconds since 1970 where none is given.
    pub(in super::super) version: Option<u64>,
    pub(in super::super) forces: bool,
}

#[derive(Debug)]
pub(in super::super) struct VerifyOptions {
    pub(in super::super) key_fragment: PathBuf,
    pub(in super::super) archive: PathBuf,
    /// Beside the archive where none is given.
    pub(in super::super) seal: Option<PathBuf>,
    /// The keys themselves, or files that hold one.
    pub(in super::super) publisher_keys: Vec<String>,
    pub(in super::super) as_json: bool,
}

#[derive(Debug)]
pub(in super::super) struct InspectOptions {
    /// The archive or its seal.
    pub(in super::super) path: PathBuf,
    pub(in super::super) key_fragment: Option<PathBuf>,
    pub(in super::super) reads_chunks: bool,
    pub(in super::super) as_json: bool,
}

/// Takes the one file that a command is about.
fn take(command: &'static str, file: PathBuf, into: &mut Option<PathBuf>) -> Result<(), Wrong> {
    if into.is_some() {
        let name = file.to_string_lossy().into_owned();
        return Err(Wrong::Option { command, name, nearest: None });
    }
    *into = Some(file);
    Ok(())
}

pub(super) fn seal(parser: Parser) -> Result<Parsed, Wrong> {
    const COMMAND: &str = "seal";
    let known = &["--key-fragment", "--out", "--existing", "--name", "--version", "--force", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let together = |what| Wrong::Together { command: COMMAND, what };
    let (mut key_fragment, mut tar, mut out, mut existing) = (None, None, None, None);
    let (mut name, mut version, mut forces) = ("images".to_owned(), None, false);
    while let Some(given) = options.item()? {
        match given {
            Item::Word(file) => take(COMMAND, file.into(), &mut tar)?,
            Item::Option("--key-fragment") => key_fragment = Some(options.path()?),
            Item::Option("--out") => out = Some(options.path()?),
            Item::Option("--existing") => existing = Some(options.path()?),
            Item::Option("--name") => name = options.text()?,
            Item::Option("--version") => {
                let text = options.text()?;
                let allowed = "a whole number that grows from release to release";
                let wrong = |text| Wrong::Value { command: COMMAND, option: "--version", text, allowed };
                version = Some(text.parse().map_err(|_| wrong(text))?);
            }
            Item::Option("--force") => forces = true,
            Item::Option(_) => return Ok(Parsed::Text(help::SEAL)),
        }
    }
    let allowed = "1 to 64 of a-z, 0-9, '.', '_', '-', a letter or a digit first";
    let wrong = |text| Wrong::Value { command: COMMAND, option: "--name", text, allowed };
    let name = name.parse().map_err(|_| wrong(name))?;
    let key_fragment = key_fragment.ok_or(together("say which key: --key-fragment FILE"))?;
    let sealed = match (out, existing, tar) {
        (Some(out), None, tar) => {
            let tar = tar.filter(|tar| tar.as_os_str() != "-");
            Sealed::Tar { tar, out }
        }
        (None, Some(existing), None) => Sealed::Existing(existing),
        (None, None, _) => return Err(together("say where the archive goes: --out FILE, or --existing FILE")),
        _ => return Err(together("--existing goes without --out and without a tar: the archive stays as it is")),
    };
    Ok(Parsed::Command(Command::Seal(SealOptions { key_fragment, sealed, name, version, forces })))
}

pub(super) fn verify(parser: Parser) -> Result<Parsed, Wrong> {
    const COMMAND: &str = "verify";
    let known = &["--key-fragment", "--seal", "--publisher-key", "--json", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let together = |what| Wrong::Together { command: COMMAND, what };
    let (mut key_fragment, mut archive, mut seal, mut as_json) = (None, None, None, false);
    let mut publisher_keys = Vec::new();
    while let Some(given) = options.item()? {
        match given {
            Item::Word(file) => take(COMMAND, file.into(), &mut archive)?,
            Item::Option("--key-fragment") => key_fragment = Some(options.path()?),
            Item::Option("--seal") => seal = Some(options.path()?),
            Item::Option("--publisher-key") => publisher_keys.push(options.text()?),
            Item::Option("--json") => as_json = true,
            Item::Option(_) => return Ok(Parsed::Text(help::VERIFY)),
        }
    }
    let key_fragment = key_fragment.ok_or(together("say which key: --key-fragment FILE"))?;
    let archive = archive.ok_or(together("say which archive"))?;
    Ok(Parsed::Command(Command::Verify(VerifyOptions { key_fragment, archive, seal, publisher_keys, as_json })))
}

pub(super) fn inspect(parser: Parser) -> Result<Parsed, Wrong> {
    const COMMAND: &str = "inspect";
    let known = &["--key-fragment", "--chunks", "--json", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let (mut key_fragment, mut path, mut reads_chunks, mut as_json) = (None, None, false, false);
    while let Some(given) = options.item()? {
        match given {
            Item::Word(file) => take(COMMAND, file.into(), &mut path)?,
            Item::Option("--key-fragment") => key_fragment = Some(options.path()?),
            Item::Option("--chunks") => reads_chunks = true,
            Item::Option("--json") => as_json = true,
            Item::Option(_) => return Ok(Parsed::Text(help::INSPECT)),
        }
    }
    let path = path.ok_or(Wrong::Together { command: COMMAND, what: "say which archive or seal" })?;
    Ok(Parsed::Command(Command::Inspect(InspectOptions { path, key_fragment, reads_chunks, as_json })))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn parsed(line: &str) -> Result<Parsed, String> {
        super::super::parse(line.split_whitespace().map(OsString::from)).map_err(|wrong| wrong.to_string())
    }

    fn sealed(line: &str) -> Sealed {
        match parsed(line) {
            Ok(Parsed::Command(Command::Seal(options))) => options.sealed,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_is_sealed_is_said_once() {
        let tar = |tar: Option<&str>| Sealed::Tar { tar: tar.map(PathBuf::from), out: "o".into() };
        assert_eq!(sealed("seal --key-fragment k --out o"), tar(None));
        assert_eq!(sealed("seal --key-fragment k --out o -"), tar(None));
        assert_eq!(sealed("seal t --key-fragment k --out o"), tar(Some("t")));
        assert_eq!(sealed("seal --key-fragment k --existing e"), Sealed::Existing("e".into()));
        for line in [
            "seal --out o t",
            "seal --key-fragment k",
            "seal --key-fragment k t",
            "seal --key-fragment k --out o t u",
            "seal --key-fragment k --out o --existing e",
            "seal --key-fragment k --existing e t",
            "seal --key-fragment k --out o --name A",
            "seal --key-fragment k --out o --version soon",
            "verify a",
            "verify --key-fragment k",
            "verify --key-fragment k a b",
            "inspect",
            "inspect a b",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_version_is_a_whole_number_and_may_be_absent() {
        let version = |line: &str| match parsed(line) {
            Ok(Parsed::Command(Command::Seal(options))) => options.version,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(version("seal --key-fragment k --out o"), None);
        assert_eq!(version("seal --key-fragment k --out o --version 0"), Some(0));
        assert_eq!(version("seal --key-fragment k --out o --version 18446744073709551615"), Some(u64::MAX));
        assert!(parsed("seal --key-fragment k --out o --version 18446744073709551616").is_err());
    }

    #[test]
    fn every_option_stands_in_its_help() {
        for (command, options) in [
            ("seal", &["--key-fragment", "--out", "--existing", "--name", "--version", "--force"][..]),
            ("verify", &["--key-fragment", "--seal", "--publisher-key", "--json"]),
            ("inspect", &["--key-fragment", "--chunks", "--json"]),
        ] {
            let Ok(Parsed::Text(text)) = parsed(&format!("{command} -h")) else { panic!("{command}") };
            for option in options {
                assert!(text.contains(option), "{command} {option}");
            }
        }
    }
}
