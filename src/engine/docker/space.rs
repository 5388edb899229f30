//! Room on the engine's flash. Where it cannot be seen it is unknown, and nothing is refused for it.

use std::path::Path;

use crate::net::lend;

/// Free bytes under the engine's root; `None` where the agent does not see it: it runs in a container, or may not look. A
/// mark that it runs in one (`/.dockerenv`) is not asked for: whoever shows the engine's root to a container wants it to
/// be seen, and machines whose system was made from a container image have such marks too.
pub(super) async fn free(root: &Path) -> Option<u64> {
    let root = root.to_owned();
    lend(move || free_at(&root)).await
}

fn free_at(root: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(root).ok()?;
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
        assert_eq!(free_at(Path::new("/no/such/root")), None);
        assert_eq!(free_at(Path::new("/proc/version")), None);
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(free_at(dir.path()).is_some_and(|free| free > 0));
    }
}
