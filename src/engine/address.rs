//! Where the container engine is: `[engine] socket` or `DOCKER_HOST` (CONTRACT section 7).
//!
//! The engine is always on this board. An address over the network must never be accepted: the images travel to the
//! engine in the clear, and whoever answered there would hold them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::limits::SOCKET_PATH_BYTES;

/// A place where images are put.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EngineAddress {
    /// The unix socket of a Docker Engine API.
    Docker(PathBuf),
    /// The directory of an OCI image layout.
    Directory(PathBuf),
}

impl EngineAddress {
    /// The socket or the directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::Docker(path) | Self::Directory(path) => path,
        }
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker(path) => write!(f, "unix://{}", path.display()),
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

impl FromStr for EngineAddress {
    type Err = AddressRefused;

    fn from_str(text: &str) -> Result<Self, AddressRefused> {
        let socket = |path: &str| Ok(Self::Docker(absolute(path, SOCKET_PATH_BYTES)?));
        if let Some(path) = text.strip_prefix("unix://") {
            return socket(path);
        }
        if let Some(path) = text.strip_prefix("dir:") {
            return Ok(Self::Directory(absolute(path, usize::MAX)?));
        }
        match text.split_once(':') {
            _ if text.starts_with('/') => socket(text),
            Some(("tcp" | "http" | "https" | "ssh" | "npipe" | "fd", _)) => Err(AddressRefused::Network),
            Some(_) => Err(AddressRefused::UnknownScheme),
            None => Err(AddressRefused::Relative),
        }
    }
}

fn absolute(path: &str, limit: usize) -> Result<PathBuf, AddressRefused> {
    if !path.starts_with('/') || path == "/" {
        return Err(AddressRefused::Relative);
    }
    if path.len() > limit {
        return Err(AddressRefused::TooLong { bytes: path.len() });
    }
    if path.contains('\0') {
        return Err(AddressRefused::Zero);
    }
    Ok(PathBuf::from(path))
}

/// An engine address that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRefused {
    /// `tcp://` and the like: not on this board.
    Network,
    /// Another scheme than those allowed.
    UnknownScheme,
    /// The path does not begin at the root, or is the root itself.
    Relative,
    /// The socket's path is longer than the system can connect to.
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The path holds a zero byte.
    Zero,
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str(
                "the engine must be on this board: over the network the images would travel decrypted and go to \
                 whoever answers",
            ),
            Self::UnknownScheme => f.write_str("the engine address has an unknown scheme"),
            Self::Relative => f.write_str("the engine address is not an absolute path"),
            Self::TooLong { bytes } => {
                write!(f, "the engine's socket path has {bytes} bytes, at most {SOCKET_PATH_BYTES} can be connected to")
            }
            Self::Zero => f.write_str("the engine address holds a zero byte"),
        }?;
        f.write_str("; allowed are unix:///path, /path (a socket) and dir:/path (an OCI image layout)")
    }
}

impl std::error::Error for AddressRefused {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EngineAddress, AddressRefused> {
        text.parse()
    }

    #[test]
    fn the_three_forms_are_taken_and_shown_again() {
        let docker = EngineAddress::Docker("/var/run/docker.sock".into());
        assert_eq!(parse("unix:///var/run/docker.sock"), Ok(docker.clone()));
        assert_eq!(parse("/var/run/docker.sock"), Ok(docker.clone()));
        assert_eq!(parse(&docker.to_string()), Ok(docker));
        let directory = EngineAddress::Directory("/srv/images".into());
        assert_eq!(parse("dir:/srv/images"), Ok(directory.clone()));
        assert_eq!(parse(&directory.to_string()), Ok(directory));
    }

    #[test]
    fn everything_else_is_refused_with_what_is_allowed() {
        for (text, expected) in [
            ("tcp://127.0.0.1:2375", AddressRefused::Network),
            ("https://engine", AddressRefused::Network),
            ("ssh://user@engine", AddressRefused::Network),
            ("docker:/x", AddressRefused::UnknownScheme),
            ("", AddressRefused::Relative),
            ("docker.sock", AddressRefused::Relative),
            ("unix://docker.sock", AddressRefused::Relative),
            ("dir:images", AddressRefused::Relative),
            ("dir:", AddressRefused::Relative),
            ("dir:/", AddressRefused::Relative),
            ("/a\0b", AddressRefused::Zero),
        ] {
            assert_eq!(parse(text), Err(expected), "{text:?}");
            assert!(expected.to_string().contains("dir:/path"));
        }
    }

    #[test]
    fn a_socket_path_holds_at_its_bound() {
        let path = |n: usize| format!("/{}", "s".repeat(n - 1));
        assert!(parse(&path(SOCKET_PATH_BYTES)).is_ok());
        let bytes = SOCKET_PATH_BYTES + 1;
        assert_eq!(parse(&path(bytes)), Err(AddressRefused::TooLong { bytes }));
        assert!(parse(&format!("dir:{}", path(bytes))).is_ok());
    }
}
