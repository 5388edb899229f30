//! One table: what helps against which failure of an unlock.

use crate::error::Code;

/// What the agent can do about a failed step without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same step again, later: the cause passes by itself.
    Retry,
    /// Other credentials: the same ones will fail again.
    LogInAgain,
    /// Nothing: a person must change something on the board or in the cloud.
    Halt,
}

/// What helps against a failure with this code.
///
/// The table has a line per code and no catch-all: a new code does not compile until somebody decided.
pub const fn remedy(code: Code) -> Remedy {
    match code {
        // The network, the API or the engine may come back; who copies an archive and its seal will be done with it. A board without
        // a clock starts in 1970 and gets its time from the network a little later: then TLS holds.
        Code::ApiUnreachable
        | Code::ArchiveChanged
        | Code::ArchiveNotAuthentic
        | Code::ApiTimeout
        | Code::ApiTls
        | Code::ApiFailed
        | Code::EngineUnreachable
        | Code::EngineTimeout
        | Code::EngineLost
        | Code::TooMany
        | Code::RequestTimeout => Remedy::Retry,
        Code::CredentialsWrong | Code::NotLoggedIn | Code::ApiRefused => Remedy::LogInAgain,
        // The same bytes give the same result until somebody replaces them or makes room. The last row is of faults of
        // a request to the control port, which no step of the machine has.
        Code::ApiProtocol
        | Code::ArchiveMissing
        | Code::ArchiveUnreadable
        | Code::WrongKeyOrDamaged
        | Code::ArchiveCut
        | Code::ArchiveUnsealed
        | Code::ArchiveOlder
        | Code::ArchiveOther
        | Code::ArchiveUnsupported
        | Code::EngineFailed
        | Code::EngineMismatch
        | Code::NoSpace
        | Code::StateUnavailable
        | Code::Internal
        // No step of the machine has to do with models.
        | Code::ResourceUnknown
        | Code::ResourceDamaged
        | Code::ResourceNotAuthentic
        | Code::ResourceUnsealed
        | Code::RoleTooLow
        | Code::NameInvalid
        | Code::CdnSettings
        | Code::CdnUnreachable
        | Code::CdnTls
        | Code::CdnTimeout
        | Code::CdnRefused
        | Code::CdnFailed
        | Code::CdnProtocol
        | Code::CdnChanged
        | Code::CacheUnavailable
        | Code::RequestInvalid
        | Code::RequestMalformed
        | Code::RouteUnknown
        | Code::MethodNotAllowed
        | Code::BodyTooLarge
        | Code::UriTooLong
        | Code::HeadTooLarge
        | Code::MediaTypeRefused
        | Code::OriginRefused
        | Code::TokenRequired
        | Code::PeerRefused
        | Code::NotImplemented => Remedy::Halt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_retried_and_what_does_not_is_not() {
        assert_eq!(remedy(Code::ApiUnreachable), Remedy::Retry);
        assert_eq!(remedy(Code::CredentialsWrong), Remedy::LogInAgain);
        assert_eq!(remedy(Code::WrongKeyOrDamaged), Remedy::Halt);
    }
}
