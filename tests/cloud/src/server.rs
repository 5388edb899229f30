//! Connections: TLS, hyper, the script of faults, the record. What is answered is decided in `api`.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::api::{self, Answer};
use crate::call::{Call, Record};
use crate::fault::{Fault, Route, Script};
use crate::keys::Salts;
use crate::lock;
use crate::options::{Observer, ServerTime, UnknownFile, WrongCredentials};
use crate::store::Store;
use crate::token::Issuer;
use crate::wire::{self, Wire};

/// A request's body: longer is refused with 413. A demo uploads models of some hundred MB.
const BODY_BYTES: usize = 1 << 30;

/// Pause after a failed accept: out of file descriptors is the usual cause, and time the cure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) salts: Salts,
    pub(crate) token_lifetime: Duration,
    pub(crate) time: ServerTime,
    pub(crate) wrong_credentials: WrongCredentials,
    pub(crate) unknown_file: UnknownFile,
    pub(crate) observer: Option<Observer>,
    pub(crate) issuer: Issuer,
    pub(crate) store: Mutex<Store>,
    pub(crate) script: Mutex<Script>,
    pub(crate) record: Record,
    pub(crate) connections: AtomicUsize,
}

/// Takes connections until the runtime is shut down.
pub(crate) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) -> Infallible {
    loop {
        match listener.accept().await {
            // An error of one connection is that client's affair.
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&shared)))),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(mut stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let fault = lock(&shared.script).take(Route::Handshake);
    match fault {
        None => {}
        Some(Fault::Delay(pause)) => sleep(pause).await,
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
            | Fault::Status { .. },
        ) => return Ok(()),
    }
    let tls = acceptor.accept(stream).await?;
    shared.connections.fetch_add(1, Ordering::SeqCst);

    let wire = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let call: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(call(Arc::clone(&shared), Arc::clone(&wire), request));
        call
    });
    // Idle connections are kept for ever: a test closes them by a fault, not by a time.
    let mut http = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(tls), service);
    let outcome = poll_fn(|context| http.poll_without_shutdown(context)).await;
    let mut tls = http.into_parts().io.into_inner();
    let asked_for = lock(&wire).take();
    match asked_for {
        Some(wire) => wire::write(&mut tls, wire).await,
        None if outcome.is_ok() => tls.shutdown().await,
        None => Ok(()),
    }
}

/// Ends hyper's part of a connection: the rest is written past it, or the client broke off.
#[derive(Debug)]
struct Over;

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this connection ends here")
    }
}

impl std::error::Error for Over {}

/// One call. `Err` makes hyper let go of the stream without another byte.
async fn call(shared: Arc<Shared>, wire: Arc<Mutex<Option<Wire>>>, request: Request<Incoming>) -> Result<Answer, Over> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(api::typed(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "the body is too long"));
        }
        Err(_) => return Err(Over),
    };
    let path = head.uri.path().to_owned();
    let (route, folder) = Route::of(&head.method, &path);
    let number = shared.record.arrived(Call {
        route,
        method: head.method.to_string(),
        path: path.clone(),
        authorization: head.headers.contains_key(AUTHORIZATION),
        body_bytes: body.len(),
        status: None,
        at: Instant::now(),
        took: None,
    });
    let fault = lock(&shared.script).take(route);
    let outcome = befall(&shared, fault, route, folder, &head, body).await;
    let status = match &outcome {
        Ok(answer) | Err(Wire::Cut(answer, _) | Wire::ThenClose(answer)) => Some(answer.status().as_u16()),
        Err(Wire::Endless) => Some(StatusCode::OK.as_u16()),
        Err(Wire::Garbage | Wire::Close) => None,
    };
    let done = shared.record.answered(number, status);
    if let (Some(observer), Some(done)) = (&shared.observer, &done) {
        observer(done);
    }
    outcome.map_err(|instead| {
        *lock(&wire) = Some(instead);
        Over
    })
}

/// The answer to a call under its fault; `Err` is what goes onto the wire past hyper.
async fn befall(
    shared: &Shared,
    fault: Option<Fault>,
    route: Route,
    folder: &str,
    head: &Parts,
    body: Bytes,
) -> Result<Answer, Wire> {
    let right = api::answer(shared, route, folder, head, body);
    match fault {
        None => Ok(right.await),
        Some(Fault::Status { code, body, retry_after }) => Ok(instead(code, body, retry_after.as_deref())),
        Some(Fault::Redirect(target)) => {
            let mut answer = instead(StatusCode::TEMPORARY_REDIRECT.as_u16(), String::new(), None);
            answer.headers_mut().extend(HeaderValue::try_from(target).ok().map(|target| (LOCATION, target)));
            Ok(answer)
        }
        Some(Fault::Delay(pause)) => {
            sleep(pause).await;
            Ok(right.await)
        }
        // hyper drops this future when the client closes the connection.
        Some(Fault::Silence) => pending().await,
        Some(Fault::CutAfter(bytes)) => Err(Wire::Cut(right.await, bytes)),
        Some(Fault::CloseAfterAnswer) => Err(Wire::ThenClose(right.await)),
        Some(Fault::EndlessBody) => Err(Wire::Endless),
        Some(Fault::Garbage) => Err(Wire::Garbage),
        Some(Fault::CloseBeforeAnswer) => Err(Wire::Close),
    }
}

/// The answer of a fault.
fn instead(code: u16, body: String, retry_after: Option<&str>) -> Answer {
    // The script takes no code that is none.
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = if body.starts_with('{') { "application/json" } else { "text/plain" };
    let mut answer = api::typed(status, media_type, body);
    let retry_after = retry_after.and_then(|value| HeaderValue::from_str(value).ok());
    answer.headers_mut().extend(retry_after.map(|value| (RETRY_AFTER, value)));
    answer
}
