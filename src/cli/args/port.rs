//! What several commands have in common: where the port is, and who logs in.

use std::path::PathBuf;

use super::{Options, Wrong};
use crate::cli::target::Port;
use crate::config::Source;
use crate::name::Folder;

/// Where the credentials come from.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Login {
    /// The agent holds them; for `plan`, which asks no agent, `[boot]` does.
    Held,
    /// A file as `[boot] credentials_file`.
    File(PathBuf),
    /// An address, and a password from somewhere.
    Email(String, Password),
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Password {
    Prompt,
    File(PathBuf),
    Stdin,
}

/// What was said about who logs in, while the arguments are read.
#[derive(Debug, Default)]
pub(in crate::cli) struct LoginWords {
    email: Option<String>,
    password: Option<Password>,
    file: Option<PathBuf>,
    held: bool,
}

impl LoginWords {
    /// Takes an option that says who logs in; false if it is none of them.
    pub(in crate::cli) fn option(&mut self, name: &str, options: &mut Options) -> Result<bool, Wrong> {
        match name {
            "--email" => self.email = Some(options.text()?),
            "--password-file" => self.password = Some(Password::File(options.path()?)),
            "--password-stdin" => self.password = Some(Password::Stdin),
            "--credentials" => self.file = Some(options.path()?),
            "--held" => self.held = true,
            "--password" => return Err(Wrong::Password { command: options.command }),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Who logs in, of what was said about it.
    pub(in crate::cli) fn login(self, command: &'static str) -> Result<Login, Wrong> {
        match (self.email, self.password, self.file, self.held) {
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
}

/// Takes an option that every client command has; false if it is none of them.
pub(in crate::cli) fn port_option(name: &str, options: &mut Options, port: &mut Port) -> Result<bool, Wrong> {
    match name {
        "--config" => port.source = Source::Given(options.path()?),
        "--url" => port.url = Some(options.text()?),
        "--token-file" => port.token_file = Some(options.path()?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// The value of `--folder`.
pub(in crate::cli) fn folder(options: &mut Options) -> Result<Folder, Wrong> {
    let said = options.text()?;
    Folder::new(said).map_err(|refused| Wrong::Shape { command: options.command, said: refused.to_string() })
}
