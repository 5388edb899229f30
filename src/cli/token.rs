//! `token new`: a bearer token for the port, as `[control] token_file` wants it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use lexopt::Parser;
use zeroize::Zeroizing;

use super::args::{Command, Options, Parsed, Wrong};
use super::screen::Screen;
use super::{Failure, exit, help};
use crate::flash;
use crate::limits::NEW_TOKEN_BYTES;

const COMMAND: &str = "token";

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TokenOptions {
    out: Option<PathBuf>,
    force: bool,
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let mut options = Options { parser, command: COMMAND, known: &["new", "--out", "--force", "--help"] };
    let (mut parsed, mut is_asked) = (TokenOptions::default(), false);
    while let Some(name) = options.next()? {
        match name {
            "new" => is_asked = true,
            "--out" => parsed.out = Some(options.path()?),
            "--force" => parsed.force = true,
            _ => return Ok(Parsed::Text(help::TOKEN)),
        }
    }
    match (is_asked, &parsed.out, parsed.force) {
        (false, ..) => Err(Wrong::Together { command: COMMAND, what: "say what to do: token new" }),
        (_, None, true) => Err(Wrong::Together { command: COMMAND, what: "--force is for --out" }),
        _ => Ok(Parsed::Command(Command::Token(parsed))),
    }
}

pub(super) fn run(options: &TokenOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let token = drawn().map_err(|error| Failure::new(exit::FAILED, format_args!("no random numbers: {error}")))?;
    let Some(path) = &options.out else {
        screen.print(token.trim_end());
        return Ok(exit::DONE);
    };
    write(path, &token, options.force).map_err(|error| {
        let next = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                "another file, or --force to replace it: clients with the old token are then refused"
            }
            _ => "choose another place with --out",
        };
        Failure::new(exit::FAILED, format_args!("no token was written to {}: {error}\nnext: {next}", path.display()))
    })?;
    screen.print(&format!(
        "a new token is in {}; what reads it must own it (azaion-loader token --help)",
        path.display()
    ));
    Ok(exit::DONE)
}

/// A token and the end of its line.
fn drawn() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; NEW_TOKEN_BYTES]);
    getrandom::fill(&mut *bytes)?;
    // Room for all of it: a buffer that grows leaves copies behind.
    let mut token = Zeroizing::new(String::with_capacity(2 * NEW_TOKEN_BYTES));
    BASE64_URL_SAFE_NO_PAD.encode_string(*bytes, &mut token);
    token.push('\n');
    Ok(token)
}

fn write(path: &Path, token: &str, replaces: bool) -> io::Result<()> {
    if replaces {
        flash::replace(path, token.as_bytes())?;
    } else {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let written = file.write_all(token.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            // The error is told; half a token is of no use to anybody.
            let _ = fs::remove_file(path);
        }
        written?;
        flash::sync_directory(path)?;
    }
    // FAT and some network file systems give every file the same mode.
    let mode = fs::metadata(path)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        fs::remove_file(path)?;
        let said = format!("its file system lets others read it (mode {mode:04o})");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_token;

    fn said(options: &TokenOptions) -> Result<String, Failure> {
        let mut out = Vec::new();
        run(options, &mut Screen::into(&mut out, false))?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn the_agent_takes_it_and_no_two_are_alike() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("control.token");
        let options = TokenOptions { out: Some(path.clone()), force: false };
        let shown = said(&options).expect("written");
        let token = read_token(&path).expect("a token").expose().to_owned();
        assert!(!shown.contains(&token), "a token in a file is not shown");
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(&token).expect("base64url").len(), NEW_TOKEN_BYTES);
        assert_eq!(path.metadata().expect("there").mode() & 0o7777, 0o600);
        let failure = said(&options).expect_err("it is there");
        assert!(failure.exit == exit::FAILED && failure.said.contains("--force"), "{}", failure.said);
        assert_eq!(read_token(&path).expect("a token").expose(), token, "nothing was replaced");
        said(&TokenOptions { force: true, ..options }).expect("replaced");
        assert_ne!(read_token(&path).expect("a token").expose(), token);
        assert_eq!(path.metadata().expect("there").mode() & 0o7777, 0o600);
        assert_ne!(said(&TokenOptions::default()).expect("shown"), said(&TokenOptions::default()).expect("shown"));
    }

    #[test]
    fn what_is_to_be_done_is_said() {
        let parsed = |words: &[&str]| parse(Parser::from_args(words.iter().copied())).is_ok();
        assert!(parsed(&["new"]) && parsed(&["new", "--out", "f", "--force"]) && parsed(&["--help"]));
        assert!(!parsed(&[]) && !parsed(&["new", "--force"]) && !parsed(&["old"]));
    }
}
