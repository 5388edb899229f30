//! Arguments to a command. What is unknown is told with the nearest known one.

mod cache;
mod options;
mod port;
mod sealing;
#[cfg(test)]
mod tests;
mod wrong;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use super::audit::{self, AuditOptions};
use super::check::{self, CheckOptions};
use super::errors::{self, ErrorsOptions};
use super::events::{self, EventsOptions};
use super::help;
use super::load::{self, LoadOptions};
use super::login::{self, LoginOptions};
use super::status::{self, StatusOptions};
use super::token::{self, TokenOptions};
use super::trust::{self, TrustOptions};
use super::unlock::{self, UnlockOptions};
use super::upload::{self, UploadOptions};
use super::wait::{self, WaitOptions};
use crate::config::Source;
use crate::config::keys::nearest;

pub(super) use cache::{CacheAction, CacheOptions};
pub(super) use options::{Item, Options};
pub(super) use port::{Login, LoginWords, Password, folder, port_option};
pub(super) use sealing::{InspectOptions, SealOptions, Sealed, VerifyOptions};
pub(super) use wrong::Wrong;

use options::spelt;

/// What the arguments ask for.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Help or version.
    Text(&'static str),
    Command(Command),
}

#[derive(Debug)]
pub(super) enum Command {
    Run { source: Source },
    Config { source: Source },
    Fingerprint(FingerprintOptions),
    Status(StatusOptions),
    Login(LoginOptions),
    Plan(PlanOptions),
    Unlock(UnlockOptions),
    Wait(WaitOptions),
    Load(LoadOptions),
    Upload(UploadOptions),
    Events(EventsOptions),
    Check(CheckOptions),
    Token(TokenOptions),
    Cache(CacheOptions),
    Trust(TrustOptions),
    Audit(AuditOptions),
    Errors(ErrorsOptions),
    Seal(SealOptions),
    Verify(VerifyOptions),
    Inspect(InspectOptions),
}

#[derive(Debug)]
pub(super) struct PlanOptions {
    pub(super) source: Source,
    pub(super) login: Login,
    pub(super) as_json: bool,
}

#[derive(Debug)]
pub(super) struct FingerprintOptions {
    pub(super) source: Source,
    pub(super) root: Option<PathBuf>,
    pub(super) profile: Option<String>,
    pub(super) accept: bool,
}

/// In the order of `--help`.
const COMMANDS: &[&str] = &[
    "run",
    "status",
    "login",
    "unlock",
    "wait",
    "load",
    "upload",
    "events",
    "check",
    "plan",
    "cache",
    "token",
    "audit",
    "errors",
    "trust",
    "fingerprint",
    "config",
    "seal",
    "verify",
    "inspect",
];

/// Reads the arguments after the program's name.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, Wrong> {
    let mut parser = Parser::from_args(arguments);
    let shape = |error: lexopt::Error| Wrong::Shape { command: "", said: error.to_string() };
    match parser.next().map_err(shape)? {
        None => Err(Wrong::NoCommand),
        Some(Arg::Long("help") | Arg::Short('h')) => Ok(Parsed::Text(help::OVERVIEW)),
        Some(Arg::Long("version") | Arg::Short('V')) => {
            Ok(Parsed::Text(concat!("azaion-loader ", env!("CARGO_PKG_VERSION"))))
        }
        Some(Arg::Value(name)) => match name.to_string_lossy().as_ref() {
            "run" => with_source(parser, "run", help::RUN, |source| Command::Run { source }),
            "config" => with_source(parser, "config", help::CONFIG, |source| Command::Config { source }),
            "fingerprint" => fingerprint(parser),
            "status" => status::parse(parser),
            "login" => login::parse(parser),
            "unlock" => unlock::parse(parser),
            "wait" => wait::parse(parser),
            "load" => load::parse(parser),
            "upload" => upload::parse(parser),
            "events" => events::parse(parser),
            "check" => check::parse(parser),
            "token" => token::parse(parser),
            "plan" => plan(parser),
            "cache" => cache::cache(parser),
            "trust" => trust::parse(parser),
            "audit" => audit::parse(parser),
            "errors" => errors::parse(parser),
            "seal" => sealing::seal(parser),
            "verify" => sealing::verify(parser),
            "inspect" => sealing::inspect(parser),
            "help" => Ok(Parsed::Text(help::OVERVIEW)),
            other => Err(Wrong::Command {
                name: other.to_owned(),
                nearest: nearest(other, COMMANDS.iter().map(|&known| known.to_owned())),
            }),
        },
        Some(other) => {
            let name = spelt(&other);
            let known = ["--help", "--version"].iter().map(|&known| known.to_owned());
            Err(Wrong::Command { nearest: nearest(&name, known), name })
        }
    }
}

fn with_source(
    parser: Parser,
    command: &'static str,
    help: &'static str,
    make: impl FnOnce(Source) -> Command,
) -> Result<Parsed, Wrong> {
    let mut options = Options { parser, command, known: &["--config", "--help"] };
    let mut source = Source::Default;
    while let Some(name) = options.next()? {
        match name {
            "--config" => source = Source::Given(options.path()?),
            _ => return Ok(Parsed::Text(help)),
        }
    }
    Ok(Parsed::Command(make(source)))
}

fn fingerprint(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["--config", "--root", "--profile", "--accept", "--help"];
    let mut options = Options { parser, command: "fingerprint", known };
    let mut parsed = FingerprintOptions { source: Source::Default, root: None, profile: None, accept: false };
    while let Some(name) = options.next()? {
        match name {
            "--config" => parsed.source = Source::Given(options.path()?),
            "--root" => parsed.root = Some(options.path()?),
            "--profile" => parsed.profile = Some(options.text()?),
            "--accept" => parsed.accept = true,
            _ => return Ok(Parsed::Text(help::FINGERPRINT)),
        }
    }
    if parsed.accept && (parsed.root.is_some() || parsed.profile.is_some()) {
        let what = "--accept speaks of this board as the agent sees it, without --root and --profile";
        return Err(Wrong::Together { command: "fingerprint", what });
    }
    Ok(Parsed::Command(Command::Fingerprint(parsed)))
}

fn plan(parser: Parser) -> Result<Parsed, Wrong> {
    const COMMAND: &str = "plan";
    let known = &[
        "--config",
        "--email",
        "--password-file",
        "--password-stdin",
        "--credentials",
        "--json",
        "--password",
        "--help",
    ];
    let mut options = Options { parser, command: COMMAND, known };
    let (mut source, mut words, mut as_json) = (Source::Default, LoginWords::default(), false);
    while let Some(name) = options.next()? {
        match name {
            "--config" => source = Source::Given(options.path()?),
            "--json" => as_json = true,
            "--help" => return Ok(Parsed::Text(help::PLAN)),
            _ => {
                words.option(name, &mut options)?;
            }
        }
    }
    let login = words.login(COMMAND)?;
    Ok(Parsed::Command(Command::Plan(PlanOptions { source, login, as_json })))
}
