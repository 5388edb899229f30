//! What anybody can do as often as they like: the first time is a line at once, the others are counted for a minute.

use std::time::Duration;

use super::event::Event;
use crate::error::Code;
use crate::limits::AUDIT_FOLD;

/// What happened within the last minute; at most one of each event and code.
#[derive(Debug, Default)]
pub(super) struct Folds(Vec<Fold>);

#[derive(Debug)]
struct Fold {
    event: Event,
    code: Option<Code>,
    /// How often since its last line.
    times: u64,
    /// Until then it is only counted.
    until: Duration,
}

impl Folds {
    /// Whether this one is a line now, and of how many times; else it is counted.
    pub(super) fn take(&mut self, now: Duration, event: Event, code: Option<Code>) -> Option<u64> {
        match self.0.iter_mut().find(|fold| fold.event == event && fold.code == code) {
            Some(fold) if now < fold.until => {
                fold.times = fold.times.saturating_add(1);
                None
            }
            Some(fold) => {
                fold.until = now + AUDIT_FOLD;
                Some(std::mem::take(&mut fold.times).saturating_add(1))
            }
            None => {
                self.0.push(Fold { event, code, times: 0, until: now + AUDIT_FOLD });
                Some(1)
            }
        }
    }

    /// When the next one that was counted becomes a line.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.iter().filter(|fold| fold.times > 0).map(|fold| fold.until).min()
    }

    /// What was counted and is a line by now; at the end, all of it.
    pub(super) fn due(&mut self, now: Duration, ends: bool) -> Vec<(Event, Option<Code>, u64)> {
        let mut due = Vec::new();
        self.0.retain_mut(|fold| {
            if !ends && now < fold.until {
                return true;
            }
            fold.until = now + AUDIT_FOLD;
            let times = std::mem::take(&mut fold.times);
            if times > 0 {
                due.push((fold.event, fold.code, times));
            }
            times > 0
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_minute_and_none_is_forgotten() {
        let (event, code) = (Event::PortRefused, Some(Code::TokenRequired));
        let start = Duration::from_secs(100);
        let mut folds = Folds::default();
        assert_eq!(folds.take(start, event, code), Some(1), "the first at once");
        assert_eq!(folds.next(), None, "nothing to say later");
        for _ in 0..10_000 {
            assert_eq!(folds.take(start + AUDIT_FOLD.saturating_sub(Duration::from_millis(1)), event, code), None);
        }
        assert_eq!(folds.take(start, event, Some(Code::PeerRefused)), Some(1), "another code is another line");
        assert_eq!(folds.next(), Some(start + AUDIT_FOLD));
        assert!(folds.due(start, false).is_empty());
        assert_eq!(folds.due(start + AUDIT_FOLD, false), [(event, code, 10_000)]);
        assert_eq!(folds.take(start + AUDIT_FOLD, event, code), None, "the next minute has begun");
        assert_eq!(folds.due(start + AUDIT_FOLD, true), [(event, code, 1)], "at the end");
        assert_eq!(folds.take(start + 3 * AUDIT_FOLD, event, code), Some(1));
    }
}
