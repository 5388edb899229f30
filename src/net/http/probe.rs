//! The way to a server, step by step: for a person who wonders which step fails.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::dial::{connect, handshake, resolve};
use super::endpoint::Endpoint;
use super::error::{NetError, Step};
use super::patience::{Patience, Timeouts};
use crate::net::Certificate;
use crate::net::tls::{Recording, TlsError};

/// How far the way was gone, and what was seen on it.
#[derive(Debug, Default)]
pub struct Probe {
    /// The addresses of the name.
    pub addresses: Option<Result<Vec<SocketAddr>, NetError>>,
    /// The connection to one of them, and how long it took.
    pub connected: Option<Result<(SocketAddr, Duration), NetError>>,
    /// The TLS handshake, where the endpoint speaks TLS.
    pub tls: Option<Result<(), NetError>>,
    /// The certificate that the server showed, believed or not.
    pub certificate: Option<Certificate>,
}

impl Probe {
    /// Goes the whole way once; the connection is closed again. `roots` as for [`client_config`](crate::net::client_config).
    ///
    /// # Errors
    /// The roots cannot be used; what fails on the way is in the result.
    pub async fn to(endpoint: &Endpoint, roots: Option<&[u8]>, timeouts: &Timeouts) -> Result<Self, TlsError> {
        let (Endpoint::Tls { host, port } | Endpoint::Plain { host, port }) = endpoint else {
            return Ok(Self::default());
        };
        let patience = Patience::begin(timeouts);
        let mut probe = Self::default();
        let addresses = match patience.within(Step::Resolve, resolve(host, *port)).await {
            Ok(addresses) => addresses,
            Err(error) => return Ok(Self { addresses: Some(Err(error)), ..probe }),
        };
        let began = Instant::now();
        let connected = connect(endpoint, &addresses, &patience).await;
        probe.addresses = Some(Ok(addresses));
        let stream = match connected
            .and_then(|stream| Ok((stream.peer_addr().map_err(|error| NetError::io(Step::Connect, error))?, stream)))
        {
            Ok((peer, stream)) => {
                probe.connected = Some(Ok((peer, began.elapsed())));
                stream
            }
            Err(error) => return Ok(Self { connected: Some(Err(error)), ..probe }),
        };
        if matches!(endpoint, Endpoint::Tls { .. }) {
            let recording = Recording::of(roots)?;
            let shaken = patience.within(Step::Tls, handshake(host, stream, recording.config())).await;
            probe.tls = Some(shaken.map(drop));
            probe.certificate = recording.seen();
        }
        Ok(probe)
    }
}
