//! The file system: the directory behind, the rate, and the switch that says what is wrong.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirEntryExt as _, FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};

/// Attributes are asked for every time: the directory behind may change by itself.
const TTL: Duration = Duration::ZERO;

/// What is wrong at the moment.
#[derive(Default)]
struct Wrong {
    full: bool,
    read_only: bool,
    broken: bool,
    rate: Option<u64>,
}

/// The file system.
pub(crate) struct Flash {
    root: PathBuf,
    rate: Option<u64>,
    switch: Option<PathBuf>,
    state: Mutex<State>,
    /// Until when the flash is busy.
    busy: Mutex<Instant>,
}

#[derive(Default)]
struct State {
    /// Where each inode that was looked up is.
    paths: HashMap<u64, PathBuf>,
    files: HashMap<u64, Arc<File>>,
    next: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flash {
    /// The directory `root` at `rate` bytes a second, with what the file `switch` says.
    pub(crate) fn new(root: &Path, rate: Option<u64>, switch: Option<PathBuf>) -> io::Result<Self> {
        let (state, busy) = (Mutex::default(), Mutex::new(Instant::now()));
        Ok(Self { root: fs::canonicalize(root)?, rate, switch, state, busy })
    }

    fn wrong(&self) -> Wrong {
        let mut wrong = Wrong { rate: self.rate, ..Wrong::default() };
        let words = self.switch.as_ref().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        for word in words.split_ascii_whitespace() {
            match word {
                "enospc" => wrong.full = true,
                "erofs" => wrong.read_only = true,
                "eio" => wrong.broken = true,
                other => wrong.rate = other.strip_prefix("rate=").and_then(|rate| rate.parse().ok()).or(wrong.rate),
            }
        }
        wrong
    }

    /// Whether something may be changed; `grows`: whether that takes room.
    fn change(&self, grows: bool) -> Result<(), Errno> {
        let wrong = self.wrong();
        match wrong {
            Wrong { read_only: true, .. } => Err(Errno::EROFS),
            Wrong { full: true, .. } if grows => Err(Errno::ENOSPC),
            _ => Ok(()),
        }
    }

    /// Waits as long as the flash takes for so many bytes, behind those who came before.
    fn take(&self, bytes: usize) -> Result<(), Errno> {
        let wrong = self.wrong();
        if wrong.broken {
            return Err(Errno::EIO);
        }
        let Some(rate) = wrong.rate.filter(|rate| *rate > 0) else { return Ok(()) };
        let cost = Duration::from_micros(bytes as u64 * 1_000_000 / rate);
        let until = {
            let mut busy = lock(&self.busy);
            *busy = (*busy).max(Instant::now()) + cost;
            *busy
        };
        park_until(until);
        Ok(())
    }

    fn path(&self, inode: INodeNo) -> Result<PathBuf, Errno> {
        if inode == INodeNo::ROOT {
            return Ok(self.root.clone());
        }
        lock(&self.state).paths.get(&inode.0).cloned().ok_or(Errno::ENOENT)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<PathBuf, Errno> {
        Ok(self.path(parent)?.join(name))
    }

    fn file(&self, handle: FileHandle) -> Result<Arc<File>, Errno> {
        lock(&self.state).files.get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    fn open(&self, path: &Path, flags: i32, mode: u32) -> Result<(FileHandle, Arc<File>), Errno> {
        let writes = flags & rustix_bits(OFlags::ACCMODE) != rustix_bits(OFlags::RDONLY);
        if writes {
            self.change(flags & rustix_bits(OFlags::CREATE) != 0)?;
        }
        // Offsets come from the kernel, and buffers are ours.
        let wanted = OFlags::from_bits_retain(flags.cast_unsigned()) - OFlags::APPEND - OFlags::DIRECT;
        let file = rustix::fs::open(path, wanted | OFlags::CLOEXEC, Mode::from_raw_mode(mode)).map_err(system)?;
        let file = Arc::new(File::from(file));
        let mut state = lock(&self.state);
        state.next += 1;
        let handle = state.next;
        state.files.insert(handle, Arc::clone(&file));
        Ok((FileHandle(handle), file))
    }

    /// The attributes of what is at a path, which is known by its inode from now on.
    fn known(&self, path: &Path) -> Result<FileAttr, Errno> {
        let metadata = fs::symlink_metadata(path)?;
        lock(&self.state).paths.insert(metadata.ino(), path.to_owned());
        Ok(self.attributes(&metadata))
    }

    fn attributes(&self, metadata: &Metadata) -> FileAttr {
        let time = |seconds: i64, nanos: i64| {
            let seconds = u64::try_from(seconds).unwrap_or_default();
            UNIX_EPOCH + Duration::new(seconds, u32::try_from(nanos).unwrap_or_default())
        };
        let root = fs::metadata(&self.root).is_ok_and(|root| root.ino() == metadata.ino());
        FileAttr {
            ino: if root { INodeNo::ROOT } else { INodeNo(metadata.ino()) },
            size: metadata.size(),
            blocks: metadata.blocks(),
            atime: time(metadata.atime(), metadata.atime_nsec()),
            mtime: time(metadata.mtime(), metadata.mtime_nsec()),
            ctime: time(metadata.ctime(), metadata.ctime_nsec()),
            crtime: UNIX_EPOCH,
            kind: FileType::from_std(metadata.file_type()).unwrap_or(FileType::RegularFile),
            perm: u16::try_from(metadata.mode() & 0o7777).unwrap_or_default(),
            nlink: u32::try_from(metadata.nlink()).unwrap_or(1),
            uid: metadata.uid(),
            gid: metadata.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Attributes of an inode, also of one that was unlinked while it is open.
    fn found(&self, inode: INodeNo, handle: Option<FileHandle>) -> Result<FileAttr, Errno> {
        if let Some(handle) = handle {
            return Ok(self.attributes(&self.file(handle)?.metadata()?));
        }
        let at_path = self.path(inode).and_then(|path| Ok(fs::symlink_metadata(path)?));
        let own = |metadata: &Metadata| inode == INodeNo::ROOT || metadata.ino() == inode.0;
        if let Some(metadata) = at_path.ok().filter(own) {
            return Ok(self.attributes(&metadata));
        }
        let open: Vec<_> = lock(&self.state).files.values().cloned().collect();
        let metadata = open.iter().filter_map(|file| file.metadata().ok()).find(own);
        metadata.map(|metadata| self.attributes(&metadata)).ok_or(Errno::ENOENT)
    }

    fn renamed(&self, from: &Path, to: &Path) {
        for path in lock(&self.state).paths.values_mut() {
            if let Ok(below) = path.strip_prefix(from) {
                *path = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            }
        }
    }
}

fn rustix_bits(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

fn system(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

fn when(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

fn attempt<T>(work: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    work()
}

/// Answers with what a closure makes, or its error.
macro_rules! answer {
    ($reply:ident, $made:expr, |$value:pat_param| $good:expr) => {
        match attempt(|| $made) {
            Ok($value) => $good,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Flash {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.known(&self.child(parent, name)?), |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.found(ino, fh), |attr| reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let work = || {
            let now = self.found(ino, fh)?;
            self.change(size.is_some_and(|size| size > now.size))?;
            let file = match fh {
                Some(handle) => self.file(handle)?,
                None => Arc::new(File::options().read(true).write(size.is_some()).open(self.path(ino)?)?),
            };
            if let Some(size) = size {
                file.set_len(size)?;
            }
            if let Some(mode) = mode {
                file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
            }
            if uid.is_some() || gid.is_some() {
                std::os::unix::fs::fchown(&file, uid, gid)?;
            }
            if atime.is_some() || mtime.is_some() {
                let mut times = fs::FileTimes::new();
                times = atime.map_or(times, |time| times.set_accessed(when(time)));
                times = mtime.map_or(times, |time| times.set_modified(when(time)));
                file.set_times(times)?;
            }
            self.found(ino, fh)
        };
        answer!(reply, work(), |attr| reply.attr(&TTL, &attr));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        answer!(reply, Ok(fs::read_link(self.path(ino)?)?), |target| reply.data(target.as_os_str().as_encoded_bytes()));
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let work = || {
            self.change(true)?;
            let path = self.child(parent, name)?;
            rustix::fs::mkdir(&path, Mode::from_raw_mode(mode & !umask)).map_err(system)?;
            self.known(&path)
        };
        answer!(reply, work(), |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = || self.change(false).and_then(|()| Ok(fs::remove_file(self.child(parent, name)?)?));
        answer!(reply, work(), |()| reply.ok());
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = || self.change(false).and_then(|()| Ok(fs::remove_dir(self.child(parent, name)?)?));
        answer!(reply, work(), |()| reply.ok());
    }

    fn symlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let work = || {
            self.change(true)?;
            let path = self.child(parent, name)?;
            std::os::unix::fs::symlink(target, &path)?;
            self.known(&path)
        };
        answer!(reply, work(), |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let work = || {
            self.change(false)?;
            let (from, to) = (self.child(parent, name)?, self.child(newparent, newname)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            rustix::fs::renameat_with(CWD, &from, CWD, &to, flags).map_err(system)?;
            self.renamed(&from, &to);
            Ok(())
        };
        answer!(reply, work(), |()| reply.ok());
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let work = || {
            self.change(true)?;
            let path = self.child(newparent, newname)?;
            fs::hard_link(self.path(ino)?, &path)?;
            self.known(&path)
        };
        answer!(reply, work(), |attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: the flash is felt at every call.
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        answer!(reply, self.open(&self.path(ino)?, flags.0, 0), |(handle, _)| reply.opened(handle, direct));
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let work = || {
            let path = self.child(parent, name)?;
            let flags = flags | rustix_bits(OFlags::CREATE);
            // A new file takes room even when it is opened to be read.
            self.change(true)?;
            let (handle, _) = self.open(&path, flags, mode & !umask)?;
            Ok((self.known(&path)?, handle))
        };
        answer!(reply, work(), |(attr, handle)| {
            reply.created(&TTL, &attr, Generation(0), handle, FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let work = || {
            let mut bytes = vec![0; size as usize];
            let read = self.file(fh)?.read_at(&mut bytes, offset)?;
            bytes.truncate(read);
            self.take(read)?;
            Ok(bytes)
        };
        answer!(reply, work(), |bytes| reply.data(&bytes));
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let work = || {
            self.change(true)?;
            self.take(data.len())?;
            let written = self.file(fh)?.write_at(data, offset)?;
            Ok(u32::try_from(written).unwrap_or(u32::MAX))
        };
        answer!(reply, work(), |written| reply.written(written));
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.state).files.remove(&fh.0);
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let work = || {
            self.take(0)?;
            let file = self.file(fh)?;
            if datasync {
                file.sync_data()?;
            } else {
                file.sync_all()?;
            }
            Ok(())
        };
        answer!(reply, work(), |()| reply.ok());
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let work = || {
            self.take(0)?;
            Ok(File::open(self.path(ino)?)?.sync_all()?)
        };
        answer!(reply, work(), |()| reply.ok());
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let work = || {
            let mut entries = vec![
                (OsString::from("."), ino, FileType::Directory),
                (OsString::from(".."), INodeNo::ROOT, FileType::Directory),
            ];
            for entry in fs::read_dir(self.path(ino)?)? {
                let entry = entry?;
                let kind = FileType::from_std(entry.file_type()?).unwrap_or(FileType::RegularFile);
                entries.push((entry.file_name(), INodeNo(entry.ino()), kind));
            }
            // The same order at every call: offsets count in it.
            entries[2..].sort_by(|one, next| one.0.cmp(&next.0));
            Ok(entries)
        };
        answer!(reply, work(), |entries| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            for (index, (name, inode, kind)) in entries.into_iter().enumerate().skip(from) {
                if reply.add(inode, index as u64 + 1, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let work = || rustix::fs::statvfs(&self.root).map_err(system);
        answer!(reply, work(), |told| {
            let (free, available) = if self.wrong().full { (0, 0) } else { (told.f_bfree, told.f_bavail) };
            let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            let (block, name, fragment) = (short(told.f_bsize), short(told.f_namemax), short(told.f_frsize));
            reply.statfs(told.f_blocks, free, available, told.f_files, told.f_ffree, block, name, fragment);
        });
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let work = || {
            self.change(true)?;
            let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
            rustix::fs::fallocate(&*self.file(fh)?, flags, offset, length).map_err(system)
        };
        answer!(reply, work(), |()| reply.ok());
    }
}

/// Slowness is what this program is for. A thread that is woken before its time waits on.
fn park_until(until: Instant) {
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
