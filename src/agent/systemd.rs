//! What systemd is told over its socket: ready, status, alive (`sd_notify(3)`). Without systemd it says nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells systemd one thing. A socket that does not take it is logged once per kind of message by systemd itself; the
/// agent goes on.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("systemd was not told: {error}");
    }
}

/// The port listens: units that start after the agent may start.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub(super) fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// The agent ends by itself.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells systemd again and again that the loop turns, at half the interval it asked for; pending for ever when it asked
/// for none. It runs on the loop: a loop that hangs misses its beats and is restarted.
pub(super) async fn watchdog() {
    let Some(interval) = interval() else { return std::future::pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        smol::Timer::after(interval / 2).await;
    }
}

fn interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}
