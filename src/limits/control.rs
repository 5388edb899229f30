//! Bounds of the control port.

use std::time::Duration;

// ---- control --------------------------------------------------------------------------------------------------

/// Connections that one listener holds at a time. The next one takes the seat of whoever waits longest for its own
/// client; only when all of them are inside a handler is it turned away (429).
pub const CLIENTS_PER_LISTENER: usize = 256;

/// Requests on one connection; the last one is answered with `Connection: close`.
pub const REQUESTS_PER_CONNECTION: usize = 1000;

/// Request line without its end: longer is 414. RFC 9112 section 3 recommends at least this.
pub const REQUEST_LINE_BYTES: usize = 8000;

/// Request head, line and empty line included: longer is 431. Buffers grow towards it only as bytes arrive.
pub const CLIENT_HEAD_BYTES: usize = 12 * 1024;

/// Header fields of one request: more is 431.
pub const REQUEST_HEADERS: usize = 64;

/// Path segments that any route has; a path with more is an unknown route.
pub const PATH_SEGMENTS: usize = 4;

/// First size of a connection's buffer, and what an idle one keeps.
pub const INLET_FIRST_BYTES: usize = 1024;

/// A JSON request body: longer is 413. Two credentials of [`CREDENTIAL_BYTES`](super::CREDENTIAL_BYTES) with every byte escaped fit.
pub const JSON_BODY_BYTES: usize = 16 * 1024;

/// What is left of a body nobody asked for is read over up to here, else the connection closes after the answer.
pub const BODY_DISCARD_BYTES: u64 = 16 * 1024;

/// One chunk-size line with its extension: longer is 400.
pub const CHUNK_LINE_BYTES: usize = 256;

/// The whole trailer section of a chunked body: longer is 431.
pub const TRAILER_BYTES: usize = 1024;

/// From the first byte of a head (or the accept) to its end: later is 408.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// In this time from its first byte (or the accept) a head is not counted as slow: on a full port older connections are
/// given up before it, half bodies too.
pub const HEAD_MOMENT: Duration = Duration::from_secs(1);

/// A kept-alive connection without a request: closed silently after this.
pub const IDLE_PATIENCE: Duration = Duration::from_secs(30);

/// Waiting for body bytes, summed over the body, beyond [`BODY_BYTES_PER_SECOND`]: later is 408.
pub const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// Each of these bytes of a body buys its share of a second on top of [`BODY_PATIENCE`].
pub const BODY_BYTES_PER_SECOND: u64 = 1024;

/// One whole bounded answer must be taken by the client in this time, else the connection is cut. Of a streamed one,
/// which may be of any size, the client must take at least one byte each time this has passed.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Models that are sent or received at one time, over all listeners: each holds its pieces in memory. The next one
/// waits for its turn.
pub const STREAMS_AT_ONCE: usize = 64;

/// Waiting for that turn: later is 429.
pub const STREAM_TURN: Duration = Duration::from_secs(10);

/// An upload is whatever size it is and may come from a pipe: this long without one byte is 408, and so is a wait,
/// summed over the body, beyond this and [`BODY_BYTES_PER_SECOND`].
pub const UPLOAD_SILENCE: Duration = Duration::from_mins(1);

/// Bytes of a form in which neither a part begins nor one goes on (what stands before the first part, the head of a
/// part): more is 413.
pub const FORM_FRAMING_BYTES: usize = 64 * 1024;

/// Parts of a form that the call does not know, their bytes in all: more is 413.
pub const FORM_IGNORED_BYTES: usize = 64 * 1024;

/// Parts of a form: more is 413.
pub const FORM_PARTS: usize = 64;

/// The boundary of a form (RFC 2046 section 5.1.1): longer is 400.
pub const FORM_BOUNDARY_BYTES: usize = 70;

/// After a refusal, what still arrives is read over for this long, so that the client can read the answer
/// (CONTRACT section 6).
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// At shutdown, requests that run have this long to end.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Pause after a failed accept (no file descriptors left), so that the loop does not spin on it.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Log-in attempts, over all clients together, that may come at once.
pub const LOGIN_BURST: u32 = 10;

/// One more log-in attempt is allowed each time this has passed: 14,400 guesses a day.
pub const LOGIN_REFILL: Duration = Duration::from_secs(6);

/// The message of an error as the port shows it, in bytes of UTF-8; what is longer is cut.
pub const SHOWN_MESSAGE_BYTES: usize = 512;

/// The next step of an error as the port shows it.
pub const SHOWN_NEXT_BYTES: usize = 256;

/// An e-mail address as `/status` shows it; RFC 5321 allows 254.
pub const SHOWN_EMAIL_BYTES: usize = 256;

/// A note, a board's or an engine's name as `/status` shows it.
pub const SHOWN_NAME_BYTES: usize = 128;

/// Notes that `/status` shows; the first ones win.
pub const SHOWN_NOTES: usize = 8;

/// Events that a client who begins to follow is told of.
pub const EVENTS_KEPT: usize = 64;

/// The text of an event, and its next step.
pub const EVENT_TEXT_BYTES: usize = 384;

/// A follower to whom nothing was said for this long is told that the board is still there.
pub const EVENT_HEARTBEAT: Duration = Duration::from_secs(15);

/// The pace of progress among the events.
pub const EVENT_PROGRESS: Duration = Duration::from_secs(1);

/// The longest `wait` of `GET /unlock/status`.
pub const LONG_POLL_SECONDS: u64 = 60;

/// Any answer's JSON: all of the above with every byte escaped as two, and the field names.
pub const ANSWER_BYTES: usize = 8 * 1024;
