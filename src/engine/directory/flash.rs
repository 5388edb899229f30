//! The flash under an OCI directory: the few calls it is written with, each lent to a helper thread.
//!
//! A trait, so that a test can put a model in its place that fails at the n-th call, or that loses at a power cut
//! what was not flushed. It must never do more than one thing in one call: what belongs together is put together
//! where its order can be read, in [`super::store`].

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::net::lend;

/// What a directory is written with.
#[expect(async_fn_in_trait, reason = "everything runs on one thread, no future is ever Send")]
pub trait Flash {
    /// A file that is being written.
    type File;

    /// Makes one directory; one that is there already is fine.
    async fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a new file; one that is there already is an error.
    async fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Writes `bytes` behind what the file holds.
    async fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;

    /// Waits until the flash holds what was written.
    async fn sync(&self, file: Self::File) -> io::Result<()>;

    /// Gives a file its name, taking the place of whatever had it, in one step.
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Waits until the flash holds the names of this directory.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes a file; one that is not there is fine.
    async fn remove(&self, path: &Path) -> io::Result<()>;

    /// The length of a plain file; `None` when there is none of that name.
    async fn size(&self, path: &Path) -> io::Result<Option<u64>>;

    /// The whole of a small file, `None` when there is none; one longer than `limit` is an error.
    async fn read(&self, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>>;

    /// Bytes that can still be written to the file system that holds `path`.
    async fn free(&self, path: &Path) -> io::Result<u64>;
}

/// The board's own flash.
#[derive(Debug, Clone, Copy, Default)]
pub struct BoardFlash;

impl Flash for BoardFlash {
    type File = Arc<fs::File>;

    async fn make_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        lend(move || match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        })
        .await
    }

    async fn create(&self, path: &Path) -> io::Result<Self::File> {
        let path = path.to_owned();
        lend(move || {
            // Images in the clear: the engine that reads the directory runs as root or in the agent's group.
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
            Ok(Arc::new(file))
        })
        .await
    }

    async fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()> {
        let (file, bytes) = (Arc::clone(file), bytes.to_owned());
        lend(move || (&*file).write_all(&bytes)).await
    }

    async fn sync(&self, file: Self::File) -> io::Result<()> {
        lend(move || file.sync_all()).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        lend(move || fs::rename(from, to)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        lend(move || fs::File::open(path)?.sync_all()).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        lend(move || absent_is_none(fs::remove_file(path)).map(|_| ())).await
    }

    async fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        let path = path.to_owned();
        lend(move || {
            let found = absent_is_none(fs::symlink_metadata(path))?;
            Ok(found.filter(fs::Metadata::is_file).map(|found| found.len()))
        })
        .await
    }

    async fn read(&self, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let path = path.to_owned();
        lend(move || {
            let Some(file) = absent_is_none(fs::File::open(path))? else { return Ok(None) };
            let mut bytes = Vec::new();
            file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
            if bytes.len() > limit {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("file has more than {limit} bytes")));
            }
            Ok(Some(bytes))
        })
        .await
    }

    async fn free(&self, path: &Path) -> io::Result<u64> {
        let path = path.to_owned();
        lend(move || {
            let found = rustix::fs::statvfs(&path)?;
            Ok(found.f_bavail.saturating_mul(found.f_frsize))
        })
        .await
    }
}

fn absent_is_none<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boards_flash_keeps_the_words_of_the_trait() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let at = |name: &str| dir.path().join(name);
        smol::block_on(async {
            let flash = BoardFlash;
            flash.make_dir(&at("d")).await.expect("makes it");
            flash.make_dir(&at("d")).await.expect("is there");
            let mut file = flash.create(&at("d/a")).await.expect("is new");
            assert!(flash.create(&at("d/a")).await.is_err());
            assert!(flash.make_dir(&at("d/a")).await.is_err(), "a file is no directory");
            flash.append(&mut file, b"one").await.expect("writes");
            flash.append(&mut file, b"two").await.expect("writes");
            flash.sync(file).await.expect("flushes");
            flash.rename(&at("d/a"), &at("d/b")).await.expect("renames");
            flash.sync_dir(&at("d")).await.expect("flushes the names");
            assert_eq!(flash.size(&at("d/a")).await.expect("looks"), None);
            assert_eq!(flash.size(&at("d/b")).await.expect("looks"), Some(6));
            assert_eq!(flash.size(&at("d")).await.expect("looks"), None, "a directory is no plain file");
            assert_eq!(flash.read(&at("d/b"), 6).await.expect("reads"), Some(b"onetwo".to_vec()));
            assert_eq!(flash.read(&at("d/a"), 6).await.expect("looks"), None);
            let too_long = flash.read(&at("d/b"), 5).await.expect_err("longer than allowed");
            assert_eq!(too_long.kind(), io::ErrorKind::FileTooLarge);
            assert!(flash.free(dir.path()).await.expect("asks") > 0);
            flash.remove(&at("d/b")).await.expect("removes");
            flash.remove(&at("d/b")).await.expect("is gone");
        });
    }
}
