//! Arguments to a command. What is unknown is told with the nearest known one.

mod options;
mod sealing;
#[cfg(test)]
mod tests;
mod wrong;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::audit::{self, AuditOptions};
use super::errors::{self, ErrorsOptions};
use super::help;
use super::target::Port;
use super::trust::{self, TrustOptions};
use crate::config::Source;
use crate::config::keys::nearest;
use crate::name::{Folder, ResourceName};

pub(super) use options::{Item, Options};
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
    Status { port: Port, as_json: bool },
    Plan(PlanOptions),
    Unlock(UnlockOptions),
    Wait(WaitOptions),
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
pub(super) struct CacheOptions {
    pub(super) source: Source,
    pub(super) action: CacheAction,
}

/// What is done with the cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CacheAction {
    List,
    Verify,
    EvictAll,
    Evict { name: ResourceName, folder: Folder },
}

#[derive(Debug)]
pub(super) struct FingerprintOptions {
    pub(super) source: Source,
    pub(super) root: Option<PathBuf>,
    pub(super) profile: Option<String>,
    pub(super) accept: bool,
}

#[derive(Debug)]
pub(super) struct UnlockOptions {
    pub(super) port: Port,
    pub(super) login: Login,
    pub(super) follows: bool,
}

/// Where the credentials come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// The agent holds them; for `plan`, which asks no agent, `[boot]` does.
    Held,
    /// A file as `[boot] credentials_file`.
    File(PathBuf),
    /// An address, and a password from somewhere.
    Email(String, Password),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Password {
    Prompt,
    File(PathBuf),
    Stdin,
}

#[derive(Debug)]
pub(super) struct WaitOptions {
    pub(super) port: Port,
    pub(super) timeout: Option<Duration>,
    pub(super) fails_on_error: bool,
}

const COMMANDS: [&str; 14] = [
    "run",
    "status",
    "unlock",
    "wait",
    "plan",
    "cache",
    "trust",
    "audit",
    "errors",
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
            "status" => status(parser),
            "unlock" => unlock(parser),
            "wait" => wait(parser),
            "plan" => plan(parser),
            "cache" => cache(parser),
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

/// Takes an option that every client command has; false if it is none of them.
fn port_option(name: &str, options: &mut Options, port: &mut Port) -> Result<bool, Wrong> {
    match name {
        "--config" => port.source = Source::Given(options.path()?),
        "--url" => port.url = Some(options.text()?),
        "--token-file" => port.token_file = Some(options.path()?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn status(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["--config", "--url", "--token-file", "--json", "--help"];
    let mut options = Options { parser, command: "status", known };
    let (mut port, mut as_json) = (Port::default(), false);
    while let Some(name) = options.next()? {
        match name {
            "--json" => as_json = true,
            "--help" => return Ok(Parsed::Text(help::STATUS)),
            _ => {
                port_option(name, &mut options, &mut port)?;
            }
        }
    }
    Ok(Parsed::Command(Command::Status { port, as_json }))
}

fn unlock(parser: Parser) -> Result<Parsed, Wrong> {
    const COMMAND: &str = "unlock";
    let known = &[
        "--config",
        "--url",
        "--token-file",
        "--email",
        "--password-file",
        "--password-stdin",
        "--credentials",
        "--held",
        "--no-wait",
        "--password",
        "--help",
    ];
    let mut options = Options { parser, command: COMMAND, known };
    let (mut port, mut follows) = (Port::default(), true);
    let (mut email, mut password, mut file, mut held) = (None, None, None, false);
    while let Some(name) = options.next()? {
        match name {
            "--email" => email = Some(options.text()?),
            "--password-file" => password = Some(Password::File(options.path()?)),
            "--password-stdin" => password = Some(Password::Stdin),
            "--credentials" => file = Some(options.path()?),
            "--held" => held = true,
            "--no-wait" => follows = false,
            "--password" => return Err(Wrong::Password { command: COMMAND }),
            "--help" => return Ok(Parsed::Text(help::UNLOCK)),
            _ => {
                port_option(name, &mut options, &mut port)?;
            }
        }
    }
    let login = login(COMMAND, email, password, file, held)?;
    Ok(Parsed::Command(Command::Unlock(UnlockOptions { port, login, follows })))
}

/// Who logs in, of what was said about it.
fn login(
    command: &'static str,
    email: Option<String>,
    password: Option<Password>,
    file: Option<PathBuf>,
    held: bool,
) -> Result<Login, Wrong> {
    match (email, password, file, held) {
        (None, None, None, _) => Ok(Login::Held),
        (None, None, Some(file), false) => Ok(Login::File(file)),
        (Some(email), password, None, false) => Ok(Login::Email(email, password.unwrap_or(Password::Prompt))),
        (None, Some(_), None, false) => Err(Wrong::Together { command, what: "a password without --email" }),
        _ => {
            let what = "only one of --held, --credentials, --email can say who logs in";
            Err(Wrong::Together { command, what })
        }
    }
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
    let (mut source, mut as_json) = (Source::Default, false);
    let (mut email, mut password, mut file) = (None, None, None);
    while let Some(name) = options.next()? {
        match name {
            "--config" => source = Source::Given(options.path()?),
            "--email" => email = Some(options.text()?),
            "--password-file" => password = Some(Password::File(options.path()?)),
            "--password-stdin" => password = Some(Password::Stdin),
            "--credentials" => file = Some(options.path()?),
            "--json" => as_json = true,
            "--password" => return Err(Wrong::Password { command: COMMAND }),
            _ => return Ok(Parsed::Text(help::PLAN)),
        }
    }
    let login = login(COMMAND, email, password, file, false)?;
    Ok(Parsed::Command(Command::Plan(PlanOptions { source, login, as_json })))
}

fn wait(parser: Parser) -> Result<Parsed, Wrong> {
    const COMMAND: &str = "wait";
    let known = &["--config", "--url", "--token-file", "--timeout", "--fail-on-error", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let mut parsed = WaitOptions { port: Port::default(), timeout: None, fails_on_error: false };
    while let Some(name) = options.next()? {
        match name {
            "--timeout" => {
                let text = options.text()?;
                let seconds = text.parse().map_err(|_| Wrong::Value {
                    command: COMMAND,
                    option: "--timeout",
                    text,
                    allowed: "whole seconds",
                })?;
                parsed.timeout = Some(Duration::from_secs(seconds));
            }
            "--fail-on-error" => parsed.fails_on_error = true,
            "--help" => return Ok(Parsed::Text(help::WAIT)),
            _ => {
                port_option(name, &mut options, &mut parsed.port)?;
            }
        }
    }
    Ok(Parsed::Command(Command::Wait(parsed)))
}

fn cache(mut parser: Parser) -> Result<Parsed, Wrong> {
    const COMMAND: &str = "cache";
    const ACTIONS: [&str; 3] = ["list", "verify", "evict"];
    let shape = |said: String| Wrong::Shape { command: COMMAND, said };
    let together = |what| Wrong::Together { command: COMMAND, what };
    let mut action = None;
    // The first word is what to do; a resource may be called anything, also "list".
    if let Some(mut words) = parser.try_raw_args()
        && let Some(word) = words.next_if(|word| !word.to_string_lossy().starts_with('-'))
    {
        let word = word.to_string_lossy();
        let found = ACTIONS.into_iter().find(|known| *known == word);
        let text = word.clone().into_owned();
        let wrong = Wrong::Value { command: COMMAND, option: "the action", text, allowed: "list, verify, evict" };
        action = Some(found.ok_or(wrong)?);
    }
    let known = &["--config", "--all", "--folder", "--help"];
    let (mut source, mut all, mut name, mut folder) = (Source::Default, false, None, None);
    let text = |parser: &mut Parser| {
        let value = parser.value().map_err(|error| shape(error.to_string()))?;
        value.string().map_err(|error| shape(error.to_string()))
    };
    while let Some(argument) = parser.next().map_err(|error| shape(error.to_string()))? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Parsed::Text(help::CACHE)),
            Arg::Long("config") => {
                source = Source::Given(parser.value().map_err(|error| shape(error.to_string()))?.into());
            }
            Arg::Long("all") => all = true,
            Arg::Long("folder") => {
                let said = text(&mut parser)?;
                folder = Some(Folder::new(said).map_err(|refused| shape(refused.to_string()))?);
            }
            Arg::Value(value) if name.is_none() && action == Some("evict") => {
                let said = value.string().map_err(|error| shape(error.to_string()))?;
                name = Some(ResourceName::new(said).map_err(|refused| shape(refused.to_string()))?);
            }
            other => {
                let name = spelt(&other);
                let is_option = !matches!(other, Arg::Value(_));
                let name =
                    if is_option && name.len() > 1 && !name.starts_with('-') { format!("--{name}") } else { name };
                let nearest = is_option.then(|| nearest(&name, known.iter().map(|&known| known.to_owned())));
                return Err(Wrong::Option { command: COMMAND, name, nearest });
            }
        }
    }
    let action = match (action, name, all) {
        (None, ..) => return Err(together("say what to do: list, verify or evict")),
        (Some("evict"), Some(name), false) => CacheAction::Evict { name, folder: folder.take().unwrap_or_default() },
        (Some("evict"), None, true) if folder.is_none() => CacheAction::EvictAll,
        (Some("evict"), ..) => return Err(together("evict takes one name, with or without --folder, or --all")),
        (Some(_), _, true) => return Err(together("--all is for evict")),
        (Some(_), ..) if folder.is_some() => return Err(together("--folder is for evict")),
        (Some("list"), ..) => CacheAction::List,
        (Some(_), ..) => CacheAction::Verify,
    };
    Ok(Parsed::Command(Command::Cache(CacheOptions { source, action })))
}
