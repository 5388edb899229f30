//! The bytes of one connection: its socket, and the buffer of what has arrived and is not yet read.
//!
//! Tokens and passwords pass through here, so the buffer is wiped wherever it is consumed, moved or dropped. Every
//! wait has its patience; whoever floods is made to wait for the next turn.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use smol::future::{or, yield_now};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, Timer};
use zeroize::Zeroize;

use crate::limits::{
    BODY_PATIENCE, CLIENT_HEAD_BYTES, DRAIN_PATIENCE, EVENT_HEARTBEAT, HEAD_PATIENCE, IDLE_PATIENCE, INLET_FIRST_BYTES,
    SHUTDOWN_GRACE, STREAM_TURN, UPLOAD_SILENCE, WRITE_PATIENCE,
};

/// Tries to write in one [`Patience::write`]. The kernel calls a socket writable once a third of its buffer is free
/// (tcp(7), unix(7)) and takes bytes long before that: a slow reader of a large buffer shows only when one tries.
const TRIES_TO_WRITE: u32 = 8;

/// How long a client may keep the port waiting, in each place where it can.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    pub(super) body: Duration,
    pub(super) upload: Duration,
    pub(super) turn: Duration,
    pub(super) write: Duration,
    pub(super) drain: Duration,
    /// The other way round: how long who follows the events hears nothing.
    pub(super) heartbeat: Duration,
    pub(super) shutdown: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: HEAD_PATIENCE,
            idle: IDLE_PATIENCE,
            body: BODY_PATIENCE,
            upload: UPLOAD_SILENCE,
            turn: STREAM_TURN,
            write: WRITE_PATIENCE,
            drain: DRAIN_PATIENCE,
            heartbeat: EVENT_HEARTBEAT,
            shutdown: SHUTDOWN_GRACE,
        }
    }
}

/// A socket of either kind.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(Async<TcpStream>),
    Unix(Async<UnixStream>),
}

impl Stream {
    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into).await,
            Self::Unix(stream) => stream.read(into).await,
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }

    async fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(parts).await,
            Self::Unix(stream) => stream.write_vectored(parts).await,
        }
    }

    /// Makes the end that follows an abort, so that no client takes it for the end of its answer, and the kernel does
    /// not keep what nobody reads. A unix socket knows no such end.
    fn abort(&self) {
        if let Self::Tcp(stream) = self {
            // No reason to fail: the length or the last chunk is missing all the same.
            let _clean_end = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
    }

    /// Tells the client that nothing follows.
    fn end_writing(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.get_ref().shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.get_ref().shutdown(Shutdown::Write),
        }
    }
}

/// A socket with what has arrived on it.
pub(super) struct Wire {
    stream: Stream,
    /// `start..end` has arrived and is unread; the rest is zero.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, buffer: Box::default(), start: 0, end: 0 }
    }

    /// What has arrived and is unread.
    pub(super) fn arrived(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes the first `count` bytes of what has arrived as read, and wipes them.
    pub(super) fn consume(&mut self, count: usize) {
        let until = self.end.min(self.start + count);
        self.buffer[self.start..until].zeroize();
        self.start = until;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives back what a long request made the buffer grow to, once it is read.
    pub(super) fn shrink(&mut self) {
        if self.start == self.end && self.buffer.len() > INLET_FIRST_BYTES {
            self.buffer = Box::default();
        }
    }

    /// Waits until more has arrived, and tells how much; 0 is the end of the stream. Never holds more than `limit`
    /// bytes: the caller stops before.
    pub(super) async fn more(&mut self, limit: usize) -> io::Result<usize> {
        self.make_room(limit);
        let count = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += count;
        Ok(count)
    }

    fn make_room(&mut self, limit: usize) {
        if self.end < self.buffer.len() {
            return;
        }
        let held = self.end - self.start;
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.buffer[held..].zeroize();
        } else {
            let size = (self.buffer.len() * 2).clamp(INLET_FIRST_BYTES, limit.max(INLET_FIRST_BYTES)).max(held + 1);
            let mut larger = vec![0; size].into_boxed_slice();
            larger[..held].copy_from_slice(&self.buffer[..held]);
            self.buffer.zeroize();
            self.buffer = larger;
        }
        (self.start, self.end) = (0, held);
    }

    /// Reads into `into`, first what has arrived already; 0 is the end of the stream.
    pub(super) async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let held = self.arrived();
        if held.is_empty() {
            return self.stream.read(into).await;
        }
        let count = held.len().min(into.len());
        into[..count].copy_from_slice(&held[..count]);
        self.consume(count);
        Ok(count)
    }

    /// Sends all of `bytes`, or fails once `patience` is over.
    pub(super) async fn send(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        within(Timer::after(patience), self.stream.write_all(bytes)).await
    }

    /// Sends all of `parts`, or fails once the client has taken no byte for `patience`.
    pub(super) async fn stream(&mut self, mut parts: &mut [IoSlice<'_>], patience: Duration) -> io::Result<()> {
        let mut in_vain = 0;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match within(Timer::after(patience / TRIES_TO_WRITE), self.stream.write_vectored(parts)).await {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    IoSlice::advance_slices(&mut parts, count);
                    in_vain = 0;
                }
                // Counted, not timed: a loop that was held up is not the client's fault.
                Err(error) if error.kind() == io::ErrorKind::TimedOut && in_vain + 1 < TRIES_TO_WRITE => in_vain += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The outcome of `work`; `None` when the client leaves before. A client that ends its sending side while it waits
    /// for a model counts as gone: nothing tells it from one that was killed.
    pub(super) async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        or(async { Some(work.await) }, async {
            // A client that sends its next requests already is there. They wait in the buffer, those that fit.
            while self.arrived().len() < CLIENT_HEAD_BYTES {
                if matches!(self.more(CLIENT_HEAD_BYTES).await, Ok(0) | Err(_)) {
                    return None;
                }
            }
            std::future::pending().await
        })
        .await
    }

    /// Ends the connection in the middle of an answer.
    pub(super) fn cut(&self) {
        self.stream.abort();
    }

    /// Ends the sending side and reads over what still arrives until the client closes too or `patience` is over:
    /// closing at once would make the kernel throw away the answer that the client has not read yet.
    pub(super) async fn drain(&mut self, patience: Duration) {
        if self.stream.end_writing().is_err() {
            return;
        }
        let over = Instant::now() + patience;
        while Instant::now() < over {
            self.consume(usize::MAX / 2);
            match within(Timer::at(over), self.more(INLET_FIRST_BYTES)).await {
                Ok(0) | Err(_) => return,
                // A client that sends without pause must not hold the loop.
                Ok(_) => yield_now().await,
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

/// The outcome of `work`, or [`io::ErrorKind::TimedOut`] once the timer fires.
pub(super) async fn within<T>(timer: Timer, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    or(work, async {
        timer.await;
        Err(io::ErrorKind::TimedOut.into())
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn pair() -> (Wire, UnixStream) {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        (Wire::new(Stream::Unix(Async::new(near).expect("a socket"))), far)
    }

    #[test]
    fn what_is_consumed_is_wiped_and_the_rest_stays() {
        smol::block_on(async {
            let (mut wire, mut far) = pair();
            far.write_all(b"canary-rest").expect("room in the socket");
            while wire.arrived().len() < 11 {
                wire.more(4096).await.expect("open");
            }
            wire.consume(7);
            assert_eq!(wire.arrived(), b"rest");
            assert!(!wire.buffer.windows(6).any(|window| window == b"canary"));

            // Growing and moving leave no second copy either.
            far.write_all(&vec![b'x'; INLET_FIRST_BYTES]).expect("room in the socket");
            while wire.arrived().len() < 4 + INLET_FIRST_BYTES {
                wire.more(4096).await.expect("open");
            }
            assert!(wire.arrived().starts_with(b"restxxx"));
            wire.consume(usize::MAX / 2);
            assert!(wire.buffer.iter().all(|&byte| byte == 0));
            wire.shrink();
            assert!(wire.buffer.is_empty());
        });
    }

    #[test]
    fn a_client_that_does_not_read_is_left() {
        smol::block_on(async {
            let (mut wire, _far) = pair();
            let sent = wire.send(&vec![0; 16 << 20], Duration::from_millis(10)).await;
            assert_eq!(sent.expect_err("nobody reads").kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn draining_ends_with_the_client_or_with_patience() {
        smol::block_on(async {
            let (mut wire, far) = pair();
            drop(far);
            wire.drain(Duration::from_hours(1)).await;

            let (mut wire, mut far) = pair();
            far.write_all(&[b'x'; 4096]).expect("room in the socket");
            wire.drain(Duration::from_millis(10)).await;
            assert!(wire.arrived().is_empty() || wire.end <= INLET_FIRST_BYTES);
            // The client sees the end although it still has its side open.
            let mut rest = Vec::new();
            io::Read::read_to_end(&mut far, &mut rest).expect("an end");
        });
    }
}
