//! Where the port listens: TCP addresses and unix sockets, as `[control] listen` writes them (CONTRACT section 7).
//!
//! A socket file that nobody answers on is replaced, one that answers never is; nothing else is ever removed.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use smol::Async;

use super::guard::Peer;
use super::wire::Stream;
use crate::config::Listen;
use crate::net;

/// The mode of a socket file: the agent's user and group may connect, and then the user is asked for.
const SOCKET_MODE: u32 = 0o660;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(Async<TcpListener>),
    Unix {
        listener: Async<UnixListener>,
        path: PathBuf,
        /// Device and number of the socket file, so that only our own is removed.
        file: (u64, u64),
    },
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub enum BindError {
    /// The address is in use, not ours, or not allowed.
    Refused {
        /// The address.
        listen: Listen,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process answers on the socket file.
    Answered {
        /// The socket file.
        path: PathBuf,
    },
    /// Something that is no socket stands in the socket's place.
    NotASocket {
        /// What stands there.
        path: PathBuf,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { listen, .. } => write!(f, "cannot listen on {listen}"),
            Self::Answered { path } => write!(f, "another process answers on {}", path.display()),
            Self::NotASocket { path } => write!(f, "{} is there and is no socket", path.display()),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { source, .. } => Some(source),
            Self::Answered { .. } | Self::NotASocket { .. } => None,
        }
    }
}

impl Listener {
    /// Listens on `listen`.
    ///
    /// # Errors
    /// [`BindError`]; nothing was removed then that anybody answers on.
    pub async fn bind(listen: &Listen) -> Result<Self, BindError> {
        let refused = |source| BindError::Refused { listen: listen.clone(), source };
        match listen {
            Listen::Tcp(address) => Async::<TcpListener>::bind(*address).map(Kind::Tcp).map(Self).map_err(refused),
            Listen::Unix(path) => {
                let (wanted, path) = (path.clone(), path.clone());
                let (listener, file) = net::lend(move || bind_unix(&wanted)).await?;
                let listener = Async::new_nonblocking(listener).map_err(refused)?;
                Ok(Self(Kind::Unix { listener, path, file }))
            }
        }
    }

    /// Where it listens: with the port that was taken for port 0.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<Listen> {
        match &self.0 {
            Kind::Tcp(listener) => listener.get_ref().local_addr().map(Listen::Tcp),
            Kind::Unix { path, .. } => Ok(Listen::Unix(path.clone())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and whole: waiting for more to send only delays them. No reason to fail, though.
                let _slower = stream.get_ref().set_nodelay(true);
                let local = stream.get_ref().local_addr()?.ip().to_canonical();
                Ok((Stream::Tcp(stream), Peer::Tcp { local }))
            }
            Kind::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let uid = rustix::net::sockopt::socket_peercred(stream.get_ref()).ok().map(|peer| peer.uid.as_raw());
                Ok((Stream::Unix(stream), Peer::Unix { uid }))
            }
        }
    }

    /// Stops listening and removes the socket file, if it is still this listener's.
    pub(super) async fn close(self) {
        match self.0 {
            Kind::Tcp(listener) => drop(listener),
            Kind::Unix { listener, path, file } => {
                drop(listener);
                net::lend(move || {
                    let ours =
                        |found: std::fs::Metadata| found.file_type().is_socket() && (found.dev(), found.ino()) == file;
                    if std::fs::symlink_metadata(&path).is_ok_and(ours) {
                        // A file that stays is found stale at the next start.
                        let _stale = std::fs::remove_file(&path);
                    }
                })
                .await;
            }
        }
    }
}

/// Binds beside the wanted path, sets the mode, and renames over what is stale: the path never leads to a half-made
/// socket. A few system calls on a helper thread.
fn bind_unix(path: &Path) -> Result<(UnixListener, (u64, u64)), BindError> {
    let refused = |source| BindError::Refused { listen: Listen::Unix(path.to_owned()), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket { path: path.to_owned() }),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
            Ok(_) => return Err(BindError::Answered { path: path.to_owned() }),
            Err(error) => return Err(refused(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    match std::fs::symlink_metadata(&beside) {
        // Left over from a start that was cut.
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(&beside).map_err(refused)?,
        Ok(_) => return Err(BindError::NotASocket { path: beside }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
    }
    let listener = UnixListener::bind(&beside).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(refused)?;
    let made = std::fs::symlink_metadata(&beside).map_err(refused)?;
    std::fs::rename(&beside, path).map_err(refused)?;
    Ok((listener, (made.dev(), made.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("port.sock");
        let listen = Listen::Unix(path.clone());
        smol::block_on(async {
            let first = Listener::bind(&listen).await.expect("free");
            let mode = std::fs::symlink_metadata(&path).expect("made").mode();
            assert_eq!(mode & 0o7777, SOCKET_MODE);
            assert!(matches!(Listener::bind(&listen).await, Err(BindError::Answered { .. })));

            // As a killed process leaves it: closed, and the file still there.
            drop(first);
            let second = Listener::bind(&listen).await.expect("stale");
            UnixStream::connect(&path).expect("it listens");
            second.close().await;
            assert!(!path.exists());
        });
    }

    #[test]
    fn what_is_not_ours_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("port.sock");
        let listen = Listen::Unix(path.clone());
        smol::block_on(async {
            std::fs::write(&path, "precious").expect("written");
            assert!(matches!(Listener::bind(&listen).await, Err(BindError::NotASocket { .. })));
            std::fs::remove_file(&path).expect("removed");

            let listener = Listener::bind(&listen).await.expect("free");
            std::fs::remove_file(&path).expect("removed");
            std::fs::write(&path, "precious").expect("written");
            listener.close().await;
            assert_eq!(std::fs::read(&path).expect("still there"), b"precious");
        });
    }

    #[test]
    fn an_address_in_use_is_told() {
        smol::block_on(async {
            let first = Listener::bind(&"127.0.0.1:0".parse().expect("an address")).await.expect("free");
            let taken = first.local_addr().expect("bound");
            let error = Listener::bind(&taken).await.expect_err("in use");
            assert_eq!(error.to_string(), format!("cannot listen on {taken}"));
        });
    }
}
