//! Where the control port listens, as `[control] listen` writes it (CONTRACT section 7).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::value::absolute;
use crate::limits::UNIX_PATH_BYTES;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `ip:port`; port 0 takes a free one.
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

/// Text that is no address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotListen;

impl NotListen {
    /// What is allowed.
    pub const ALLOWED: &'static str =
        "\"ip:port\" such as 127.0.0.1:8080 or [::1]:8080, or \"unix:/path\" of at most 107 bytes";
}

impl fmt::Display for NotListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALLOWED)
    }
}

impl std::error::Error for NotListen {}

impl FromStr for Listen {
    type Err = NotListen;

    fn from_str(text: &str) -> Result<Self, NotListen> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| NotListen);
        };
        let path = absolute(path).map_err(|_| NotListen)?;
        let fits = path.as_os_str().len() <= UNIX_PATH_BYTES && !text.ends_with('/');
        if fits { Ok(Self::Unix(path)) } else { Err(NotListen) }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// Whether only this machine can reach it: what may be open without a token.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_every_edge() {
        let longest = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES - 1));
        for right in ["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:0", longest.as_str()] {
            let listen: Listen = right.parse().expect(right);
            assert_eq!(listen.to_string(), right);
        }
        assert!(NotListen::ALLOWED.contains(&UNIX_PATH_BYTES.to_string()));
        let over = format!("{longest}x");
        for wrong in [
            "localhost:8080",
            "127.0.0.1",
            ":8080",
            "127.0.0.1:99999",
            "unix:run/x",
            "unix:/run/",
            "http://127.0.0.1:1",
            &over,
        ] {
            assert_eq!(wrong.parse::<Listen>(), Err(NotListen), "{wrong}");
        }
    }

    #[test]
    fn what_only_this_machine_reaches() {
        for (text, local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/run/x", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.1.5:1", false),
        ] {
            assert_eq!(text.parse::<Listen>().expect(text).is_local(), local, "{text}");
        }
    }
}
