//! One connection: a stream, what has been read from it and not yet used, and the watch for an early answer.
//!
//! A write always looks at the reading side too. A server may answer before it has read the whole request, with a
//! refusal or because it dies; the answer then ends the write (RFC 9112 section 9.5). Informational answers (1xx) do
//! not. The buffer is wiped before its memory is given back: answers carry tokens and keys.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use httparse::Status;
use smol::future::{poll_once, yield_now};
use smol::io::{AsyncRead, AsyncWrite};
use ureq_proto::client::MAX_RESPONSE_HEADERS;
use zeroize::Zeroizing;

use super::error::{NetError, Part, ProtocolFault, Step};
use super::patience::Patience;
use super::stream::Stream;
use crate::limits::{PIECE_BYTES, RESPONSE_HEAD_BYTES};
use crate::metrics::Traffic;
use crate::net::turn;

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Every byte is with the kernel.
    All,
    /// The final answer has begun to arrive; the rest was not written.
    Answered,
}

/// A stream with its read buffer.
pub(super) struct Connection {
    stream: Stream,
    /// Empty while the connection is idle, [`RESPONSE_HEAD_BYTES`] long otherwise.
    buffer: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
    /// Whether any byte of the present answer has arrived.
    touched: bool,
    /// Bytes moved since this task last let others run.
    moved: usize,
    /// Where they are counted.
    traffic: &'static Traffic,
}

impl Connection {
    pub(super) fn new(stream: Stream, traffic: &'static Traffic) -> Self {
        Self { stream, buffer: Zeroizing::default(), start: 0, end: 0, touched: false, moved: 0, traffic }
    }

    /// Counts what passes from now on here: API and CDN may be one server.
    pub(super) const fn count_as(&mut self, traffic: &'static Traffic) {
        self.traffic = traffic;
    }

    /// What has been read and not used.
    pub(super) fn input(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Marks the first `bytes` of the input as used.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Whether nothing more can be read before some of the input is used.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.start == RESPONSE_HEAD_BYTES
    }

    /// Whether any byte of the present answer has arrived.
    pub(super) const fn is_touched(&self) -> bool {
        self.touched
    }

    /// Gives the buffer back and starts over: the connection goes to the pool.
    ///
    /// Returns false when the server sent more than it should have: such a connection must not be used again.
    pub(super) fn rest(&mut self) -> bool {
        let clean = self.start == self.end;
        self.buffer = Zeroizing::default();
        (self.start, self.end, self.touched) = (0, 0, false);
        clean
    }

    /// Whether an idle connection can still be used: open, and silent.
    pub(super) async fn is_alive(&mut self) -> bool {
        poll_once(poll_fn(|cx| self.poll_fill(cx))).await.is_none()
    }

    /// Reads once into the free part of the buffer; 0 is the end of the stream.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Reads once straight into `into`, past the buffer, which must be empty; 0 is the end of the stream.
    pub(super) async fn pass(&mut self, into: &mut [u8]) -> io::Result<usize> {
        debug_assert!(self.input().is_empty(), "bytes would be overtaken");
        let read = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, into)).await?;
        self.touched |= read > 0;
        self.traffic.received.add(read as u64);
        Ok(read)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            self.buffer.resize(RESPONSE_HEAD_BYTES, 0);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut self.buffer[self.end..]))?;
        self.end += read;
        self.touched |= read > 0;
        self.traffic.received.add(read as u64);
        Poll::Ready(Ok(read))
    }

    /// Ready once the final answer has begun to arrive, or never will.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        loop {
            match look(self.input()).map_err(|fault| NetError::Protocol { fault })? {
                Seen::Final => return Poll::Ready(Ok(())),
                Seen::Informational(length) => {
                    self.consume(length);
                    continue;
                }
                Seen::Nothing => {}
            }
            if self.is_full() {
                return Poll::Ready(Err(NetError::TooLarge { part: Part::Head, limit: RESPONSE_HEAD_BYTES as u64 }));
            }
            if ready!(self.poll_fill(cx)).map_err(|error| NetError::io(Step::Send, error))? == 0 {
                return Poll::Ready(Err(NetError::ClosedEarly { step: Step::Send }));
            }
        }
    }

    /// Writes all of `bytes`, unless the answer comes first. Each write may take as long as a body may be silent.
    pub(super) async fn write(&mut self, mut bytes: &[u8], patience: &Patience) -> Result<Written, NetError> {
        while !bytes.is_empty() {
            // At most a piece at once: TLS would otherwise encrypt the whole slice in one turn of the loop.
            let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
            let step = poll_fn(|cx| {
                if let Poll::Ready(answer) = self.poll_answer(cx) {
                    return Poll::Ready(answer.map(|()| None));
                }
                match ready!(Pin::new(&mut self.stream).poll_write(cx, piece)) {
                    Ok(0) => {
                        Poll::Ready(Err(NetError::Io { step: Step::Send, source: io::ErrorKind::WriteZero.into() }))
                    }
                    Ok(written) => Poll::Ready(Ok(Some(written))),
                    Err(error) => Poll::Ready(Err(NetError::io(Step::Send, error))),
                }
            });
            match patience.within(Step::Send, step).await {
                Ok(Some(written)) => {
                    self.traffic.sent.add(written as u64);
                    bytes = &bytes[written..];
                    self.share_turn(written).await;
                }
                Ok(None) => return Ok(Written::Answered),
                Err(error) => return self.salvage(error, patience).await,
            }
        }
        Ok(Written::All)
    }

    /// Sees that what was written has left the TLS buffers.
    pub(super) async fn flush(&mut self, patience: &Patience) -> Result<Written, NetError> {
        let step = poll_fn(|cx| {
            // Flushed first: once everything has left, an answer that is there is one to the whole request.
            if let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx) {
                return Poll::Ready(flushed.map(|()| Written::All).map_err(|error| NetError::io(Step::Send, error)));
            }
            self.poll_answer(cx).map_ok(|()| Written::Answered)
        });
        match patience.within(Step::Send, step).await {
            Ok(written) => Ok(written),
            Err(error) => self.salvage(error, patience).await,
        }
    }

    /// The server no longer reads; it may have said why just before. If so, that is the answer, else `error` stands.
    async fn salvage(&mut self, error: NetError, patience: &Patience) -> Result<Written, NetError> {
        if !error.is_end_of_connection() {
            return Err(error);
        }
        match patience.within(Step::Headers, poll_fn(|cx| self.poll_answer(cx))).await {
            Ok(()) => Ok(Written::Answered),
            Err(_) => Err(error),
        }
    }

    /// Lets other tasks run after every [`PIECE_BYTES`], also where the socket is always ready.
    pub(super) async fn share_turn(&mut self, bytes: usize) {
        if self.stream.is_ciphered() {
            turn::spend(bytes).await;
            return;
        }
        self.moved += bytes;
        if self.moved >= PIECE_BYTES {
            self.moved = 0;
            yield_now().await;
        }
    }
}

/// What the start of an answer shows.
enum Seen {
    /// Not enough to tell.
    Nothing,
    /// A whole informational head of this length.
    Informational(usize),
    /// The status line of the final answer.
    Final,
}

fn look(input: &[u8]) -> Result<Seen, ProtocolFault> {
    if input.is_empty() {
        return Ok(Seen::Nothing);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_RESPONSE_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let status = match response.parse(input) {
        Ok(status) => status,
        // The status line was read; the header lines are judged when the answer is.
        Err(httparse::Error::TooManyHeaders) => return Ok(Seen::Final),
        Err(error) => return Err(ProtocolFault::Head(error)),
    };
    Ok(match (response.code, status) {
        // 101 is no step on the way but an end (RFC 9110 section 15.2.2); reading the answer refuses it.
        (Some(100 | 102..=199), Status::Complete(length)) => Seen::Informational(length),
        (None, _) | (Some(100 | 102..=199), Status::Partial) => Seen::Nothing,
        (Some(_), _) => Seen::Final,
    })
}
