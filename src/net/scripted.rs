//! A server for tests that says exactly the bytes its script says, in the loop of the test itself.

use std::sync::Arc;

use futures_rustls::TlsAcceptor;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use smol::LocalExecutor;
use smol::future::{or, pending, zip};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

use super::http::{Client, Endpoint};
use super::{tls, turn};

/// Runs both sides of a test on one loop.
pub(crate) fn run<A, B>(client: impl Future<Output = A>, server: impl Future<Output = B>) -> (A, B) {
    turn::block_on(&LocalExecutor::new(), zip(client, server))
}

/// Runs both sides until the client's is done, whatever the server still has to say.
pub(crate) fn race<A>(client: impl Future<Output = A>, server: impl Future<Output = ()>) -> A {
    let server = async {
        server.await;
        pending().await
    };
    turn::block_on(&LocalExecutor::new(), or(client, server))
}

/// A client with the built-in roots.
pub(crate) fn client() -> Client {
    Client::new(tls::client_config(None).expect("built-in roots"))
}

/// A listening port of this machine.
pub(crate) struct Server(TcpListener);

impl Server {
    pub(crate) fn bind() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self(listener.try_into().expect("non-blocking"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Plain { host: "127.0.0.1".into(), port: self.port() }
    }

    pub(crate) async fn accept(&self) -> Peer<TcpStream> {
        Peer::new(self.0.accept().await.expect("a connection").0)
    }

    /// Accepts a connection, reads one request and says `answer`; returns request and connection.
    pub(crate) async fn serve(&self, answer: &str) -> (Request, Peer<TcpStream>) {
        let mut peer = self.accept().await;
        let request = peer.request().await;
        peer.say(answer).await;
        (request, peer)
    }
}

/// A request as the server saw it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// The server's end of a connection.
pub(crate) struct Peer<S> {
    stream: S,
    seen: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, seen: Vec::new() }
    }

    async fn read(&mut self) -> usize {
        let mut some = vec![0; 64 * 1024];
        // A reset is an end too: the client may leave with unread bytes.
        let read = self.stream.read(&mut some).await.unwrap_or(0);
        self.seen.extend_from_slice(&some[..read]);
        read
    }

    /// The next request's head, its empty line included.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.seen.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.seen.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head in UTF-8");
            }
            assert_ne!(self.read().await, 0, "closed within the head: {:?}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// The next request, whose body has a stated length or none.
    pub(crate) async fn request(&mut self) -> Request {
        let head = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a number"));
        let body = self.exactly(length).await;
        Request { head, body }
    }

    /// The next `length` bytes.
    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.seen.len() < length {
            assert_ne!(self.read().await, 0, "closed within {length} bytes");
        }
        self.seen.drain(..length).collect()
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn until_closed(mut self) -> Vec<u8> {
        while self.read().await > 0 {}
        self.seen
    }

    /// Says `text`; whether anyone still listens is the test's business.
    pub(crate) async fn say(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
        let _ = self.stream.flush().await;
    }

    /// Ends the connection in good form (`close_notify` on TLS).
    pub(crate) async fn close(mut self) {
        let _ = self.stream.close().await;
    }
}

/// A certificate authority and a server certificate for `name`, changed by `adjust`.
pub(crate) struct Identity {
    pub(crate) ca_pem: String,
    acceptor: TlsAcceptor,
}

impl Identity {
    pub(crate) fn new(name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        adjust(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate fit");
        Self { ca_pem: authority.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Accepts a TLS connection; `None` when the client gave the handshake up.
    pub(crate) async fn accept(&self, server: &Server) -> Option<Peer<futures_rustls::server::TlsStream<TcpStream>>> {
        let stream = server.accept().await.stream;
        self.acceptor.accept(stream).await.ok().map(Peer::new)
    }
}
