//! Where the ciphertext lies: a file today, ranges of an object on the CDN next.
//!
//! Reading must never hold up the loop: what the page cache holds is copied on the loop (`preadv2` with `RWF_NOWAIT`),
//! everything else is lent. Nothing here writes.

use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::error::ArchiveError;
use crate::metrics;
use crate::net::lend;
use crate::seal::ArchiveSeal;

/// Ciphertext that is read from anywhere.
#[expect(async_fn_in_trait, reason = "everything runs on one thread, no future is ever Send")]
pub trait ReadAt {
    /// Bytes there are; does not change.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the bytes were last changed: seconds and nanoseconds since 1970; zeros where that means nothing.
    fn modified(&self) -> (i64, u32) {
        (0, 0)
    }

    /// Fills `buf` from `offset` on and gives it back; shorter only where the ciphertext ends.
    ///
    /// # Errors
    /// [`ArchiveError::Read`], and [`ArchiveError::NotAuthentic`] where a seal says so.
    async fn read_at(&self, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError>;

    /// Whether what was read and what will be read are of one archive: length and time of change still are what they
    /// were, or a seal holds every byte.
    async fn unchanged(&self) -> Result<bool, ArchiveError>;

    /// The seal that stands behind every byte that is read.
    fn seal(&self) -> Option<&ArchiveSeal> {
        None
    }

    /// From now on mostly read from front to back: a hint.
    fn front_to_back(&self) {}
}

impl<R: ReadAt> ReadAt for Rc<R> {
    fn len(&self) -> u64 {
        R::len(self)
    }

    fn modified(&self) -> (i64, u32) {
        R::modified(self)
    }

    async fn read_at(&self, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        R::read_at(self, offset, buf).await
    }

    async fn unchanged(&self) -> Result<bool, ArchiveError> {
        R::unchanged(self).await
    }

    fn seal(&self) -> Option<&ArchiveSeal> {
        R::seal(self)
    }

    fn front_to_back(&self) {
        R::front_to_back(self);
    }
}

/// Ciphertext in memory.
impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    async fn read_at(&self, offset: u64, mut buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.as_slice().len());
        let n = buf.len().min(self.as_slice().len() - from);
        buf[..n].copy_from_slice(&self[from..from + n]);
        buf.truncate(n);
        Ok(buf)
    }

    async fn unchanged(&self) -> Result<bool, ArchiveError> {
        Ok(true)
    }
}

/// A regular file, opened for reading.
#[derive(Debug)]
pub struct File {
    descriptor: Arc<std::fs::File>,
    len: u64,
    modified: (i64, u32),
    /// Whether the file system answers `RWF_NOWAIT`; found out with the first read.
    nowait: Cell<bool>,
}

impl File {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Missing`], [`ArchiveError::Unreadable`] or [`ArchiveError::NotAFile`].
    pub async fn open(path: &Path) -> Result<Self, ArchiveError> {
        let path = path.to_owned();
        let opened = lend(move || {
            // Without NONBLOCK the opening of a fifo waits for a writer.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
            let metadata = file.metadata()?;
            // The header walk jumps: reading ahead would fetch what lies between. A hint, so a refusal changes nothing.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
            io::Result::Ok((file, metadata))
        });
        let (file, metadata) = opened.await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ArchiveError::Missing,
            _ => ArchiveError::Unreadable { source },
        })?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() { "directory" } else { "special file" };
            return Err(ArchiveError::NotAFile { kind });
        }
        let modified = (metadata.mtime(), nanoseconds(&metadata));
        Ok(Self { descriptor: Arc::new(file), len: metadata.len(), modified, nowait: Cell::new(true) })
    }

    /// Copies what the page cache holds; 0 where nothing can be had without waiting.
    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if !self.nowait.get() {
            return Ok(0);
        }
        match rustix::io::preadv2(&*self.descriptor, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            Ok(n) => Ok(n),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            // Kernels and file systems without it: tmpfs before 6.x, FUSE, qemu-user.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                self.nowait.set(false);
                Ok(0)
            }
            Err(other) => Err(other.into()),
        }
    }
}

fn nanoseconds(metadata: &std::fs::Metadata) -> u32 {
    u32::try_from(metadata.mtime_nsec()).expect("the kernel gives less than 10^9 nanoseconds")
}

impl ReadAt for File {
    fn len(&self) -> u64 {
        self.len
    }

    fn modified(&self) -> (i64, u32) {
        self.modified
    }

    async fn read_at(&self, offset: u64, mut buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        let failed = |source| ArchiveError::Read { offset, source };
        let cached = self.read_cached(offset, &mut buf).map_err(failed)?;
        metrics::ARCHIVE_READ.add(buf.len() as u64);
        if cached == buf.len() {
            return Ok(buf);
        }
        let file = Arc::clone(&self.descriptor);
        lend(move || {
            let mut filled = cached;
            while filled < buf.len() {
                match file.read_at(&mut buf[filled..], offset + filled as u64) {
                    Ok(0) => buf.truncate(filled),
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(buf)
        })
        .await
        .map_err(failed)
    }

    async fn unchanged(&self) -> Result<bool, ArchiveError> {
        let file = Arc::clone(&self.descriptor);
        let metadata = lend(move || file.metadata()).await;
        let metadata = metadata.map_err(|source| ArchiveError::Read { offset: 0, source })?;
        Ok(metadata.len() == self.len && (metadata.mtime(), nanoseconds(&metadata)) == self.modified)
    }

    fn front_to_back(&self) {
        // A hint: where it is refused, reading is merely slower.
        let _ = rustix::fs::fadvise(&*self.descriptor, 0, None, Advice::Sequential);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use smol::LocalExecutor;

    use super::*;
    use crate::net::turn;

    fn run<T>(main: impl Future<Output = T>) -> T {
        turn::block_on(&LocalExecutor::new(), main)
    }

    #[test]
    fn reads_what_is_there_and_no_more() {
        let mut temp = tempfile::NamedTempFile::new().expect("a temporary file");
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        temp.write_all(&bytes).expect("written");
        run(async {
            let file = File::open(temp.path()).await.expect("a file");
            assert_eq!(file.len(), 100_000);
            for nowait in [true, false] {
                file.nowait.set(nowait);
                for (offset, len) in [(0, 1), (0, 100_000), (99_999, 1), (12_345, 50_000)] {
                    let read = file.read_at(offset as u64, vec![0; len]).await.expect("read");
                    assert_eq!(read, bytes[offset..offset + len]);
                }
                assert_eq!(file.read_at(99_990, vec![0; 100]).await.expect("short").len(), 10);
                assert_eq!(file.read_at(200_000, vec![0; 100]).await.expect("none").len(), 0);
            }
        });
    }

    #[test]
    fn what_is_not_a_file_is_told_apart() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        run(async {
            assert!(matches!(File::open(&dir.path().join("none")).await, Err(ArchiveError::Missing)));
            assert!(matches!(File::open(dir.path()).await, Err(ArchiveError::NotAFile { kind: "directory" })));
            assert!(matches!(File::open(Path::new("/dev/null")).await, Err(ArchiveError::NotAFile { .. })));
            let fifo = dir.path().join("fifo");
            rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from(0o600), 0)
                .expect("a fifo");
            assert!(matches!(File::open(&fifo).await, Err(ArchiveError::NotAFile { kind: "special file" })));
        });
    }

    #[test]
    fn growth_and_shrinking_are_seen() {
        let mut temp = tempfile::NamedTempFile::new().expect("a temporary file");
        temp.write_all(&[1; 100]).expect("written");
        run(async {
            let file = File::open(temp.path()).await.expect("a file");
            assert!(file.unchanged().await.expect("stat"));
            temp.as_file().set_len(99).expect("cut");
            assert!(!file.unchanged().await.expect("stat"));
        });
    }
}
