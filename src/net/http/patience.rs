//! Time-outs: each step has its own, and the whole call may have one over all of them.

use std::future::Future;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::or;

use super::error::{NetError, Step};
use crate::limits::{CONNECT_TIMEOUT, HEADERS_TIMEOUT, IDLE_BODY_TIMEOUT, RESOLVE_TIMEOUT, TLS_TIMEOUT};

/// How long each step of an exchange may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up.
    pub resolve: Duration,
    /// Connection, all addresses together.
    pub connect: Duration,
    /// TLS handshake.
    pub tls: Duration,
    /// From the end of the request to the end of the answer's head.
    pub headers: Duration,
    /// Silence in either body.
    pub idle_body: Duration,
    /// From the call to the last byte of the answer; `None` where a body may take as long as it takes.
    pub whole_call: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            resolve: RESOLVE_TIMEOUT,
            connect: CONNECT_TIMEOUT,
            tls: TLS_TIMEOUT,
            headers: HEADERS_TIMEOUT,
            idle_body: IDLE_BODY_TIMEOUT,
            whole_call: None,
        }
    }
}

/// The time-outs of one exchange that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    timeouts: Timeouts,
    began: Instant,
}

impl Patience {
    pub(super) fn begin(timeouts: &Timeouts) -> Self {
        Self { timeouts: *timeouts, began: Instant::now() }
    }

    /// Waits for `work`, at most as long as `step` may take and as is left of the whole call.
    pub(super) async fn within<T>(
        &self,
        step: Step,
        work: impl Future<Output = Result<T, NetError>>,
    ) -> Result<T, NetError> {
        let own = match step {
            Step::Resolve => Some(self.timeouts.resolve),
            Step::Connect => Some(self.timeouts.connect),
            Step::Tls => Some(self.timeouts.tls),
            Step::Send | Step::Body => Some(self.timeouts.idle_body),
            Step::Headers => Some(self.timeouts.headers),
            Step::WholeCall => None,
        };
        let whole = self.timeouts.whole_call.map(|whole| (whole, whole.saturating_sub(self.began.elapsed())));
        let (pause, step, after) = match (own, whole) {
            (None, None) => return work.await,
            (Some(own), None) => (own, step, own),
            (Some(own), Some((_, left))) if own <= left => (own, step, own),
            (_, Some((whole, left))) => (left, Step::WholeCall, whole),
        };
        // The work is looked at first: a timer is only set when it has to wait.
        or(work, async {
            Timer::after(pause).await;
            Err(NetError::TimedOut { step, after })
        })
        .await
    }
}
