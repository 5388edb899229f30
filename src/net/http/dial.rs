//! From an endpoint to a stream: name look-up, connection, TLS.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures_rustls::TlsConnector;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use smol::Timer;
use smol::future::FutureExt;
use smol::lock::Semaphore;
use smol::net::TcpStream;
use smol::net::unix::UnixStream;

use super::endpoint::Endpoint;
use super::error::{NetError, Step, TlsFault};
use super::patience::Patience;
use super::stream::Stream;
use crate::limits::{ADDRESSES_TRIED, CONNECT_STAGGER};
use crate::net::lend;
use crate::net::tls;

/// One look-up at a time: a resolver that hangs holds one of the lent threads, never the one that flash needs.
pub(super) static LOOK_UPS: Semaphore = Semaphore::new(1);

/// Opens a stream to `endpoint`.
pub(super) async fn dial(
    endpoint: &Endpoint,
    config: &Arc<ClientConfig>,
    patience: &Patience,
) -> Result<Stream, NetError> {
    match endpoint {
        Endpoint::Unix(path) => {
            let connect = async { UnixStream::connect(path).await.map_err(|source| connect_failed(endpoint, source)) };
            patience.within(Step::Connect, connect).await.map(Stream::Unix)
        }
        Endpoint::Plain { host, port } => tcp(endpoint, host, *port, patience).await.map(Stream::Plain),
        Endpoint::Tls { host, port } => {
            let stream = tcp(endpoint, host, *port, patience).await?;
            patience.within(Step::Tls, handshake(host, stream, config)).await
        }
    }
}

fn connect_failed(endpoint: &Endpoint, source: io::Error) -> NetError {
    NetError::Connect { to: endpoint.to_string(), source }
}

async fn tcp(endpoint: &Endpoint, host: &str, port: u16, patience: &Patience) -> Result<TcpStream, NetError> {
    let addresses = patience.within(Step::Resolve, resolve(host, port)).await?;
    connect(endpoint, &addresses, patience).await
}

/// A connection to the first of `addresses` that takes it.
pub(super) async fn connect(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    patience: &Patience,
) -> Result<TcpStream, NetError> {
    let connect = async {
        let stream = first_to_connect(addresses).await?;
        // Requests are written in whole pieces; waiting to fill a segment would only add a round trip.
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let connect = async { connect.await.map_err(|source| connect_failed(endpoint, source)) };
    patience.within(Step::Connect, connect).await
}

/// All addresses of `host`, in the system's order of preference (RFC 6724).
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, NetError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let seat = LOOK_UPS.acquire().await;
    let name = host.to_owned();
    let found = lend(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(first_few);
        drop(seat);
        found
    })
    .await;
    match found {
        Ok(addresses) if addresses.is_empty() => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
        other => other,
    }
    .map_err(|source| NetError::Resolve { host: host.to_owned(), source })
}

fn first_few(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    addresses.take(ADDRESSES_TRIED).collect()
}

type Attempt<'a> = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + 'a>>;

/// The first of `addresses` to take the connection. The next one is tried when one fails, and also when one is merely
/// slow (RFC 8305): a dead IPv6 route must not use up the time of a living IPv4 one.
async fn first_to_connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut under_way: Vec<Attempt<'_>> = Vec::new();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    loop {
        match waiting.next() {
            Some(address) => under_way.push(Box::pin(TcpStream::connect(*address))),
            None if under_way.is_empty() => return Err(last_error),
            None => {}
        }
        let more = waiting.len() > 0;
        let any = poll_fn(|cx| {
            for index in 0..under_way.len() {
                if let Poll::Ready(result) = under_way[index].as_mut().poll(cx) {
                    drop(under_way.swap_remove(index));
                    return Poll::Ready(Some(result));
                }
            }
            Poll::Pending
        });
        let slow = async {
            if !more {
                std::future::pending::<()>().await;
            }
            Timer::after(CONNECT_STAGGER).await;
            None
        };
        match any.or(slow).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => last_error = error,
            None => {}
        }
    }
}

pub(super) async fn handshake(host: &str, stream: TcpStream, config: &Arc<ClientConfig>) -> Result<Stream, NetError> {
    let refused = |source: io::Error| match tls::fault(&source) {
        Some(fault) => NetError::Tls { host: host.to_owned(), fault, source: tls::in_words(source) },
        None => NetError::io(Step::Tls, source),
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| NetError::Tls {
        host: host.to_owned(),
        fault: TlsFault::Other,
        source: io::Error::new(io::ErrorKind::InvalidInput, error),
    })?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(refused)?;
    Ok(Stream::Tls(Box::new(stream)))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::net::scripted::race;

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    /// A port where nobody listens.
    fn refusing() -> SocketAddr {
        listener().1
    }

    /// A port that answers nothing: its queue is full. It lives as long as what comes with it.
    fn silent() -> (SocketAddr, impl Sized) {
        let (listener, address) = listener();
        rustix::net::listen(&listener, 0).expect("a shorter queue");
        let fill = std::iter::repeat_with(|| std::net::TcpStream::connect_timeout(&address, CONNECT_STAGGER / 4));
        let queued: Vec<_> = fill.take(8).take_while(Result::is_ok).collect();
        assert!(queued.len() < 8, "the queue takes any number");
        (address, (listener, queued))
    }

    fn connect(addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
        race(async { first_to_connect(addresses).await?.peer_addr() }, async {})
    }

    #[test]
    fn a_refusing_and_a_silent_address_are_passed_over() {
        let (_listener, good) = listener();
        let (silent, _open) = silent();
        assert_eq!(connect(&[refusing(), good]).expect("the second"), good);
        assert_eq!(connect(&[silent, refusing(), good]).expect("the third"), good);
    }

    #[test]
    fn the_last_refusal_is_told_when_all_refuse() {
        let error = connect(&[refusing(), refusing()]).expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn addresses_hold_at_their_bound() {
        let many = |n: u16| (0..n).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        assert_eq!(first_few(many(3)).len(), 3);
        assert_eq!(first_few(many(1000)).len(), ADDRESSES_TRIED);
    }
}
