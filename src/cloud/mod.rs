//! The Resource API: log-in, token, the key fragment, resources; the CDN; and the rules by which a call is repeated.
//!
//! Defined in CONTRACT sections 1 and 2. This room must never follow a redirect, never send a credential anywhere but
//! to the configured base address, never repeat a log-in that was refused, and never put a secret into a message.

mod answer;
mod api;
pub mod cdn;
mod error;
mod resources;
mod retry;
mod session;
mod token;
mod token_key;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_resources;

pub use api::Api;
pub use cdn::{Cdn, CdnClock, CdnError, CdnOperation, CdnRead, CdnRetry, CdnSettings, PutError, Tail, date};
pub use error::{ApiFault, CloudError, Operation, RetryAfter};
pub use resources::ResourceBody;
pub use retry::{Retry, RetryPolicy};
pub use session::{Session, User};
pub use token::{Role, Segment, Token, TokenError};
pub use token_key::{KeyError, TokenKey};
