//! The files of the audit log: `audit-2026-11-23.57.jsonl` holds lines 57 and following, begun on that day (UTC).
//!
//! A line goes to the newest file; a new one is begun when the day is another one, and at [`AUDIT_FILE_BYTES`]. So each
//! file is one unbroken run of lines, whatever the wall clock does, and no name is ever taken twice. Links are not
//! followed. All of this blocks on flash.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use time::Date;

use super::chain::{Entry, Head};
use crate::crypto::Digest;
use crate::flash;
use crate::limits::{AUDIT_FILE_BYTES, AUDIT_TAIL_BYTES};
use crate::logging::{day, is_clock_set, parse_day};
use crate::metrics;

const BEFORE: &str = "audit-";
const AFTER: &str = ".jsonl";

/// What is set aside because its name is needed keeps this ending.
const BAD: &str = ".bad";

/// One file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The number of its first line.
    pub(super) first: u64,
    /// The day that it was begun on.
    pub(super) date: Date,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Piece {
    pub(super) fn new(dir: &Path, date: Date, first: u64) -> Self {
        Self { first, date, path: dir.join(format!("{BEFORE}{}.{first}{AFTER}", day(date))) }
    }

    fn named(dir: &Path, name: &str) -> Option<Self> {
        let (date, first) = name.strip_prefix(BEFORE)?.strip_suffix(AFTER)?.split_once('.')?;
        let piece = Self::new(dir, parse_day(date)?, first.parse().ok()?);
        // Only what would be written so: no signs, no leading zeros.
        (piece.first > 0 && piece.path.file_name()?.to_str()? == name).then_some(piece)
    }
}

/// All files of the log in the order of their lines; none where there is no directory.
pub(super) fn pieces(dir: &Path) -> io::Result<Vec<Piece>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut pieces = Vec::new();
    for entry in entries {
        pieces.extend(entry?.file_name().to_str().and_then(|name| Piece::named(dir, name)));
    }
    pieces.sort_by(|a, b| (a.first, &a.path).cmp(&(b.first, &b.path)));
    Ok(pieces)
}

/// Opens a file of the log to be read: a plain one, no link.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    Ok(file)
}

/// A line that was found at the end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) head: Head,
    /// SHA-256 of the line before, as it says.
    pub(super) prev: Option<Digest>,
}

/// The end of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// The last lines, each the next of the one before.
    pub(super) lines: Vec<Seen>,
    /// Bytes up to the end of the last of them.
    pub(super) whole: u64,
    /// Bytes behind that: a line that a power cut tore, or anything else.
    pub(super) torn: u64,
}

/// Reads the last [`AUDIT_TAIL_BYTES`] of a file, up to the first thing that is no next line.
pub(super) fn tail(path: &Path) -> io::Result<Tail> {
    let mut file = open(path)?;
    let len = file.metadata()?.len();
    let start = len.saturating_sub(AUDIT_TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(AUDIT_TAIL_BYTES).read_to_end(&mut bytes)?;
    // The first line is only part of one, unless the file begins here.
    let skipped =
        if start == 0 { 0 } else { bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1) };
    let mut tail = Tail { whole: start + skipped as u64, ..Tail::default() };
    for line in bytes[skipped..].split_inclusive(|byte| *byte == b'\n') {
        let Some((line, entry)) = line.strip_suffix(b"\n").and_then(|line| Some((line, Entry::parse(line)?))) else {
            break;
        };
        let is_next = tail
            .lines
            .last()
            .is_none_or(|last| Some(entry.n) == last.head.count.checked_add(1) && entry.follows(&last.head.hash));
        if !is_next {
            break;
        }
        let prev = Digest::from_hex(&entry.prev).ok();
        tail.lines.push(Seen { head: Head::after(entry.n, line), prev });
        tail.whole += line.len() as u64 + 1;
    }
    tail.torn = (start + bytes.len() as u64).saturating_sub(tail.whole);
    Ok(tail)
}

/// Takes away what is behind the last whole line.
pub(super) fn cut(path: &Path, len: u64) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    file.set_len(len)?;
    file.sync_all()
}

/// The file that lines go to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) piece: Piece,
    /// Bytes of whole lines in it.
    pub(super) len: u64,
    /// A line may stand half behind them, from a write that failed.
    is_dirty: bool,
}

/// Why lines were not appended.
#[derive(Debug)]
pub(super) enum NotAppended {
    /// Flash does not take them now.
    Failed(io::Error),
    /// The file is gone, or not as long as it was left: somebody else had it.
    Touched,
}

impl From<io::Error> for NotAppended {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Current {
    pub(super) fn new(piece: Piece, len: u64) -> Self {
        Self { piece, len, is_dirty: false }
    }

    /// Whether lines of this day, `more` bytes of them, go into this file.
    pub(super) fn takes(&self, today: Date, more: u64) -> bool {
        self.piece.date == today && (self.len == 0 || self.len + more <= AUDIT_FILE_BYTES)
    }

    /// Lines at its end, in one write, on flash when this returns.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), NotAppended> {
        let mut file = if self.len == 0 { self.begin()? } else { self.go_on()? };
        let found = file.metadata()?.len();
        if found > self.len && self.is_dirty {
            file.set_len(self.len)?;
        } else if found != self.len {
            return Err(NotAppended::Touched);
        }
        self.is_dirty = true;
        metrics::LOG_WRITTEN.add(bytes.len() as u64);
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Best effort: a full disk is not to be left with half a line. The next append looks again.
            let _ = file.set_len(self.len);
            return Err(error.into());
        }
        if self.len == 0 {
            flash::sync_directory(&self.piece.path)?;
        }
        self.len += bytes.len() as u64;
        self.is_dirty = false;
        Ok(())
    }

    fn begin(&self) -> io::Result<File> {
        let path = &self.piece.path;
        let file = match open_to_append(path, OFlags::CREATE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(flash::directory(path))?;
                open_to_append(path, OFlags::CREATE)?
            }
            other => other?,
        };
        if file.metadata()?.len() == 0 || self.is_dirty {
            return Ok(file);
        }
        // Somebody put lines there that are not the agent's: they stay to be looked at.
        let mut aside = path.clone().into_os_string();
        aside.push(BAD);
        log::warn!("{} is not the agent's: it is set aside as *{BAD}", path.display());
        fs::rename(path, aside)?;
        open_to_append(path, OFlags::CREATE)
    }

    fn go_on(&self) -> Result<File, NotAppended> {
        match open_to_append(&self.piece.path, OFlags::empty()) {
            Ok(file) => Ok(file),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(NotAppended::Touched)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn open_to_append(path: &Path, more: OFlags) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW | more;
    Ok(File::from(rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o640))?))
}

/// The oldest files, those that need not be kept: begun before `kept_since`, or over `max_bytes` together. Always a run
/// from the oldest on, so that what is left has no holes; never the newest.
pub(super) fn outdated(pieces: &[(Piece, u64)], kept_since: Option<Date>, max_bytes: u64) -> Vec<Piece> {
    let mut bytes: u64 = pieces.iter().map(|(_, len)| len).sum();
    let mut old = Vec::new();
    for (at, (piece, len)) in pieces.iter().enumerate() {
        let later = &pieces[at + 1..];
        // A day from before the clock was set is no age: such a file is as old as the next one whose day is known.
        let known = pieces[at..].iter().map(|(piece, _)| piece.date).find(|date| is_clock_set(*date));
        let is_old = kept_since.zip(known).is_some_and(|(since, date)| date < since);
        if later.is_empty() || (!is_old && bytes <= max_bytes) {
            break;
        }
        bytes -= len;
        old.push(piece.clone());
    }
    old
}

#[cfg(test)]
mod tests {
    use super::super::chain::tests::lines;
    use super::*;

    fn date(text: &str) -> Date {
        parse_day(text).expect("a date")
    }

    #[test]
    fn names_are_read_exactly_and_ordered_by_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ours = ["audit-2026-11-23.9.jsonl", "audit-1970-01-01.57.jsonl", "audit-2026-11-22.100.jsonl"];
        let not = [
            "audit-2026-11-23.jsonl",
            "audit-2026-11-23.09.jsonl",
            "audit-2026-11-23.0.jsonl",
            "audit-2026-11-23.9.jsonl.bad",
            "audit-2026-02-30.9.jsonl",
            "audit-2026-11-23.+9.jsonl",
            "loader-2026-11-23.log",
        ];
        for name in ours.iter().chain(&not) {
            fs::write(dir.path().join(name), "").expect("written");
        }
        let found = pieces(dir.path()).expect("readable");
        let names: Vec<_> = found.iter().map(|piece| piece.path.file_name().expect("a name").to_owned()).collect();
        assert_eq!(names, ours);
        assert_eq!(pieces(&dir.path().join("none")).expect("nothing there"), []);
    }

    #[test]
    fn a_tail_is_read_up_to_what_is_no_next_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("f");
        let lines = lines(4);
        let text = |lines: &[&str]| lines.join("\n") + "\n";
        let read = |content: &str| {
            fs::write(&path, content).expect("written");
            let tail = tail(&path).expect("readable");
            assert_eq!(tail.whole + tail.torn, content.len() as u64);
            (tail.lines.len(), tail.torn)
        };
        let whole = text(&[&lines[0], &lines[1], &lines[2]]);
        assert_eq!(read(&whole), (3, 0));
        assert_eq!(read(""), (0, 0));
        // Cut at every byte of the last line.
        let two = text(&[&lines[0], &lines[1]]).len();
        for end in two + 1..whole.len() {
            assert_eq!(read(&whole[..end]), (2, (end - two) as u64));
        }
        // What some file systems leave after a power cut.
        assert_eq!(read(&(whole.clone() + "\0\0\0\0\n\0")), (3, 6));
        // A hole, and the same line again.
        assert_eq!(read(&text(&[&lines[0], &lines[2]])).0, 1);
        assert_eq!(read(&text(&[&lines[0], &lines[0]])).0, 1);
    }

    #[test]
    fn a_tail_of_a_long_file_is_bounded() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("f");
        let all = lines(2000).join("\n") + "\n";
        assert!(all.len() as u64 > AUDIT_TAIL_BYTES);
        fs::write(&path, &all).expect("written");
        let tail = tail(&path).expect("readable");
        assert!(tail.lines.len() > 600 && tail.lines.len() < 2000, "{}", tail.lines.len());
        assert_eq!((tail.lines.last().map(|seen| seen.head.count), tail.torn), (Some(2000), 0));
        assert_eq!(tail.whole, all.len() as u64);
    }

    #[test]
    fn only_the_oldest_go_and_never_the_newest() {
        let dir = Path::new("/x");
        let piece = |day, first| (Piece::new(dir, date(day), first), 10);
        let firsts = |pieces: Vec<_>, since, bytes| -> Vec<u64> {
            outdated(&pieces, since, bytes).iter().map(|piece| piece.first).collect()
        };
        let row =
            || vec![piece("2026-10-01", 1), piece("2026-10-20", 5), piece("2026-10-24", 9), piece("2026-11-23", 12)];
        let since = Some(date("2026-10-24"));
        assert_eq!(firsts(row(), since, 100), [1, 5]);
        assert_eq!(firsts(row(), None, 100), [0; 0], "no age without a clock");
        assert_eq!(firsts(row(), None, 20), [1, 5], "the bound in bytes");
        assert_eq!(firsts(row(), None, 0), [1, 5, 9], "the newest stays");
        // Before its clock was set the board wrote the first one; it is as old as the next.
        let row = vec![piece("1970-01-01", 1), piece("2026-10-20", 5), piece("1970-01-01", 9), piece("2026-11-23", 12)];
        assert_eq!(firsts(row, since, 100), [1, 5]);
        let row = vec![piece("1970-01-01", 1), piece("1970-01-02", 5), piece("2026-10-20", 9), piece("2026-11-23", 12)];
        assert_eq!(firsts(row, since, 100), [1, 5, 9]);
    }

    #[test]
    fn half_a_line_is_taken_away_and_a_touched_file_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut current = Current::new(Piece::new(&dir.path().join("log"), date("2026-11-23"), 1), 0);
        current.append(b"a\n").expect("the directory is made");
        let path = current.piece.path.clone();
        current.is_dirty = true;
        fs::write(&path, "a\nhalf").expect("written");
        current.append(b"b\n").expect("appended");
        assert_eq!(fs::read(&path).expect("read"), b"a\nb\n");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("there").permissions());
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        for content in ["a\nb\nc\n", "a\n"] {
            fs::write(&path, content).expect("written");
            assert!(matches!(current.append(b"c\n"), Err(NotAppended::Touched)), "{content}");
        }
        fs::remove_file(&path).expect("removed");
        assert!(matches!(current.append(b"c\n"), Err(NotAppended::Touched)));
        assert!(!path.exists(), "no file is made whose name is wrong");
        // Lines of somebody else under the name of a new file.
        fs::write(&path, "forged\n").expect("written");
        let mut current = Current::new(current.piece, 0);
        current.append(b"a\n").expect("set aside");
        assert_eq!(fs::read(&path).expect("read"), b"a\n");
        assert_eq!(fs::read(path.with_extension("jsonl.bad")).expect("read"), b"forged\n");
    }

    #[test]
    fn a_file_at_its_bound_takes_no_more() {
        let piece = Piece::new(Path::new("/x"), date("2026-11-23"), 1);
        let current = Current::new(piece, AUDIT_FILE_BYTES - 10);
        assert!(current.takes(date("2026-11-23"), 10));
        assert!(!current.takes(date("2026-11-23"), 11));
        assert!(!current.takes(date("2026-11-22"), 1), "another day, also an earlier one");
    }
}
