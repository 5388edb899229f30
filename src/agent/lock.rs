//! One agent per state directory: an advisory lock that ends with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The lock; held for as long as this value lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub(super) enum LockRefused {
    /// Another agent holds it.
    Held,
    /// The file cannot be made or locked.
    Unavailable(io::Error),
}

impl Lock {
    /// Takes the lock of the state directory.
    ///
    /// # Errors
    /// [`LockRefused::Held`] at once when another process has it: it never waits.
    pub(super) fn take(state_dir: &Path) -> Result<Self, LockRefused> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(state_dir.join("lock"))
            .map_err(LockRefused::Unavailable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockRefused::Held),
            Err(error) => Err(LockRefused::Unavailable(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_told_and_the_lock_ends_with_its_holder() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = Lock::take(dir.path()).expect("free");
        assert!(matches!(Lock::take(dir.path()), Err(LockRefused::Held)));
        drop(first);
        Lock::take(dir.path()).expect("free again");
        assert!(matches!(Lock::take(&dir.path().join("absent")), Err(LockRefused::Unavailable(_))));
    }
}
