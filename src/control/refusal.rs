//! What the port itself refuses, with the status, the code and the next step of each.
//!
//! A text here must never repeat what the request said: it may hold a password or a token, and it goes into logs.

use std::fmt;

use crate::error::{Code, Explain, Report};
use crate::limits::{CLIENT_HEAD_BYTES, JSON_BODY_BYTES, REQUEST_LINE_BYTES};
use crate::name::NameRefused;

/// A request that does not reach a handler, or that a handler turns down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not HTTP/1.1, or HTTP/1.1 that can be read in two ways.
    Malformed(&'static str),
    /// Another version of HTTP.
    Version,
    /// A transfer coding other than `chunked`.
    Coding,
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// A request line over its bound.
    LineTooLong,
    /// A head, its fields or a trailer section over their bounds.
    HeadTooLong,
    /// A body over the bound of its call.
    BodyTooLong,
    /// A head or a body that did not come in time.
    TooSlow(&'static str),
    /// Every seat is taken by a request that runs.
    Crowded,
    /// The bucket of log-in attempts is empty for this many seconds.
    Attempts {
        /// Whole seconds until the next attempt, at least 1.
        retry_after: u64,
    },
    /// A `Host` that is not this board's.
    Host,
    /// A request that a browser sends on behalf of another site.
    CrossSite,
    /// No bearer token, or another one.
    Token,
    /// A user of this machine who is not let in on the unix socket.
    Peer,
    /// A browser's body that is not called `application/json`.
    MediaType,
    /// No such path.
    Route,
    /// The path is there, with these methods.
    Method {
        /// The value of `Allow`.
        allow: &'static str,
    },
    /// A body that is not JSON.
    NotJson(Shape, String),
    /// JSON or a form without what the call needs; the text names the field.
    Field(Shape, String),
    /// A value of the query that cannot be; its name.
    Query(&'static str),
    /// A name or a folder that CONTRACT section 5 does not allow.
    Name(NameRefused),
    /// An upload that cannot be read.
    Upload(&'static str),
    /// A form with too much around the file.
    FormTooLong,
    /// What the agent behind the port answered.
    Desk(Report),
}

/// What a body should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Credentials,
    Folder,
    Upload,
}

impl Shape {
    const fn next_step(self) -> &'static str {
        match self {
            Self::Credentials => r#"send {"email":"…","password":"…"}"#,
            Self::Folder => r#"send {"folder":"…"}, or nothing for a model without a folder"#,
            Self::Upload => "send the file with curl -F data=@FILE -F folder=…, or with curl -T FILE and ?folder=…",
        }
    }
}

impl Refusal {
    /// The status of the answer. The code decides, but for two statuses that share their code.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Version => 505,
            Self::Expectation => 417,
            _ => self.code().http_status(),
        }
    }

    /// Whether what follows on the connection cannot be trusted to be a request.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::Version
            | Self::Coding
            | Self::LineTooLong
            | Self::HeadTooLong
            | Self::BodyTooLong
            | Self::TooSlow(_)
            | Self::Crowded
            | Self::CrossSite
            | Self::Peer => true,
            Self::Expectation
            | Self::Attempts { .. }
            | Self::Host
            | Self::Token
            | Self::MediaType
            | Self::Route
            | Self::Method { .. }
            | Self::NotJson(..)
            | Self::Field(..)
            | Self::Query(_)
            | Self::Name(_)
            | Self::Upload(_)
            | Self::FormTooLong
            | Self::Desk(_) => false,
        }
    }

    /// As the answer shows it.
    pub(super) fn report(&self) -> Report {
        match self {
            Self::Desk(report) => report.clone(),
            _ => Report::of(self),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the request is not plain HTTP/1.1: {what}"),
            Self::Version => f.write_str("this version of HTTP is not spoken here"),
            Self::Coding => f.write_str("this transfer coding is not known here"),
            Self::Expectation => f.write_str("this expectation cannot be met"),
            Self::LineTooLong => write!(f, "the request line is longer than {REQUEST_LINE_BYTES} bytes"),
            Self::HeadTooLong => {
                write!(f, "the request's head is longer than {CLIENT_HEAD_BYTES} bytes or has too many fields")
            }
            Self::BodyTooLong => write!(f, "the request's body is longer than {JSON_BODY_BYTES} bytes"),
            Self::TooSlow(what) => write!(f, "{what} did not arrive in time"),
            Self::Crowded => f.write_str("too many requests run at once"),
            Self::Attempts { retry_after } => write!(f, "too many log-in attempts, the next in {retry_after} s"),
            Self::Host => f.write_str("the name in the Host header is not one of this board's"),
            Self::CrossSite => f.write_str("the request comes from another site's page"),
            Self::Token => f.write_str("this port needs a bearer token"),
            Self::Peer => f.write_str("this user may not use the socket"),
            Self::MediaType => f.write_str("from a browser only application/json is taken"),
            Self::Route => f.write_str("there is nothing under this path"),
            Self::Method { allow } => write!(f, "this path takes {allow} only"),
            Self::NotJson(_, what) => write!(f, "the body cannot be read: {what}"),
            Self::Field(_, what) => write!(f, "the body is not complete: {what}"),
            Self::Query(name) => write!(f, "{name} in the query is not a number that can be"),
            Self::Name(refused) => write!(f, "{refused}"),
            Self::Upload(what) => write!(f, "the upload cannot be read: {what}"),
            Self::FormTooLong => f.write_str("the form holds too much besides the file"),
            Self::Desk(report) => f.write_str(&report.message),
        }
    }
}

impl std::error::Error for Refusal {}

impl Explain for Refusal {
    fn code(&self) -> Code {
        match self {
            Self::Malformed(_) | Self::NotJson(..) | Self::Upload(_) => Code::RequestMalformed,
            Self::Version | Self::Coding | Self::Expectation => Code::NotImplemented,
            Self::LineTooLong => Code::UriTooLong,
            Self::HeadTooLong => Code::HeadTooLarge,
            Self::BodyTooLong | Self::FormTooLong => Code::BodyTooLarge,
            Self::TooSlow(_) => Code::RequestTimeout,
            Self::Crowded | Self::Attempts { .. } => Code::TooMany,
            Self::Host | Self::CrossSite => Code::OriginRefused,
            Self::Token => Code::TokenRequired,
            Self::Peer => Code::PeerRefused,
            Self::MediaType => Code::MediaTypeRefused,
            Self::Route => Code::RouteUnknown,
            Self::Method { .. } => Code::MethodNotAllowed,
            Self::Field(..) | Self::Query(_) => Code::RequestInvalid,
            Self::Name(_) => Code::NameInvalid,
            Self::Desk(report) => report.code,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Malformed(_) | Self::Version | Self::Coding | Self::Expectation => {
                "send the request with curl or another HTTP/1.1 client"
            }
            Self::LineTooLong | Self::HeadTooLong | Self::BodyTooLong => "send less",
            Self::TooSlow(_) => "send the request again, whole",
            Self::Crowded => "wait a moment and repeat the call",
            Self::Attempts { .. } => "check the e-mail address and the password, wait, and try again",
            Self::Host => "call the board by its address, or add the name to [control] allow_hosts",
            Self::CrossSite => "call the port with curl, or from a page of this board",
            Self::Token => "send the header Authorization: Bearer with the token of [control] token_file",
            Self::Peer => "call as root or as the agent's user, or add the user to [control] allow_uids",
            Self::MediaType => "send the header Content-Type: application/json",
            Self::Route => "call /health, /status, /check, /events, /metrics, /docs, /openapi.json, /login, /unlock, /unlock/status, /load/{name} or /upload/{name}",
            Self::Method { .. } => "repeat the call with a method that the Allow header names",
            Self::NotJson(shape, _) | Self::Field(shape, _) => shape.next_step(),
            Self::Query(_) => "give wait as 0 to 60 whole seconds, and since as the id of an event",
            Self::Name(NameRefused::Folder) => "give the folder as it was uploaded to, or none",
            Self::Name(_) => "call /load/{name} or /upload/{name} with a name that is percent-encoded once",
            Self::Upload(_) | Self::FormTooLong => Shape::Upload.next_step(),
            Self::Desk(report) => &report.next,
        }
        .to_owned()
    }
}
