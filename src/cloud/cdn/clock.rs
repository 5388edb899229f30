//! What time it is at the CDN: signatures carry it, and boards have no clock of their own.
//!
//! The board's wall clock is believed until a server says otherwise; from then on its time, carried on by the boot
//! clock, which does not jump when somebody sets the other one. Nothing but signatures may use this time.

use std::cell::Cell;
use std::rc::Rc;

use http::{HeaderMap, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::limits::CDN_CLOCK_SKEW;
use crate::net::Clock;

/// The wall clock with the correction that a server taught; clones share it, over log-ins too.
#[derive(Debug, Clone)]
pub struct CdnClock {
    wall: Wall,
    boot: Clock,
    /// Seconds between the boot clock and the server's time, once one has told it.
    learnt: Rc<Cell<Option<i64>>>,
}

#[derive(Debug, Clone)]
enum Wall {
    System,
    /// Seconds since 1970, moved by tests.
    Manual(Rc<Cell<i64>>),
}

impl CdnClock {
    /// The system's wall clock.
    pub fn system() -> Self {
        Self { wall: Wall::System, boot: Clock::boot(), learnt: Rc::default() }
    }

    /// A wall clock that stands at `seconds` since 1970, and `boot` to carry a learnt time on.
    pub fn manual(seconds: i64, boot: Clock) -> Self {
        Self { wall: Wall::Manual(Rc::new(Cell::new(seconds))), boot, learnt: Rc::default() }
    }

    /// The time to sign with.
    pub fn now(&self) -> Timestamp {
        let seconds = match (self.learnt.get(), &self.wall) {
            (Some(ahead), _) => self.uptime().saturating_add(ahead),
            (None, Wall::Manual(seconds)) => seconds.get(),
            (None, Wall::System) => Timestamp::now().as_second(),
        };
        // A time outside what a calendar can say signs as 1970 and is corrected like any other wrong one.
        Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Whether a server has corrected this clock.
    pub fn is_corrected(&self) -> bool {
        self.learnt.get().is_some()
    }

    fn uptime(&self) -> i64 {
        i64::try_from(self.boot.now().as_secs()).unwrap_or_default()
    }

    /// Takes the time over from a refusal whose `Date` is another than ours; whether it was.
    pub(super) fn learn(&self, headers: &HeaderMap) -> bool {
        let Some(theirs) = date(headers) else { return false };
        let apart = theirs.as_second().abs_diff(self.now().as_second());
        if apart <= CDN_CLOCK_SKEW.as_secs() {
            return false;
        }
        self.learnt.set(Some(theirs.as_second().saturating_sub(self.uptime())));
        true
    }
}

/// The `Date` of an answer (RFC 9110 section 5.6.7; only the form that may be sent today).
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const THEIRS: i64 = 784_111_777;

    fn headers(date: &str) -> HeaderMap {
        [(header::DATE, date.parse().expect("a value"))].into_iter().collect()
    }

    #[test]
    fn a_time_that_is_far_enough_away_is_learnt_and_carried_on() {
        for (ours, learns) in [(THEIRS, false), (THEIRS - 60, false), (THEIRS + 60, false)].into_iter().chain([
            (THEIRS - 61, true),
            (THEIRS + 61, true),
            (0, true),
            (i64::MAX, true),
        ]) {
            let boot = Clock::manual();
            boot.advance(Duration::from_secs(500));
            let clock = CdnClock::manual(ours, boot.clone());
            let shared = clock.clone();
            assert_eq!(clock.learn(&headers("Sun, 06 Nov 1994 08:49:37 GMT")), learns, "{ours}");
            assert_eq!(shared.is_corrected(), learns);
            if learns {
                boot.advance(Duration::from_secs(7));
                assert_eq!(shared.now().as_second(), THEIRS + 7);
            }
        }
    }

    #[test]
    fn what_is_no_date_teaches_nothing() {
        let clock = CdnClock::manual(0, Clock::manual());
        assert!(!clock.learn(&HeaderMap::new()));
        for date in ["", "now", "784111777", "Sun, 06 Nov 1994 08:49:37", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert!(!clock.learn(&headers(date)), "{date}");
        }
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
    }
}
