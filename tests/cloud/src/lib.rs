//! The Resource API for demo and tests, built from CONTRACT sections 1 and 3; never linked into the agent.
//!
//! [`Cloud::start`] listens on a port of its own choice with real TLS under a certificate authority made for this one
//! cloud, or the one that [`Options::authority`] has the key of, on threads of its own, and stops when the [`Cloud`] is
//! dropped. It shares no code with the agent: keys, ciphers, tokens and HTTP are written here a second time, so that a
//! mistake in one of the two shows.
//!
//! ```
//! use azaion_cloud::{Cloud, Fault, Options, Route, User};
//!
//! let cloud = Cloud::start(Options {
//!     users: vec![User::new("tech@example.com", "correct horse", "Operator")],
//!     fragment: Some(b"the board's key fragment".to_vec()),
//!     ..Options::default()
//! });
//! cloud.put_resource("", "cdn.yaml", b"host: https://cdn.example.com\n".to_vec());
//! cloud.fail_next(Route::Login, Fault::try_later(503, 1)); // the first log-in is sent away, the second succeeds
//! println!("resource_api_url = {:?}, ca_file holds {}", cloud.url(), cloud.ca_pem());
//! ```
//!
//! # What it answers
//!
//! | call | answer |
//! |---|---|
//! | `POST /login` | 200 `{"token"}`; wrong credentials as [`Options::wrong_credentials`] says |
//! | `GET /binary-split/key-fragment` | the raw bytes of [`Cloud::set_fragment`]; 404 without any |
//! | `POST /resources/get[/{folder}]` | the stored file, `IV ‖ AES-256-CBC` under the API key of CONTRACT section 3; an unknown file as [`Options::unknown_file`] says; 409 for a wrong password or other hardware than the user is bound to |
//! | `POST /resources[/{folder}]` | stores the part `data` under its filename |
//!
//! With [`Options::s3`] there is a CDN too: an S3 server on ports of its own, held by [`Cloud::s3`], whose `cdn.yaml` is
//! stored as a resource.
//!
//! Bearer calls need a token this cloud issued and that its [`ServerTime`] has not passed, else 401. JSON bodies need
//! the content type `application/json`, else 415. Failures carry `{"ErrorCode", "Message"}`.
//!
//! # Faults
//!
//! [`Cloud::fail_next`] queues a [`Fault`] for the next call of a [`Route`], first in, first out;
//! [`Cloud::always`] puts one on every call that has none queued; [`Cloud::random_faults`] picks from a seed for the
//! calls that have neither. A fault that replaces the answer leaves no trace in the store: nothing is stored and no
//! token is issued.
//!
//! # Watching
//!
//! [`Cloud::calls`] lists the calls whose body came in whole, [`Cloud::wait_for_calls`] waits for them (the event a
//! test waits for instead of a time), [`Cloud::connections`] counts TLS connections, which shows keep-alive.
//!
//! # Never
//!
//! It must never serve anything that is worth protecting: passwords stand in memory in the clear, the RS256 signing
//! key is a file in this repository, and uploads are kept in memory without a bound on their sum.

mod api;
pub mod archive;
mod call;
mod certificate;
mod cloud;
mod connection;
mod fault;
pub mod keys;
mod options;
mod s3;
mod server;
mod store;
mod token;
mod wire;

pub use call::Call;
pub use certificate::new_authority;
pub use cloud::Cloud;
pub use fault::{Fault, Hold, Route};
pub use options::{Leaf, Observer, Options, ServerTime, UnknownFile, User, WrongCredentials};
pub use s3::{S3, S3Call, S3Keys, S3Route};
pub use token::Signing;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// After this long a wait for calls gives up: the event a test waits for will not come.
const PATIENCE: Duration = Duration::from_mins(1);

/// Locks also after a panic elsewhere: a failed test must not hide behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
