//! What the agent says: to the console always, to daily files when `[log] dir` is set.
//!
//! A line is said when something happens and only then: an idle agent writes nothing. Lines to flash wait in a bounded
//! queue and are written off the loop; a disk that is full or read-only costs lines, never the agent. Libraries are held
//! at `warn`: their finer levels print headers, and a header may hold a token. Nothing here may log a secret, and the
//! file writer's own words go to the console alone, or a full disk would feed itself.

mod console;
mod files;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use log::{Level, LevelFilter, Log, Metadata, Record};
use time::{Date, Month, OffsetDateTime};

pub use files::{Daily, Queue};

use crate::config;
use crate::limits::LOG_LINE_BYTES;
use console::Console;

/// The crate's own part of a target: `azaion_loader::unlock::machine`.
const OWN: &str = env!("CARGO_CRATE_NAME");

thread_local! {
    /// Set on the loop's thread alone: a helper thread's line goes to the console.
    static QUEUE: RefCell<Option<Rc<Queue>>> = const { RefCell::new(None) };
}

/// Begins to log, once per process, on the loop's thread. What it returns must be run when `[log] dir` is set:
/// [`Daily::run`].
pub fn start(config: &config::Log) -> Option<Rc<Daily>> {
    let logger = Logger { level: config.level, console: Console::of_process(config.level) };
    log::set_max_level(config.level);
    // A second agent in one process (tests) keeps the first one's console.
    let _already_set = log::set_boxed_logger(Box::new(logger));
    let daily = config.dir.as_ref().map(|dir| Rc::new(Daily::new(dir.clone(), config.retention_days)));
    QUEUE.set(daily.as_ref().map(|daily| daily.queue()));
    daily
}

struct Logger {
    level: LevelFilter,
    console: Console,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = if metadata.target().starts_with(OWN) { self.level } else { self.level.min(LevelFilter::Warn) };
        metadata.level() <= level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        self.console.write(record);
        if record.target().starts_with(files::TARGET) {
            return;
        }
        QUEUE.with(|queue| {
            // While a line is being queued no other one is: queueing logs nothing.
            if let Ok(queue) = queue.try_borrow()
                && let Some(queue) = queue.as_ref()
            {
                let now = Stamp::now();
                queue.push(now.date(), Line::of(record).dated(&now));
            }
        });
    }

    fn flush(&self) {}
}

/// A moment on both clocks: boards without a battery start their wall clock anywhere.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    wall: OffsetDateTime,
    boot: Duration,
}

impl Stamp {
    /// Now.
    pub fn now() -> Self {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self { wall: OffsetDateTime::from(SystemTime::now()), boot: Duration::try_from(boot).unwrap_or_default() }
    }

    /// The day in UTC.
    pub fn date(&self) -> Date {
        self.wall.date()
    }

    /// Time since the board was started.
    pub fn since_boot(&self) -> Duration {
        self.boot
    }
}

/// `2026-11-23T17:38:02.123Z`
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second, milli) = self.wall.time().as_hms_milli();
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", day(self.date()))
    }
}

/// `2026-11-23`
pub(crate) fn day(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// The reverse of [`day`]: no signs, no missing zeros.
pub(crate) fn parse_day(text: &str) -> Option<Date> {
    let mut numbers = text.split('-').map(str::parse::<u16>);
    let (year, month, day_of_month) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let parsed = Date::from_calendar_date(year.into(), month, u8::try_from(day_of_month).ok()?).ok()?;
    (day(parsed) == text).then_some(parsed)
}

/// Whether the wall clock was ever set: no board with this agent is older.
pub(crate) const fn is_clock_set(date: Date) -> bool {
    date.year() >= 2024
}

/// A record as one line of bounded length without control characters: what a server says must not forge lines.
struct Line {
    level: Level,
    text: String,
}

impl Line {
    fn of(record: &Record<'_>) -> Self {
        let room = record.target().strip_prefix(OWN).map_or(record.target(), |path| path.trim_start_matches("::"));
        let room = room.split("::").next().unwrap_or_default();
        let said = if room.is_empty() { record.args().to_string() } else { format!("{room}: {}", record.args()) };
        let mut text: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if text.len() > LOG_LINE_BYTES {
            text.truncate(text.floor_char_boundary(LOG_LINE_BYTES - '…'.len_utf8()));
            text.push('…');
        }
        Self { level: record.level(), text }
    }

    /// With both clocks in front, for a file.
    fn dated(&self, now: &Stamp) -> String {
        format!("{now} +{:.3} {:<5} {}\n", now.boot.as_secs_f64(), self.level, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str, text: &str) -> String {
        Line::of(&Record::builder().target(target).args(format_args!("{text}")).level(Level::Warn).build()).text
    }

    #[test]
    fn a_line_is_one_line_of_bounded_length() {
        assert_eq!(line("azaion_loader::unlock::machine", "a\nb\x1b[31m"), "unlock: a b [31m");
        assert_eq!(line("rustls::client", "x"), "rustls: x");
        assert_eq!(line("azaion_loader", "x"), "x");
        let fits = LOG_LINE_BYTES - "rustls: ".len();
        assert_eq!(line("rustls", &"x".repeat(fits)).len(), LOG_LINE_BYTES);
        assert!(!line("rustls", &"x".repeat(fits)).contains('…'));
        let cut = line("rustls", &"ш".repeat(fits));
        assert!(cut.len() <= LOG_LINE_BYTES && cut.ends_with("ш…"), "{}", cut.len());
    }

    #[test]
    fn a_date_is_written_as_iso_8601() {
        let wall = OffsetDateTime::from_unix_timestamp(1_000_000_000).expect("2001");
        let stamp = Stamp { wall, boot: Duration::from_millis(12_345) };
        assert_eq!(stamp.to_string(), "2001-09-09T01:46:40.000Z");
        let line = Line { level: Level::Info, text: "unlock: ready".into() }.dated(&stamp);
        assert_eq!(line, "2001-09-09T01:46:40.000Z +12.345 INFO  unlock: ready\n");
    }

    #[test]
    fn libraries_are_held_at_warn() {
        let logger = Logger { level: LevelFilter::Trace, console: Console::Plain };
        let enabled = |target, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        assert!(enabled("azaion_loader::net", Level::Trace));
        assert!(enabled("rustls", Level::Warn));
        assert!(!enabled("ureq_proto::client", Level::Info));
    }
}
