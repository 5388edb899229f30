//! When a call is repeated: exponential backoff with full jitter, within a stated budget.

use std::cell::Cell;
use std::time::Duration;

use super::error::Operation;
use crate::error::Report;
use crate::limits::{RETRY_ATTEMPTS, RETRY_FIRST_PAUSE, RETRY_LONGEST_PAUSE, RETRY_TOTAL};
use crate::net::Clock;

/// How often, how long and with what pauses a call is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts, the first included.
    pub attempts: u32,
    /// No attempt begins later than this after the first.
    pub total: Duration,
    /// The first pause; the next is twice as long, and so on.
    pub first_pause: Duration,
    /// The doubling stops here.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: RETRY_ATTEMPTS,
            total: RETRY_TOTAL,
            first_pause: RETRY_FIRST_PAUSE,
            longest_pause: RETRY_LONGEST_PAUSE,
        }
    }
}

/// A call that will be made again, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The call.
    pub operation: Operation,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// Why it failed.
    pub cause: Report,
    /// How long until the next one.
    pub pause: Duration,
}

/// Whether a failed call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The failure is final.
    Never,
    /// After the usual pause.
    Soon,
    /// Not before this long.
    After(Duration),
}

/// What is left of the attempts and the time of one call.
pub(super) struct Budget {
    policy: RetryPolicy,
    clock: Clock,
    began: Duration,
    failed: Cell<u32>,
}

impl Budget {
    pub(super) fn begin(policy: &RetryPolicy, clock: &Clock) -> Self {
        Self { policy: *policy, clock: clock.clone(), began: clock.now(), failed: Cell::new(0) }
    }

    /// Attempts that have failed.
    pub(super) fn failed(&self) -> u32 {
        self.failed.get()
    }

    /// Takes down a failure; the pause before the next attempt, or `None` when there is to be none.
    pub(super) fn pause(&self, again: Again) -> Option<Duration> {
        let failed = self.failed.get() + 1;
        self.failed.set(failed);
        if failed >= self.policy.attempts {
            return None;
        }
        let doubled = 1_u32.checked_shl(failed - 1).unwrap_or(u32::MAX);
        let longest = self.policy.first_pause.saturating_mul(doubled).min(self.policy.longest_pause);
        // Full jitter: boards that lost the same server do not come back all at once.
        let usual = longest.mul_f64(chance());
        let pause = match again {
            Again::Never => return None,
            Again::Soon => usual,
            Again::After(least) => least.saturating_add(usual),
        };
        let spent = self.clock.now().saturating_sub(self.began);
        (spent.saturating_add(pause) <= self.policy.total).then_some(pause)
    }
}

/// Evenly between 0 and 1; a half when the kernel has no randomness.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> RetryPolicy {
        RetryPolicy { attempts: 100, total: 1000 * SECOND, first_pause: SECOND, longest_pause: 8 * SECOND }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_jittered() {
        let (policy, clock) = (policy(), Clock::manual());
        let mut sums = [Duration::ZERO; 6];
        for _ in 0..200 {
            let budget = Budget::begin(&policy, &clock);
            for (n, sum) in sums.iter_mut().enumerate() {
                let pause = budget.pause(Again::Soon).expect("within the budget");
                assert!(pause <= SECOND * (1 << n.min(3)));
                *sum += pause;
            }
        }
        // The mean of full jitter is half the longest; 200 of them stray from it by 5 % or so, never by 40 %.
        for (n, sum) in sums.iter().enumerate() {
            let mean = sum.as_secs_f64() / 200.0 / f64::from(1 << n.min(3));
            assert!((0.3..0.7).contains(&mean), "{n}: {mean}");
        }
    }

    #[test]
    fn attempts_hold_at_their_bound() {
        let (policy, clock) = (RetryPolicy { attempts: 3, ..policy() }, Clock::manual());
        let budget = Budget::begin(&policy, &clock);
        assert!(budget.pause(Again::Soon).is_some());
        assert!(budget.pause(Again::Soon).is_some());
        assert_eq!(budget.pause(Again::Soon), None);
        assert_eq!(budget.failed(), 3);
        let once = RetryPolicy { attempts: 1, ..policy };
        assert_eq!(Budget::begin(&once, &clock).pause(Again::Soon), None);
    }

    #[test]
    fn the_total_time_holds_at_its_bound() {
        let (policy, clock) = (RetryPolicy { total: 10 * SECOND, ..policy() }, Clock::manual());
        let budget = Budget::begin(&policy, &clock);
        assert!(budget.pause(Again::After(8 * SECOND)).is_some());
        assert_eq!(budget.pause(Again::After(11 * SECOND)), None);
        clock.advance(11 * SECOND);
        assert_eq!(budget.pause(Again::Soon), None);
        assert_eq!(budget.pause(Again::After(Duration::MAX)), None);
    }

    #[test]
    fn what_is_final_is_final_and_a_stated_pause_is_the_least() {
        let (policy, clock) = (policy(), Clock::manual());
        assert_eq!(Budget::begin(&policy, &clock).pause(Again::Never), None);
        let pause = Budget::begin(&policy, &clock).pause(Again::After(7 * SECOND)).expect("within the budget");
        assert!((7 * SECOND..=8 * SECOND).contains(&pause));
    }
}
