//! What the texts must be: sizes, paths, addresses. Each check says what it allows.
//!
//! The rooms that use an address parse it again into their own types; here stands what must be wrong for everyone.

use std::net::IpAddr;
use std::path::PathBuf;

/// What a check allows, as the error says it.
pub(super) type Allowed = &'static str;

pub(super) const SIZE: Allowed = "a whole number of bytes, or with KiB, MiB, GiB, TiB behind it";

/// Bytes: `1048576`, `8GiB`, `8 GiB`.
pub(super) fn size(text: &str) -> Result<u64, Allowed> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim_start_matches(' ') {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(SIZE),
    };
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).ok_or(SIZE)
}

/// A path from the root.
pub(super) fn absolute(text: &str) -> Result<PathBuf, Allowed> {
    if text.starts_with('/') && !text.contains('\0') { Ok(PathBuf::from(text)) } else { Err("a path from /") }
}

/// `true` or `false`.
pub(super) fn switch(text: &str) -> Result<bool, Allowed> {
    text.parse().map_err(|_| "true or false")
}

const URL: Allowed = "https://host[:port][/path]; http:// only for this machine itself (127.0.0.1, [::1], localhost)";

/// An `https` URL, or an `http` one of this machine. No user, query or fragment.
pub(super) fn url(text: &str) -> Result<String, Allowed> {
    let uri: http::Uri = text.parse().map_err(|_| URL)?;
    let authority = uri.authority().ok_or(URL)?;
    let host = authority.host();
    let is_loopback =
        host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let scheme_fits = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_loopback,
        _ => false,
    };
    let port_fits =
        authority.port_u16().is_some() || !authority.as_str().trim_end_matches(char::is_numeric).ends_with(':');
    if scheme_fits
        && port_fits
        && !host.is_empty()
        && !authority.as_str().contains('@')
        && uri.query().is_none()
        && !text.contains('#')
    {
        Ok(text.to_owned())
    } else {
        Err(URL)
    }
}

/// The engine: a unix socket, or a directory that takes the images in the OCI layout.
pub(super) fn engine(text: &str) -> Result<String, Allowed> {
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("dir:")).unwrap_or(text);
    absolute(path).map_err(|_| "unix:///path, /path or dir:/path")?;
    Ok(text.to_owned())
}

/// A host name or address without a port.
pub(super) fn host(text: &str) -> Result<String, Allowed> {
    let fits = !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'));
    let has_port = !text.starts_with('[') && text.matches(':').count() == 1;
    if fits && !has_port { Ok(text.to_ascii_lowercase()) } else { Err("host names or addresses without a port") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(size("8GiB"), Ok(8 << 30));
        assert_eq!(size("8 GiB"), Ok(8 << 30));
        assert_eq!(size("16777215 TiB"), Ok(16_777_215 << 40));
        for wrong in ["", "-1", "8 GB", "8.5GiB", "GiB", "18446744073709551616", "16777216 TiB", "8 GiB ", "eight"] {
            assert_eq!(size(wrong), Err(SIZE), "{wrong}");
        }
    }

    #[test]
    fn only_this_machine_may_be_called_without_tls() {
        for right in [
            "https://api.azaion.com",
            "https://api.azaion.com:8443/v1",
            "https://10.0.0.1",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://[::1]:80/x",
            "http://localhost:1",
        ] {
            assert_eq!(url(right).as_deref(), Ok(right));
        }
        for wrong in [
            "",
            "api.azaion.com",
            "/x",
            "ftp://h",
            "http://api.azaion.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "https://",
            "https://user:pw@h",
            "https://h:99999",
            "https://h:",
            "https://h/?q",
            "https://h/#f",
            "https://h h",
        ] {
            assert_eq!(url(wrong), Err(URL), "{wrong}");
        }
    }

    #[test]
    fn engines() {
        for right in ["/var/run/docker.sock", "unix:///run/d.sock", "dir:/srv/images"] {
            assert!(engine(right).is_ok(), "{right}");
        }
        for wrong in ["docker.sock", "unix://run/d.sock", "tcp://1.2.3.4:2375", "dir:images", "ssh://h", ""] {
            assert!(engine(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts() {
        for right in ["board-7.local", "192.168.1.5", "fe80::1", "[fe80::1]"] {
            assert!(host(right).is_ok(), "{right}");
        }
        assert_eq!(host("Board.Local").as_deref(), Ok("board.local"));
        for wrong in ["", "board:8080", "a b", "http://x", "a/b"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
