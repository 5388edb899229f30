//! The console: a terminal through `simple_logger`; the journal and everything else line by line.
//!
//! `simple_logger` ends the process when standard error is gone, and waits when nobody reads it. At a desk that is
//! right; a service must do neither, so there a line is written only where it is taken at once, and counted otherwise.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use log::{Level, LevelFilter, Log, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_logger::SimpleLogger;

use super::{Line, Stamp};

/// Lines that nobody took since the last one that was taken.
static LOST: AtomicU32 = AtomicU32::new(0);

/// Where standard error leads.
pub(super) enum Console {
    /// To a person.
    Terminal(Box<SimpleLogger>),
    /// To the systemd journal, which knows the time and reads the level from a prefix (sd-daemon(3)).
    Journal,
    /// To a pipe or file.
    Plain,
}

impl Console {
    pub(super) fn of_process(level: LevelFilter) -> Self {
        if io::stderr().is_terminal() {
            Self::Terminal(Box::new(SimpleLogger::new().with_level(level)))
        } else if is_journal() {
            Self::Journal
        } else {
            Self::Plain
        }
    }

    pub(super) fn write(&self, record: &Record<'_>) {
        match self {
            Self::Terminal(logger) => logger.log(record),
            Self::Journal => send(|line| format!("<{}>{}\n", priority(line.level), line.text), &Line::of(record)),
            Self::Plain => {
                let now = Stamp::now();
                send(|line| format!("{now} {:<5} {}\n", line.level, line.text), &Line::of(record));
            }
        }
    }
}

fn send(form: impl Fn(&Line) -> String, line: &Line) {
    let lost = LOST.swap(0, Ordering::Relaxed);
    if lost > 0 {
        let said = Line { level: Level::Warn, text: format!("logging: the console did not take {lost} lines") };
        if !taken(form(&said).as_bytes()) {
            LOST.fetch_add(lost, Ordering::Relaxed);
        }
    }
    if !taken(form(line).as_bytes()) {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes to standard error if it takes a line now. A pipe that can be written to takes 4096 bytes at once (pipe(7)).
fn taken(line: &[u8]) -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_ready = poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready == 1);
    is_ready && fds[0].revents().contains(PollFlags::OUT) && stderr.lock().write_all(line).is_ok()
}

/// systemd names device and inode of the stream it gave the service: another one was put in its place otherwise.
fn is_journal() -> bool {
    let own = rustix::fs::fstat(io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    env::var("JOURNAL_STREAM").is_ok_and(|stream| own == Ok(stream))
}

/// The levels of syslog(3).
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
