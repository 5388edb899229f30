//! What goes wrong with the CDN, sorted by whose fault it is.

use std::{error, fmt};

use super::super::error::{RetryAfter, Said};
use super::super::retry::Again;
use crate::error::{Code, Explain, SET_CLOCK};
use crate::limits::{CDN_PARTS, CDN_VALUE_BYTES, CDN_YAML_BYTES, CDN_YAML_DEPTH};
use crate::net::url::UrlError;
use crate::net::{NetError, TlsFault};

/// What is asked of the CDN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CdnOperation {
    /// `HEAD` of an object.
    Look,
    /// `GET` of a part of an object.
    Read,
    /// `PUT` of a whole object.
    Put,
    /// Beginning a multipart upload.
    BeginUpload,
    /// `PUT` of one part.
    PutPart,
    /// Joining the parts.
    FinishUpload,
    /// Throwing the parts away.
    AbortUpload,
}

impl CdnOperation {
    /// The call in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look at the object",
            Self::Read => "read",
            Self::Put => "upload",
            Self::BeginUpload => "begin of the upload",
            Self::PutPart => "upload of a part",
            Self::FinishUpload => "end of the upload",
            Self::AbortUpload => "abort of the upload",
        }
    }

    /// Whether it only reads.
    pub const fn is_reading(self) -> bool {
        matches!(self, Self::Look | Self::Read)
    }
}

impl fmt::Display for CdnOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with `cdn.yaml` or with the configuration that wins over it. No value is ever repeated.
#[derive(Debug)]
pub enum SettingsFault {
    /// Longer than [`CDN_YAML_BYTES`].
    TooLong,
    /// Not UTF-8.
    Encoding,
    /// Not YAML.
    Syntax {
        /// Where.
        line: usize,
    },
    /// Something else than one mapping of texts.
    NotAMapping,
    /// A key stands there twice.
    Twice,
    /// An alias.
    Alias,
    /// Values inside values beyond [`CDN_YAML_DEPTH`].
    TooDeep,
    /// More than one document.
    Documents,
    /// A value is no text, empty, has control characters or is longer than [`CDN_VALUE_BYTES`].
    Value {
        /// Its key.
        key: &'static str,
    },
    /// A value that is needed is not there.
    Missing {
        /// Its key.
        key: &'static str,
    },
    /// `host` is not an address that is called.
    Host {
        /// Why.
        source: UrlError,
    },
    /// `host` is no address to `rusty-s3`.
    Address,
}

/// How the CDN broke S3, or a caller of this room its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CdnFault {
    /// It redirects, which is never followed.
    Redirect {
        /// The status.
        status: u16,
        /// Where to, without its query.
        location: String,
    },
    /// A status that the call does not have.
    Status(u16),
    /// No entity tag, or none of a possible length.
    Etag,
    /// No length, or none of a possible kind.
    Length,
    /// A range that was not asked for.
    Range,
    /// The whole object, where only the part behind [`crate::limits::CDN_SKIPPED_BYTES`] was asked for.
    RangesIgnored,
    /// The XML is not that of the call.
    Xml,
    /// A success before the request had been sent whole.
    Early,
}

/// Why a call to the CDN failed.
#[derive(Debug)]
pub enum CdnError {
    /// With what it is to be called is missing or wrong.
    Settings(SettingsFault),
    /// There is no such object, or no such bucket.
    NotFound {
        /// The call.
        operation: CdnOperation,
        /// What the server called it, `NoSuchKey` or `NoSuchBucket`; empty where it did not say.
        code: String,
    },
    /// The multipart upload is not known, or not any more: it was finished, thrown away, or too old.
    NoSuchUpload,
    /// The object is another one than at the beginning.
    Changed,
    /// 401 or 403, and the clock is not why.
    Refused {
        /// The call.
        operation: CdnOperation,
        /// The status.
        status: u16,
        /// The server's code.
        code: String,
        /// What the server said.
        message: String,
    },
    /// A failure of the server's own.
    Failed {
        /// The call.
        operation: CdnOperation,
        /// The status; 200 where an answer began well and ended in an error.
        status: u16,
        /// The server's code.
        code: String,
        /// What the server said.
        message: String,
        /// What it said of repeating the call.
        retry_after: Option<RetryAfter>,
    },
    /// The way to the server or back.
    Net {
        /// The call.
        operation: CdnOperation,
        /// Host and port.
        host: String,
        /// The step that failed.
        source: NetError,
    },
    /// The answer is not what S3 says.
    Protocol {
        /// The call.
        operation: CdnOperation,
        /// Host and port.
        host: String,
        /// What is wrong with it.
        fault: CdnFault,
    },
    /// The parts of an upload are none, too many, or not numbered from 1: a fault of this program.
    Parts,
}

impl CdnError {
    /// Whether the same call may be made again.
    pub(super) fn again(&self) -> Again {
        match self {
            Self::Failed { status, code, retry_after, .. } if is_passing(*status, code) => match retry_after {
                Some(RetryAfter::Seconds(pause)) => Again::After(*pause),
                Some(RetryAfter::Date) | None => Again::Soon,
            },
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
            Self::Settings(_)
            | Self::NotFound { .. }
            | Self::NoSuchUpload
            | Self::Changed
            | Self::Refused { .. }
            | Self::Failed { .. }
            | Self::Protocol { .. }
            | Self::Parts => Again::Never,
        }
    }

    /// Whether it is the way to the CDN or its state of the moment that failed, so that the same call may succeed
    /// later without anybody doing anything about it.
    pub fn may_pass(&self) -> bool {
        self.again() != Again::Never
    }
}

/// S3's own word for what passes, by status and by code (a 200 may hold one as well).
fn is_passing(status: u16, code: &str) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
        || matches!(
            code,
            "SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout" | "OperationAborted" | "Throttling"
        )
}

impl fmt::Display for SettingsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "cdn.yaml is longer than {CDN_YAML_BYTES} bytes"),
            Self::Encoding => f.write_str("cdn.yaml is not UTF-8"),
            Self::Syntax { line } => write!(f, "cdn.yaml is not YAML in line {line}"),
            Self::NotAMapping => f.write_str("cdn.yaml is not one mapping of names to texts"),
            Self::Twice => f.write_str("cdn.yaml has a name twice"),
            Self::Alias => f.write_str("cdn.yaml has an alias, which is not allowed"),
            Self::TooDeep => write!(f, "cdn.yaml has values more than {CDN_YAML_DEPTH} deep"),
            Self::Documents => f.write_str("cdn.yaml has more than one document"),
            Self::Value { key } => {
                write!(f, "{key} of the CDN is not a text of 1 to {CDN_VALUE_BYTES} bytes without control characters")
            }
            Self::Missing { key } => write!(f, "{key} of the CDN is missing"),
            Self::Host { .. } => f.write_str("host of the CDN is not an address"),
            Self::Address => f.write_str("host of the CDN is not an address; allowed is https://host[:port][/prefix]"),
        }
    }
}

impl error::Error for SettingsFault {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Host { source } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for CdnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(fault) => fault.fmt(f),
            Self::NotFound { operation, code } if code == "NoSuchBucket" => {
                write!(f, "{operation}: the CDN has no bucket of this folder's name")
            }
            Self::NotFound { operation, .. } => write!(f, "{operation}: the CDN has no such object"),
            Self::NoSuchUpload => f.write_str("the CDN does not know this multipart upload any more"),
            Self::Changed => f.write_str("the object at the CDN was replaced while it was read"),
            Self::Refused { operation, status, code, message } => {
                write!(f, "{operation}: the CDN refused with {status} {code}{}", Said(message))
            }
            Self::Failed { operation, status, code, message, .. } => {
                write!(f, "{operation}: the CDN failed with {status} {code}{}", Said(message))
            }
            Self::Net { operation, host, .. } => write!(f, "{operation} at the CDN {host} failed"),
            Self::Protocol { operation, host, fault } => {
                write!(f, "{operation} at the CDN {host}: ")?;
                match fault {
                    CdnFault::Redirect { status, location } => {
                        write!(f, "redirect {status} to {location:?} is not followed")
                    }
                    CdnFault::Status(status) => write!(f, "status {status} is not one of this call"),
                    CdnFault::Etag => f.write_str("the answer has no usable ETag"),
                    CdnFault::Length => f.write_str("the answer does not state the object's length"),
                    CdnFault::Range => f.write_str("the answer is another range than was asked for"),
                    CdnFault::RangesIgnored => f.write_str("the server does not answer ranged requests"),
                    CdnFault::Xml => f.write_str("the answer is not the XML of this call"),
                    CdnFault::Early => f.write_str("success was answered before the request had been sent"),
                }
            }
            Self::Parts => write!(f, "an upload has 1 to {CDN_PARTS} parts, numbered from 1"),
        }
    }
}

impl error::Error for CdnError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Settings(fault) => fault.source(),
            Self::Net { source, .. } => Some(source),
            Self::NotFound { .. }
            | Self::NoSuchUpload
            | Self::Changed
            | Self::Refused { .. }
            | Self::Failed { .. }
            | Self::Protocol { .. }
            | Self::Parts => None,
        }
    }
}

impl Explain for CdnError {
    fn code(&self) -> Code {
        match self {
            Self::Settings(_) => Code::CdnSettings,
            // The small part is there, or nobody would have asked.
            Self::NotFound { operation, .. } if operation.is_reading() => Code::ResourceDamaged,
            Self::NotFound { .. } | Self::NoSuchUpload | Self::Failed { .. } => Code::CdnFailed,
            Self::Changed => Code::CdnChanged,
            Self::Refused { .. } => Code::CdnRefused,
            Self::Protocol { .. } => Code::CdnProtocol,
            Self::Parts => Code::Internal,
            Self::Net { source, .. } => match source {
                NetError::Resolve { .. }
                | NetError::Connect { .. }
                | NetError::ClosedEarly { .. }
                | NetError::Io { .. } => Code::CdnUnreachable,
                NetError::Tls { .. } => Code::CdnTls,
                NetError::TimedOut { .. } => Code::CdnTimeout,
                NetError::Protocol { .. } | NetError::TooLarge { .. } => Code::CdnProtocol,
                NetError::BodyLength { .. } | NetError::Request { .. } => Code::Internal,
            },
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Settings(SettingsFault::Missing { key }) => {
                format!("ask an administrator to add {key} to the resource cdn.yaml")
            }
            Self::Settings(_) => {
                "ask an administrator to correct the resource cdn.yaml (or [cdn] on this board)".into()
            }
            Self::NotFound { operation, .. } if operation.is_reading() => {
                "upload the resource again: its big part is missing at the CDN".into()
            }
            Self::NotFound { .. } => "ask an administrator to make a bucket for this folder at the CDN".into(),
            Self::NoSuchUpload => "nothing: the upload is begun anew".into(),
            Self::Changed => "load the resource again".into(),
            Self::Refused { operation, .. } if operation.is_reading() => {
                "ask an administrator whether the downloader keys in cdn.yaml are valid and may read this bucket".into()
            }
            Self::Refused { .. } => {
                "ask an administrator whether the uploader keys in cdn.yaml are valid and may write this bucket".into()
            }
            Self::Failed { retry_after: Some(RetryAfter::Seconds(pause)), .. } => {
                format!("wait {} s, then try again", pause.as_secs())
            }
            Self::Failed { .. } => {
                "try again later; if it stays, tell the operator of the CDN this message and the time".into()
            }
            Self::Net { host, source, .. } => net_step(host, source),
            Self::Protocol { host, fault: CdnFault::Redirect { .. }, .. } => {
                format!("ask an administrator to set host in cdn.yaml to the address that {host} redirects to")
            }
            Self::Protocol { host, .. } => {
                format!("ask an administrator to check host in cdn.yaml: {host} does not answer as S3 does")
            }
            Self::Parts => "report this fault of the agent".into(),
        }
    }
}

/// What helps, by the step that failed.
fn net_step(host: &str, error: &NetError) -> String {
    match error {
        NetError::Resolve { .. } => {
            format!("check the board's network and DNS, and host in cdn.yaml ({host})")
        }
        NetError::Tls { fault, .. } => match fault {
            TlsFault::UnknownAuthority => {
                format!("set [cloud] ca_file to the authority that issued the certificate of {host}")
            }
            TlsFault::NotValidYet => SET_CLOCK.into(),
            TlsFault::Expired => {
                format!("check the board's clock; if it is right, the certificate of {host} must be renewed")
            }
            TlsFault::WrongName => format!("check host in cdn.yaml: the server at {host} proves another name"),
            TlsFault::Other => format!("check that {host} speaks TLS 1.2 or 1.3 and nothing in between cuts it"),
        },
        NetError::Connect { .. } | NetError::TimedOut { .. } | NetError::ClosedEarly { .. } | NetError::Io { .. } => {
            format!("check the network between the board and {host}, then try again")
        }
        NetError::Protocol { .. } | NetError::TooLarge { .. } => {
            format!("ask an administrator to check host in cdn.yaml: {host} does not answer as S3 does")
        }
        NetError::BodyLength { .. } | NetError::Request { .. } => "report this fault of the agent".into(),
    }
}

/// Why something could not be put: the CDN, or where the bytes come from.
#[derive(Debug)]
pub enum PutError<E> {
    /// The CDN or the way to it.
    Cdn(CdnError),
    /// The source of the bytes.
    Source(E),
}

impl<E> From<CdnError> for PutError<E> {
    fn from(error: CdnError) -> Self {
        Self::Cdn(error)
    }
}

impl From<PutError<std::convert::Infallible>> for CdnError {
    fn from(error: PutError<std::convert::Infallible>) -> Self {
        match error {
            PutError::Cdn(error) => error,
            PutError::Source(never) => match never {},
        }
    }
}

impl<E: error::Error> fmt::Display for PutError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cdn(error) => fmt::Display::fmt(error, f),
            Self::Source(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<E: error::Error> error::Error for PutError<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Cdn(error) => error.source(),
            Self::Source(error) => error.source(),
        }
    }
}
