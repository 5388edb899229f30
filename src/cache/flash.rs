//! The flash under the cache: the few calls it is made of, each lent to a helper thread.
//!
//! A trait, so that a test can put a model in its place that fails at the n-th call, or that loses at a power cut what
//! was not flushed. Files are named by bare names inside one directory that is held open: no call can leave it, and no
//! link is ever followed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::limits::CACHE_NAMES;
use crate::net::lend;

/// A file as the directory shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its bare name.
    pub name: String,
    /// Bytes it takes on flash: a file with holes takes fewer than it is long.
    pub bytes: u64,
}

/// What the cache is kept on.
#[expect(async_fn_in_trait, reason = "everything runs on one thread, no future is ever Send")]
pub trait Flash: Clone {
    /// An open file.
    type File: Clone;

    /// All names of plain files.
    async fn list(&self) -> io::Result<Vec<Seen>>;

    /// Opens a plain file, for writing too where the flash allows it. `None`: there is none of that name.
    async fn open(&self, name: &str) -> io::Result<Option<Self::File>>;

    /// Makes a new file; one that is there already is an error.
    async fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Length of an open file.
    async fn len(&self, file: &Self::File) -> io::Result<u64>;

    /// Reads up to `len` bytes from `at` on into `buffer`, fewer only at the end of the file.
    async fn read_at(&self, file: &Self::File, at: u64, len: usize, buffer: Vec<u8>) -> io::Result<Vec<u8>>;

    /// Writes all of `bytes` at `at`.
    async fn write_at(&self, file: &Self::File, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Waits until the flash holds the content of the file.
    async fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Gives a file its name, taking the place of whatever had it, in one step.
    async fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name; one that is not there is fine.
    async fn remove(&self, name: &str) -> io::Result<()>;

    /// Waits until the flash holds the names.
    async fn sync_names(&self) -> io::Result<()>;

    /// Bytes that can still be written.
    async fn free(&self) -> io::Result<u64>;

    /// Takes an advisory lock on the file, at once or not at all. It ends with the last copy of the open file.
    async fn lock(&self, file: &Self::File, hold: Hold) -> io::Result<bool>;

    /// Whether `name` still is this open file.
    async fn is_named(&self, file: &Self::File, name: &str) -> io::Result<bool>;
}

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is used: nobody may remove it.
    Shared,
    /// Nobody uses it.
    Alone,
}

impl Hold {
    const fn operation(self) -> FlockOperation {
        match self {
            Self::Shared => FlockOperation::NonBlockingLockShared,
            Self::Alone => FlockOperation::NonBlockingLockExclusive,
        }
    }
}

/// The board's own flash.
#[derive(Debug, Clone)]
pub struct BoardFlash {
    dir: Arc<OwnedFd>,
}

impl BoardFlash {
    /// Opens the directory as the agent does: makes it with mode 0700 if need be, and takes its lock.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another agent has it.
    pub async fn take(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        lend(move || {
            // What is there already, or cannot be made, is told by the opening.
            let _made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            let dir = open_dir(&path)?;
            rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
            // Whoever made it with other rights: if it cannot be changed, the writes will tell.
            let _tightened = rustix::fs::fchmod(&dir, Mode::RWXU);
            Ok(Self { dir: Arc::new(dir) })
        })
        .await
    }

    /// Opens the directory to look at it beside an agent.
    ///
    /// # Errors
    /// As the system says.
    pub async fn look(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        lend(move || Ok(Self { dir: Arc::new(open_dir(&path)?) })).await
    }

    /// Whether the directory can be written, told without writing.
    ///
    /// # Errors
    /// Why not.
    pub async fn is_writable(&self) -> io::Result<()> {
        self.with(|dir| Ok(rustix::fs::accessat(dir, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)).await
    }

    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(&OwnedFd) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let dir = Arc::clone(&self.dir);
        lend(move || call(&dir)).await
    }
}

/// Whether a file that was not read will not be read next time either: something else stands in its place, it is not
/// ours, or the flash has lost it. Too many open files and the like pass.
pub(super) fn is_lasting(error: &io::Error) -> bool {
    let lost = [Errno::LOOP, Errno::IO].map(Errno::raw_os_error);
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::PermissionDenied
    ) || error.raw_os_error().is_some_and(|code| lost.contains(&code))
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a plain file and nothing else. Without `NONBLOCK`, a pipe of that name would hold the thread for ever.
fn open_plain(dir: &OwnedFd, name: &str, how: OFlags) -> io::Result<Arc<File>> {
    let flags = how | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
    let found = file.metadata()?;
    // A second name may lie outside the directory.
    if !found.is_file() || found.nlink() > 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file with one name"));
    }
    Ok(Arc::new(file))
}

impl Flash for BoardFlash {
    type File = Arc<File>;

    async fn list(&self) -> io::Result<Vec<Seen>> {
        self.with(|dir| {
            let mut seen = Vec::new();
            for entry in Dir::read_from(dir)?.take(CACHE_NAMES) {
                let entry = entry?;
                let Ok(name) = entry.file_name().to_str() else { continue };
                match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    // Links and the like are shown too, so that what stands in a file's place can be removed.
                    Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Directory => {
                        let bytes = u64::try_from(found.st_blocks).unwrap_or_default() * 512;
                        seen.push(Seen { name: name.to_owned(), bytes });
                    }
                    // It vanished in between.
                    Ok(_) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(seen)
        })
        .await
    }

    async fn open(&self, name: &str) -> io::Result<Option<Self::File>> {
        let name = name.to_owned();
        self.with(move |dir| {
            let read_only = [Errno::ROFS, Errno::ACCESS, Errno::PERM].map(io::Error::from).map(|e| e.raw_os_error());
            match open_plain(dir, &name, OFlags::RDWR) {
                Ok(file) => Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) if read_only.contains(&error.raw_os_error()) => {
                    open_plain(dir, &name, OFlags::RDONLY).map(Some)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn create(&self, name: &str) -> io::Result<Self::File> {
        let name = name.to_owned();
        self.with(move |dir| open_plain(dir, &name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)).await
    }

    async fn len(&self, file: &Self::File) -> io::Result<u64> {
        let file = Arc::clone(file);
        lend(move || Ok(file.metadata()?.len())).await
    }

    async fn read_at(&self, file: &Self::File, at: u64, len: usize, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        let file = Arc::clone(file);
        lend(move || {
            buffer.resize(len, 0);
            let mut read = 0;
            while read < len {
                match file.read_at(&mut buffer[read..], at + read as u64) {
                    Ok(0) => break,
                    Ok(more) => read += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            buffer.truncate(read);
            Ok(buffer)
        })
        .await
    }

    async fn write_at(&self, file: &Self::File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (file, bytes) = (Arc::clone(file), bytes.to_owned());
        lend(move || file.write_all_at(&bytes, at)).await
    }

    async fn sync(&self, file: &Self::File) -> io::Result<()> {
        let file = Arc::clone(file);
        lend(move || file.sync_data()).await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.with(move |dir| Ok(rustix::fs::renameat(dir, &*from, dir, &*to)?)).await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let name = name.to_owned();
        self.with(move |dir| match rustix::fs::unlinkat(dir, &*name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        })
        .await
    }

    async fn sync_names(&self) -> io::Result<()> {
        self.with(|dir| Ok(rustix::fs::fsync(dir)?)).await
    }

    async fn free(&self) -> io::Result<u64> {
        self.with(|dir| {
            let found = rustix::fs::fstatvfs(dir)?;
            Ok(found.f_bavail.saturating_mul(found.f_frsize))
        })
        .await
    }

    async fn lock(&self, file: &Self::File, hold: Hold) -> io::Result<bool> {
        let file = Arc::clone(file);
        lend(move || match rustix::fs::flock(&*file, hold.operation()) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        })
        .await
    }

    async fn is_named(&self, file: &Self::File, name: &str) -> io::Result<bool> {
        let (file, name) = (Arc::clone(file), name.to_owned());
        self.with(move |dir| {
            let own = file.metadata()?;
            match rustix::fs::statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => Ok((found.st_dev, found.st_ino) == (own.dev(), own.ino())),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_boards_flash_keeps_the_words_of_the_trait() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let path = dir.path().join("a/b");
        smol::block_on(async {
            let flash = BoardFlash::take(&path).await.expect("made");
            assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
            let second = BoardFlash::take(&path).await.expect_err("taken");
            assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
            flash.is_writable().await.expect("it is");
            let file = flash.create("x").await.expect("new");
            assert_eq!(std::fs::metadata(path.join("x")).expect("there").permissions().mode() & 0o777, 0o600);
            assert!(flash.create("x").await.is_err());
            flash.write_at(&file, 3, b"abc").await.expect("written");
            flash.sync(&file).await.expect("flushed");
            assert_eq!(flash.len(&file).await.expect("asked"), 6);
            assert_eq!(flash.read_at(&file, 2, 9, Vec::new()).await.expect("read"), b"\0abc");
            assert!(flash.is_named(&file, "x").await.expect("looked"));
            flash.rename("x", "y").await.expect("renamed");
            flash.sync_names().await.expect("flushed");
            assert!(!flash.is_named(&file, "x").await.expect("looked"));
            assert!(flash.open("x").await.expect("looked").is_none());
            let other = flash.open("y").await.expect("looked").expect("there");
            assert!(flash.lock(&file, Hold::Shared).await.expect("asked"));
            assert!(!flash.lock(&other, Hold::Alone).await.expect("asked"));
            drop(file);
            assert!(flash.lock(&other, Hold::Alone).await.expect("asked"));
            assert_eq!(flash.list().await.expect("listed").len(), 1);
            flash.remove("y").await.expect("removed");
            flash.remove("y").await.expect("is gone");
            assert!(flash.free().await.expect("asked") > 0);
        });
    }

    #[test]
    fn what_is_no_plain_file_is_not_opened() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let outside = tempfile::NamedTempFile::new().expect("a file outside");
        symlink(outside.path(), dir.path().join("link")).expect("made");
        std::fs::create_dir(dir.path().join("dir")).expect("made");
        std::fs::write(dir.path().join("two"), b"x").expect("made");
        std::fs::hard_link(dir.path().join("two"), dir.path().join("names")).expect("made");
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), FileType::Fifo, Mode::RWXU, 0).expect("made");
        smol::block_on(async {
            let flash = BoardFlash::look(dir.path()).await.expect("there");
            for name in ["link", "dir", "two", "pipe"] {
                assert!(flash.open(name).await.is_err(), "{name}");
                assert!(flash.create(name).await.is_err(), "{name}");
            }
            flash.remove("link").await.expect("the link goes");
        });
        assert!(outside.path().exists(), "what it led to stays");
    }
}
