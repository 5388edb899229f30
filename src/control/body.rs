//! The request body as a reader: by length or in chunks, never past its end, never longer than its patience.
//!
//! A handler reads as much as it wants; what it does not want decides whether the connection can be kept. The rate is
//! measured over the time spent waiting for the client alone, so a slow handler never makes a client too slow.
//! RFC 9112 sections 6 and 7.

use std::io;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::yield_now;
use zeroize::Zeroizing;

use super::head::Framing;
use super::refusal::Refusal;
use super::wire::{Patience, Wire, within};
use crate::limits::{
    BODY_BYTES_PER_SECOND, BODY_DISCARD_BYTES, CHUNK_LINE_BYTES, INLET_FIRST_BYTES, PIECE_BYTES, TRAILER_BYTES,
};

/// What a read counts for at least towards the next turn of the loop.
const LEAST_WORK_BYTES: usize = 256;

/// The body of the request at hand.
pub(super) struct Body<'w> {
    wire: &'w mut Wire,
    left: Left,
    wants_continue: bool,
    patience: Patience,
    waited: Duration,
    received: u64,
    since_yield: usize,
    /// Waiting in all that needs no bytes in exchange, and at one time.
    grace: Duration,
    silence: Duration,
}

/// What of the body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// So many bytes, then nothing.
    Length(u64),
    /// A chunk-size line.
    ChunkLine,
    /// So many bytes of a chunk, then its CRLF and another chunk-size line.
    Chunk(u64),
    /// Nothing: the last chunk and the trailers were read.
    Nothing,
}

/// Why a body, or a head, did not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// For a reason that the client is told.
    Refused(Refusal),
    /// The client is gone, there is nobody to tell.
    Gone,
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<'w> Body<'w> {
    pub(super) fn new(wire: &'w mut Wire, framing: Framing, wants_continue: bool, patience: Patience) -> Self {
        let left = match framing {
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::ChunkLine,
        };
        // Without a body there is nothing to continue with.
        let wants_continue = wants_continue && left != Left::Length(0);
        Self {
            wire,
            left,
            wants_continue,
            patience,
            waited: Duration::ZERO,
            received: 0,
            since_yield: 0,
            grace: patience.body,
            silence: Duration::MAX,
        }
    }

    /// Takes the body for one of any size that may come from a pipe: it is waited for longer, and never long at a time.
    pub(super) fn be_patient(&mut self) {
        (self.grace, self.silence) = (self.patience.upload, self.patience.upload);
    }

    /// The connection beneath.
    pub(super) fn wire(&mut self) -> &mut Wire {
        self.wire
    }

    /// Whether the request has no body at all, or it was read to its end.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.left, Left::Length(0) | Left::Nothing)
    }

    /// Whether the next request follows after a bounded rest that the client does send.
    pub(super) fn can_be_skipped(&self) -> bool {
        match self.left {
            Left::Length(0) | Left::Nothing => true,
            Left::Length(length) => length <= BODY_DISCARD_BYTES && !self.wants_continue,
            Left::ChunkLine | Left::Chunk(_) => false,
        }
    }

    /// The whole body, wiped when it is dropped.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLong`] past `limit` bytes: before the client is told to go on when the length says so.
    pub(super) async fn bytes(&mut self, limit: usize) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let room = match self.left {
            Left::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Left::ChunkLine | Left::Chunk(_) | Left::Nothing => limit,
        };
        if room > limit {
            return Err(Refusal::BodyTooLong.into());
        }
        let mut bytes = Zeroizing::new(vec![0; room.min(INLET_FIRST_BYTES)]);
        let mut filled = 0;
        while filled < room {
            if filled == bytes.len() {
                // As bytes arrive, not as a length promises them. The old ones are wiped: a vector left to grow by itself
                // leaves copies behind.
                let mut larger = Zeroizing::new(vec![0; room.min(2 * filled)]);
                larger[..filled].copy_from_slice(&bytes);
                bytes = larger;
            }
            match self.read(&mut bytes[filled..]).await? {
                0 => break,
                count => filled += count,
            }
        }
        if self.read(&mut [0]).await? > 0 {
            return Err(Refusal::BodyTooLong.into());
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Sends the answer, while the body may still be there to be read over.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.send(bytes, self.patience.write).await
    }

    /// Reads over a body that nobody asked for, so that it is checked and the next request found.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLong`] past [`BODY_DISCARD_BYTES`], before anything is read when the length says so.
    pub(super) async fn skip(&mut self) -> Result<(), Broken> {
        let too_long = |length: u64| length > BODY_DISCARD_BYTES;
        if matches!(self.left, Left::Length(length) if too_long(length)) {
            return Err(Refusal::BodyTooLong.into());
        }
        let mut piece = Zeroizing::new([0; 256]);
        let mut skipped = 0;
        loop {
            match self.read(piece.as_mut_slice()).await? {
                0 => return Ok(()),
                count => skipped += count as u64,
            }
            if too_long(skipped) {
                return Err(Refusal::BodyTooLong.into());
            }
        }
    }

    /// Reads to the front of `piece`, which grows towards [`PIECE_BYTES`] while the client fills it: of many slow clients
    /// none has a large one. 0 is the end of the body.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) async fn read_piece(&mut self, piece: &mut Vec<u8>) -> Result<usize, Broken> {
        if piece.is_empty() {
            piece.resize(INLET_FIRST_BYTES, 0);
        }
        let count = self.read(piece).await?;
        if count == piece.len() {
            piece.resize((2 * count).min(PIECE_BYTES), 0);
        }
        Ok(count)
    }

    /// The next bytes of the body; 0 is its end.
    ///
    /// # Errors
    /// A faulty chunk, a client that is too slow, or one that is gone. The connection is of no more use then.
    pub(super) async fn read(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
        loop {
            match self.left {
                Left::Length(0) | Left::Nothing => return Ok(0),
                Left::Length(length) => {
                    let count = self.piece(into, length).await?;
                    self.left = Left::Length(length - count as u64);
                    return Ok(count);
                }
                Left::Chunk(0) => {
                    if self.line(0).await? != Some(0) {
                        return Err(Refusal::Malformed("a chunk is longer than its size").into());
                    }
                    self.wire.consume(2);
                    self.left = Left::ChunkLine;
                }
                Left::Chunk(length) => {
                    let count = self.piece(into, length).await?;
                    self.left = Left::Chunk(length - count as u64);
                    return Ok(count);
                }
                Left::ChunkLine => {
                    let fault = Refusal::Malformed("a chunk-size line is none");
                    let Some(length) = self.line(CHUNK_LINE_BYTES).await? else { return Err(fault.into()) };
                    let size = chunk_size(&self.wire.arrived()[..length]).ok_or(fault)?;
                    self.wire.consume(length + 2);
                    self.left = if size == 0 {
                        self.trailers().await?;
                        Left::Nothing
                    } else {
                        Left::Chunk(size)
                    };
                }
            }
        }
    }

    /// Up to `most` bytes as they come; at least one.
    async fn piece(&mut self, into: &mut [u8], most: u64) -> Result<usize, Broken> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(into.len());
        self.go_on().await?;
        let before = Instant::now();
        let read = within(self.timer(), self.wire.read(&mut into[..most])).await;
        let count = self.count(before, read)?;
        self.received += count as u64;
        // Chunks of one byte are work too.
        self.since_yield += count.max(LEAST_WORK_BYTES);
        if self.since_yield >= PIECE_BYTES {
            // A client that sends without pause must not hold the loop.
            self.since_yield = 0;
            yield_now().await;
        }
        Ok(count)
    }

    /// Waits for a whole line and returns its length without CRLF; `None` when it is longer than `limit`.
    async fn line(&mut self, limit: usize) -> Result<Option<usize>, Broken> {
        self.go_on().await?;
        loop {
            let arrived = self.wire.arrived();
            if let Some(end) = arrived.iter().take(limit + 2).position(|&byte| byte == b'\n') {
                return match end.checked_sub(1) {
                    Some(length) if arrived[length] == b'\r' => Ok(Some(length)),
                    Some(_) | None => Err(Refusal::Malformed("a line feed alone in the body's framing").into()),
                };
            }
            if arrived.len() >= limit + 2 {
                return Ok(None);
            }
            let before = Instant::now();
            let more = within(self.timer(), self.wire.more(limit + 2)).await;
            self.count(before, more)?;
        }
    }

    /// Reads over the trailer section: checked for its form, never used (RFC 9110 section 6.5.1 allows that).
    async fn trailers(&mut self) -> Result<(), Broken> {
        let mut left = TRAILER_BYTES;
        loop {
            let Some(length) = self.line(left).await? else { return Err(Refusal::HeadTooLong.into()) };
            let mut room = [httparse::EMPTY_HEADER; 1];
            let line = &self.wire.arrived()[..length + 2];
            if length > 0 {
                if !matches!(httparse::parse_headers(line, &mut room), Ok(httparse::Status::Partial)) {
                    return Err(Refusal::Malformed("a trailer line is none").into());
                }
                // RFC 9110 section 6.5.1: what frames or routes a message has no place here.
                let name = room[0].name;
                if ["content-length", "transfer-encoding", "host"].iter().any(|one| name.eq_ignore_ascii_case(one)) {
                    return Err(Refusal::Malformed("a trailer that belongs into the head").into());
                }
            }
            self.wire.consume(length + 2);
            left = left.saturating_sub(length + 2);
            if length == 0 {
                return Ok(());
            }
        }
    }

    /// Tells a client that waits for it to send the body, unless it has begun to.
    async fn go_on(&mut self) -> Result<(), Broken> {
        if std::mem::take(&mut self.wants_continue) && self.wire.arrived().is_empty() {
            let sent = self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n", self.patience.write).await;
            sent.map_err(|_| Broken::Gone)?;
        }
        Ok(())
    }

    fn timer(&self) -> Timer {
        let earned = Duration::from_secs(self.received / BODY_BYTES_PER_SECOND);
        Timer::after((self.grace + earned).saturating_sub(self.waited).min(self.silence))
    }

    fn count(&mut self, before: Instant, read: io::Result<usize>) -> Result<usize, Broken> {
        self.waited += before.elapsed();
        match read {
            Ok(0) => Err(Broken::Gone),
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Refusal::TooSlow("the body").into()),
            Err(_) => Err(Broken::Gone),
        }
    }
}

/// The size that a chunk-size line tells. Extensions are read over (RFC 9112 section 7.1.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extension) = line.split_at(end);
    let visible = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    let well_formed = extension.is_empty() || extension.trim_ascii_start().starts_with(b";");
    if !well_formed || !extension.iter().all(visible) {
        return None;
    }
    // More digits than 16 overflow, none are no number: both are errors of this one function.
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests;
