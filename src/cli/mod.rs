//! The command line: `run` is the agent, `seal`, `verify` and `inspect` are the publisher's, everything else looks at a
//! board or talks to its control port.
//!
//! These commands block, which is right here: each does one thing and ends. A password is never taken from arguments,
//! where every user of the board could read it. What the port answers is printed without control characters.

mod args;
mod audit;
mod board;
mod bundle;
mod cache;
mod check;
mod client;
mod draft;
mod errors;
mod events;
mod follow;
mod help;
mod load;
mod login;
mod meter;
mod plan;
mod prompt;
mod screen;
mod seal;
mod status;
mod target;
#[cfg(test)]
mod testing;
mod token;
mod trust;
mod unlock;
mod upload;
mod wait;
mod wire;

use std::error::Error;
use std::ffi::OsString;
use std::fmt;

use crate::agent::{self, Ending};
use crate::config::{Config, ConfigError, Settings};
use crate::error::chain;
use args::{Command, Parsed};
use client::ClientError;
use screen::Screen;

/// The exit codes, as `azaion-loader --help` documents them.
pub mod exit {
    /// Done; for `wait` and `unlock`: ready.
    pub const DONE: u8 = 0;
    /// It failed, and why was said.
    pub const FAILED: u8 = 1;
    /// The command line or the configuration is wrong.
    pub const USAGE: u8 = 2;
    /// `wait --timeout` ran out.
    pub const TIMED_OUT: u8 = 3;
    /// The agent does not answer.
    pub const NOT_RUNNING: u8 = 4;
    /// `run`: another agent uses the same state directory.
    pub const ALREADY_RUNNING: u8 = 5;
}

/// A core file would hold passwords and keys: this process makes none, and nobody but root may look into it. Best effort:
/// where the kernel refuses, systemd's `LimitCORE=0` stands.
fn no_core_files() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _refused = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _refused = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Does what the arguments (without the program's name) say; the exit code of the process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    no_core_files();
    let mut screen = Screen::of_process();
    match args::parse(arguments) {
        Ok(Parsed::Text(text)) => {
            screen.print(text);
            exit::DONE
        }
        Ok(Parsed::Command(command)) => dispatch(command, &mut screen).unwrap_or_else(|failure| {
            screen.complain(&failure.said);
            failure.exit
        }),
        Err(wrong) => {
            screen.complain(&format!("{wrong}\n{}", wrong.hint()));
            exit::USAGE
        }
    }
}

fn dispatch(command: Command, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    match command {
        Command::Run { source } => Ok(match agent::run(Config::load(&source)?) {
            Ending::Asked => exit::DONE,
            Ending::Configuration => exit::USAGE,
            Ending::AnotherAgent => exit::ALREADY_RUNNING,
            Ending::Unavailable => exit::FAILED,
        }),
        Command::Config { source } => {
            let settings = Settings::read(&source, std::env::vars_os())?;
            screen.print(settings.to_string().trim_end());
            Config::of(settings)?;
            Ok(exit::DONE)
        }
        Command::Fingerprint(options) => board::fingerprint(&options, screen),
        Command::Status(options) => status::run(&options, screen),
        Command::Login(options) => login::run(options, screen),
        Command::Plan(options) => plan::run(options, screen),
        Command::Unlock(options) => unlock::run(options, screen),
        Command::Wait(options) => wait::run(&options, screen),
        Command::Load(options) => load::run(&options, screen),
        Command::Upload(options) => upload::run(&options, screen),
        Command::Events(options) => events::run(&options, screen),
        Command::Check(options) => check::run(&options, screen),
        Command::Token(options) => token::run(&options, screen),
        Command::Errors(options) => errors::run(&options, screen),
        Command::Trust(options) => trust::run(options, screen),
        Command::Audit(options) => audit::run(options, screen),
        Command::Seal(options) => seal::write::run(&options, screen),
        Command::Verify(options) => seal::verify::run(&options, screen),
        Command::Inspect(options) => seal::inspect::run(&options, screen),
        Command::Cache(options) => cache::run(&Config::load(&options.source)?, &options.action, screen),
    }
}

/// What ends a command: the line to say and the exit code.
#[derive(Debug)]
struct Failure {
    said: String,
    exit: u8,
}

impl Failure {
    fn new(exit: u8, said: impl fmt::Display) -> Self {
        Self { said: said.to_string(), exit }
    }

    /// An error with its sources and what can be done about it.
    fn with_next(exit: u8, error: &(dyn Error + 'static), next: impl fmt::Display) -> Self {
        Self { said: format!("{}\nnext: {next}", chain(error)), exit }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(exit::USAGE, format_args!("configuration: {}", chain(&error)))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::with_next(error.exit(), &error, error.next_step())
    }
}
