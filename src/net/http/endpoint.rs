//! Where a request goes: a TLS or plain TCP port, or a unix socket.

use std::fmt;
use std::path::PathBuf;

/// One server. Connections are kept and reused per endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// HTTPS.
    Tls {
        /// Name or address; an IPv6 address without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// HTTP in the clear; only ever for this machine itself ([`crate::net::BaseUrl`] sees to it).
    Plain {
        /// Name or address; an IPv6 address without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// HTTP over a unix stream socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// The value of the `Host` header (RFC 9110 section 7.2): the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        match self {
            Self::Tls { host, port: 443 } | Self::Plain { host, port: 80 } => bracketed(host),
            Self::Tls { host, port } | Self::Plain { host, port } => format!("{}:{port}", bracketed(host)),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// An IPv6 address stands in brackets wherever a port may follow.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl fmt::Display for Endpoint {
    /// For messages: host and port. The path of a unix socket is not told, messages reach the control port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { host, port } | Self::Plain { host, port } => write!(f, "{}:{port}", bracketed(host)),
            Self::Unix(_) => f.write_str("the unix socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_names_the_port_only_where_it_is_not_the_usual_one() {
        let tls = |host: &str, port| Endpoint::Tls { host: host.into(), port }.authority();
        assert_eq!(tls("api.example.com", 443), "api.example.com");
        assert_eq!(tls("api.example.com", 8443), "api.example.com:8443");
        assert_eq!(tls("::1", 443), "[::1]");
        assert_eq!(Endpoint::Plain { host: "::1".into(), port: 8080 }.authority(), "[::1]:8080");
        assert_eq!(Endpoint::Unix("/run/docker.sock".into()).authority(), "localhost");
    }

    #[test]
    fn no_path_is_displayed() {
        assert_eq!(Endpoint::Unix("/run/secret-place.sock".into()).to_string(), "the unix socket");
    }
}
