//! What goes wrong with the Resource API, sorted by whose fault it is.

use std::time::Duration;
use std::{error, fmt};

use super::retry::Again;
use super::token::TokenError;
use crate::crypto::FragmentRefused;
use crate::error::{Code, Explain, SET_CLOCK};
use crate::json::JsonRefused;
use crate::net::{NetError, Step, TlsFault};

/// The calls of CONTRACT section 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `POST /login`.
    LogIn,
    /// `GET /binary-split/key-fragment`.
    KeyFragment,
    /// `POST /resources/get`.
    Resource,
    /// `POST /resources`.
    PutResource,
}

impl Operation {
    /// The call in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LogIn => "log-in",
            Self::KeyFragment => "key fragment",
            Self::Resource => "resource",
            Self::PutResource => "resource upload",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When a failure may be repeated, as the server says it (RFC 9110 section 10.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// After this long.
    Seconds(Duration),
    /// At a date: the board has no clock to compare it with, so the usual pause is made.
    Date,
}

/// How the API broke the contract.
#[derive(Debug)]
pub enum ApiFault {
    /// It redirects; no credential goes anywhere but to the configured address.
    Redirect {
        /// The status.
        status: u16,
        /// Where to, without its query.
        location: String,
    },
    /// A status that the contract does not have.
    Status(u16),
    /// The answer is longer than the contract allows.
    TooLong {
        /// The bound in bytes.
        limit: usize,
    },
    /// The answer is not the JSON of the contract.
    Json(JsonRefused),
    /// The token is not one that is accepted.
    Token(TokenError),
    /// The key fragment is empty or too long.
    Fragment(FragmentRefused),
}

/// Why a call to the Resource API failed.
#[derive(Debug)]
pub enum CloudError {
    /// `/login` does not know this e-mail address and password.
    WrongCredentials {
        /// What the server said.
        message: String,
    },
    /// 401 or 403: after a fresh log-in, too, once a call reports it.
    Refused {
        /// The call.
        operation: Operation,
        /// The status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The API knows no file of this name.
    Unknown {
        /// What the server said.
        message: String,
    },
    /// A failure of the server's own.
    Failed {
        /// The call.
        operation: Operation,
        /// The status.
        status: u16,
        /// The server's `ErrorCode`.
        error_code: Option<i64>,
        /// What the server said.
        message: String,
        /// What it said of repeating the call.
        retry_after: Option<RetryAfter>,
    },
    /// The way to the server or back.
    Net {
        /// The call.
        operation: Operation,
        /// Host and port.
        host: String,
        /// The step that failed.
        source: NetError,
    },
    /// The answer is not what the contract says.
    Protocol {
        /// The call.
        operation: Operation,
        /// Host and port.
        host: String,
        /// What is wrong with it.
        fault: ApiFault,
    },
}

impl CloudError {
    /// Whether the same call may be made again (CONTRACT section 1, "Failures").
    ///
    /// Of the server's own failures only 429 and 503 with a `Retry-After`: every other status is final, 502 and 504
    /// too, for the contract names those two alone.
    pub(super) fn again(&self) -> Again {
        match self {
            Self::Failed { status: 429 | 503, retry_after: Some(RetryAfter::Seconds(pause)), .. } => {
                Again::After(*pause)
            }
            Self::Failed { status: 429 | 503, retry_after: Some(RetryAfter::Date), .. } => Again::Soon,
            Self::Net { source, .. } => match source {
                NetError::Resolve { .. }
                | NetError::Connect { .. }
                | NetError::TimedOut { .. }
                | NetError::ClosedEarly { .. }
                | NetError::Io { .. } => Again::Soon,
                NetError::Tls { .. }
                | NetError::Protocol { .. }
                | NetError::TooLarge { .. }
                | NetError::BodyLength { .. }
                | NetError::Request { .. } => Again::Never,
            },
            Self::WrongCredentials { .. }
            | Self::Refused { .. }
            | Self::Unknown { .. }
            | Self::Failed { .. }
            | Self::Protocol { .. } => Again::Never,
        }
    }
}

/// `: message`, or nothing.
pub(super) struct Said<'a>(pub(super) &'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongCredentials { message } => {
                write!(f, "the API does not accept this e-mail address and password{}", Said(message))
            }
            Self::Refused { operation, status, message } => {
                write!(f, "{operation}: the API refuses this account with {status}{}", Said(message))
            }
            Self::Unknown { message } => write!(f, "the API knows no resource of this name{}", Said(message)),
            Self::Failed { operation, status, error_code: None, message, .. } => {
                write!(f, "{operation}: the API failed with {status}{}", Said(message))
            }
            Self::Failed { operation, status, error_code: Some(code), message, .. } => {
                write!(f, "{operation}: the API failed with {status}, error {code}{}", Said(message))
            }
            Self::Net { operation, host, .. } => write!(f, "{operation} at {host} failed"),
            Self::Protocol { operation, host, fault } => {
                write!(f, "{operation} at {host}: ")?;
                match fault {
                    ApiFault::Redirect { status, location } => {
                        write!(f, "redirect {status} to {location:?} is not followed")
                    }
                    ApiFault::Status(status) => write!(f, "status {status} is not one of this call"),
                    ApiFault::TooLong { limit } => write!(f, "the answer is longer than {limit} bytes"),
                    ApiFault::Json(_) => f.write_str("the answer is not the JSON of this call"),
                    ApiFault::Token(_) => f.write_str("the token is not accepted"),
                    ApiFault::Fragment(_) => f.write_str("the key fragment is not one"),
                }
            }
        }
    }
}

impl error::Error for CloudError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Net { source, .. } => Some(source),
            Self::Protocol { fault, .. } => match fault {
                ApiFault::Json(source) => Some(source),
                ApiFault::Token(source) => Some(source),
                ApiFault::Fragment(source) => Some(source),
                ApiFault::Redirect { .. } | ApiFault::Status(_) | ApiFault::TooLong { .. } => None,
            },
            Self::WrongCredentials { .. } | Self::Refused { .. } | Self::Unknown { .. } | Self::Failed { .. } => None,
        }
    }
}

impl Explain for CloudError {
    fn code(&self) -> Code {
        match self {
            Self::WrongCredentials { .. } => Code::CredentialsWrong,
            Self::Refused { .. } => Code::ApiRefused,
            Self::Unknown { .. } => Code::ResourceUnknown,
            Self::Failed { .. } => Code::ApiFailed,
            Self::Protocol { .. } => Code::ApiProtocol,
            Self::Net { source, .. } => match source {
                NetError::Resolve { .. }
                | NetError::Connect { .. }
                | NetError::ClosedEarly { .. }
                | NetError::Io { .. } => Code::ApiUnreachable,
                NetError::Tls { .. } => Code::ApiTls,
                NetError::TimedOut { .. } => Code::ApiTimeout,
                NetError::Protocol { .. } | NetError::TooLarge { .. } => Code::ApiProtocol,
                NetError::BodyLength { .. } | NetError::Request { .. } => Code::Internal,
            },
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::WrongCredentials { .. } => "check e-mail address and password, then log in again".into(),
            Self::Refused { operation, .. } => {
                format!("ask an administrator whether this account may use this call ({operation})")
            }
            Self::Unknown { .. } => {
                "check name and folder, which are case-sensitive; if they are right, upload the resource first".into()
            }
            Self::Failed { retry_after: Some(RetryAfter::Seconds(pause)), .. } => {
                format!("wait {} s, then try again", pause.as_secs())
            }
            Self::Failed { .. } => {
                "try again later; if it stays, tell the operator of the API this message and the time".into()
            }
            Self::Net { host, source, .. } => net_step(host, source),
            Self::Protocol { host, fault, .. } => match fault {
                ApiFault::Redirect { .. } => {
                    format!("set [cloud] resource_api_url to the address that {host} redirects to, if you trust it")
                }
                ApiFault::Token(TokenError::Algorithm { .. } | TokenError::Signature | TokenError::Critical) => {
                    "check that [cloud] token_public_key is the key this API signs with".into()
                }
                ApiFault::Token(_)
                | ApiFault::Status(_)
                | ApiFault::TooLong { .. }
                | ApiFault::Json(_)
                | ApiFault::Fragment(_) => {
                    format!("check [cloud] resource_api_url: {host} does not answer as the Resource API does")
                }
            },
        }
    }
}

/// What helps, by the step that failed.
fn net_step(host: &str, error: &NetError) -> String {
    match error {
        NetError::Resolve { .. } => {
            format!("check the board's network and DNS, and the name in [cloud] resource_api_url ({host})")
        }
        NetError::Connect { .. } => {
            format!("check the board's network, and that nothing between it and {host} blocks the connection")
        }
        NetError::Tls { fault, .. } => match fault {
            TlsFault::UnknownAuthority => {
                format!("set [cloud] ca_file to the authority that issued the certificate of {host}")
            }
            TlsFault::NotValidYet => SET_CLOCK.into(),
            TlsFault::Expired => {
                format!("check the board's clock; if it is right, the certificate of {host} must be renewed")
            }
            TlsFault::WrongName => {
                format!("check [cloud] resource_api_url: the server at {host} proves another name")
            }
            TlsFault::Other => format!("check that {host} speaks TLS 1.2 or 1.3 and nothing in between cuts it"),
        },
        NetError::TimedOut { step: Step::Resolve, .. } => "check the board's network and DNS".into(),
        NetError::TimedOut { step, .. } => {
            format!("check the network between the board and {host} (no answer in step: {step}), then try again")
        }
        NetError::ClosedEarly { .. } | NetError::Io { .. } => {
            format!("check the network between the board and {host}, then try again")
        }
        NetError::Protocol { .. } | NetError::TooLarge { .. } => {
            format!("check [cloud] resource_api_url: {host} does not answer as the Resource API does")
        }
        NetError::BodyLength { .. } | NetError::Request { .. } => "report this fault of the agent".into(),
    }
}
