//! The audit log: one JSON line for everything that decides who may do what, in `audit-2026-11-23.jsonl`.
//!
//! The fields are fixed, null where unknown. A line never holds a secret, an e-mail address or a server's words: the
//! user is the id of the token (CONTRACT section 1, `nameid`). Without `[log] dir` the lines go to the log.

use std::fmt;
use std::rc::Rc;

use heapless::String;
use serde::Serialize;

use crate::error::Code;
use crate::limits::{AUDIT_LINE_BYTES, AUDIT_USER_BYTES};
use crate::logging::{Daily, Journal, Queue, Stamp};

/// What happened. The names are written out, never reordered and never given a second meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The agent began to run.
    AgentStarted,
    /// The agent ended on request.
    AgentStopped,
    /// The Resource API let a user in.
    LoginAccepted,
    /// The Resource API refused a user.
    LoginRefused,
    /// An unlock began.
    UnlockStarted,
    /// The engine holds the archive's images.
    UnlockReady,
    /// An unlock ended in an error.
    UnlockFailed,
    /// An archive without a seal was accepted.
    UnsealedAccepted,
    /// What is known of the board is not what was remembered.
    BoardChanged,
    /// The cloud has accepted the board as it is now.
    BoardAccepted,
    /// A resource was uploaded and published.
    UploadPublished,
    /// A resource was taken in, to be published when the cloud answers.
    UploadAccepted,
    /// An upload was refused or failed.
    UploadRefused,
}

impl Event {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentStarted => "agent_started",
            Self::AgentStopped => "agent_stopped",
            Self::LoginAccepted => "login_accepted",
            Self::LoginRefused => "login_refused",
            Self::UnlockStarted => "unlock_started",
            Self::UnlockReady => "unlock_ready",
            Self::UnlockFailed => "unlock_failed",
            Self::UnsealedAccepted => "unsealed_accepted",
            Self::BoardChanged => "board_changed",
            Self::BoardAccepted => "board_accepted",
            Self::UploadPublished => "upload_published",
            Self::UploadAccepted => "upload_accepted",
            Self::UploadRefused => "upload_refused",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    /// Milliseconds since the board was started: orders lines where the wall clock jumps.
    boot_ms: u64,
    event: &'static str,
    user: Option<&'a str>,
    code: Option<&'static str>,
}

/// Takes events down.
pub struct Audit {
    queue: Option<Rc<Queue>>,
}

impl Audit {
    /// Into the daily files, or into the log where there are none.
    pub fn new(daily: Option<&Daily>) -> Self {
        Self { queue: daily.map(Daily::queue) }
    }

    /// Takes down that `event` happened, to whom (the token's user id) and with which code.
    pub fn note(&self, event: Event, user: Option<&str>, code: Option<Code>) {
        let now = Stamp::now();
        let user = user.map(|id| &id[..id.floor_char_boundary(AUDIT_USER_BYTES)]);
        match &self.queue {
            Some(queue) => queue.push(Journal::Audit, now.date(), line(&now, event, user, code).as_str().into()),
            None => log::info!("{event} user {:?} code {}", user.unwrap_or("-"), code.map_or("-", Code::as_str)),
        }
    }
}

fn line(now: &Stamp, event: Event, user: Option<&str>, code: Option<Code>) -> String<AUDIT_LINE_BYTES> {
    let time = now.to_string();
    let boot_ms = u64::try_from(now.since_boot().as_millis()).unwrap_or(u64::MAX);
    let line = Line { time: &time, boot_ms, event: event.as_str(), user, code: code.map(Code::as_str) };
    // The bound counts every field at its longest: a test fills them.
    let mut text: String<AUDIT_LINE_BYTES> = serde_json_core::to_string(&line).unwrap_or_default();
    let _fits = text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_with_all_fields() {
        let text = line(&Stamp::now(), Event::LoginRefused, None, Some(Code::CredentialsWrong));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["event"], "login_refused");
        assert_eq!(value["code"], "credentials_wrong");
        assert!(value["user"].is_null() && value["boot_ms"].is_u64());
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn the_longest_line_fits_and_nothing_breaks_out_of_its_field() {
        for user in ["\u{1}".repeat(AUDIT_USER_BYTES), "\"},{\"".repeat(9), "ш".repeat(AUDIT_USER_BYTES / 2)] {
            let text = line(&Stamp::now(), Event::UnsealedAccepted, Some(&user), Some(Code::ArchiveUnsupported));
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(value["user"].as_str(), Some(user.as_str()));
            assert_eq!(text.matches('\n').count(), 1);
        }
    }
}
