//! What the audit log takes down.

use std::fmt;

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
    /// The Resource API gave no key, or the key does not open the archive.
    KeyRefused,
    /// The archive may not be loaded on this board: unsealed, older, or another one.
    ArchiveRefused,
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
    /// The agent removed models from the cache to make room.
    CacheEvicted,
    /// The control port turned a caller away: no token, another page, another user.
    PortRefused,
    /// The log on flash is not the one that the state speaks of.
    AuditBroken,
    /// Lines that flash did not take and the queue did not hold.
    AuditLost,
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
            Self::KeyRefused => "key_refused",
            Self::ArchiveRefused => "archive_refused",
            Self::UnsealedAccepted => "unsealed_accepted",
            Self::BoardChanged => "board_changed",
            Self::BoardAccepted => "board_accepted",
            Self::UploadPublished => "upload_published",
            Self::UploadAccepted => "upload_accepted",
            Self::UploadRefused => "upload_refused",
            Self::CacheEvicted => "cache_evicted",
            Self::PortRefused => "port_refused",
            Self::AuditBroken => "audit_broken",
            Self::AuditLost => "audit_lost",
        }
    }

    /// Whether anybody can make it happen as often as they like: then it is one line a minute, with a count.
    pub(super) const fn is_folded(self) -> bool {
        matches!(self, Self::PortRefused | Self::UploadRefused)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
