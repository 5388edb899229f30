//! Host and port as they stand in `Host`, in an absolute-form target and in `Origin` (RFC 3986 section 3.2).

use std::net::{IpAddr, Ipv6Addr};

/// A host with its port, as the client wrote it but for upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) host: Host,
    pub(super) port: Option<u16>,
}

/// A name or an address. `127.0.0.1` is only ever an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`; no user information, no percent signs, no empty host.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) = rest.split_once(']')?;
            (Host::Address(IpAddr::V6(inside.parse::<Ipv6Addr>().ok()?).to_canonical()), after)
        } else {
            let end = text.find(':').unwrap_or(text.len());
            (Host::parse_unbracketed(&text[..end])?, &text[end..])
        };
        let port = match port.strip_prefix(':') {
            // RFC 9110 section 4.2.1: an empty port is the scheme's own.
            Some("") => None,
            Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            None if port.is_empty() => None,
            Some(_) | None => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both lead to the same place when `default` is the port of who names none.
    pub(super) fn same_place(&self, other: &Self, default: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

impl Host {
    fn parse_unbracketed(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        // 253 is what DNS can carry.
        ((1..=253).contains(&name.len()) && name.bytes().all(plain)).then(|| Self::Name(name.to_ascii_lowercase()))
    }

    /// Reads a host alone, as `allow_hosts` lists it: a name or an address with or without brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.parse::<IpAddr>() {
            Ok(address) => Some(Self::Address(address.to_canonical())),
            Err(_) => Authority::parse(text).map(|authority| authority.host),
        }
    }

    /// Whether it means this machine wherever it is asked (RFC 6761 section 6.3).
    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::Address(address) => address.is_loopback(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        Authority::parse(text).map(|authority| {
            let host = match authority.host {
                Host::Name(name) => name,
                Host::Address(address) => format!("<{address}>"),
            };
            authority.port.map_or(host.clone(), |port| format!("{host} {port}"))
        })
    }

    #[test]
    fn hosts_are_read() {
        for (text, expected) in [
            ("localhost", "localhost"),
            ("LocalHost.:8080", "localhost 8080"),
            ("a-b.example_1", "a-b.example_1"),
            ("127.0.0.1:65535", "<127.0.0.1> 65535"),
            ("[::1]", "<::1>"),
            ("[::ffff:127.0.0.1]:80", "<127.0.0.1> 80"),
            ("name:", "name"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ":80",
            ".",
            "a b",
            "a/b",
            "user@host",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:+1",
            "a:000080",
            "[::1",
            "[::1]x",
            "[a]",
            "::1",
            "h%41",
            "a,b",
            "ä",
            "a\\b",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
        assert_eq!(shown(&"a".repeat(254)), None);
        assert!(shown(&"a".repeat(253)).is_some());
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        for text in ["localhost", "board.localhost", "127.9.9.9", "::1", "[::1]"] {
            assert!(Host::parse(text).expect("a host").is_loopback(), "{text}");
        }
        for text in ["localhost.example", "xlocalhost", "10.0.0.1", "128.0.0.1"] {
            assert!(!Host::parse(text).expect("a host").is_loopback(), "{text}");
        }
    }
}
