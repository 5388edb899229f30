//! What can go wrong with a call of the control port.

use std::error::Error;
use std::fmt;
use std::io;

use super::{Report, Target};
use crate::cli::exit;
use crate::cli::screen::plain;

/// Why there is no answer that helps.
#[derive(Debug)]
pub(in crate::cli) enum ClientError {
    /// Nobody listens there.
    NotRunning { target: Target, source: io::Error },
    /// The socket is there and this user may not open it.
    NotAllowed { target: Target, source: io::Error },
    /// The connection failed in the middle, or no answer came in time.
    NoAnswer { target: Target, source: ureq::Error },
    /// What answers is not this agent.
    NotTheAgent { target: Target, status: u16 },
    /// The agent refuses.
    Refused { status: u16, report: Report },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { target, .. } => write!(f, "the agent is not running at {target}"),
            Self::NotAllowed { target, .. } => write!(f, "this user may not call the agent at {target}"),
            Self::NoAnswer { target, .. } => write!(f, "the agent at {target} does not answer"),
            Self::NotTheAgent { target, status } => {
                write!(f, "what answers at {target} (status {status}) is not azaion-loader")
            }
            Self::Refused { report, .. } => write!(f, "{} ({})", plain(&report.message), plain(&report.code)),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotRunning { source, .. } | Self::NotAllowed { source, .. } => Some(source),
            Self::NoAnswer { source, .. } => Some(source),
            Self::NotTheAgent { .. } | Self::Refused { .. } => None,
        }
    }
}

impl ClientError {
    /// What the person can do.
    pub(in crate::cli) fn next_step(&self) -> String {
        match self {
            Self::NotRunning { .. } => "systemctl status azaion-loader, or another address with --url".to_owned(),
            Self::NotAllowed { .. } => "call as root, or add this user to [control] allow_uids".to_owned(),
            Self::NoAnswer { .. } => "journalctl -u azaion-loader -n 50".to_owned(),
            Self::NotTheAgent { .. } => "check --url or [control] listen".to_owned(),
            // What the port says is for who speaks HTTP.
            Self::Refused { report, .. } if report.code == "not_logged_in" => {
                "azaion-loader unlock --email you@example.com, or azaion-loader login --email you@example.com"
                    .to_owned()
            }
            Self::Refused { report, .. } => plain(&report.next),
        }
    }

    /// The exit code of the process.
    pub(in crate::cli) const fn exit(&self) -> u8 {
        match self {
            Self::NotRunning { .. } | Self::NoAnswer { .. } => exit::NOT_RUNNING,
            Self::NotAllowed { .. } | Self::NotTheAgent { .. } | Self::Refused { .. } => exit::FAILED,
        }
    }

    /// Whether the same call may succeed later without anybody doing anything to this client.
    pub(in crate::cli) const fn may_pass(&self) -> bool {
        match self {
            Self::NotRunning { .. } | Self::NoAnswer { .. } => true,
            // Too many clients, or a fault of the agent's own.
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::NotAllowed { .. } | Self::NotTheAgent { .. } => false,
        }
    }
}
