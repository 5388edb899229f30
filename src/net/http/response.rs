//! The way back: the head of an answer, then its body piece by piece.
//!
//! A body is whole or it is an error: its stated length not reached, a chunk cut short, a TLS stream that ends without
//! saying so, are [`NetError::ClosedEarly`]. An answer that is dropped before its end closes the connection.

use std::rc::Rc;

use http::response::Parts;
use http::{HeaderMap, StatusCode, Version, header};
use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvBodyResult, RecvResponseResult};
use zeroize::Zeroizing;

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::error::{NetError, Part, ProtocolFault, Step};
use super::patience::Patience;
use super::pool::Pool;
use crate::limits::{CHUNK_FRAMING_BYTES, PIECE_BYTES, RESPONSE_HEAD_BYTES};

/// The head of an answer and what comes after it.
pub(super) struct Head {
    parts: Parts,
    next: RecvResponseResult,
}

/// Reads the head of the answer, past any informational ones.
pub(super) async fn receive(
    connection: &mut Connection,
    mut call: Call<RecvResponse>,
    patience: &Patience,
) -> Result<Head, NetError> {
    let too_large = || NetError::TooLarge { part: Part::Head, limit: RESPONSE_HEAD_BYTES as u64 };
    let read = async {
        let mut informational = 0;
        loop {
            let (used, response) = call.try_response(connection.input(), false).map_err(NetError::parse)?;
            connection.consume(used);
            if let Some(response) = response {
                return Ok(response);
            }
            informational += used;
            if informational > RESPONSE_HEAD_BYTES || connection.is_full() {
                return Err(too_large());
            }
            if used > 0 {
                continue;
            }
            if connection.fill().await.map_err(|error| NetError::io(Step::Headers, error))? == 0 {
                return Err(NetError::ClosedEarly { step: Step::Headers });
            }
        }
    };
    let response = patience.within(Step::Headers, read).await?;
    let (parts, ()) = response.into_parts();
    judge(&parts)?;
    // `try_response` gave a response, so the next state is known.
    let next = call.proceed().ok_or(NetError::Protocol { fault: ProtocolFault::Framing })?;
    Ok(Head { parts, next })
}

/// Refuses what ureq-proto takes but two readers could take differently (RFC 9112 section 6.3).
fn judge(parts: &Parts) -> Result<(), NetError> {
    let refuse = |fault| Err(NetError::Protocol { fault });
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return refuse(ProtocolFault::Switched);
    }
    let mut encodings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        let alone = encodings.next().is_none() && !parts.headers.contains_key(header::CONTENT_LENGTH);
        let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked") && parts.version == Version::HTTP_11;
        if !(alone && chunked) {
            return refuse(ProtocolFault::Framing);
        }
    }
    Ok(())
}

/// Whether the connection outlives an answer whose end is known (RFC 9112 section 9.3); nothing here asks to keep one
/// of HTTP/1.0.
fn is_kept(parts: &Parts) -> bool {
    let options = parts.headers.get_all(header::CONNECTION);
    let mut options = options.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    parts.version == Version::HTTP_11 && !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// An answer whose body has not been read yet.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The header lines.
    pub headers: HeaderMap,
    early: bool,
    body: Body,
    /// Where the connection goes when the body has ended; `None` when it cannot be used again.
    home: Option<(Rc<Pool>, Endpoint)>,
    patience: Patience,
}

enum Body {
    Open(Box<Open>),
    Ended,
    Broken,
}

struct Open {
    connection: Connection,
    frame: Frame,
}

/// How the end of a body is known.
#[expect(clippy::large_enum_variant, reason = "it only ever stands in the box of `Open`")]
enum Frame {
    /// By its stated length: what is left of it is read where the caller wants it, without a copy in between.
    Length {
        left: u64,
        /// Whether the connection may be used again.
        keep: bool,
    },
    /// By chunks or by the end of the connection, as ureq-proto reads them.
    Marked {
        call: Call<RecvBody>,
        /// Framing bytes since the last byte of content.
        framing: usize,
    },
}

impl Response {
    pub(super) fn new(
        head: Head,
        connection: Connection,
        home: Option<(Rc<Pool>, Endpoint)>,
        patience: &Patience,
    ) -> Self {
        let Head { parts, next } = head;
        let early = home.is_none();
        let keep = is_kept(&parts);
        let (status, headers, patience) = (parts.status, parts.headers, *patience);
        let mut response = Self { status, headers, early, body: Body::Ended, home, patience };
        match next {
            RecvResponseResult::RecvBody(call) => {
                let frame = match call.body_mode() {
                    BodyMode::LengthDelimited(left) => Frame::Length { left, keep },
                    BodyMode::Chunked | BodyMode::CloseDelimited | BodyMode::NoBody => {
                        Frame::Marked { call, framing: 0 }
                    }
                };
                response.body = Body::Open(Box::new(Open { connection, frame }));
            }
            // A redirect is an answer like any other: whoever asked decides, nothing is followed.
            RecvResponseResult::Redirect(call) => response.settle(!call.must_close_connection(), connection),
            RecvResponseResult::Cleanup(call) => response.settle(!call.must_close_connection(), connection),
        }
        response
    }

    /// Whether the answer began before the request body had been sent whole.
    pub const fn is_early(&self) -> bool {
        self.early
    }

    /// The stated length of the body, when it is stated and still to come.
    pub fn length(&self) -> Option<u64> {
        match &self.body {
            Body::Open(open) => match open.frame {
                Frame::Length { left, .. } => Some(left),
                Frame::Marked { .. } => None,
            },
            Body::Ended => Some(0),
            Body::Broken => None,
        }
    }

    /// Reads some bytes of the body into `buf`, which must not be empty; 0 is its end.
    ///
    /// # Errors
    /// [`NetError`]; the connection is then closed, and every further call says [`NetError::ClosedEarly`].
    pub async fn chunk(&mut self, buf: &mut [u8]) -> Result<usize, NetError> {
        let open = match &mut self.body {
            Body::Open(open) => open,
            Body::Ended => return Ok(0),
            Body::Broken => return Err(NetError::ClosedEarly { step: Step::Body }),
        };
        let end = match open.read(buf, &self.patience).await {
            Ok(Read::Bytes(read)) => {
                open.connection.share_turn(read).await;
                return Ok(read);
            }
            Ok(end) => end,
            Err(error) => {
                self.body = Body::Broken;
                return Err(error);
            }
        };
        if let Body::Open(open) = std::mem::replace(&mut self.body, Body::Ended)
            && matches!(end, Read::End)
        {
            let Open { connection, frame } = *open;
            let keep = match frame {
                Frame::Length { keep, .. } => keep,
                Frame::Marked { call, .. } => match call.proceed() {
                    Some(RecvBodyResult::Cleanup(call)) => !call.must_close_connection(),
                    Some(RecvBodyResult::Redirect(call)) => !call.must_close_connection(),
                    None => false,
                },
            };
            self.settle(keep, connection);
        }
        Ok(0)
    }

    /// Reads the rest of the body, if it is no longer than `limit`.
    ///
    /// The buffer does not move while it fills, so that whoever holds a secret in it can wipe it: it has the stated
    /// length, or else `limit` where that is at most one piece. What is not returned is wiped here.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] at the first byte over `limit`, before any when the stated length is over it.
    pub async fn bytes(mut self, limit: usize) -> Result<Vec<u8>, NetError> {
        let too_large = || NetError::TooLarge { part: Part::Body, limit: limit as u64 };
        let room = match self.length() {
            Some(length) => usize::try_from(length).ok().filter(|length| *length <= limit).ok_or_else(too_large)?,
            None => limit.min(PIECE_BYTES),
        };
        // One byte more than allowed, so that the one too many is seen.
        let mut bytes = Zeroizing::new(vec![0_u8; room + 1]);
        let mut filled = 0;
        loop {
            let read = self.chunk(&mut bytes[filled..]).await?;
            filled += read;
            if filled > limit {
                return Err(too_large());
            }
            if read == 0 {
                bytes.truncate(filled);
                return Ok(std::mem::take(&mut *bytes));
            }
            if filled == bytes.len() {
                bytes.resize((filled * 2).min(limit + 1), 0);
            }
        }
    }

    /// The body is whole: the connection goes back where it came from, or is closed.
    fn settle(&mut self, keep: bool, connection: Connection) {
        if let Some((pool, endpoint)) = self.home.take()
            && keep
        {
            pool.keep(&endpoint, connection);
        }
    }
}

/// What one read of a body brought.
enum Read {
    Bytes(usize),
    /// The end, as the framing tells it.
    End,
    /// The end, as the closed connection tells it.
    Closed,
}

impl Open {
    async fn read(&mut self, buf: &mut [u8], patience: &Patience) -> Result<Read, NetError> {
        match &mut self.frame {
            Frame::Length { left, .. } => read_length(&mut self.connection, left, buf, patience).await,
            Frame::Marked { call, framing } => read_marked(&mut self.connection, call, framing, buf, patience).await,
        }
    }
}

/// Some of the `left` bytes of a body.
async fn read_length(
    connection: &mut Connection,
    left: &mut u64,
    buf: &mut [u8],
    patience: &Patience,
) -> Result<Read, NetError> {
    if *left == 0 {
        return Ok(Read::End);
    }
    // At most a piece at once: TLS would otherwise decrypt a whole buffer in one turn of the loop.
    let room = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len()).min(PIECE_BYTES);
    let buf = &mut buf[..room];
    if connection.input().is_empty() && room < RESPONSE_HEAD_BYTES {
        // Many small reads would be as many system calls.
        let fill = async { connection.fill().await.map_err(|error| NetError::io(Step::Body, error)) };
        if patience.within(Step::Body, fill).await? == 0 {
            return Err(NetError::ClosedEarly { step: Step::Body });
        }
    }
    let ready = connection.input().len().min(room);
    let read = if ready > 0 {
        buf[..ready].copy_from_slice(&connection.input()[..ready]);
        connection.consume(ready);
        ready
    } else {
        let pass = async { connection.pass(buf).await.map_err(|error| NetError::io(Step::Body, error)) };
        patience.within(Step::Body, pass).await?
    };
    if read == 0 {
        return Err(NetError::ClosedEarly { step: Step::Body });
    }
    *left -= read as u64;
    Ok(Read::Bytes(read))
}

/// Some bytes of a body that marks its own end.
async fn read_marked(
    connection: &mut Connection,
    call: &mut Call<RecvBody>,
    framing: &mut usize,
    buf: &mut [u8],
    patience: &Patience,
) -> Result<Read, NetError> {
    let until_close = call.body_mode() == BodyMode::CloseDelimited;
    loop {
        let (used, made) = call.read(connection.input(), buf).map_err(NetError::parse)?;
        connection.consume(used);
        if made > 0 {
            *framing = 0;
            return Ok(Read::Bytes(made));
        }
        if !until_close && call.can_proceed() {
            return Ok(Read::End);
        }
        *framing += used;
        if *framing > CHUNK_FRAMING_BYTES || connection.is_full() {
            return Err(NetError::TooLarge { part: Part::ChunkFraming, limit: CHUNK_FRAMING_BYTES as u64 });
        }
        if used > 0 {
            continue;
        }
        let fill = async { connection.fill().await.map_err(|error| NetError::io(Step::Body, error)) };
        match patience.within(Step::Body, fill).await? {
            0 if until_close => return Ok(Read::Closed),
            0 => return Err(NetError::ClosedEarly { step: Step::Body }),
            _ => {}
        }
    }
}
