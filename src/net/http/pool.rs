//! Connections kept open between exchanges: few, young and silent.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use super::connection::Connection;
use super::endpoint::Endpoint;
use crate::limits::{IDLE_CONNECTION_AGE, IDLE_CONNECTIONS};
use crate::net::Clock;

/// The idle connections of a client.
pub(super) struct Pool {
    clock: Clock,
    idle: RefCell<HashMap<Endpoint, Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Duration,
}

impl Pool {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, idle: RefCell::default() }
    }

    /// A connection to `endpoint` that is young, open and silent; closes those that are not.
    pub(super) async fn take(&self, endpoint: &Endpoint) -> Option<Connection> {
        self.sweep();
        loop {
            let mut connection = self.idle.borrow_mut().get_mut(endpoint)?.pop()?.connection;
            if connection.is_alive().await {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end, unless there are enough.
    pub(super) fn keep(&self, endpoint: &Endpoint, mut connection: Connection) {
        if !connection.rest() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(endpoint.clone()).or_default();
        if kept.len() < IDLE_CONNECTIONS {
            kept.push(Idle { connection, since: self.clock.now() });
        }
    }

    /// Closes the connections that have been idle for too long.
    pub(super) fn sweep(&self) {
        let now = self.clock.now();
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| now.saturating_sub(idle.since) <= IDLE_CONNECTION_AGE);
            !kept.is_empty()
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }
}
