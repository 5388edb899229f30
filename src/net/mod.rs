//! Everything that waits: the loop's turns, lent system calls, streams, TLS, HTTP exchanges, time-outs, clock.

mod certificate;
pub mod clock;
pub mod http;
mod lend;
#[cfg(test)]
pub(crate) mod scripted;
pub mod tls;
pub mod turn;
pub mod url;

pub use certificate::Certificate;
pub use clock::Clock;
pub use http::{
    BodySource, Bytes, Client, Endpoint, ExchangeError, NetError, NoBody, Part, Probe, ProtocolFault, Repeatable,
    Response, Step, Timeouts, TlsFault,
};
pub use lend::lend;
pub use tls::{TlsError, client_config};
pub use url::BaseUrl;
