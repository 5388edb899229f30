//! The catalogue of errors: every code with what it says, why it most likely came, and what to do next.
//!
//! `docs/ERRORS.md` is made from this table, and a test holds it (`azaion-loader errors --markdown`). A message of one case
//! may say more than the catalogue; it never says less.

use std::fmt;

/// Makes the enum, and all that goes by it, from one table. The first sentence of a code's documentation is what happened.
macro_rules! codes {
    ($($(#[doc = $what:literal])+ $name:ident => $code:ident, $status:literal, $cause:literal, $next:literal;)+) => {
        /// A stable code, shown outside. Codes are never renamed and never given a second meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $what])+ $name,)+
        }

        impl Code {
            /// All of them, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code as it is written outside.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($code),)+
                }
            }

            /// The HTTP status under which the control port shows this code (CONTRACT section 6).
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)+
                }
            }

            /// What happened.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($what,)+).trim_start(),)+
                }
            }

            /// Why, most likely.
            pub const fn likely_cause(self) -> &'static str {
                match self {
                    $(Self::$name => $cause,)+
                }
            }

            /// What the person at the board does next.
            pub const fn next(self) -> &'static str {
                match self {
                    $(Self::$name => $next,)+
                }
            }
        }
    };
}

codes! {
    /// The Resource API does not know this e-mail address and password.
    CredentialsWrong => credentials_wrong, 401,
        "a typing error, a changed password, or a user of another fleet",
        "log in again with the right e-mail address and password; nothing is locked";
    /// The call needs credentials, and none are held.
    NotLoggedIn => not_logged_in, 401,
        "the agent was started again since the last log-in: it keeps no password",
        "curl …/login -d '{\"email\":\"…\",\"password\":\"…\"}', or send them with /unlock";
    /// The Resource API accepted the log-in and still refuses the call (a second 401 or 403).
    ApiRefused => api_refused, 502,
        "the account lost its rights, or the board is not the one it is registered for",
        "ask the administrator of the suite to look at the account and at this board; azaion-loader fingerprint shows what the board sends";
    /// The Resource API could not be reached: name, address or connection.
    ApiUnreachable => api_unreachable, 502,
        "no network, a name server that does not answer, a wrong resource_api_url, or a firewall",
        "curl …/check says which step fails: name, connect or TLS; look at the cable and the route, then try again";
    /// The TLS handshake failed: unknown authority, wrong name, clock.
    ApiTls => api_tls, 502,
        "the board's clock is before the certificate's time, another authority (ca_file), or somebody in between",
        "date -u; set the clock, or wait for NTP; then curl …/check, which shows whose certificate it is";
    /// The Resource API did not answer in time.
    ApiTimeout => api_timeout, 504,
        "a slow or overloaded network, or a server that is busy",
        "wait a minute and try again; the agent itself tries again where that is safe";
    /// The Resource API answered with a failure of its own (409, 500 and the like).
    ApiFailed => api_failed, 502,
        "the server says why in the message; \"hardware\" in it means that the board is not the registered one",
        "read the message; where it comes again, send it to support with the time";
    /// The Resource API answered what the contract does not allow.
    ApiProtocol => api_protocol, 502,
        "resource_api_url points at something else than the Resource API, such as a portal that asks for a log-in",
        "curl -v the address of [cloud] resource_api_url and look who answers";
    /// There is no image archive on this board.
    ArchiveMissing => archive_missing, 404,
        "images.enc was not copied, or lies somewhere else than [archive] path says",
        "copy images.enc and images.enc.seal to the path that azaion-loader config shows";
    /// The archive cannot be read: permissions, a directory, an I/O error.
    ArchiveUnreadable => archive_unreadable, 500,
        "permissions, a directory in its place, or flash that fails",
        "ls -l the file; it must be readable by the user azaion-loader; dmesg tells of failing flash";
    /// An archive without a seal: the key does not fit it, or it was changed. Which of both is not told apart.
    WrongKeyOrDamaged => wrong_key_or_damaged, 500,
        "the archive belongs to another release than the key, or was damaged while it was copied",
        "compare its SHA-256 with the original; copy it again; ask whether the fragment changed";
    /// An archive without a seal ends early, or has a length it cannot have.
    ArchiveCut => archive_cut, 500,
        "the copy was interrupted",
        "copy the archive again and compare its length with the original";
    /// The archive is not what was sealed, or the seal is not the publisher's.
    ArchiveNotAuthentic => archive_not_authentic, 500,
        "archive and seal of different releases, a bad copy, or somebody changed it",
        "azaion-loader inspect --chunks images.enc shows which chunks are damaged; copy archive and seal again";
    /// The archive has no seal, or no signature, and one is required.
    ArchiveUnsealed => archive_unsealed, 500,
        "an old release, or the seal was not copied",
        "copy images.enc.seal (and .minisig) beside the archive; or set require_seal as SECURITY.md says";
    /// The archive is of an earlier version than one that this board has had.
    ArchiveOlder => archive_older, 500,
        "an earlier release was copied onto a board that has had a later one",
        "copy the current release; azaion-loader trust allow VERSION lets an older one in on purpose";
    /// The archive holds other images than the configuration demands.
    ArchiveOther => archive_other, 500,
        "the archive of another suite, or a tag in [archive] images is misspelt",
        "compare azaion-loader config with what the release holds";
    /// The archive is whole but of a kind this agent does not load.
    ArchiveUnsupported => archive_unsupported, 500,
        "an archive that docker save did not write, or a compression that needs too much memory",
        "make the archive again with docker save and azaion-loader seal";
    /// The archive was changed while it was read, or replaced while it was loaded.
    ArchiveChanged => archive_changed, 500,
        "somebody copied a new archive while the old one was read",
        "wait until the copy is done, then unlock again";
    /// The container engine took the call and did not answer in time.
    EngineTimeout => engine_timeout, 504,
        "a busy or hanging Docker engine, or very slow flash",
        "systemctl status docker; restart it if it hangs, then unlock again: what is in stays in";
    /// The container engine does not answer at its socket.
    EngineUnreachable => engine_unreachable, 502,
        "Docker does not run, or the agent may not use its socket",
        "systemctl start docker; the user azaion-loader must be in the group docker";
    /// The container engine refused or failed a call.
    EngineFailed => engine_failed, 502,
        "Docker refused a call; the message has its words",
        "journalctl -u docker; then unlock again";
    /// The container engine went away in the middle of a call.
    EngineLost => engine_lost, 502,
        "Docker was stopped or crashed in the middle of a load",
        "systemctl status docker; unlock again: it goes on where it was";
    /// After the load the engine does not show what the archive holds.
    EngineMismatch => engine_mismatch, 502,
        "somebody removed images meanwhile, or the engine's store is damaged",
        "unlock again; where it comes back, send docker info and the log to support";
    /// There is not enough free space.
    NoSpace => no_space, 507,
        "the flash is full: old images, logs, models",
        "df -h; docker system df; the message says how much is needed and how much is there; azaion-loader cache evict frees models";
    /// The agent's own state cannot be read or written.
    StateUnavailable => state_unavailable, 500,
        "a full or read-only disk, or a state directory that belongs to somebody else",
        "df -h and mount; ls -ld the state directory: it must belong to azaion-loader";
    /// Neither the API nor this board knows a resource of this name.
    ResourceUnknown => resource_unknown, 404,
        "a misspelt name or folder, or the model was never uploaded",
        "check name and folder; they are case-sensitive";
    /// The resource's parts do not make a whole: a part is missing, or it does not decrypt.
    ResourceDamaged => resource_damaged, 502,
        "only one of the two parts was uploaded, or resource_salt is another one",
        "upload the model again; compare the salts with another board that works";
    /// The resource is sealed, and what was found of it is not what was sealed.
    ResourceNotAuthentic => resource_not_authentic, 502,
        "the parts at the cloud are of two uploads, or somebody changed one",
        "upload the model again with a loader that seals";
    /// The resource has no seal, and this board demands one.
    ResourceUnsealed => resource_unsealed, 502,
        "the model was uploaded by an old loader",
        "upload the model again with a loader that seals";
    /// The user's role does not allow the call.
    RoleTooLow => role_too_low, 403,
        "the account may load models and not upload them",
        "log in as a user with the role that the message names";
    /// The name or folder is not one that the contract allows.
    NameInvalid => name_invalid, 400,
        "a name over 255 bytes, with a slash or a control character, or a folder with other signs than letters, digits, dot, hyphen and underscore",
        "rename the file; percent-encode the name once in the URL";
    /// What the CDN is to be reached with (`cdn.yaml`) is missing or wrong.
    CdnSettings => cdn_settings, 502,
        "cdn.yaml at the Resource API is missing or incomplete",
        "ask the administrator of the suite for the CDN's settings";
    /// The CDN could not be reached: name, address or connection.
    CdnUnreachable => cdn_unreachable, 502,
        "no network to the CDN, or a wrong host in cdn.yaml",
        "curl …/check says which step fails";
    /// The TLS handshake with the CDN failed.
    CdnTls => cdn_tls, 502,
        "the board's clock, or a certificate of another authority",
        "date; set the clock or wait for NTP; then curl …/check";
    /// The CDN did not answer in time.
    CdnTimeout => cdn_timeout, 504,
        "a slow network",
        "try again: what was fetched is kept";
    /// The CDN does not accept the keys it was called with.
    CdnRefused => cdn_refused, 502,
        "the keys in cdn.yaml were changed, or the board's clock is off by more than 15 minutes",
        "date; then ask the administrator of the suite to check the CDN's keys";
    /// The CDN answered with a failure of its own.
    CdnFailed => cdn_failed, 502,
        "a fault of the CDN; the message has its words",
        "try again later; send the message to support where it comes again";
    /// The CDN answered what S3 does not allow.
    CdnProtocol => cdn_protocol, 502,
        "something else answers in the place of the CDN",
        "curl -v the host of cdn.yaml and look who answers";
    /// The object at the CDN was replaced while it was read.
    CdnChanged => cdn_changed, 502,
        "the model was uploaded again while it was read",
        "load it again";
    /// The cache directory cannot be read or written.
    CacheUnavailable => cache_unavailable, 500,
        "a full or read-only disk, or a cache directory that belongs to somebody else",
        "df -h; ls -ld the cache directory; models are loaded without it meanwhile";
    /// The request's JSON, names or values are not what the call takes.
    RequestInvalid => request_invalid, 422,
        "a field is missing or of the wrong type",
        "the message names it; docs at GET /docs";
    /// The request is not HTTP/1.1 as this port accepts it.
    RequestMalformed => request_malformed, 400,
        "not plain HTTP/1.1, not JSON, or a faulty form",
        "use curl as in the field guide; look at the quotes around the JSON";
    /// The path is not one this port serves.
    RouteUnknown => route_unknown, 404,
        "a misspelt path",
        "GET /docs has all paths";
    /// The path exists, the method is another.
    MethodNotAllowed => method_not_allowed, 405,
        "GET in place of POST, or the other way round",
        "the Allow header has the methods; curl -d sends a POST";
    /// The request body is larger than the call allows.
    BodyTooLarge => body_too_large, 413,
        "JSON over its bound",
        "send e-mail address and password only; models go to /upload";
    /// The request line is longer than the port allows.
    UriTooLong => uri_too_long, 414,
        "a path over its bound",
        "shorten the name";
    /// The request head is longer than the port allows.
    HeadTooLarge => head_too_large, 431,
        "too many or too long header fields",
        "call the port with curl, not through a proxy";
    /// A browser's cross-site request, or a JSON body under another content type from a browser.
    MediaTypeRefused => media_type_refused, 415,
        "a page sent JSON under another name",
        "send Content-Type: application/json";
    /// The `Host` or `Origin` of the request is not one of this board's.
    OriginRefused => origin_refused, 403,
        "the port was called by a name that is not the board's, or from a page of another site",
        "call it by its address, or add the name to [control] allow_hosts";
    /// The port needs its bearer token, and the request has none or another.
    TokenRequired => token_required, 401,
        "the port is open to the network, and the request has no token or a wrong one",
        "curl -H \"Authorization: Bearer $(cat token)\"; azaion-loader token new makes one";
    /// The user at the other end of the unix socket is not one of `allow_uids`.
    PeerRefused => peer_refused, 403,
        "the unix socket is for root, the agent and allow_uids",
        "use sudo, or add the user to [control] allow_uids";
    /// The request, or the next one, did not arrive in time.
    RequestTimeout => request_timeout, 408,
        "the request did not arrive in time: a slow or broken connection",
        "try again over a better connection";
    /// Too many clients or too many attempts at once.
    TooMany => too_many, 429,
        "too many clients, models or log-ins at once",
        "wait as long as Retry-After says";
    /// A feature of HTTP that this port does not have.
    NotImplemented => not_implemented, 501,
        "a feature of HTTP that this port does not have",
        "use curl as in the field guide";
    /// A fault of the agent itself; worth a report.
    Internal => internal, 500,
        "a fault of the agent itself",
        "azaion-loader check --bundle FILE, and send the file to support";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(UnknownCode)
    }
}

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownCode;

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such code")
    }
}

impl std::error::Error for UnknownCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_and_says_all_three_things() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!((400..600).contains(&code.http_status()), "{code}");
            for text in [code.what(), code.likely_cause(), code.next()] {
                assert!(text.len() > 8 && !text.contains(char::is_control), "{code}: {text}");
            }
            assert!(code.what().ends_with('.'), "{code}: {}", code.what());
            assert!(!code.next().ends_with('.') && !code.likely_cause().ends_with('.'), "{code}");
        }
        assert_eq!("no".parse::<Code>(), Err(UnknownCode));
    }
}
