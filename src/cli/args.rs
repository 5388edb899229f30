//! Arguments to a command. What is unknown is told with the nearest known one.

mod sealing;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::help;
use super::target::Port;
use super::trust::{self, TrustOptions};
use crate::config::Source;
use crate::config::keys::nearest;
use crate::name::{Folder, ResourceName};

pub(super) use sealing::{InspectOptions, SealOptions, Sealed, VerifyOptions};

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

/// Arguments that make no command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    NoCommand,
    Command {
        name: String,
        nearest: String,
    },
    Option {
        command: &'static str,
        name: String,
        nearest: Option<String>,
    },
    Value {
        command: &'static str,
        option: &'static str,
        text: String,
        allowed: &'static str,
    },
    Together {
        command: &'static str,
        what: &'static str,
    },
    Password {
        command: &'static str,
    },
    /// What the parser itself refuses: a value that is missing or not wanted.
    Shape {
        command: &'static str,
        said: String,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("no command was given"),
            Self::Command { name, nearest } => {
                write!(f, "unknown command {name:?}; the nearest known is {nearest}")
            }
            Self::Option { command, name, nearest: Some(nearest) } => {
                write!(f, "{command}: unknown option {name}; the nearest known is {nearest}")
            }
            Self::Option { command, name, nearest: None } => write!(f, "{command}: unexpected argument {name}"),
            Self::Value { command, option, text, allowed } => {
                write!(f, "{command}: {option} cannot be {text:?}; allowed: {allowed}")
            }
            Self::Together { command, what } => write!(f, "{command}: {what}"),
            Self::Password { command } => write!(
                f,
                "{command}: a password is never an argument, every user of the board can read those; \
                 use --password-file, --password-stdin or the prompt"
            ),
            Self::Shape { command, said } => write!(f, "{command}: {said}"),
        }
    }
}

impl Wrong {
    /// Where to read on.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::NoCommand | Self::Command { .. } => "next: azaion-loader --help".to_owned(),
            Self::Password { command }
            | Self::Option { command, .. }
            | Self::Value { command, .. }
            | Self::Together { command, .. }
            | Self::Shape { command, .. } => format!("next: azaion-loader {command} --help"),
        }
    }
}

const COMMANDS: [&str; 12] =
    ["run", "status", "unlock", "wait", "plan", "cache", "trust", "fingerprint", "config", "seal", "verify", "inspect"];

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

fn spelt(argument: &Arg<'_>) -> String {
    match argument {
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Long(name) => format!("--{name}"),
        Arg::Value(text) => text.to_string_lossy().into_owned(),
    }
}

/// One command's options, as they come.
pub(super) struct Options {
    pub(super) parser: Parser,
    pub(super) command: &'static str,
    pub(super) known: &'static [&'static str],
}

impl Options {
    /// The next option by its long name; `None` at the end. `-h` is `--help`.
    pub(super) fn next(&mut self) -> Result<Option<&'static str>, Wrong> {
        let command = self.command;
        let argument = self.parser.next().map_err(|error| Wrong::Shape { command, said: error.to_string() })?;
        let name = match argument {
            None => return Ok(None),
            Some(Arg::Short('h')) => "--help".to_owned(),
            Some(other) => spelt(&other),
        };
        self.known_option(name).map(Some)
    }

    fn known_option(&self, name: String) -> Result<&'static str, Wrong> {
        let found = self.known.iter().copied().find(|known| *known == name);
        found.ok_or_else(|| {
            let nearest =
                name.starts_with('-').then(|| nearest(&name, self.known.iter().map(|&known| known.to_owned())));
            Wrong::Option { command: self.command, name, nearest }
        })
    }

    fn value(&mut self) -> Result<OsString, Wrong> {
        let command = self.command;
        self.parser.value().map_err(|error| Wrong::Shape { command, said: error.to_string() })
    }

    pub(super) fn path(&mut self) -> Result<PathBuf, Wrong> {
        self.value().map(PathBuf::from)
    }

    pub(super) fn text(&mut self) -> Result<String, Wrong> {
        let command = self.command;
        self.value()?.string().map_err(|error| Wrong::Shape { command, said: error.to_string() })
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
    let known = &["--config", "--root", "--profile", "--help"];
    let mut options = Options { parser, command: "fingerprint", known };
    let mut parsed = FingerprintOptions { source: Source::Default, root: None, profile: None };
    while let Some(name) = options.next()? {
        match name {
            "--config" => parsed.source = Source::Given(options.path()?),
            "--root" => parsed.root = Some(options.path()?),
            "--profile" => parsed.profile = Some(options.text()?),
            _ => return Ok(Parsed::Text(help::FINGERPRINT)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|wrong| wrong.to_string())
    }

    fn wrong(line: &str) -> String {
        parsed(line).expect_err(line)
    }

    #[test]
    fn what_is_unknown_is_told_with_the_nearest() {
        assert_eq!(wrong(""), "no command was given");
        assert_eq!(wrong("unlok"), "unknown command \"unlok\"; the nearest known is unlock");
        assert_eq!(wrong("--versoin"), "unknown command \"--versoin\"; the nearest known is --version");
        assert_eq!(wrong("run --conf x"), "run: unknown option --conf; the nearest known is --config");
        assert_eq!(wrong("status now"), "status: unexpected argument now");
        assert_eq!(wrong("wait --timeout soon"), "wait: --timeout cannot be \"soon\"; allowed: whole seconds");
        assert!(wrong("run --config").contains("missing argument"), "{}", wrong("run --config"));
        assert!(wrong("status --json=1").contains("unexpected argument"), "{}", wrong("status --json=1"));
    }

    #[test]
    fn a_password_is_never_an_argument() {
        for line in ["unlock --email a@b --password canary", "unlock --password=canary"] {
            let said = wrong(line);
            assert!(said.contains("--password-stdin") && !said.contains("canary"), "{said}");
        }
    }

    #[test]
    fn who_logs_in_is_said_once() {
        let login = |line| match parsed(line) {
            Ok(Parsed::Command(Command::Unlock(options))) => options.login,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(login("unlock"), Login::Held);
        assert_eq!(login("unlock --held"), Login::Held);
        assert_eq!(login("unlock --credentials f"), Login::File("f".into()));
        assert_eq!(login("unlock --email a@b"), Login::Email("a@b".into(), Password::Prompt));
        assert_eq!(login("unlock --password-stdin --email a@b"), Login::Email("a@b".into(), Password::Stdin));
        for line in ["unlock --held --email a@b", "unlock --credentials f --email a@b", "unlock --password-stdin"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_done_with_the_cache_is_said_once() {
        let action = |line| match parsed(line) {
            Ok(Parsed::Command(Command::Cache(options))) => options.action,
            other => panic!("{line}: {other:?}"),
        };
        let evict = |name: &str, folder: &str| CacheAction::Evict {
            name: ResourceName::new(name).expect("plain"),
            folder: Folder::new(folder).expect("plain"),
        };
        assert_eq!(action("cache list"), CacheAction::List);
        assert_eq!(action("cache verify --config f"), CacheAction::Verify);
        assert_eq!(action("cache evict --all"), CacheAction::EvictAll);
        assert_eq!(action("cache evict list"), evict("list", ""));
        assert_eq!(action("cache evict --folder f -- --all"), evict("--all", "f"));
        for line in [
            "cache",
            "cache lst",
            "cache list m",
            "cache list --all",
            "cache verify --folder f",
            "cache evict",
            "cache evict m n",
            "cache evict m --all",
            "cache evict --all --folder f",
            "cache evict a/b",
            "cache evict m --folder a/b",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
        assert_eq!(wrong("cache lst"), "cache: the action cannot be \"lst\"; allowed: list, verify, evict");
    }

    #[test]
    fn every_command_has_help_that_names_all_its_options() {
        for command in COMMANDS {
            let Ok(Parsed::Text(text)) = parsed(&format!("{command} --help")) else { panic!("{command}") };
            assert!(text.contains("Example"), "{command}");
            let unknown = wrong(&format!("{command} --zz"));
            assert!(unknown.contains("nearest known is --"), "{unknown}");
            assert!(help::OVERVIEW.contains(&format!("\n  {command} ")), "{command}");
        }
        let options = [
            ("run", "--config"),
            ("fingerprint", "--root"),
            ("status", "--json"),
            ("unlock", "--no-wait"),
            ("unlock", "--credentials"),
            ("unlock", "--password-file"),
            ("wait", "--fail-on-error"),
            ("wait", "--timeout"),
            ("cache", "--folder"),
            ("cache", "--all"),
            ("cache", "verify"),
        ];
        for (command, option) in options {
            let Ok(Parsed::Text(text)) = parsed(&format!("{command} -h")) else { panic!("{command}") };
            assert!(text.contains(option), "{command} {option}");
        }
    }
}
