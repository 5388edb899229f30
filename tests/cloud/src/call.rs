//! The record of calls, and waiting for them: tests wait for events here, never for times.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::fault::Route;
use crate::lock;

/// One call whose request came in whole; a request that was cut is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which call of the contract it was.
    pub route: Route,
    /// The method as sent.
    pub method: String,
    /// The path as sent, without the query.
    pub path: String,
    /// Whether an `Authorization` header came along. Its value is not kept.
    pub authorization: bool,
    /// Bytes of the request's body.
    pub body_bytes: usize,
    /// The status that was answered; `None` while undecided, and for faults that answer none.
    pub status: Option<u16>,
    /// When the request had come in.
    pub at: Instant,
    /// How long it took to decide the answer; `None` while undecided.
    pub took: Option<Duration>,
}

/// All calls so far. The count is watched apart, so that a waiter need not poll.
pub(crate) struct Record {
    calls: Mutex<Vec<Call>>,
    count: watch::Sender<usize>,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self { calls: Mutex::new(Vec::new()), count: watch::Sender::new(0) }
    }

    /// Notes a call that came in; the number finds it again in [`Record::answered`].
    pub(crate) fn arrived(&self, call: Call) -> usize {
        let mut calls = lock(&self.calls);
        calls.push(call);
        self.count.send_replace(calls.len());
        calls.len() - 1
    }

    /// Notes the answer before its first byte goes out: a client that has it finds it in the record.
    pub(crate) fn answered(&self, number: usize, status: Option<u16>) -> Option<Call> {
        let mut calls = lock(&self.calls);
        let call = calls.get_mut(number)?;
        call.status = status;
        call.took = Some(call.at.elapsed());
        Some(call.clone())
    }

    pub(crate) fn all(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// Done when `count` calls have come in since the start.
    pub(crate) async fn reached(&self, count: usize) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self.count.subscribe().wait_for(|seen| *seen >= count).await;
    }
}
