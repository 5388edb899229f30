//! What the outside sees of an error: a stable code, what happened, and what the person at the board can do next.
//!
//! Each room has its own error type, whose variants are the operation or the guilty party. All of them implement
//! [`Explain`], and the control port, the log and the command line show the resulting [`Report`] and nothing else.
//! A message must never contain a secret, and never a path when it goes to the control port.

use std::fmt;

/// A stable code, shown outside. Codes are written out, never reordered and never given a second meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The Resource API does not know this e-mail address and password.
    CredentialsWrong,
    /// The call needs credentials, and none are held.
    NotLoggedIn,
    /// The Resource API accepted the log-in and still refuses the call (a second 401 or 403).
    ApiRefused,
    /// The Resource API could not be reached: name, address or connection.
    ApiUnreachable,
    /// The TLS handshake failed: unknown authority, wrong name, clock.
    ApiTls,
    /// The Resource API did not answer in time.
    ApiTimeout,
    /// The Resource API answered with a failure of its own (409, 500 and the like).
    ApiFailed,
    /// The Resource API answered what the contract does not allow.
    ApiProtocol,
    /// There is no image archive on this board.
    ArchiveMissing,
    /// The archive cannot be read: permissions, a directory, an I/O error.
    ArchiveUnreadable,
    /// An archive without a seal: the key does not fit it, or it was changed. Which of both is not told apart.
    WrongKeyOrDamaged,
    /// An archive without a seal ends early, or has a length it cannot have.
    ArchiveCut,
    /// The archive is not what was sealed, or the seal is not the publisher's.
    ArchiveNotAuthentic,
    /// The archive has no seal, or no signature, and one is required.
    ArchiveUnsealed,
    /// The archive is of an earlier version than one that this board has had.
    ArchiveOlder,
    /// The archive holds other images than the configuration demands.
    ArchiveOther,
    /// The archive is whole but of a kind this agent does not load.
    ArchiveUnsupported,
    /// The archive was changed while it was read, or replaced while it was loaded.
    ArchiveChanged,
    /// The container engine took the call and did not answer in time.
    EngineTimeout,
    /// The container engine does not answer at its socket.
    EngineUnreachable,
    /// The container engine refused or failed a call.
    EngineFailed,
    /// The container engine went away in the middle of a call.
    EngineLost,
    /// After the load the engine does not show what the archive holds.
    EngineMismatch,
    /// There is not enough free space.
    NoSpace,
    /// The agent's own state cannot be read or written.
    StateUnavailable,
    /// Neither the API nor this board knows a resource of this name.
    ResourceUnknown,
    /// The resource's parts do not make a whole: a part is missing, or it does not decrypt.
    ResourceDamaged,
    /// The resource is sealed, and what was found of it is not what was sealed.
    ResourceNotAuthentic,
    /// The resource has no seal, and this board demands one.
    ResourceUnsealed,
    /// The user's role does not allow the call.
    RoleTooLow,
    /// The name or folder is not one that the contract allows.
    NameInvalid,
    /// What the CDN is to be reached with (`cdn.yaml`) is missing or wrong.
    CdnSettings,
    /// The CDN could not be reached: name, address or connection.
    CdnUnreachable,
    /// The TLS handshake with the CDN failed.
    CdnTls,
    /// The CDN did not answer in time.
    CdnTimeout,
    /// The CDN does not accept the keys it was called with.
    CdnRefused,
    /// The CDN answered with a failure of its own.
    CdnFailed,
    /// The CDN answered what S3 does not allow.
    CdnProtocol,
    /// The object at the CDN was replaced while it was read.
    CdnChanged,
    /// The cache directory cannot be read or written.
    CacheUnavailable,
    /// The request's JSON, names or values are not what the call takes.
    RequestInvalid,
    /// The request is not HTTP/1.1 as this port accepts it.
    RequestMalformed,
    /// The path is not one this port serves.
    RouteUnknown,
    /// The path exists, the method is another.
    MethodNotAllowed,
    /// The request body is larger than the call allows.
    BodyTooLarge,
    /// The request line is longer than the port allows.
    UriTooLong,
    /// The request head is longer than the port allows.
    HeadTooLarge,
    /// A browser's cross-site request, or a JSON body under another content type from a browser.
    MediaTypeRefused,
    /// The `Host` or `Origin` of the request is not one of this board's.
    OriginRefused,
    /// The port needs its bearer token, and the request has none or another.
    TokenRequired,
    /// The user at the other end of the unix socket is not one of `allow_uids`.
    PeerRefused,
    /// The request, or the next one, did not arrive in time.
    RequestTimeout,
    /// Too many clients or too many attempts at once.
    TooMany,
    /// A feature of HTTP that this port does not have.
    NotImplemented,
    /// A fault of the agent itself; worth a report.
    Internal,
}

impl Code {
    /// The code as it is written outside.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CredentialsWrong => "credentials_wrong",
            Self::NotLoggedIn => "not_logged_in",
            Self::ApiRefused => "api_refused",
            Self::ApiUnreachable => "api_unreachable",
            Self::ApiTls => "api_tls",
            Self::ApiTimeout => "api_timeout",
            Self::ApiFailed => "api_failed",
            Self::ApiProtocol => "api_protocol",
            Self::ArchiveMissing => "archive_missing",
            Self::ArchiveUnreadable => "archive_unreadable",
            Self::WrongKeyOrDamaged => "wrong_key_or_damaged",
            Self::ArchiveCut => "archive_cut",
            Self::ArchiveNotAuthentic => "archive_not_authentic",
            Self::ArchiveUnsealed => "archive_unsealed",
            Self::ArchiveOlder => "archive_older",
            Self::ArchiveOther => "archive_other",
            Self::ArchiveUnsupported => "archive_unsupported",
            Self::ArchiveChanged => "archive_changed",
            Self::EngineTimeout => "engine_timeout",
            Self::EngineUnreachable => "engine_unreachable",
            Self::EngineFailed => "engine_failed",
            Self::EngineLost => "engine_lost",
            Self::EngineMismatch => "engine_mismatch",
            Self::NoSpace => "no_space",
            Self::StateUnavailable => "state_unavailable",
            Self::ResourceUnknown => "resource_unknown",
            Self::ResourceDamaged => "resource_damaged",
            Self::ResourceNotAuthentic => "resource_not_authentic",
            Self::ResourceUnsealed => "resource_unsealed",
            Self::RoleTooLow => "role_too_low",
            Self::NameInvalid => "name_invalid",
            Self::CdnSettings => "cdn_settings",
            Self::CdnUnreachable => "cdn_unreachable",
            Self::CdnTls => "cdn_tls",
            Self::CdnTimeout => "cdn_timeout",
            Self::CdnRefused => "cdn_refused",
            Self::CdnFailed => "cdn_failed",
            Self::CdnProtocol => "cdn_protocol",
            Self::CdnChanged => "cdn_changed",
            Self::CacheUnavailable => "cache_unavailable",
            Self::RequestInvalid => "request_invalid",
            Self::RequestMalformed => "request_malformed",
            Self::RouteUnknown => "route_unknown",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::MediaTypeRefused => "media_type_refused",
            Self::OriginRefused => "origin_refused",
            Self::TokenRequired => "token_required",
            Self::PeerRefused => "peer_refused",
            Self::RequestTimeout => "request_timeout",
            Self::TooMany => "too_many",
            Self::NotImplemented => "not_implemented",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status under which the control port shows this code (CONTRACT section 6).
    pub const fn http_status(self) -> u16 {
        match self {
            Self::RequestMalformed | Self::NameInvalid => 400,
            Self::CredentialsWrong | Self::NotLoggedIn | Self::TokenRequired => 401,
            Self::OriginRefused | Self::PeerRefused | Self::RoleTooLow => 403,
            Self::ArchiveMissing | Self::RouteUnknown | Self::ResourceUnknown => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::UriTooLong => 414,
            Self::MediaTypeRefused => 415,
            Self::RequestInvalid => 422,
            Self::TooMany => 429,
            Self::HeadTooLarge => 431,
            Self::ArchiveUnreadable
            | Self::WrongKeyOrDamaged
            | Self::ArchiveCut
            | Self::ArchiveNotAuthentic
            | Self::ArchiveUnsealed
            | Self::ArchiveOlder
            | Self::ArchiveOther
            | Self::ArchiveUnsupported
            | Self::ArchiveChanged
            | Self::StateUnavailable
            | Self::CacheUnavailable
            | Self::Internal => 500,
            Self::NotImplemented => 501,
            Self::ApiRefused
            | Self::ApiUnreachable
            | Self::ApiTls
            | Self::ApiFailed
            | Self::ApiProtocol
            | Self::EngineUnreachable
            | Self::EngineFailed
            | Self::EngineLost
            | Self::EngineMismatch
            | Self::ResourceDamaged
            | Self::ResourceNotAuthentic
            | Self::ResourceUnsealed
            | Self::CdnSettings
            | Self::CdnUnreachable
            | Self::CdnTls
            | Self::CdnRefused
            | Self::CdnFailed
            | Self::CdnProtocol
            | Self::CdnChanged => 502,
            Self::ApiTimeout | Self::EngineTimeout | Self::CdnTimeout => 504,
            Self::NoSpace => 507,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that can tell the outside what it is.
pub trait Explain: std::error::Error {
    /// The stable code.
    fn code(&self) -> Code;

    /// What the person at the board can do about it: one sentence in the imperative, lower case, no full stop.
    fn next_step(&self) -> String;
}

/// What is shown of an error: `{"code","message","next"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The stable code.
    pub code: Code,
    /// What happened, with its causes: `read answer: connection reset`.
    pub message: String,
    /// What the person at the board can do.
    pub next: String,
}

impl Report {
    /// Takes down an error with its chain of sources.
    pub fn of(error: &dyn Explain) -> Self {
        Self { code: error.code(), message: chain(error), next: error.next_step() }
    }
}

/// The message of `error` followed by those of its sources, each said once.
pub fn chain<E: std::error::Error + ?Sized>(error: &E) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}
