//! Bounds of the command-line client, which is on the board itself or one hop away.

use std::time::Duration;

use super::EVENT_HEARTBEAT;

/// The end of a log that a support file holds.
pub const BUNDLE_LOG_BYTES: u64 = 64 * 1024;

/// Log files whose ends a support file holds, the last ones.
pub const BUNDLE_LOGS: usize = 3;

/// How long a support file waits for one more of the events that are kept.
pub const BUNDLE_EVENTS: Duration = Duration::from_millis(500);

/// A secret shorter than this is not searched for in a support file: it would be found in every word.
pub const BUNDLE_SECRET_BYTES: usize = 4;

/// What it reads of one answer of the control port, and of one line of events.
pub const CLIENT_ANSWER_BYTES: usize = 256 * 1024;

/// How long it waits for a connection to the agent.
pub const CLIENT_CONNECT: Duration = Duration::from_secs(5);

/// How long it waits for an answer that the agent has at once; the agent answers at all times.
pub const CLIENT_CALL: Duration = Duration::from_secs(15);

/// How long it waits for an answer that the agent must ask the cloud for: a log-in with all its attempts, a check.
pub const CLIENT_ASKING: Duration = Duration::from_mins(3);

/// How long an upload waits to be let in; then the bytes are sent all the same. The agent lets a model wait for 10 s
/// ([`STREAM_TURN`](super::STREAM_TURN)).
pub const CLIENT_CONTINUE: Duration = Duration::from_secs(15);

/// A silent TCP connection is probed after this long, and three times as often again: a board that was unplugged is
/// noticed within a minute, however long a model may take. An agent that hangs is ended by systemd's watchdog.
pub const CLIENT_KEEPALIVE: Duration = Duration::from_secs(30);

/// A stream of events that says nothing for this long is broken.
pub const CLIENT_EVENTS_SILENCE: Duration = EVENT_HEARTBEAT.saturating_mul(3);

/// How soon a follower of events comes back, and how long it pauses at most: twice as long each time.
pub const CLIENT_EVENTS_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How often the client asks how far an unlock is.
pub const CLIENT_POLL: Duration = Duration::from_millis(250);

/// How often `azaion-loader wait` asks: it may run for hours beside the agent.
pub const CLIENT_WAIT_POLL: Duration = Duration::from_secs(1);

/// What `azaion-loader token new` draws.
pub const NEW_TOKEN_BYTES: usize = 32;
