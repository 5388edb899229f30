//! What goes wrong with a model, sorted by whose fault it is.

use std::rc::Rc;
use std::{error, fmt, io};

use super::join::Unjoined;
use super::vault::VaultRefused;
use crate::cache::{CacheError, ReadError};
use crate::cloud::{CdnError, CloudError, Role};
use crate::crypto::UnsealError;
use crate::error::{Code, Explain, Report};
use crate::limits::SMALL_BYTES;
use crate::net::NetError;

/// Why the parts of a resource do not make a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// What the API sent does not open with this board's API key.
    ApiKey(UnsealError),
    /// The small part is empty, or longer than the contract allows.
    SmallLength {
        /// Bytes there were.
        bytes: usize,
    },
    /// The two parts are not of one resource.
    Parts(Unjoined),
    /// The CDN has no big part to this small one.
    BigMissing,
}

/// Why a model cannot be served without the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// `[cache] offline` is off.
    Off,
    /// This user has not loaded it on this board, or not since the password changed.
    NeverLoaded,
    /// The big part is not whole on flash, and the CDN cannot be asked for the rest.
    Incomplete,
}

/// Why a model cannot be loaded or uploaded.
#[derive(Debug)]
pub enum ResourceError {
    /// The Resource API or the way to it.
    Cloud(CloudError),
    /// The CDN or the way to it.
    Cdn(CdnError),
    /// The flash.
    Cache(CacheError),
    /// What lies staged cannot be read back as it was written.
    Staged(ReadError),
    /// The API cannot be reached, and what is kept on this board is not enough.
    Offline {
        /// What the API or the CDN said last; nothing where nobody could log in.
        cause: Option<Box<ResourceError>>,
        /// What is missing here.
        why: NotKept,
    },
    /// Neither a small part nor a whole resource of this name.
    Unknown,
    /// The user's role does not allow uploads.
    RoleTooLow {
        /// The least that does.
        needed: Role,
        /// What the user has.
        held: Role,
    },
    /// The parts do not make a whole.
    Damaged(Damage),
    /// It is sealed, and what was found is not what was sealed. What exactly is in this board's log alone.
    NotAuthentic,
    /// It has no seal, and this board demands one.
    Unsealed,
    /// What this board demands of resources cannot be told.
    Trust(Report),
    /// The box of an upload that waits does not open any more.
    Vault(VaultRefused),
    /// The board gives no randomness, no memory, or no state directory.
    Board(io::Error),
    /// The agent ends.
    Stopping,
    /// A download that others wait for, too.
    Shared(Rc<ResourceError>),
}

impl ResourceError {
    /// Whether the way to a cloud or its state of the moment failed: it counts as unreachable.
    pub(super) fn is_away(&self) -> bool {
        match self {
            Self::Cloud(error) => is_unreachable(error),
            Self::Cdn(error) => error.may_pass() || matches!(error, CdnError::Net { .. }),
            Self::Offline { cause, .. } => cause.as_ref().is_none_or(|cause| cause.is_away()),
            Self::Shared(error) => error.is_away(),
            Self::Cache(_)
            | Self::Staged(_)
            | Self::Unknown
            | Self::RoleTooLow { .. }
            | Self::Damaged(_)
            | Self::NotAuthentic
            | Self::Unsealed
            | Self::Trust(_)
            | Self::Vault(_)
            | Self::Board(_)
            | Self::Stopping => false,
        }
    }

    /// Whether an upload that was accepted ends by it: nothing that time or a log-in could mend.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Cloud(error) => match error {
                CloudError::WrongCredentials { .. } | CloudError::Refused { .. } | CloudError::Unknown { .. } => true,
                CloudError::Failed { status, .. } => (400..500).contains(status) && ![408, 429].contains(status),
                CloudError::Net { .. } | CloudError::Protocol { .. } => false,
            },
            // What lies staged cannot be read back, or not be opened.
            Self::Staged(_)
            | Self::Vault(_)
            | Self::RoleTooLow { .. }
            | Self::Damaged(_)
            | Self::NotAuthentic
            | Self::Unsealed
            | Self::Unknown => true,
            Self::Shared(error) => error.is_final(),
            // Refused by the CDN, too: keys are changed in `cdn.yaml`, which the next log-in reads anew.
            Self::Cdn(_) | Self::Cache(_) | Self::Offline { .. } | Self::Trust(_) | Self::Board(_) | Self::Stopping => {
                false
            }
        }
    }
}

/// Whether the API counts as unreachable: no way to it, or what stands before it says so.
pub fn is_unreachable(error: &CloudError) -> bool {
    match error {
        // Another answer than the contract's may come from a portal on the way, but a wrong address as well.
        CloudError::Net { source, .. } => {
            !matches!(source, NetError::BodyLength { .. } | NetError::Request { .. } | NetError::TooLarge { .. })
        }
        CloudError::Failed { status, .. } => matches!(status, 429 | 502 | 503 | 504),
        CloudError::WrongCredentials { .. }
        | CloudError::Refused { .. }
        | CloudError::Unknown { .. }
        | CloudError::Protocol { .. } => false,
    }
}

impl From<CloudError> for ResourceError {
    fn from(error: CloudError) -> Self {
        Self::Cloud(error)
    }
}

impl From<CdnError> for ResourceError {
    fn from(error: CdnError) -> Self {
        match error {
            CdnError::NotFound { .. } => Self::Damaged(Damage::BigMissing),
            other => Self::Cdn(other),
        }
    }
}

impl From<CacheError> for ResourceError {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

impl From<Unjoined> for ResourceError {
    fn from(error: Unjoined) -> Self {
        Self::Damaged(Damage::Parts(error))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(_) => f.write_str("what the API sent does not open with this board's API key"),
            Self::SmallLength { bytes } => {
                write!(f, "a small part has 1 to {SMALL_BYTES} bytes, this one {bytes}")
            }
            Self::Parts(_) => f.write_str("the two parts do not make a resource"),
            Self::BigMissing => f.write_str("the CDN has no big part to this small one"),
        }
    }
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "nothing is kept for it ([cache] offline is off)",
            Self::NeverLoaded => "it was not loaded here by this user before",
            Self::Incomplete => "its big part is not whole on flash",
        })
    }
}

impl fmt::Display for ResourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cloud(error) => error.fmt(f),
            Self::Cdn(error) => error.fmt(f),
            Self::Cache(error) => error.fmt(f),
            Self::Staged(_) => f.write_str("the upload that lay on flash cannot be read back"),
            Self::Offline { cause: Some(cause), why } => write!(f, "{cause}; without the API: {why}"),
            Self::Offline { cause: None, why } => write!(f, "the Resource API is not reachable; without it: {why}"),
            Self::Unknown => f.write_str("the Resource API has no resource of this name"),
            Self::RoleTooLow { needed, held } => {
                write!(f, "uploads need the role {needed} or one above it, this user has {held}")
            }
            Self::Damaged(damage) => damage.fmt(f),
            Self::NotAuthentic => f.write_str("what was found of this resource is not what was sealed"),
            Self::Unsealed => f.write_str("this resource has no seal, and this board demands one"),
            Self::Trust(report) => f.write_str(&report.message),
            Self::Vault(_) => f.write_str("the upload that waited cannot be opened any more"),
            Self::Board(_) => f.write_str("the board has no randomness, memory or state directory for it"),
            Self::Stopping => f.write_str("the agent ends"),
            Self::Shared(error) => error.fmt(f),
        }
    }
}

impl error::Error for ResourceError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Cloud(error) => error.source(),
            Self::Cdn(error) => error.source(),
            Self::Cache(error) => error.source(),
            Self::Staged(error) => Some(error),
            Self::Offline { cause, .. } => cause.as_ref().and_then(|cause| cause.source()),
            Self::Damaged(Damage::ApiKey(source)) => Some(source),
            Self::Damaged(Damage::Parts(source)) => Some(source),
            Self::Vault(source) => Some(source),
            Self::Board(source) => Some(source),
            Self::Shared(error) => error.source(),
            Self::Damaged(Damage::SmallLength { .. } | Damage::BigMissing)
            | Self::Unknown
            | Self::RoleTooLow { .. }
            | Self::NotAuthentic
            | Self::Unsealed
            | Self::Trust(_)
            | Self::Stopping => None,
        }
    }
}

impl Explain for ResourceError {
    fn code(&self) -> Code {
        match self {
            Self::Cloud(error) => error.code(),
            Self::Cdn(error) => error.code(),
            Self::Cache(error) => error.code(),
            Self::Staged(_) => Code::CacheUnavailable,
            Self::Offline { cause: Some(cause), .. } => cause.code(),
            Self::Offline { cause: None, .. } => Code::ApiUnreachable,
            Self::Unknown => Code::ResourceUnknown,
            Self::RoleTooLow { .. } => Code::RoleTooLow,
            Self::Damaged(_) | Self::Vault(_) => Code::ResourceDamaged,
            Self::NotAuthentic => Code::ResourceNotAuthentic,
            Self::Unsealed => Code::ResourceUnsealed,
            Self::Trust(report) => report.code,
            Self::Board(_) => Code::StateUnavailable,
            Self::Stopping => Code::Internal,
            Self::Shared(error) => error.code(),
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Cloud(error) => error.next_step(),
            Self::Cdn(error) => error.next_step(),
            Self::Cache(error) => error.next_step(),
            Self::Offline { cause, why } => {
                let first = cause
                    .as_ref()
                    .map_or_else(|| "check the board's network, then log in".to_owned(), |cause| cause.next_step());
                let helps = match why {
                    NotKept::Off => {
                        "with [cache] offline = true a model that was loaded once is served without the API"
                    }
                    NotKept::NeverLoaded => "load it once while the API can be reached: then it is kept",
                    NotKept::Incomplete => "let one load of it run to its end while the CDN can be reached",
                };
                format!("{first}; {helps}")
            }
            Self::Unknown => "check name and folder: they are compared letter by letter".into(),
            Self::RoleTooLow { needed, .. } => format!("log in as a user of the role {needed} or above"),
            Self::Damaged(Damage::ApiKey(_)) => {
                "check [keys] hardware_salt and api_salt, and that this board is the one the API knows".into()
            }
            Self::Damaged(Damage::Parts(Unjoined::End(_))) => {
                "check [keys] resource_salt; if it is right, upload the resource again".into()
            }
            Self::Damaged(Damage::Parts(Unjoined::Lengths { .. })) => {
                "wait until the upload that may be under way has ended, then try again; if it stays, upload it again"
                    .into()
            }
            Self::NotAuthentic => {
                "check [keys] resource_salt, and wait until an upload that may be under way has ended; if it stays, \
                 upload the resource again"
                    .into()
            }
            Self::Unsealed => "upload the model again with this loader, or see azaion-loader trust --help".into(),
            Self::Trust(report) => report.next.clone(),
            Self::Damaged(_) | Self::Vault(_) | Self::Staged(_) => "upload the resource again".into(),
            Self::Board(_) => "check [state] dir and the board's free memory".into(),
            Self::Stopping => "try again when the agent runs again".into(),
            Self::Shared(error) => error.next_step(),
        }
    }
}
