//! The connection to the port, over TCP or a unix socket, as a way for `ureq` to speak HTTP.
//!
//! The port may answer before a body was sent to its end: no room, a role too low. The answer is then what counts. So
//! every write looks for it first, and from there on takes bytes without sending them; whoever makes the body learns
//! from [`Early`] that no more of it is wanted.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Uri;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use ureq::Error;
use ureq::config::Config;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

use super::target::Target;
use crate::limits::CLIENT_KEEPALIVE;

/// Whether the port has answered, or left, before the body was sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Early(Arc<AtomicBool>);

impl Early {
    /// No more of the body is wanted.
    pub(super) fn is_answered(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, is_answered: bool) {
        self.0.store(is_answered, Ordering::Relaxed);
    }
}

/// Connects to the port, a fresh connection for every call.
#[derive(Debug)]
pub(super) struct PortConnector {
    pub(super) target: Target,
    pub(super) early: Early,
}

impl Connector for PortConnector {
    type Out = PortTransport;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<PortTransport>, Error> {
        self.early.set(false);
        let socket: OwnedFd = match &self.target {
            Target::Unix(path) => UnixStream::connect(path)?.into(),
            Target::Tcp(_) => tcp(details)?.into(),
        };
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(PortTransport { socket, buffers, early: self.early.clone(), interim: false }))
    }
}

/// One address after the other, each with its share of the time.
fn tcp(details: &ConnectionDetails<'_>) -> Result<TcpStream, Error> {
    let mut failed = None;
    let each = bound(&details.timeout).map(|all| all / u32::try_from(details.addrs.len().max(1)).unwrap_or(u32::MAX));
    for address in &details.addrs {
        let connected = match each {
            Some(each) => TcpStream::connect_timeout(address, each),
            None => TcpStream::connect(address),
        };
        match connected {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                // Best effort: without it a board that is gone is noticed by whoever watches.
                let _ = sockopt::set_socket_keepalive(&stream, true)
                    .and_then(|()| sockopt::set_tcp_keepidle(&stream, CLIENT_KEEPALIVE))
                    .and_then(|()| sockopt::set_tcp_keepintvl(&stream, CLIENT_KEEPALIVE / 3))
                    .and_then(|()| sockopt::set_tcp_keepcnt(&stream, 3));
                return Ok(stream);
            }
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.map_or(Error::HostNotFound, Error::Io))
}

/// There is no name to look up; `ureq` wants an address all the same.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(addresses)
    }
}

/// A connection.
pub(super) struct PortTransport {
    socket: OwnedFd,
    buffers: LazyBuffers,
    early: Early,
    /// An interim answer lies unread: that there is something to read says nothing any more.
    interim: bool,
}

impl fmt::Debug for PortTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The buffers hold what is sent: a password among it.
        f.write_str("PortTransport")
    }
}

/// `None` waits for ever.
fn bound(timeout: &NextTimeout) -> Option<Duration> {
    (!timeout.after.is_not_happening()).then(|| (*timeout.after).max(Duration::from_millis(1)))
}

impl PortTransport {
    /// Waits for one of the events; what there is then.
    fn wait(&self, events: PollFlags, timeout: &NextTimeout, end: Option<Instant>) -> Result<PollFlags, Error> {
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [PollFd::new(&self.socket, events)];
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Err(Error::Timeout(timeout.reason)),
                Ok(_) => return Ok(fds[0].revents()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::Io(error.into())),
            }
        }
    }

    /// Whether what can be read is the final answer, or the end.
    fn has_answer(&mut self) -> bool {
        // As much as tells `HTTP/1.1 100 …` from `HTTP/1.1 507 …`.
        const INTERIM: &[u8] = b"HTTP/1.1 1";
        if !self.buffers.input().is_empty() {
            return true;
        }
        let mut head = [0; INTERIM.len()];
        match recv(&self.socket, &mut head[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((count, _)) => {
                self.interim = count > 0 && INTERIM.starts_with(&head[..count]);
                !self.interim
            }
            Err(error) => error != Errno::AGAIN && error != Errno::INTR,
        }
    }
}

impl Transport for PortTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let end = bound(&timeout).map(|length| Instant::now() + length);
        let mut sent = 0;
        while sent < amount && !self.early.is_answered() {
            let wanted = if self.interim { PollFlags::OUT } else { PollFlags::IN | PollFlags::OUT };
            let ready = self.wait(wanted, &timeout, end)?;
            if ready.contains(PollFlags::IN) && self.has_answer() {
                self.early.set(true);
                break;
            }
            let left = &self.buffers.output()[sent..amount];
            match send(&self.socket, left, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                // The port takes no more; what it said before can still be read.
                Err(Errno::PIPE | Errno::CONNRESET) => self.early.set(true),
                Err(error) => return Err(Error::Io(error.into())),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let end = bound(&timeout).map(|length| Instant::now() + length);
        loop {
            self.wait(PollFlags::IN, &timeout, end)?;
            match recv(&self.socket, self.buffers.input_append_buf(), RecvFlags::DONTWAIT) {
                Ok((_, count)) => {
                    self.buffers.input_appended(count);
                    return Ok(count > 0);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(Error::Io(io::Error::from(error))),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // A fresh connection for every call: a local one costs nothing, and a stale one cannot be met.
        false
    }
}
