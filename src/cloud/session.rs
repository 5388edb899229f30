//! Who is logged in: the credentials in memory and the token they were last given for.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use smol::lock::{Semaphore, SemaphoreGuard};

use super::token::{Role, Token};
use crate::secret::Credentials;

/// Who a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's id; empty where the token does not say.
    pub id: String,
    /// The e-mail address; personal, so it is not logged.
    pub email: String,
    /// What the user may do.
    pub role: Role,
}

/// A log-in that is held: the token is renewed behind it.
pub struct Session {
    credentials: Credentials,
    held: RefCell<Held>,
    /// One renewal at a time; whoever waited for it uses its token.
    renewal: Semaphore,
}

struct Held {
    token: Token,
    received_at: Duration,
    /// Counts renewals, so that a call can tell whether another one has renewed meanwhile.
    generation: u64,
}

/// What one attempt of a call takes with it.
pub(super) struct Pass {
    pub(super) authorization: HeaderValue,
    pub(super) generation: u64,
}

impl Session {
    pub(super) fn new(credentials: Credentials, token: Token, received_at: Duration) -> Self {
        Self { credentials, held: RefCell::new(Held { token, received_at, generation: 0 }), renewal: Semaphore::new(1) }
    }

    /// Who is logged in, by the latest token.
    pub fn user(&self) -> User {
        self.held.borrow().token.user().clone()
    }

    /// The credentials that are held.
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(super) fn pass(&self) -> Pass {
        let held = self.held.borrow();
        Pass { authorization: held.token.authorization(), generation: held.generation }
    }

    pub(super) fn generation(&self) -> u64 {
        self.held.borrow().generation
    }

    /// Whether the token's life has passed by its own word.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let held = self.held.borrow();
        held.token.needs_renewal(held.received_at, now)
    }

    pub(super) async fn renewing(&self) -> SemaphoreGuard<'_> {
        self.renewal.acquire().await
    }

    pub(super) fn renew(&self, token: Token, received_at: Duration) {
        let mut held = self.held.borrow_mut();
        let generation = held.generation + 1;
        *held = Held { token, received_at, generation };
    }

    /// `text` without the token and the password, should the server have repeated one.
    pub(super) fn scrub(&self, text: String) -> String {
        let text = super::answer::without(text, self.credentials.password().expose());
        super::answer::without(text, self.held.borrow().token.expose())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(…)")
    }
}
