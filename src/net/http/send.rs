//! The way out: head and body of a request, ended early when the answer comes first.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use http::{Method, Request, header};
use ureq_proto::client::state::{RecvResponse, SendBody};
use ureq_proto::client::{Call, SendRequestResult};
use zeroize::Zeroizing;

use super::body::BodySource;
use super::connection::{Connection, Written};
use super::error::{ExchangeError, NetError, Part, Step};
use super::patience::Patience;
use crate::limits::{PIECE_BYTES, REQUEST_HEAD_BYTES};

/// Room for a chunk's size line and ends beside [`PIECE_BYTES`] of content.
const CHUNK_ROOM_BYTES: usize = 256;

/// A request that was sent, ready for its answer.
pub(super) struct Sent {
    pub(super) call: Call<RecvResponse>,
    /// The answer began before the request had ended: the connection cannot be used again.
    pub(super) early: bool,
}

/// Sends `request` and `body`.
pub(super) async fn send<B: BodySource>(
    connection: &mut Connection,
    request: Request<()>,
    body: &mut B,
    patience: &Patience,
) -> Result<Sent, ExchangeError<B::Error>> {
    let method = request.method().clone();
    let refused = |source| NetError::Request { source };
    let head_bytes = head_bytes(&request);
    if head_bytes > REQUEST_HEAD_BYTES {
        return Err(NetError::TooLarge { part: Part::RequestHead, limit: REQUEST_HEAD_BYTES as u64 }.into());
    }
    let mut call = Call::new(request).map_err(refused)?.proceed();
    // The head may carry a token; ureq-proto copies it here, so here it is wiped.
    let mut head = Zeroizing::new(vec![0_u8; head_bytes]);
    while !call.can_proceed() {
        let length = call.write(&mut head).map_err(refused)?;
        if connection.write(&head[..length], patience).await? == Written::Answered {
            return Ok(Sent { call: answer_to(method).map_err(refused)?, early: true });
        }
    }
    drop(head);
    let call = match call.proceed().map_err(refused)? {
        Some(SendRequestResult::SendBody(call)) => match send_body(connection, call, body, patience).await? {
            Some(call) => call,
            None => return Ok(Sent { call: answer_to(method).map_err(refused)?, early: true }),
        },
        Some(SendRequestResult::RecvResponse(call)) => call,
        // Nothing here asks for `100-continue`, and the head was written.
        Some(SendRequestResult::Await100(_)) | None => {
            return Err(refused(ureq_proto::Error::HeadersWith100).into());
        }
    };
    match connection.flush(patience).await? {
        Written::All => Ok(Sent { call, early: false }),
        Written::Answered => Ok(Sent { call: answer_to(method).map_err(refused)?, early: true }),
    }
}

/// Sends the body to its end; `None` when the answer came first.
async fn send_body<B: BodySource>(
    connection: &mut Connection,
    mut call: Call<SendBody>,
    body: &mut B,
    patience: &Patience,
) -> Result<Option<Call<RecvResponse>>, ExchangeError<B::Error>> {
    let refused = |source| NetError::Request { source };
    let length = body.length();
    let mut given = 0_u64;
    let mut framed = match length {
        Some(_) => Vec::new(),
        None => vec![0_u8; PIECE_BYTES + CHUNK_ROOM_BYTES],
    };
    loop {
        let Some(piece) = next_piece(connection, body, patience).await? else {
            return Ok(None);
        };
        let piece = piece.map_err(ExchangeError::Source)?.unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        given += piece.len() as u64;
        if let Some(promised) = length {
            if given > promised {
                return Err(NetError::BodyLength { promised, given }.into());
            }
            call.consume_direct_write(piece.len()).map_err(refused)?;
            if connection.write(piece, patience).await? == Written::Answered {
                return Ok(None);
            }
            continue;
        }
        let mut rest = piece;
        while !rest.is_empty() {
            let (used, made) = call.write(rest, &mut framed).map_err(refused)?;
            rest = &rest[used..];
            if connection.write(&framed[..made], patience).await? == Written::Answered {
                return Ok(None);
            }
        }
    }
    match length {
        Some(promised) if given < promised => return Err(NetError::BodyLength { promised, given }.into()),
        Some(_) => {}
        None => {
            let (_, made) = call.write(&[], &mut framed).map_err(refused)?;
            if connection.write(&framed[..made], patience).await? == Written::Answered {
                return Ok(None);
            }
        }
    }
    let promised = length.unwrap_or(given);
    call.proceed().map(Some).ok_or_else(|| NetError::BodyLength { promised, given }.into())
}

/// The next piece of the body; `None` when the answer came while it was waited for. The source takes the time it
/// needs, only the whole call bounds it.
async fn next_piece<'a, B: BodySource>(
    connection: &mut Connection,
    body: &'a mut B,
    patience: &Patience,
) -> Result<Option<Result<Option<&'a [u8]>, B::Error>>, NetError> {
    let mut next = pin!(body.next());
    let waited = poll_fn(|cx| {
        if let Poll::Ready(piece) = next.as_mut().poll(cx) {
            return Poll::Ready(Ok(Some(piece)));
        }
        connection.poll_answer(cx).map_ok(|()| None)
    });
    patience.within(Step::WholeCall, waited).await
}

/// The state that reads an answer to `method`, for a request whose end was never sent: ureq-proto has no edge from
/// there, so one is taken from a request that had nothing more to send.
fn answer_to(method: Method) -> Result<Call<RecvResponse>, ureq_proto::Error> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    request.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from_static("0"));
    let mut call = Call::new(request)?.proceed();
    let mut nowhere = [0_u8; 256];
    while !call.can_proceed() {
        call.write(&mut nowhere)?;
    }
    match call.proceed()? {
        Some(SendRequestResult::RecvResponse(call)) => Ok(call),
        Some(SendRequestResult::SendBody(_) | SendRequestResult::Await100(_)) | None => {
            Err(ureq_proto::Error::BodyNotAllowed)
        }
    }
}

/// An upper bound of what the head takes: request line, header lines, and the ends of lines.
fn head_bytes(request: &Request<()>) -> usize {
    let lines: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let path = request.uri().path_and_query().map_or(1, |path| path.as_str().len());
    request.method().as_str().len() + path + lines + 32
}
