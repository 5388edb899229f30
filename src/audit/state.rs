//! `audit.json` in the state directory: the head of the audit log, and the first line that should still be there.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::Head;
use crate::config::read_small;
use crate::crypto::Digest;
use crate::flash;
use crate::json;
use crate::limits::AUDIT_STATE_BYTES;

/// The format; another one is treated as damage.
const VERSION: u32 = 1;

/// What the state says of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The last line that is on flash.
    pub head: Head,
    /// The first line that should still be in a file; one more than the head's where none should.
    pub first: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u32,
    count: u64,
    hash: String,
    first: u64,
}

impl Known {
    /// Before the first line.
    pub(super) fn nothing() -> Self {
        Self { head: Head::none(), first: 1 }
    }

    /// Where it stands.
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("audit.json")
    }

    /// Reads it; `None` when there is none. It blocks on flash.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for one that is damaged, and what the system says.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let content = match read_small(path, AUDIT_STATE_BYTES) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged =
            |why: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, format!("damaged: {why}"));
        let wire: Wire = json::from_slice(&content, AUDIT_STATE_BYTES).map_err(|refused| damaged(&refused))?;
        let hash = Digest::from_hex(&wire.hash).map_err(|refused| damaged(&refused))?;
        if wire.version != VERSION || wire.first == 0 || wire.first > wire.count.saturating_add(1) {
            return Err(damaged(&"its numbers do not go together"));
        }
        Ok(Some(Self { head: Head { count: wire.count, hash }, first: wire.first }))
    }

    /// Writes it, durably. It blocks on flash.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let wire = Wire { version: VERSION, count: self.head.count, hash: self.head.hash.hex(), first: self.first };
        flash::replace(path, &serde_json::to_vec(&wire)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = Known::path(dir.path());
        assert_eq!(Known::read(&path).expect("nothing there"), None);
        for known in [Known::nothing(), Known { head: Head::after(u64::MAX - 1, b"x"), first: u64::MAX }] {
            known.write(&path).expect("written");
            assert_eq!(Known::read(&path).expect("readable"), Some(known));
        }
        let good = std::fs::read_to_string(&path).expect("text");
        for (from, to) in [("\"version\":1", "\"version\":2"), ("\"first\":", "\"first\":0,\"x\":"), ("}", "")] {
            std::fs::write(&path, good.replace(from, to)).expect("written");
            assert_eq!(Known::read(&path).expect_err("damaged").kind(), io::ErrorKind::InvalidData, "{to}");
        }
    }
}
