//! The Resource API: log-in, token, the key fragment; and the rules by which a call is repeated.
//!
//! Defined in CONTRACT section 1. This room must never follow a redirect, never send a credential anywhere but to the
//! configured base address, never repeat a log-in that was refused, and never put a secret into a message.

mod answer;
mod api;
mod error;
mod retry;
mod session;
mod token;
mod token_key;

#[cfg(test)]
mod tests;

pub use api::Api;
pub use error::{ApiFault, CloudError, Operation, RetryAfter};
pub use retry::{Retry, RetryPolicy};
pub use session::{Session, User};
pub use token::{Role, Segment, Token, TokenError};
pub use token_key::{KeyError, TokenKey};
