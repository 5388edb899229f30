//! What a command prints: lines that survive a closed pipe, and a progress bar where somebody watches.

use std::io::{self, IsTerminal, Write};

use super::client::{Progress, UnlockStatus};
pub(super) use crate::error::size;

/// Where a command prints.
pub(super) struct Screen<'a> {
    out: Box<dyn Write + 'a>,
    complaints: Box<dyn Write + 'a>,
    is_live: bool,
    /// The bar or line shown last.
    shown: String,
}

impl Screen<'static> {
    pub(super) fn of_process() -> Self {
        let is_live = io::stdout().is_terminal();
        Self { out: Box::new(io::stdout()), complaints: Box::new(io::stderr()), is_live, shown: String::new() }
    }
}

impl<'a> Screen<'a> {
    /// Into memory.
    pub(super) fn into(out: &'a mut Vec<u8>, is_live: bool) -> Self {
        Self { out: Box::new(out), complaints: Box::new(io::sink()), is_live, shown: String::new() }
    }
}

impl Screen<'_> {
    /// From now on everything goes to standard error: standard output carries a model.
    pub(super) fn stand_aside(&mut self) {
        self.out = Box::new(io::stderr());
        self.is_live = io::stderr().is_terminal();
    }

    /// A line that the next one replaces on a terminal; an ordinary one in a pipe.
    pub(super) fn pass(&mut self, text: &str) {
        if self.is_live {
            self.show(String::new(), String::new, || text.to_owned());
        } else {
            self.print(text);
        }
    }

    /// One or more lines. A reader that went away (`| head`) is no fault.
    pub(super) fn print(&mut self, text: &str) {
        let _reader_may_be_gone = self.clear().and_then(|()| writeln!(self.out, "{text}"));
    }

    /// To standard error, with the program's name.
    pub(super) fn complain(&mut self, text: &str) {
        let _reader_may_be_gone = self.clear().and_then(|()| writeln!(self.complaints, "azaion-loader: {text}"));
    }

    /// Shows how far it is: a bar that moves on a terminal; else a line whenever state, image or tenth changes.
    pub(super) fn progress(&mut self, status: &UnlockStatus) {
        let progress = &status.progress;
        let tenth = percent(progress).map(|percent| percent / 10);
        let mark = format!("{} {:?} {tenth:?}", status.state, progress.images_done);
        self.show(mark, || line(status), || bar(status));
    }

    /// The same for work on bytes, as far as it is known how many there are.
    pub(super) fn work(&mut self, what: &str, progress: &Progress) {
        let done = progress.bytes_done.unwrap_or_default();
        let step = percent(progress).map_or(done / UNKNOWN_STEP_BYTES, |percent| percent / 10);
        let shown = |share: Option<String>| {
            let parts = [what.to_owned()].into_iter().chain(share).chain(numbers(progress));
            parts.collect::<Vec<_>>().join("  ")
        };
        let written = || percent(progress).map(|percent| format!("{percent:3} %"));
        self.show(format!("{what} {step}"), || shown(written()), || shown(percent(progress).map(drawn)));
    }

    /// A bar that replaces the last one, or a line where the mark changed.
    fn show(&mut self, mark: String, line: impl FnOnce() -> String, bar: impl FnOnce() -> String) {
        if self.is_live {
            let bar = bar();
            let _reader_may_be_gone = self.clear().and_then(|()| {
                write!(self.out, "{bar}")?;
                self.out.flush()
            });
            self.shown = bar;
        } else if mark != self.shown {
            let _reader_may_be_gone = writeln!(self.out, "{}", line());
            self.shown = mark;
        }
    }

    /// Takes a bar away before something else is said.
    fn clear(&mut self) -> io::Result<()> {
        if self.is_live && !self.shown.is_empty() {
            self.shown.clear();
            // Back to the first column, erase to the end of the line (ECMA-48).
            write!(self.out, "\r\x1b[K")?;
            self.out.flush()?;
        }
        Ok(())
    }
}

/// Work on bytes of an unknown number: a line in a pipe for each so many.
const UNKNOWN_STEP_BYTES: u64 = 1 << 30;

/// Text from outside without what moves cursors or forges lines.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn percent(progress: &Progress) -> Option<u64> {
    let (done, total) = (progress.bytes_done?, progress.bytes_total?);
    (total > 0).then(|| u64::try_from(u128::from(done.min(total)) * 100 / u128::from(total)).unwrap_or(100))
}

/// `loading_images  61 %  183.0 MiB of 300.0 MiB  95.2 MiB/s  1 s left  image 1 of 2`
fn line(status: &UnlockStatus) -> String {
    let mut parts = vec![plain(&status.state)];
    parts.extend(percent(&status.progress).map(|percent| format!("{percent:3} %")));
    parts.extend(numbers(&status.progress));
    parts.join("  ")
}

fn bar(status: &UnlockStatus) -> String {
    let Some(percent) = percent(&status.progress) else { return line(status) };
    let mut parts = vec![plain(&status.state), drawn(percent)];
    parts.extend(numbers(&status.progress));
    parts.join("  ")
}

/// `[############--------]  61 %`
fn drawn(percent: u64) -> String {
    const COLUMNS: usize = 20;
    let full = usize::try_from(percent).unwrap_or(100) * COLUMNS / 100;
    format!("[{}{}] {percent:3} %", "#".repeat(full), "-".repeat(COLUMNS - full))
}

fn numbers(progress: &Progress) -> Vec<String> {
    let mut parts = Vec::new();
    match (progress.bytes_done, progress.bytes_total) {
        (Some(done), Some(total)) => parts.push(format!("{} of {}", size(done), size(total))),
        (Some(done), None) => parts.push(size(done)),
        (None, _) => {}
    }
    parts.extend(progress.bytes_per_second.map(|rate| format!("{}/s", size(rate))));
    parts.extend(progress.seconds_left.map(|seconds| format!("{seconds} s left")));
    if let (Some(done), Some(total)) = (progress.images_done, progress.images_total) {
        parts.push(format!("images {done} of {total}"));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(done: u64) -> UnlockStatus {
        let progress = Progress {
            images_done: Some(0),
            images_total: Some(2),
            bytes_done: Some(done),
            bytes_total: Some(300 << 20),
            bytes_per_second: Some(95 << 20),
            seconds_left: Some(1),
        };
        UnlockStatus { state: "loading_images".into(), error: None, progress, line: String::new() }
    }

    #[test]
    fn a_terminal_sees_one_moving_bar_and_then_the_last_word() {
        let mut out = Vec::new();
        let mut screen = Screen::into(&mut out, true);
        screen.progress(&status(150 << 20));
        screen.progress(&status(300 << 20));
        screen.print("ready");
        drop(screen);
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(
            text,
            "loading_images  [##########----------]  50 %  150.0 MiB of 300.0 MiB  95.0 MiB/s  1 s left  images 0 of 2\
             \r\x1b[Kloading_images  [####################] 100 %  300.0 MiB of 300.0 MiB  95.0 MiB/s  1 s left  \
             images 0 of 2\r\x1b[Kready\n"
        );
    }

    #[test]
    fn a_pipe_gets_a_line_per_tenth() {
        let mut out = Vec::new();
        let mut screen = Screen::into(&mut out, false);
        for done in 0..=300 {
            screen.progress(&status(done << 20));
        }
        drop(screen);
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text.lines().count(), 11, "{text}");
        assert!(!text.contains('\r') && !text.contains('\x1b'));
    }

    #[test]
    fn work_of_unknown_length_shows_bytes_and_rate() {
        let progress = |done: u64, total| Progress {
            images_done: None,
            images_total: None,
            bytes_done: Some(done << 20),
            bytes_total: total,
            bytes_per_second: Some(800 << 20),
            seconds_left: None,
        };
        let mut out = Vec::new();
        let mut screen = Screen::into(&mut out, false);
        for done in 0..=2048 {
            screen.work("encrypting", &progress(done, None));
        }
        screen.work("checking", &progress(1024, Some(2 << 30)));
        drop(screen);
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(
            text,
            "encrypting  0 B  800.0 MiB/s\nencrypting  1.0 GiB  800.0 MiB/s\nencrypting  2.0 GiB  800.0 MiB/s\n\
             checking   50 %  1.0 GiB of 2.0 GiB  800.0 MiB/s\n"
        );
        let mut out = Vec::new();
        Screen::into(&mut out, true).work("checking", &progress(1024, Some(2 << 30)));
        let bar = "checking  [##########----------]  50 %  1.0 GiB of 2.0 GiB  800.0 MiB/s";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), bar);
    }

    #[test]
    fn sizes_as_people_read_them() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "17179869183.9 GiB");
    }

    #[test]
    fn nothing_from_outside_moves_the_cursor() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a [2Jb c");
    }
}
