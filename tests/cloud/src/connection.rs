//! Connections of either server: the handshake and its faults, hyper, and what is written past hyper. What is answered
//! is decided by a [`Desk`].

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::fault::Fault;
use crate::lock;
use crate::wire::{self, Wire};

/// Pause after a failed accept: out of file descriptors is the usual cause, and time the cure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a body ended before its time.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body: in memory with the API, mostly from a file with S3.
pub(crate) type Payload = UnsyncBoxBody<Bytes, Broken>;

/// An answer to a call.
pub(crate) type Answer = Response<Payload>;

/// What is to be written past hyper once it has let go of the stream.
pub(crate) type Past = Arc<Mutex<Option<Wire>>>;

/// A call under way. `Err` makes hyper let go of the stream without another byte.
pub(crate) type Calling = Pin<Box<dyn Future<Output = Result<Answer, Over>> + Send>>;

/// Who answers the calls of one server.
pub(crate) trait Desk: Send + Sync + 'static {
    /// What befalls the next handshake.
    fn handshake(&self) -> Option<Fault>;
    /// Told of each connection that stands.
    fn connected(&self);
    /// The switch that takes this server off the network.
    fn gate(&self) -> &Gate;
    /// Answers one call.
    fn call(self: Arc<Self>, past: Past, request: Request<Incoming>) -> Calling;
}

/// Whether a server can be reached. Closed, it cuts every connection and each new one at once.
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(true))
    }

    pub(crate) fn set(&self, open: bool) {
        self.0.send_replace(open);
    }

    /// Done when the gate is closed.
    async fn closed(&self) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self.0.subscribe().wait_for(|open| !open).await;
    }
}

/// Takes connections until the runtime is shut down; without an acceptor they are plain.
pub(crate) async fn serve<D: Desk>(listener: TcpListener, acceptor: Option<TlsAcceptor>, desk: Arc<D>) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (acceptor, desk) = (acceptor.clone(), Arc::clone(&desk));
                drop(tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = desk.gate().closed() => {}
                        // An error of one connection is that client's affair.
                        _ = connection(stream, acceptor, Arc::clone(&desk)) => {}
                    }
                }));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection<D: Desk>(mut stream: TcpStream, acceptor: Option<TlsAcceptor>, desk: Arc<D>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match desk.handshake() {
        None => {}
        Some(Fault::Delay(pause)) => sleep(pause).await,
        Some(Fault::Hold(hold)) => hold.released().await,
        Some(Fault::Silence) => {
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            return Ok(());
        }
        Some(Fault::Garbage) => return stream.write_all(wire::GARBAGE).await,
        // Of these the script lets only the first befall a handshake.
        Some(
            Fault::CloseBeforeAnswer
            | Fault::CloseAfterAnswer
            | Fault::CutAfter(_)
            | Fault::EndlessBody
            | Fault::Redirect(_)
            | Fault::AnswerEarly(..)
            | Fault::Json(_)
            | Fault::CutRequestAfter(_)
            | Fault::IgnoreRange
            | Fault::ReplaceObject(_)
            | Fault::FlipBit(_)
            | Fault::Status { .. },
        ) => return Ok(()),
    }
    match acceptor {
        Some(acceptor) => speak(acceptor.accept(stream).await?, desk).await,
        None => speak(stream, desk).await,
    }
}

async fn speak<D: Desk, S: AsyncRead + AsyncWrite + Unpin>(stream: S, desk: Arc<D>) -> io::Result<()> {
    desk.connected();
    let past = Past::default();
    let service = service_fn(|request| Arc::clone(&desk).call(Arc::clone(&past), request));
    // Idle connections are kept for ever: a test closes them by a fault, not by a time.
    let mut http = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
    let outcome = poll_fn(|context| http.poll_without_shutdown(context)).await;
    let mut stream = http.into_parts().io.into_inner();
    let asked_for = lock(&past).take();
    match asked_for {
        Some(wire) => wire::write(&mut stream, wire).await,
        None if outcome.is_ok() => stream.shutdown().await,
        None => Ok(()),
    }
}

/// Ends hyper's part of a connection: the rest is written past it, or the client broke off.
#[derive(Debug)]
pub(crate) struct Over;

impl Over {
    /// Ends it with this.
    pub(crate) fn with(past: &Past, wire: Wire) -> Self {
        *lock(past) = Some(wire);
        Self
    }
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this connection ends here")
    }
}

impl std::error::Error for Over {}

/// The answer to a call under its fault; `Err` is what goes onto the wire past hyper.
pub(crate) async fn befall(fault: Option<Fault>, right: impl Future<Output = Answer>) -> Result<Answer, Wire> {
    match fault {
        // The last two are S3's, which has made them part of the right answer.
        None | Some(Fault::IgnoreRange | Fault::ReplaceObject(_)) => Ok(right.await),
        Some(Fault::FlipBit(at)) => Ok(flipped(right.await, at).await),
        Some(Fault::Status { code, body, retry_after }) => Ok(instead(code, body, retry_after.as_deref())),
        Some(Fault::Json(body)) => Ok(typed(StatusCode::OK, "application/json", body)),
        Some(Fault::AnswerEarly(code, body)) => Ok(instead(code, body, None)),
        Some(Fault::Redirect(target)) => {
            let mut answer = instead(StatusCode::TEMPORARY_REDIRECT.as_u16(), String::new(), None);
            answer.headers_mut().extend(HeaderValue::try_from(target).ok().map(|target| (LOCATION, target)));
            Ok(answer)
        }
        Some(Fault::Delay(pause)) => {
            sleep(pause).await;
            Ok(right.await)
        }
        Some(Fault::Hold(hold)) => {
            hold.released().await;
            Ok(right.await)
        }
        // hyper drops this future when the client closes the connection.
        Some(Fault::Silence) => pending().await,
        Some(Fault::CutAfter(bytes)) => Err(Wire::Cut(right.await, bytes)),
        Some(Fault::CloseAfterAnswer) => Err(Wire::ThenClose(right.await)),
        Some(Fault::EndlessBody) => Err(Wire::Endless),
        Some(Fault::Garbage) => Err(Wire::Garbage),
        Some(Fault::CloseBeforeAnswer | Fault::CutRequestAfter(_)) => Err(Wire::Close),
    }
}

/// The answer with one bit of its body turned round; one whose body cannot be read is empty.
async fn flipped(answer: Answer, at: usize) -> Answer {
    let (parts, body) = answer.into_parts();
    let mut bytes = body.collect().await.map_or_else(|_| Vec::new(), |body| body.to_bytes().to_vec());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    Response::from_parts(parts, whole(bytes))
}

/// The status that an outcome shows on the wire.
pub(crate) fn status(outcome: &Result<Answer, Wire>) -> Option<u16> {
    match outcome {
        Ok(answer) | Err(Wire::Cut(answer, _) | Wire::ThenClose(answer)) => Some(answer.status().as_u16()),
        Err(Wire::Endless) => Some(StatusCode::OK.as_u16()),
        Err(Wire::Garbage | Wire::Close) => None,
    }
}

/// The answer of a fault.
fn instead(code: u16, body: String, retry_after: Option<&str>) -> Answer {
    // The script takes no code that is none.
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = match body.as_bytes().first() {
        Some(b'{') => "application/json",
        Some(b'<') => "application/xml",
        _ => "text/plain",
    };
    let mut answer = typed(status, media_type, body);
    let retry_after = retry_after.and_then(|value| HeaderValue::from_str(value).ok());
    answer.headers_mut().extend(retry_after.map(|value| (RETRY_AFTER, value)));
    answer
}

/// An answer with a body of this media type.
pub(crate) fn typed(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// A body that stands whole, so that its length is announced.
pub(crate) fn whole(body: impl Into<Bytes>) -> Payload {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}
