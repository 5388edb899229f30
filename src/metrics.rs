//! What the agent counts as it works, for `GET /metrics`: since the process began, in memory alone.
//!
//! Counters are process-wide, as the logger is: whoever moves bytes or gives up an attempt counts at the place where it
//! happens, and `control/metrics.rs` shows them. Counting never waits and never fails.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Code;

/// A number that only grows.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One more in a count of what there is now, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Counted<'a>(&'a Cell<u64>);

impl<'a> Counted<'a> {
    /// Counts itself.
    pub(crate) fn of(count: &'a Cell<u64>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A [`Counter`] for each error code.
#[derive(Debug)]
pub struct PerCode([Counter; Code::ALL.len()]);

impl PerCode {
    const fn new() -> Self {
        Self([const { Counter::new() }; Code::ALL.len()])
    }

    /// One more of this code.
    pub fn count(&self, code: Code) {
        if let Some(counter) = self.0.get(code as usize) {
            counter.count();
        }
    }

    /// The codes that were counted, and how often.
    pub fn seen(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::ALL
            .iter()
            .copied()
            .zip(&self.0)
            .map(|(code, counter)| (code, counter.get()))
            .filter(|(_, seen)| *seen > 0)
    }
}

/// Durations, sorted into buckets.
#[derive(Debug)]
pub struct Durations<const N: usize> {
    /// Upper bounds, in microseconds; what is above the last one is counted in [`over`](Self::over).
    bounds: [u64; N],
    buckets: [Counter; N],
    over: Counter,
    micros: Counter,
}

impl<const N: usize> Durations<N> {
    const fn new(bounds: [u64; N]) -> Self {
        Self { bounds, buckets: [const { Counter::new() }; N], over: Counter::new(), micros: Counter::new() }
    }

    /// One more, of this length.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.add(micros);
        let bucket = self.bounds.iter().position(|bound| micros <= *bound);
        bucket.map_or(&self.over, |bucket| &self.buckets[bucket]).count();
    }

    /// Seconds in all, how many there were, and how many in each bucket with its upper bound in seconds.
    pub fn shown(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let mut buckets: Vec<(f64, u64)> =
            self.bounds.iter().zip(&self.buckets).map(|(bound, seen)| (seconds(*bound), seen.get())).collect();
        buckets.push((f64::MAX, self.over.get()));
        let count = buckets.iter().map(|(_, seen)| seen).sum();
        (seconds(self.micros.get()), count, buckets)
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// Bytes as they pass the sockets of one kind of peer, heads included, TLS not.
#[derive(Debug)]
pub struct Traffic {
    /// From the peer.
    pub received: Counter,
    /// To the peer.
    pub sent: Counter,
}

impl Traffic {
    const fn new() -> Self {
        Self { received: Counter::new(), sent: Counter::new() }
    }
}

/// Which peer a request goes to: an extension of the request, where it is not the Resource API or the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The Resource API.
    Api,
    /// The CDN.
    Cdn,
    /// The container engine.
    Engine,
}

impl Peer {
    /// What has passed to and from it.
    pub fn traffic(self) -> &'static Traffic {
        match self {
            Self::Api => &API,
            Self::Cdn => &CDN,
            Self::Engine => &ENGINE,
        }
    }
}

/// The Resource API.
pub static API: Traffic = Traffic::new();
/// The CDN.
pub static CDN: Traffic = Traffic::new();
/// The container engine.
pub static ENGINE: Traffic = Traffic::new();
/// Models: to clients of the control port, and from them.
pub static MODELS: Traffic = Traffic::new();
/// Ciphertext of the archive that was read from flash.
pub static ARCHIVE_READ: Counter = Counter::new();
/// Written to the state directory.
pub static STATE_WRITTEN: Counter = Counter::new();
/// Written to log files.
pub static LOG_WRITTEN: Counter = Counter::new();

/// Log-ins that the Resource API accepted.
pub static LOGINS_ACCEPTED: Counter = Counter::new();
/// Log-ins that it refused.
pub static LOGINS_REFUSED: Counter = Counter::new();
/// Unlocks that ended in `ready`.
pub static UNLOCKS_READY: Counter = Counter::new();
/// Unlocks that ended in an error.
pub static UNLOCKS_FAILED: Counter = Counter::new();

/// Attempts that failed and were made again, by why.
pub static RETRIES: PerCode = PerCode::new();
/// Errors that a client was answered with, or an unlock ended in.
pub static ERRORS: PerCode = PerCode::new();

/// How long one turn of the loop took: for so long a request on the control port waited at most for another one's work.
pub static TURNS: Durations<9> = Durations::new([250, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let durations = Durations::new([1_000, 5_000]);
        for micros in [0, 1_000, 1_001, 5_000, 5_001, 9_000_000] {
            durations.observe(Duration::from_micros(micros));
        }
        let (sum, count, buckets) = durations.shown();
        assert_eq!((count, buckets), (6, vec![(0.001, 2), (0.005, 2), (f64::MAX, 2)]));
        assert!((sum - 9.012_002).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_code_is_counted_under_its_own_name() {
        let codes = PerCode::new();
        for code in Code::ALL {
            codes.count(*code);
        }
        codes.count(Code::NoSpace);
        let seen: Vec<_> = codes.seen().collect();
        assert_eq!(seen.len(), Code::ALL.len());
        assert!(seen.iter().all(|(code, times)| *times == if *code == Code::NoSpace { 2 } else { 1 }), "{seen:?}");
    }
}
