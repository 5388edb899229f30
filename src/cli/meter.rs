//! How far a command is that works on bytes, and how fast.

use std::time::Instant;

use super::client::Progress;
use super::screen::Screen;
use crate::limits::CLIENT_POLL;

/// Shows one piece of work while it goes on.
pub(super) struct Meter<'a, 'screen> {
    /// None where the answer is JSON.
    screen: Option<&'a mut Screen<'screen>>,
    what: &'static str,
    total: Option<u64>,
    begun: Instant,
    shown: Option<Instant>,
}

impl<'a, 'screen> Meter<'a, 'screen> {
    pub(super) fn new(screen: Option<&'a mut Screen<'screen>>, what: &'static str, total: Option<u64>) -> Self {
        Self { screen, what, total, begun: Instant::now(), shown: None }
    }

    /// So many bytes are done.
    pub(super) fn done(&mut self, bytes: u64) {
        let Some(screen) = &mut self.screen else { return };
        let now = Instant::now();
        let is_end = self.total == Some(bytes);
        if !is_end && self.shown.is_some_and(|shown| now.duration_since(shown) < CLIENT_POLL) {
            return;
        }
        self.shown = Some(now);
        let milliseconds = now.duration_since(self.begun).as_millis().max(1);
        let rate = u64::try_from(u128::from(bytes) * 1000 / milliseconds).unwrap_or(u64::MAX);
        let left = self.total.map(|total| total.saturating_sub(bytes)).filter(|left| *left > 0 && rate > 0);
        screen.work(
            self.what,
            &Progress {
                images_done: None,
                images_total: None,
                bytes_done: Some(bytes),
                bytes_total: self.total,
                // Of less than a moment there is no rate.
                bytes_per_second: (milliseconds >= CLIENT_POLL.as_millis()).then_some(rate),
                seconds_left: left.filter(|_| milliseconds >= CLIENT_POLL.as_millis()).map(|left| left / rate),
            },
        );
    }
}
