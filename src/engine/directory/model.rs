//! A flash that exists in memory only, fails when it is told to, and loses at a power cut what was not flushed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Flash;

/// What happens at the call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// This call fails, later ones work: an I/O error, a moment without space.
    Once,
    /// This call and all later ones fail: the power is gone.
    FromThenOn,
}

/// What a flash has after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    /// Everything that was written: the kernel had just flushed it all.
    Everything,
    /// What was flushed, nothing else.
    FlushedOnly,
    /// All names, but of the contents only what was flushed: a file system that orders names before contents.
    NamesBeforeContents,
}

/// The content of a flash, now and as it would be found after a power cut.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    flushed_names: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    flushed_dirs: BTreeSet<PathBuf>,
    calls: u64,
    failure: Option<(u64, Failure)>,
    room: u64,
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    flushed: Vec<u8>,
}

/// The flash.
#[derive(Debug, Clone, Default)]
pub(super) struct Model(Rc<RefCell<Disk>>);

impl Model {
    /// An empty flash with one directory.
    pub(super) fn new(dir: &Path, room: u64) -> Self {
        let mut disk = Disk { room, ..Disk::default() };
        disk.dirs.insert(dir.to_owned());
        disk.flushed_dirs.insert(dir.to_owned());
        Self(Rc::new(RefCell::new(disk)))
    }

    /// A second flash with the same content.
    pub(super) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// From now on counts calls from 1 and fails at the `n`-th.
    pub(super) fn fail_at(&self, n: u64, failure: Failure) {
        let mut disk = self.0.borrow_mut();
        disk.calls = 0;
        disk.failure = Some((n, failure));
    }

    /// Whether the call that was to fail has been made.
    pub(super) fn has_failed(&self) -> bool {
        let disk = self.0.borrow();
        disk.failure.is_some_and(|(n, _)| disk.calls >= n)
    }

    /// The flash as it is found when the power is back.
    pub(super) fn after_cut(&self, remains: Remains) -> Self {
        let copy = self.copy();
        {
            let mut disk = copy.0.borrow_mut();
            disk.failure = None;
            if remains != Remains::Everything {
                for content in &mut disk.contents {
                    content.now = content.flushed.clone();
                }
            }
            if remains == Remains::FlushedOnly {
                let reachable = |dirs: &BTreeSet<PathBuf>, path: &Path| {
                    path.ancestors().skip(1).all(|d| d == Path::new("/") || dirs.contains(d))
                };
                let dirs = disk.flushed_dirs.clone();
                disk.dirs = dirs.iter().filter(|dir| reachable(&dirs, dir)).cloned().collect();
                disk.names = disk.flushed_names.clone();
                let dirs = disk.dirs.clone();
                disk.names.retain(|path, _| reachable(&dirs, path));
            }
            for content in &mut disk.contents {
                content.flushed = content.now.clone();
            }
            disk.flushed_names = disk.names.clone();
            disk.flushed_dirs = disk.dirs.clone();
        }
        copy
    }

    /// All files and their contents.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = self.0.borrow();
        disk.names.iter().map(|(path, &content)| (path.clone(), disk.contents[content].now.clone())).collect()
    }

    /// Puts a file there, flushed, as another program would.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.0.borrow_mut();
        let content = disk.contents.len();
        disk.contents.push(Content { now: bytes.to_vec(), flushed: bytes.to_vec() });
        disk.names.insert(path.to_owned(), content);
        disk.flushed_names.insert(path.to_owned(), content);
    }

    /// One call: counted, and failed if it is its turn.
    fn call<T>(&self, act: impl FnOnce(&mut Disk, bool) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.0.borrow_mut();
        disk.calls += 1;
        let fails = match disk.failure {
            Some((n, Failure::Once)) => disk.calls == n,
            Some((n, Failure::FromThenOn)) => disk.calls >= n,
            None => false,
        };
        act(&mut disk, fails)
    }

    fn plain<T>(&self, act: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        self.call(|disk, fails| if fails { Err(io::Error::other("scripted failure")) } else { act(disk) })
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().expect("a path below the root").to_owned()
}

impl Flash for Model {
    type File = usize;

    async fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.plain(|disk| {
            if !disk.dirs.contains(&parent(path)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            disk.dirs.insert(path.to_owned());
            Ok(())
        })
    }

    async fn create(&self, path: &Path) -> io::Result<usize> {
        self.plain(|disk| {
            if disk.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if !disk.dirs.contains(&parent(path)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let content = disk.contents.len();
            disk.contents.push(Content::default());
            disk.names.insert(path.to_owned(), content);
            Ok(content)
        })
    }

    async fn append(&self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        self.call(|disk, fails| {
            // A write that fails may have written a part.
            let written = if fails { bytes.len() / 2 } else { bytes.len() };
            disk.contents[*file].now.extend_from_slice(&bytes[..written]);
            if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    async fn sync(&self, file: usize) -> io::Result<()> {
        self.plain(|disk| {
            let content = &mut disk.contents[file];
            content.flushed = content.now.clone();
            Ok(())
        })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plain(|disk| {
            let content = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            disk.names.insert(to.to_owned(), content);
            Ok(())
        })
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.plain(|disk| {
            let within = |name: &Path| name.parent() == Some(path);
            disk.flushed_names.retain(|name, _| !within(name));
            let names: Vec<_> =
                disk.names.iter().filter(|(name, _)| within(name)).map(|(n, c)| (n.clone(), *c)).collect();
            disk.flushed_names.extend(names);
            let dirs: Vec<_> = disk.dirs.iter().filter(|dir| within(dir)).cloned().collect();
            disk.flushed_dirs.extend(dirs);
            Ok(())
        })
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.plain(|disk| {
            disk.names.remove(path);
            Ok(())
        })
    }

    async fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        self.plain(|disk| Ok(disk.names.get(path).map(|&content| disk.contents[content].now.len() as u64)))
    }

    async fn read(&self, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
        self.plain(|disk| match disk.names.get(path).map(|&content| &disk.contents[content].now) {
            Some(bytes) if bytes.len() > limit => Err(io::ErrorKind::FileTooLarge.into()),
            found => Ok(found.cloned()),
        })
    }

    async fn free(&self, _path: &Path) -> io::Result<u64> {
        self.plain(|disk| Ok(disk.room))
    }
}
