//! HTTP/1.1 as a client: one exchange at a time per connection, many connections at once, all on the loop.
//!
//! The protocol itself is `ureq-proto` (RFC 9110, 9112); this module moves its bytes over smol streams and adds what
//! lies around it:
//!
//! ```text
//!   Client::exchange ── pool ─┬─ a kept connection ──────┐
//!                             └─ dial: resolve, connect, ┤ send ── early answer? ──┐
//!                                TLS                     │   └── body to its end ──┤
//!                                                        └── failed, untouched:    └─ head ── Response::chunk ── pool
//!                                                            once more on a fresh one
//! ```
//!
//! It must never follow a redirect, never end a request body whose source failed, never take a cut body for a whole
//! one, and never log a byte of what passes.

mod body;
mod client;
mod connection;
mod dial;
mod endpoint;
mod error;
mod patience;
mod pool;
mod probe;
mod response;
mod send;
mod stream;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_faults;
#[cfg(test)]
mod tests_silence;
#[cfg(test)]
mod tests_tls;

pub use body::{BodySource, Bytes, NoBody};
pub use client::{Client, Repeatable};
pub use endpoint::Endpoint;
pub use error::{ExchangeError, NetError, Part, ProtocolFault, Step, TlsFault};
pub use patience::Timeouts;
pub use probe::Probe;
pub use response::Response;
