//! The client: an exchange on a kept connection or a fresh one.

use std::rc::Rc;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri, header};
use rustls::ClientConfig;

use super::body::BodySource;
use super::connection::Connection;
use super::dial::dial;
use super::endpoint::Endpoint;
use super::error::{ExchangeError, NetError};
use super::patience::{Patience, Timeouts};
use super::pool::Pool;
use super::response::{Response, receive};
use super::send::send;
use crate::metrics::Peer;
use crate::net::Clock;

/// Marks a request that may be sent twice although its method does not say so: put it into the extensions.
#[derive(Debug, Clone, Copy)]
pub struct Repeatable;

/// An HTTP/1.1 client with its kept connections. Any number of exchanges run at once.
pub struct Client {
    tls: Arc<ClientConfig>,
    pool: Rc<Pool>,
}

/// A failed exchange, and whether it can have been the fault of a connection that was closed while idle.
struct Miss<E> {
    error: ExchangeError<E>,
    untouched: bool,
}

impl Client {
    /// A client on the boot clock.
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self::with_clock(tls, Clock::boot())
    }

    /// A client whose idle connections age by `clock`.
    pub fn with_clock(tls: Arc<ClientConfig>, clock: Clock) -> Self {
        Self { tls, pool: Rc::new(Pool::new(clock)) }
    }

    /// Sends `request` with `body` and returns when the head of the answer is there.
    ///
    /// Of the request's URI only path and query count. `Host` is set from the endpoint unless given, the length
    /// headers always from the body. A kept connection that turns out closed is silently replaced by a fresh one, once,
    /// if the method is idempotent (or the request is marked [`Repeatable`]) and the body can be rewound.
    ///
    /// # Errors
    /// After any error the connection is closed. What the server has made of the request is then unknown, unless the
    /// step was before [`super::Step::Send`].
    pub async fn exchange<B: BodySource>(
        &self,
        endpoint: &Endpoint,
        mut request: Request<()>,
        mut body: B,
        timeouts: &Timeouts,
    ) -> Result<Response, ExchangeError<B::Error>> {
        let patience = Patience::begin(timeouts);
        complete(&mut request, endpoint, body.length())?;
        let traffic = request.extensions().get().copied().unwrap_or(Peer::of(endpoint)).traffic();
        if let Some(mut connection) = self.pool.take(endpoint).await {
            connection.count_as(traffic);
            match self.on(connection, endpoint, request.clone(), &mut body, &patience).await {
                Ok(response) => return Ok(response),
                Err(miss) if miss.untouched && may_repeat(&request) && body.rewind() => {}
                Err(miss) => return Err(miss.error),
            }
        }
        let connection = Connection::new(dial(endpoint, &self.tls, &patience).await?, traffic);
        self.on(connection, endpoint, request, &mut body, &patience).await.map_err(|miss| miss.error)
    }

    /// Closes the connections that have been idle for too long; every exchange does so too.
    pub fn close_idle(&self) {
        self.pool.sweep();
    }

    async fn on<B: BodySource>(
        &self,
        mut connection: Connection,
        endpoint: &Endpoint,
        request: Request<()>,
        body: &mut B,
        patience: &Patience,
    ) -> Result<Response, Miss<B::Error>> {
        let miss = |error: ExchangeError<B::Error>, connection: &Connection| {
            let ended = matches!(&error, ExchangeError::Net(error) if error.is_end_of_connection());
            Miss { untouched: ended && !connection.is_touched(), error }
        };
        let sent = match send(&mut connection, request, body, patience).await {
            Ok(sent) => sent,
            Err(error) => return Err(miss(error, &connection)),
        };
        match receive(&mut connection, sent.call, patience).await {
            Ok(head) => {
                let home = if sent.early { None } else { Some((Rc::clone(&self.pool), endpoint.clone())) };
                Ok(Response::new(head, connection, home, patience))
            }
            Err(error) => Err(miss(error.into(), &connection)),
        }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.pool.len()
    }
}

impl Peer {
    /// Who answers there, when the request does not say.
    const fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Unix(_) => Self::Engine,
            Endpoint::Tls { .. } | Endpoint::Plain { .. } => Self::Api,
        }
    }
}

/// Brings the request into the form it goes out in: origin form, `Host`, and the length the body has.
fn complete(request: &mut Request<()>, endpoint: &Endpoint, length: Option<u64>) -> Result<(), NetError> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let method = request.method().clone();
    let headers = request.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    match length {
        // A method that expects a body says so even when it is empty (RFC 9110 section 8.6).
        Some(0) if !matches!(method, Method::POST | Method::PUT | Method::PATCH) => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    if !headers.contains_key(header::HOST) {
        let host = HeaderValue::try_from(endpoint.authority())
            .map_err(|error| NetError::Request { source: ureq_proto::Error::BadHeader(error.to_string()) })?;
        headers.insert(header::HOST, host);
    }
    Ok(())
}

/// RFC 9110 section 9.2.2: only what has the same effect twice is repeated without being asked.
fn may_repeat(request: &Request<()>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS)
        || request.extensions().get::<Repeatable>().is_some()
}
