//! Arguments that make no command, and how that is told.

use std::fmt;

/// Arguments that make no command.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Wrong {
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
    pub(in crate::cli) fn hint(&self) -> String {
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
