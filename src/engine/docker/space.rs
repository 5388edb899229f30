//! Room on the engine's flash. Where it cannot be seen it is unknown, and nothing is refused for it.

use std::path::{Path, PathBuf};

use crate::net::lend;

/// Files that container runtimes put into the root of a container (Docker; podman, CRI-O).
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Free bytes under the engine's root; `None` where the agent does not see it: it runs in a container, whose directory of
/// that name is another one, or it may not look.
pub(super) async fn free(root: &Path) -> Option<u64> {
    let root = root.to_owned();
    lend(move || {
        if CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists()) {
            return None;
        }
        free_at(root)
    })
    .await
}

fn free_at(root: PathBuf) -> Option<u64> {
    let metadata = std::fs::metadata(&root).ok()?;
    if !metadata.is_dir() {
        return None;
    }
    let stat = rustix::fs::statvfs(root).ok()?;
    // Some network and overlay file systems tell nothing.
    (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_unknown() {
        assert_eq!(free_at("/no/such/root".into()), None);
        assert_eq!(free_at("/proc/version".into()), None);
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(free_at(dir.path().to_owned()).is_some_and(|free| free > 0));
    }
}
