//! Why a configuration is refused: one line that names the file and line or the variable, and what is allowed.
//!
//! No message shows the value of a hidden key.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::credentials::CredentialsFileError;
use super::settings::Origin;

/// A configuration the agent does not start with. Each is one line; the process ends with exit code 2.
#[derive(Debug)]
pub enum ConfigError {
    /// A file that the configuration is, or names, cannot be read.
    Unreadable {
        /// Which key names it; `None` for the configuration file itself.
        key: Option<String>,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML.
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// A table or key that no version of the contract names.
    Unknown {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// "section" or "key".
        what: &'static str,
        /// As it stands in the file.
        name: String,
        /// The known one most like it.
        nearest: String,
    },
    /// An `AZAION_` variable that belongs to no key.
    UnknownVariable {
        /// The variable.
        name: String,
        /// The known one most like it.
        nearest: String,
    },
    /// A variable that is not UTF-8.
    VariableNotText {
        /// The variable.
        name: String,
    },
    /// Keys without which no key can be derived (CONTRACT section 3); each with its environment name.
    Missing {
        /// The keys, dotted, and their variables.
        keys: Vec<(String, String)>,
    },
    /// `boot.credentials_file` is not one the agent uses.
    Credentials(CredentialsFileError),
    /// A value the key cannot have.
    Value {
        /// The key, dotted.
        key: String,
        /// Where it was said; `None` when the caller no longer knows.
        origin: Option<Origin>,
        /// The value, or `…` when it is hidden.
        text: String,
        /// What is allowed.
        allowed: String,
    },
}

impl ConfigError {
    /// A value that a room refused although the configuration let it pass: `engine.socket`, its text, what is allowed.
    pub fn value(key: &str, text: &str, allowed: impl fmt::Display) -> Self {
        Self::Value { key: key.to_owned(), origin: None, text: text.to_owned(), allowed: allowed.to_string() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { key: None, path, .. } => write!(f, "cannot read {}", path.display()),
            Self::Unreadable { key: Some(key), path, .. } => {
                write!(f, "{key}: cannot read {}", path.display())
            }
            Self::Syntax { path, line, message } => {
                write!(f, "{} line {line}: not TOML: {message}", path.display())
            }
            Self::Unknown { path, line, what, name, nearest } => {
                write!(f, "{} line {line}: unknown {what} {name}; the nearest known is {nearest}", path.display())
            }
            Self::UnknownVariable { name, nearest } => {
                write!(f, "unknown environment variable {name}; the nearest known is {nearest}")
            }
            Self::VariableNotText { name } => write!(f, "environment variable {name} is not UTF-8"),
            Self::Missing { keys } => {
                f.write_str("missing ")?;
                for (n, (key, env)) in keys.iter().enumerate() {
                    if n > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{key} (environment {env})")?;
                }
                f.write_str("; there is no default, the administrator of the suite hands them out")
            }
            Self::Credentials(error) => write!(f, "boot.credentials_file: {error}"),
            Self::Value { key, origin, text, allowed } => {
                match origin {
                    Some(Origin::File { path, line }) => write!(f, "{} line {line}: ", path.display())?,
                    Some(Origin::Variable(name)) => write!(f, "environment variable {name}: ")?,
                    Some(Origin::Default) | None => {}
                }
                write!(f, "{key} cannot be {text:?}; allowed: {allowed}")
            }
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Credentials(error) => error.source(),
            Self::Syntax { .. }
            | Self::Unknown { .. }
            | Self::UnknownVariable { .. }
            | Self::VariableNotText { .. }
            | Self::Missing { .. }
            | Self::Value { .. } => None,
        }
    }
}
