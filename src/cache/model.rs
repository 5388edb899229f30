//! A flash that exists in memory only, fails when it is told to, and loses at a power cut what was not flushed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::flash::{Flash, Hold, Seen};

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
    /// All names, and of each write that was not flushed the first half: what is called a torn tail.
    Torn,
}

impl Remains {
    pub(super) const ALL: [Self; 4] = [Self::Everything, Self::FlushedOnly, Self::NamesBeforeContents, Self::Torn];
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    flushed: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Disk {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    flushed_names: BTreeMap<String, usize>,
    calls: u64,
    failure: Option<(u64, Failure)>,
    room: u64,
}

/// The flash.
#[derive(Debug, Clone, Default)]
pub(super) struct Model(Rc<RefCell<Disk>>);

impl Model {
    /// An empty flash with room for so many bytes.
    pub(super) fn new(room: u64) -> Self {
        Self(Rc::new(RefCell::new(Disk { room, ..Disk::default() })))
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
        let mut disk = self.0.borrow().clone();
        disk.failure = None;
        if remains == Remains::FlushedOnly {
            disk.names = disk.flushed_names.clone();
        }
        for content in &mut disk.contents {
            match remains {
                Remains::Everything => {}
                Remains::FlushedOnly | Remains::NamesBeforeContents => content.now = content.flushed.clone(),
                Remains::Torn => {
                    let is_same = |at: &usize| content.flushed.get(*at) == content.now.get(*at);
                    let first = (0..content.now.len()).find(|at| !is_same(at)).unwrap_or(content.now.len());
                    let end = first + (content.now.len() - first) / 2;
                    let mut torn = content.now[..end].to_vec();
                    torn.extend_from_slice(content.flushed.get(end..).unwrap_or_default());
                    content.now = torn;
                }
            }
            content.flushed = content.now.clone();
        }
        disk.flushed_names = disk.names.clone();
        Self(Rc::new(RefCell::new(disk)))
    }

    /// All names and how long their files are.
    pub(super) fn files(&self) -> BTreeMap<String, usize> {
        let disk = self.0.borrow();
        disk.names.iter().map(|(name, content)| (name.clone(), disk.contents[*content].now.len())).collect()
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.0.borrow().calls
    }

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

fn at(n: u64) -> usize {
    usize::try_from(n).expect("small")
}

impl Flash for Model {
    type File = usize;

    async fn list(&self) -> io::Result<Vec<Seen>> {
        self.plain(|disk| {
            let bytes = |content: &usize| disk.contents[*content].now.len() as u64;
            Ok(disk.names.iter().map(|(name, c)| Seen { name: name.clone(), bytes: bytes(c) }).collect())
        })
    }

    async fn open(&self, name: &str) -> io::Result<Option<usize>> {
        self.plain(|disk| Ok(disk.names.get(name).copied()))
    }

    async fn create(&self, name: &str) -> io::Result<usize> {
        self.plain(|disk| {
            if disk.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.contents.push(Content::default());
            let content = disk.contents.len() - 1;
            disk.names.insert(name.to_owned(), content);
            Ok(content)
        })
    }

    async fn len(&self, file: &usize) -> io::Result<u64> {
        self.plain(|disk| Ok(disk.contents[*file].now.len() as u64))
    }

    async fn read_at(&self, file: &usize, from: u64, len: usize, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        self.plain(|disk| {
            let rest = disk.contents[*file].now.get(at(from)..).unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(&rest[..len.min(rest.len())]);
            Ok(buffer)
        })
    }

    async fn write_at(&self, file: &usize, from: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(|disk, fails| {
            // A write that fails may have written a part.
            let bytes = if fails { &bytes[..bytes.len() / 2] } else { bytes };
            let now = &mut disk.contents[*file].now;
            let end = at(from) + bytes.len();
            now.resize(now.len().max(end), 0);
            now[at(from)..end].copy_from_slice(bytes);
            if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    async fn sync(&self, file: &usize) -> io::Result<()> {
        self.plain(|disk| {
            let content = &mut disk.contents[*file];
            content.flushed.clone_from(&content.now);
            Ok(())
        })
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plain(|disk| {
            let content = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            disk.names.insert(to.to_owned(), content);
            Ok(())
        })
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.plain(|disk| {
            disk.names.remove(name);
            Ok(())
        })
    }

    async fn sync_names(&self) -> io::Result<()> {
        self.plain(|disk| {
            disk.flushed_names.clone_from(&disk.names);
            Ok(())
        })
    }

    async fn free(&self) -> io::Result<u64> {
        self.plain(|disk| {
            let used: usize = disk.names.values().map(|content| disk.contents[*content].now.len()).sum();
            Ok(disk.room.saturating_sub(used as u64))
        })
    }

    async fn lock(&self, _file: &usize, _hold: Hold) -> io::Result<bool> {
        self.plain(|_| Ok(true))
    }

    async fn is_named(&self, file: &usize, name: &str) -> io::Result<bool> {
        self.plain(|disk| Ok(disk.names.get(name) == Some(file)))
    }
}
