//! Daily files under `[log] dir`: `loader-2026-11-23.log`, days in UTC.
//!
//! Lines wait in a bounded queue and are written by one task through lent calls. What cannot be queued or written is
//! counted, and the count is the first line when it works again. Of the directory only files of this name are ever
//! touched. While the wall clock is not set (a year before 2024) nothing is deleted for its age.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use heapless::Deque;
use log::Level;
use rustix::fs::{CWD, Mode, OFlags};
use smol::channel::{Receiver, Sender, bounded};
use time::Date;

use super::{Line, Stamp, day, is_clock_set, parse_day};
use crate::limits::{LOG_FILE_BYTES, LOG_QUEUE_LINES};
use crate::metrics;
use crate::net::lend;

/// Records of this module go to the console alone.
pub(super) const TARGET: &str = module_path!();

const BEFORE: &str = "loader-";
const AFTER: &str = ".log";

fn file_name(date: Date) -> String {
    format!("{BEFORE}{}{AFTER}", day(date))
}

/// The day of a file of this row, also of one that was set aside.
fn date_of(name: &str) -> Option<Date> {
    parse_day(name.strip_suffix(".1").unwrap_or(name).strip_prefix(BEFORE)?.strip_suffix(AFTER)?)
}

struct Entry {
    date: Date,
    line: Box<str>,
}

/// Lines on their way to flash.
pub struct Queue {
    entries: RefCell<Deque<Entry, LOG_QUEUE_LINES>>,
    lost: Cell<u64>,
    ring: Sender<()>,
    heard: Receiver<()>,
    is_closed: Cell<bool>,
}

impl Queue {
    fn new() -> Self {
        let (ring, heard) = bounded(1);
        let entries = RefCell::new(Deque::new());
        Self { entries, lost: Cell::new(0), ring, heard, is_closed: Cell::new(false) }
    }

    /// Takes a line with its end, or counts it when the queue is full.
    pub fn push(&self, date: Date, line: String) {
        let entry = Entry { date, line: line.into_boxed_str() };
        if self.entries.borrow_mut().push_back(entry).is_err() {
            self.lost.set(self.lost.get() + 1);
        }
        // Full means it has been rung already.
        let _already_rung = self.ring.try_send(());
    }

    /// All that waits, joined by file, and how many lines that is.
    fn take(&self) -> (Vec<Batch>, u64) {
        let mut batches: Vec<Batch> = Vec::new();
        let mut lines = 0;
        let mut entries = self.entries.borrow_mut();
        while let Some(entry) = entries.pop_front() {
            lines += 1;
            match batches.iter_mut().find(|batch| batch.date == entry.date) {
                Some(batch) => batch.bytes.extend_from_slice(entry.line.as_bytes()),
                None => batches.push(Batch { date: entry.date, bytes: entry.line.into_string().into_bytes() }),
            }
        }
        (batches, lines)
    }
}

/// Lines for one file.
struct Batch {
    date: Date,
    bytes: Vec<u8>,
}

/// The daily files of one directory.
pub struct Daily {
    dir: PathBuf,
    retention_days: u32,
    queue: Rc<Queue>,
    is_failing: Cell<bool>,
    swept: Cell<Option<Date>>,
}

impl Daily {
    pub(super) fn new(dir: PathBuf, retention_days: u32) -> Self {
        Self { dir, retention_days, queue: Rc::new(Queue::new()), is_failing: Cell::new(false), swept: Cell::new(None) }
    }

    /// Where lines are handed in.
    pub fn queue(&self) -> Rc<Queue> {
        Rc::clone(&self.queue)
    }

    /// Writes what is handed in, as it comes; ends after [`Daily::close`] when everything is written.
    pub async fn run(&self) {
        while self.queue.heard.recv().await.is_ok() {
            self.write_all().await;
            if self.queue.is_closed.get() {
                return;
            }
        }
    }

    /// Lets [`Daily::run`] end.
    pub fn close(&self) {
        self.queue.is_closed.set(true);
        let _already_rung = self.queue.ring.try_send(());
    }

    async fn write_all(&self) {
        loop {
            let (mut batches, lines) = self.queue.take();
            if batches.is_empty() {
                return;
            }
            let lost = self.queue.lost.replace(0);
            if lost > 0 {
                let now = Stamp::now();
                let said = Line { level: Level::Warn, text: format!("logging: {lost} lines were lost") };
                let bytes = said.dated(&now).into_bytes();
                batches.insert(0, Batch { date: now.date(), bytes });
            }
            let today = batches.iter().map(|batch| batch.date).max();
            let dir = self.dir.clone();
            match lend(move || batches.iter().try_for_each(|batch| append(&dir, batch))).await {
                Ok(()) => {
                    if self.is_failing.replace(false) {
                        log::info!("log files are written again");
                    }
                    self.sweep(today).await;
                }
                Err(error) => {
                    self.queue.lost.set(self.queue.lost.get() + lost + lines);
                    if !self.is_failing.replace(true) {
                        log::warn!("cannot write log files in {}: {error}; going on without", self.dir.display());
                    }
                    // What was handed in meanwhile waits for the next line: no turning in circles on a full disk.
                    return;
                }
            }
        }
    }

    /// Once a day, when something is written anyway: deletes files older than is kept.
    async fn sweep(&self, today: Option<Date>) {
        let Some(today) = today.filter(|date| is_clock_set(*date)) else { return };
        if self.swept.replace(Some(today)) == Some(today) {
            return;
        }
        let (dir, days) = (self.dir.clone(), i64::from(self.retention_days));
        let kept_since = today.checked_sub(time::Duration::days(days)).unwrap_or(Date::MIN);
        if let Err(error) = lend(move || delete_before(&dir, kept_since)).await {
            log::warn!("cannot delete old log files in {}: {error}", self.dir.display());
        }
    }
}

/// One file's lines in one write, at its end.
fn append(dir: &Path, batch: &Batch) -> io::Result<()> {
    let path = dir.join(file_name(batch.date));
    let open = || {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(CWD, &path, flags, Mode::from_raw_mode(0o640)).map(File::from).map_err(io::Error::from)
    };
    let mut file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir)?;
            open()?
        }
        other => other?,
    };
    let len = file.metadata()?.len();
    if len > 0 && len + batch.bytes.len() as u64 > LOG_FILE_BYTES {
        let mut aside = path.clone().into_os_string();
        aside.push(".1");
        fs::rename(&path, aside)?;
        file = open()?;
    }
    metrics::LOG_WRITTEN.add(batch.bytes.len() as u64);
    file.write_all(&batch.bytes)
}

/// Deletes the files whose day is before `kept_since`.
fn delete_before(dir: &Path, kept_since: Date) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let date = name.to_str().and_then(date_of);
        // A file from before the clock was set has no age.
        if date.is_some_and(|date| date < kept_since && is_clock_set(date)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use smol::LocalExecutor;

    use super::*;
    use crate::net::turn;

    fn date(text: &str) -> Date {
        parse_day(text).expect("a date")
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .expect("the directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    /// Runs until everything that was handed in is written or lost.
    fn run(daily: &Daily) {
        daily.close();
        turn::block_on(&LocalExecutor::new(), daily.run());
    }

    #[test]
    fn lines_go_to_the_file_of_their_day() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // The directory itself may be missing: tmpfs after a reboot.
        let daily = Daily::new(dir.path().join("log"), 30);
        for (day, line) in [("2026-11-23", "a\n"), ("2026-11-24", "b\n"), ("2026-11-23", "c\n")] {
            daily.queue().push(date(day), line.into());
        }
        run(&daily);
        let text = |name: &str| fs::read_to_string(dir.path().join("log").join(name)).expect(name);
        assert_eq!(text("loader-2026-11-23.log"), "a\nc\n");
        assert_eq!(text("loader-2026-11-24.log"), "b\n");
        let mode = fs::metadata(dir.path().join("log/loader-2026-11-23.log")).expect("it").permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    #[test]
    fn old_files_of_ours_and_nothing_else_are_deleted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ours_old = ["loader-2026-10-23.log", "loader-2025-01-01.log.1"];
        let kept = [
            "loader-2026-10-24.log",
            "audit-2020-01-01.1.jsonl",
            "loader-1970-01-01.log",
            "loader-2020-1-1.log",
            "loader-2025-02-30.log",
            "loader-2025-01-01.log.2",
            "other-2020-01-01.log",
        ];
        for name in ours_old.iter().chain(&kept) {
            fs::write(dir.path().join(name), "x").expect("written");
        }
        let daily = Daily::new(dir.path().to_owned(), 30);
        daily.queue().push(date("1970-01-01"), "clock not set\n".into());
        run(&daily);
        assert_eq!(names(dir.path()).len(), ours_old.len() + kept.len(), "no age without a clock");
        daily.queue().push(date("2026-11-23"), "now\n".into());
        run(&daily);
        let mut expected = [&kept[..], &["loader-2026-11-23.log"]].concat();
        expected.sort_unstable();
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_full_queue_counts_and_says_so_later() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let daily = Daily::new(dir.path().to_owned(), 30);
        let push = || daily.queue().push(date("2026-11-23"), "x\n".into());
        (0..LOG_QUEUE_LINES).for_each(|_| push());
        assert_eq!(daily.queue.lost.get(), 0);
        (0..3).for_each(|_| push());
        run(&daily);
        let all: String =
            names(dir.path()).iter().map(|n| fs::read_to_string(dir.path().join(n)).expect("it")).collect();
        assert_eq!(all.matches("x\n").count(), LOG_QUEUE_LINES);
        assert_eq!(all.matches("logging: 3 lines were lost").count(), 1);
    }

    #[test]
    fn a_disk_that_does_not_take_lines_costs_lines_only() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // A file in the directory's place fails for root as well, as a read-only disk does.
        let place = dir.path().join("log");
        fs::write(&place, "in the way").expect("written");
        let daily = Daily::new(place.clone(), 30);
        let push = || daily.queue().push(date("2026-11-23"), "x\n".into());
        push();
        push();
        run(&daily);
        assert!(daily.is_failing.get());
        assert_eq!(daily.queue.lost.get(), 2);
        fs::remove_file(&place).expect("out of the way");
        push();
        run(&daily);
        assert!(!daily.is_failing.get());
        let all: String = names(&place).iter().map(|n| fs::read_to_string(place.join(n)).expect("it")).collect();
        assert!(all.contains("logging: 2 lines were lost") && all.contains("x\n"), "{all}");
    }

    #[test]
    fn a_file_at_its_bound_is_set_aside() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("loader-2026-11-23.log");
        let batch = |n| Batch { date: date("2026-11-23"), bytes: vec![b'x'; n] };
        fs::write(&path, vec![b'x'; usize::try_from(LOG_FILE_BYTES).expect("64 bit") - 10]).expect("written");
        append(dir.path(), &batch(10)).expect("fits");
        assert_eq!(names(dir.path()).len(), 1);
        append(dir.path(), &batch(1)).expect("begun anew");
        assert_eq!(names(dir.path()), ["loader-2026-11-23.log", "loader-2026-11-23.log.1"]);
        assert_eq!(fs::metadata(&path).expect("it").len(), 1);
    }

    #[test]
    fn nothing_is_written_when_nothing_happens() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        run(&Daily::new(dir.path().to_owned(), 30));
        assert!(names(dir.path()).is_empty());
    }
}
