//! Writing small files so that after a power cut the old content or the new one is there, nothing else.
//!
//! Every function here blocks: it is to be [lent](crate::net::lend) out, or called before the loop runs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::metrics;

/// Ending of a file that is being written; one that is found at start is the leftover of a cut.
pub(crate) const UNFINISHED: &str = ".new";

/// Replaces the content of `path`: written beside it, flushed, renamed over it, the directory flushed. What root writes
/// belongs to who owns the directory: a command at the board must not lock the agent out.
///
/// # Errors
/// The old content still stands.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        if rustix::process::geteuid().is_root() {
            let owner = fs::metadata(directory(path))?;
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        metrics::STATE_WRITTEN.add(content.len() as u64);
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // Best effort: the error that is told is the one above, and the next `replace` truncates the leftover.
        let _ = fs::remove_file(&beside);
    }
    written?;
    sync_directory(path)
}

/// Removes `path`, durably. A file that is not there is removed already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where a file is written that is to become `path`.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// A rename or a removal is durable only when the directory is.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

pub(crate) fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_content_or_the_new_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("state");
        replace(&path, b"old").expect("written");
        replace(&path, b"new").expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"new");

        // The rename fails, because a directory is in the way: nothing is left beside it.
        let blocked = dir.path().join("blocked");
        fs::create_dir(&blocked).expect("made");
        fs::write(blocked.join("x"), b"").expect("made");
        replace(&blocked, b"new").expect_err("a directory cannot be replaced by a file");
        assert!(!beside(&blocked).exists());
        assert!(blocked.join("x").exists());
    }

    #[test]
    fn what_is_removed_twice_is_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("state");
        replace(&path, b"x").expect("written");
        remove(&path).expect("removed");
        remove(&path).expect("removed already");
    }
}
