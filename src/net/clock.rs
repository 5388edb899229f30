//! Time since boot. The board has no real-time clock, so what has to be measured is measured on this one.
//!
//! It counts through suspend (`CLOCK_BOOTTIME`) and never jumps. It must never be taken for a date.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The boot clock, or one that tests move by hand.
#[derive(Debug, Clone)]
pub struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Boot,
    Manual(Rc<Cell<Duration>>),
}

impl Clock {
    /// The kernel's clock since boot, suspend included.
    pub const fn boot() -> Self {
        Self(Kind::Boot)
    }

    /// A clock that stands still until [`Clock::advance`]; its clones move with it.
    pub fn manual() -> Self {
        Self(Kind::Manual(Rc::new(Cell::new(Duration::ZERO))))
    }

    /// Time since boot.
    pub fn now(&self) -> Duration {
        match &self.0 {
            Kind::Boot => {
                let time = clock_gettime(ClockId::Boottime);
                // The kernel gives 0..=999_999_999 nanoseconds and no negative seconds on this clock.
                Duration::new(
                    u64::try_from(time.tv_sec).unwrap_or_default(),
                    u32::try_from(time.tv_nsec).unwrap_or_default(),
                )
            }
            Kind::Manual(now) => now.get(),
        }
    }

    /// Moves a manual clock forward; the boot clock goes by itself and ignores it.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(now) = &self.0 {
            now.set(now.get() + by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_runs_and_does_not_go_back() {
        let clock = Clock::boot();
        let first = clock.now();
        assert!(first > Duration::ZERO);
        assert!(clock.now() >= first);
    }

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual();
        let other = clock.clone();
        clock.advance(Duration::from_secs(3));
        assert_eq!(other.now(), Duration::from_secs(3));
    }
}
