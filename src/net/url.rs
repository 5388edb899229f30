//! The base address of a service, as the configuration gives it.
//!
//! `https://host[:port][/prefix]`; `http://` is for this machine itself alone, because passwords travel on it.

use std::net::IpAddr;
use std::{error, fmt};

use http::Uri;
use http::uri::InvalidUri;

use super::http::Endpoint;

/// Scheme, host, port and path prefix of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    endpoint: Endpoint,
    prefix: String,
}

/// Why a text is not a base address.
#[derive(Debug)]
pub enum UrlError {
    /// It is no URL at all.
    Invalid(InvalidUri),
    /// The scheme is missing or another one.
    Scheme,
    /// There is no host.
    Host,
    /// `http://` to another machine.
    InTheClear,
    /// It carries a user name or password.
    UserInfo,
    /// It carries a query or fragment.
    Query,
    /// The port is not 1 to 65535.
    Port,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid(_) => "not a URL; allowed is https://host[:port][/prefix]",
            Self::Scheme => "the scheme must be https (http only to this machine itself)",
            Self::Host => "there is no host; allowed is https://host[:port][/prefix]",
            Self::InTheClear => "http is allowed to this machine itself only, use https",
            Self::UserInfo => "a user name or password does not belong into the URL",
            Self::Query => "a query or fragment does not belong into the base URL",
            Self::Port => "the port must be 1 to 65535",
        })
    }
}

impl error::Error for UrlError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Invalid(source) => Some(source),
            Self::Scheme | Self::Host | Self::InTheClear | Self::UserInfo | Self::Query | Self::Port => None,
        }
    }
}

impl BaseUrl {
    /// Reads a base address.
    ///
    /// # Errors
    /// [`UrlError`] says what is allowed; it never repeats the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        // `Uri` drops a fragment silently.
        if text.contains('#') {
            return Err(UrlError::Query);
        }
        let uri = text.parse::<Uri>().map_err(UrlError::Invalid)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(UrlError::Scheme),
        };
        let authority = uri.authority().ok_or(UrlError::Host)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        if uri.query().is_some() {
            return Err(UrlError::Query);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        let port = match authority.port() {
            // `Uri` takes a port that is none for none.
            None if authority.as_str() != authority.host() => return Err(UrlError::Port),
            None => None,
            Some(port) => Some(port.as_u16()),
        };
        if port == Some(0) {
            return Err(UrlError::Port);
        }
        let endpoint = if secure {
            Endpoint::Tls { host, port: port.unwrap_or(443) }
        } else if is_this_machine(&host) {
            Endpoint::Plain { host, port: port.unwrap_or(80) }
        } else {
            return Err(UrlError::InTheClear);
        };
        Ok(Self { endpoint, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Where the service listens.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The path of a call: `path` begins with a slash and is percent-encoded already.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Host and port, for messages.
    pub fn host(&self) -> String {
        self.endpoint.authority()
    }
}

/// `localhost` is answered by the system itself (RFC 6761 section 6.3), the addresses are loopback by definition.
fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_taken_apart() {
        let url = BaseUrl::parse("https://API.azaion.com").expect("the default");
        assert_eq!(url.endpoint(), &Endpoint::Tls { host: "api.azaion.com".into(), port: 443 });
        assert_eq!(url.path("/login"), "/login");
        let url = BaseUrl::parse("https://h:8443/v2/api/").expect("port and prefix");
        assert_eq!(url.endpoint(), &Endpoint::Tls { host: "h".into(), port: 8443 });
        assert_eq!(url.path("/login"), "/v2/api/login");
        assert_eq!(url.host(), "h:8443");
        let url = BaseUrl::parse("http://[::1]:80").expect("loopback");
        assert_eq!(url.endpoint(), &Endpoint::Plain { host: "::1".into(), port: 80 });
        assert!(BaseUrl::parse("http://localhost:1/").is_ok());
        assert!(BaseUrl::parse("http://127.9.9.9").is_ok());
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let refused = |text: &str| BaseUrl::parse(text).expect_err("not allowed");
        assert!(matches!(refused("api.azaion.com"), UrlError::Scheme));
        assert!(matches!(refused("ftp://h"), UrlError::Scheme));
        assert!(matches!(refused("/only/path"), UrlError::Scheme));
        assert!(matches!(refused("http://api.azaion.com"), UrlError::InTheClear));
        assert!(matches!(refused("http://localhost.evil.com"), UrlError::InTheClear));
        assert!(matches!(refused("http://10.0.0.1"), UrlError::InTheClear));
        assert!(matches!(refused("https://user:secret@h"), UrlError::UserInfo));
        assert!(matches!(refused("https://h/?a=b"), UrlError::Query));
        assert!(matches!(refused("https://h/#a"), UrlError::Query));
        assert!(matches!(refused("https://h:0"), UrlError::Port));
        assert!(matches!(refused("https://h:99999"), UrlError::Port));
        assert!(matches!(refused("https://h:"), UrlError::Port));
        assert!(matches!(refused("https://"), UrlError::Invalid(_) | UrlError::Host));
        assert!(matches!(refused(""), UrlError::Invalid(_)));
        assert!(!format!("{}", refused("https://user:secret@h")).contains("secret"));
    }
}
