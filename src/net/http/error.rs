//! What goes wrong between here and a server, named by the step that failed.

use std::convert::Infallible;
use std::time::Duration;
use std::{error, fmt, io};

/// The steps of an exchange, each with its own time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Name look-up.
    Resolve,
    /// TCP or unix connection.
    Connect,
    /// TLS handshake.
    Tls,
    /// Sending the request, head and body.
    Send,
    /// Waiting for the head of the answer.
    Headers,
    /// Reading the body of the answer.
    Body,
    /// The exchange as a whole.
    WholeCall,
}

impl Step {
    /// The step in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "name look-up",
            Self::Connect => "connect",
            Self::Tls => "TLS handshake",
            Self::Send => "send request",
            Self::Headers => "wait for answer",
            Self::Body => "read answer",
            Self::WholeCall => "whole call",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a TLS handshake was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// The certificate was issued by an authority that is not among the roots.
    UnknownAuthority,
    /// The certificate is not valid yet by this board's clock: most likely the clock is wrong.
    NotValidYet,
    /// The certificate has expired by this board's clock.
    Expired,
    /// The certificate is for another name.
    WrongName,
    /// Anything else: no common protocol, a bad signature, an alert from the server.
    Other,
}

/// What went wrong on the way to a server or back.
#[derive(Debug)]
pub enum NetError {
    /// The name has no address, or nobody could be asked.
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address took the connection.
    Connect {
        /// Host and port, or "the unix socket".
        to: String,
        /// What the last address said.
        source: io::Error,
    },
    /// The handshake was refused, by either side.
    Tls {
        /// The name the certificate should carry.
        host: String,
        /// What is wrong with it.
        fault: TlsFault,
        /// What rustls said.
        source: io::Error,
    },
    /// A step took longer than it may.
    TimedOut {
        /// The step.
        step: Step,
        /// What it was given.
        after: Duration,
    },
    /// The server closed the connection before the answer was whole.
    ClosedEarly {
        /// The step that was under way.
        step: Step,
    },
    /// The socket failed in mid-exchange.
    Io {
        /// The step that was under way.
        step: Step,
        /// What the kernel said.
        source: io::Error,
    },
    /// The answer is not HTTP/1.1 as RFC 9112 has it.
    Protocol {
        /// What was found.
        fault: ProtocolFault,
    },
    /// Something is larger than its bound.
    TooLarge {
        /// What.
        part: Part,
        /// The bound in bytes.
        limit: u64,
    },
    /// The body source gave another number of bytes than it had announced: a fault of this program.
    BodyLength {
        /// Announced.
        promised: u64,
        /// Given.
        given: u64,
    },
    /// The request cannot be sent as it is: a fault of this program.
    Request {
        /// What is wrong with it.
        source: ureq_proto::Error,
    },
}

/// What of an exchange was too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The head of the request.
    RequestHead,
    /// The head of the answer.
    Head,
    /// The body of the answer.
    Body,
    /// What stands between the pieces of a chunked answer.
    ChunkFraming,
}

/// How an answer broke the protocol.
#[derive(Debug, PartialEq, Eq)]
pub enum ProtocolFault {
    /// It does not parse.
    Parse(ureq_proto::Error),
    /// The start of an early answer does not parse.
    Head(httparse::Error),
    /// A transfer encoding other than `chunked`, or one beside a length: where the body ends would be a guess.
    Framing,
    /// The server switched protocols, which nobody asked for.
    Switched,
}

impl NetError {
    /// An error of the socket, told apart from an end that came too early.
    pub(super) fn io(step: Step, source: io::Error) -> Self {
        // rustls reports a connection that ends without close_notify so (RFC 8446 section 6.1).
        if source.kind() == io::ErrorKind::UnexpectedEof {
            Self::ClosedEarly { step }
        } else {
            Self::Io { step, source }
        }
    }

    pub(super) fn parse(source: ureq_proto::Error) -> Self {
        Self::Protocol { fault: ProtocolFault::Parse(source) }
    }

    /// Whether the connection simply ended: what a kept connection does when the server had enough of it.
    pub(super) fn is_end_of_connection(&self) -> bool {
        match self {
            Self::ClosedEarly { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe
            ),
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::TimedOut { .. }
            | Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::BodyLength { .. }
            | Self::Request { .. } => false,
        }
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, .. } => write!(f, "name look-up of {host} failed"),
            Self::Connect { to, .. } => write!(f, "connect to {to} failed"),
            Self::Tls { host, fault, .. } => match fault {
                TlsFault::UnknownAuthority => write!(f, "TLS: the certificate of {host} is by an unknown authority"),
                TlsFault::NotValidYet => {
                    write!(f, "TLS: the certificate of {host} is not valid yet by this board's clock")
                }
                TlsFault::Expired => write!(f, "TLS: the certificate of {host} has expired by this board's clock"),
                TlsFault::WrongName => write!(f, "TLS: the certificate is not for {host}"),
                TlsFault::Other => write!(f, "TLS handshake with {host} failed"),
            },
            Self::TimedOut { step, after } => write!(f, "{step} timed out after {after:?}"),
            Self::ClosedEarly { step } => write!(f, "{step}: the connection was closed too early"),
            Self::Io { step, .. } => write!(f, "{step} failed"),
            Self::Protocol { fault } => match fault {
                ProtocolFault::Parse(_) | ProtocolFault::Head(_) => f.write_str("the answer is not HTTP/1.1"),
                ProtocolFault::Framing => f.write_str("the answer's length is not stated in one allowed way"),
                ProtocolFault::Switched => f.write_str("the server switched protocols unasked"),
            },
            Self::TooLarge { part, limit } => {
                let part = match part {
                    Part::RequestHead => "the head of the request",
                    Part::Head => "the head of the answer",
                    Part::Body => "the answer",
                    Part::ChunkFraming => "the framing of the answer",
                };
                write!(f, "{part} is longer than {limit} bytes")
            }
            Self::BodyLength { promised, given } => {
                write!(f, "the request body has {given} bytes where {promised} were announced")
            }
            Self::Request { .. } => f.write_str("the request cannot be sent"),
        }
    }
}

impl error::Error for NetError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::Connect { source, .. }
            | Self::Tls { source, .. }
            | Self::Io { source, .. } => Some(source),
            Self::Protocol { fault: ProtocolFault::Parse(source) } | Self::Request { source } => Some(source),
            Self::Protocol { fault: ProtocolFault::Head(source) } => Some(source),
            Self::Protocol { fault: ProtocolFault::Framing | ProtocolFault::Switched }
            | Self::TimedOut { .. }
            | Self::ClosedEarly { .. }
            | Self::TooLarge { .. }
            | Self::BodyLength { .. } => None,
        }
    }
}

/// Why an exchange failed: the way to the server, or the source of the request body.
#[derive(Debug)]
pub enum ExchangeError<E> {
    /// Between here and the server.
    Net(NetError),
    /// The body source; the connection was dropped, the body not ended.
    Source(E),
}

impl<E> From<NetError> for ExchangeError<E> {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}

impl From<ExchangeError<Infallible>> for NetError {
    fn from(error: ExchangeError<Infallible>) -> Self {
        match error {
            ExchangeError::Net(error) => error,
            ExchangeError::Source(never) => match never {},
        }
    }
}

impl<E: error::Error> fmt::Display for ExchangeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(error) => fmt::Display::fmt(error, f),
            Self::Source(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<E: error::Error> error::Error for ExchangeError<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Net(error) => error.source(),
            Self::Source(error) => error.source(),
        }
    }
}
