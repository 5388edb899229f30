//! The audit log: a JSON line for everything that decides who may do what, each bound to the one before by its hash.
//!
//! A line never holds a secret, an e-mail address, a model's name or a server's words: the user is the id of the token
//! (CONTRACT section 1, `nameid`). No line is lost silently: it waits in a bounded queue until it is on flash, and what the
//! queue does not hold is counted, in a line. The head, the number and hash of the last line, stands in the state, in
//! `/status` and on the console, behind the files in that order. The formats stand in ARCHITECTURE.md, "The audit log".

mod chain;
mod event;
mod files;
mod fold;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod verify;

use std::cell::{Cell, RefCell};

use heapless::Deque;
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::or;

use crate::error::Code;
use crate::limits::{AUDIT_QUEUE_LINES, AUDIT_USER_BYTES};
use crate::logging::Stamp;
use crate::net::lend;

pub use chain::{Entry, Head, NoHead};
pub use event::Event;
pub use state::Known;
pub use store::Place;
pub use verify::{Fault, Outcome, Unreadable, each_line, verify};

use fold::Folds;
use store::{Batch, NotTaken, Store};

/// What happened, before it has a number.
#[derive(Debug)]
struct Noted {
    stamp: Stamp,
    event: Event,
    user: Option<Box<str>>,
    code: Option<Code>,
    times: u64,
    /// It was told on the console without its number, because flash did not take it.
    is_told: Cell<bool>,
}

/// Takes events down.
pub struct Audit {
    waiting: RefCell<Deque<Noted, AUDIT_QUEUE_LINES>>,
    /// What the queue did not hold.
    lost: Cell<u64>,
    folds: RefCell<Folds>,
    ring: Sender<()>,
    heard: Receiver<()>,
    is_closed: Cell<bool>,
    is_failing: Cell<bool>,
    head: Cell<Head>,
    /// Lent out while flash is written.
    store: RefCell<Option<Store>>,
}

impl Audit {
    /// Opens the log and finds out where it stands. For start-up, with the state directory's lock held: it blocks on flash.
    pub fn open(place: Place) -> Self {
        let (store, broken) = Store::open(place);
        let (ring, heard) = bounded(1);
        let audit = Self {
            waiting: RefCell::default(),
            lost: Cell::new(0),
            folds: RefCell::default(),
            ring,
            heard,
            is_closed: Cell::new(false),
            is_failing: Cell::new(false),
            head: Cell::new(store.head()),
            store: RefCell::new(Some(store)),
        };
        if let Some(why) = broken {
            audit.broken(&why);
        }
        audit
    }

    fn broken(&self, why: &str) {
        log::warn!("the audit log is broken: {why}; somebody changed it, or flash lost it");
        self.push(Event::AuditBroken, None, None, 1);
    }

    /// The last line that is on flash; `None` before the first.
    pub fn head(&self) -> Option<Head> {
        Some(self.head.get()).filter(|head| head.count > 0)
    }

    /// Takes down that `event` happened, to whom (the token's user id) and with which code.
    pub fn note(&self, event: Event, user: Option<&str>, code: Option<Code>) {
        if !event.is_folded() {
            return self.push(event, user, code, 1);
        }
        match self.folds.borrow_mut().take(Stamp::now().since_boot(), event, code) {
            Some(times) => self.push(event, user, code, times),
            None => self.call(),
        }
    }

    /// The same of something that happened several times at once.
    pub fn note_times(&self, event: Event, times: u64) {
        self.push(event, None, None, times);
    }

    fn push(&self, event: Event, user: Option<&str>, code: Option<Code>, times: u64) {
        let user = user.map(|id| id[..id.floor_char_boundary(AUDIT_USER_BYTES)].into());
        let noted = Noted { stamp: Stamp::now(), event, user, code, times, is_told: Cell::new(false) };
        if let Err(noted) = self.waiting.borrow_mut().push_back(noted) {
            self.lost.set(self.lost.get().saturating_add(1));
            log::warn!("lost, no room to wait for flash: {}", noted.in_words());
        }
        self.call();
    }

    fn call(&self) {
        // Full means it has been rung already.
        let _already_rung = self.ring.try_send(());
    }

    /// Writes what is taken down, as it comes; ends after [`Audit::close`] when flash has all of it, or takes none.
    pub async fn run(&self) {
        loop {
            let until = self.folds.borrow().next();
            let rung = async {
                let _rung = self.heard.recv().await;
            };
            match until {
                // A wall or boot clock that jumps makes a line early or late, never a loop.
                Some(until) => {
                    let pause = until.saturating_sub(Stamp::now().since_boot());
                    let late = async {
                        Timer::after(pause).await;
                    };
                    or(rung, late).await;
                }
                None => rung.await,
            }
            let ends = self.is_closed.get();
            let due = self.folds.borrow_mut().due(Stamp::now().since_boot(), ends);
            for (event, code, times) in due {
                self.push(event, None, code, times);
            }
            self.write_all().await;
            if ends {
                return;
            }
        }
    }

    /// Lets [`Audit::run`] end.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.call();
    }

    async fn write_all(&self) {
        loop {
            let (lines, lost) = self.chained();
            let Some(newest) = lines.last() else { return };
            let mut batch = Batch { bytes: Vec::new(), head: newest.head };
            for line in &lines {
                batch.bytes.extend_from_slice(line.text.as_bytes());
                batch.bytes.push(b'\n');
            }
            // Only `run` writes, and there is one.
            let Some(mut store) = self.store.take() else { return };
            let has_files = store.has_files();
            let today = Stamp::now().date();
            let (store, outcome) = lend(move || {
                let outcome = store.take(&batch, today);
                (store, outcome)
            })
            .await;
            self.head.set(store.head());
            self.store.replace(Some(store));
            match outcome {
                Ok(behind) => {
                    let queued = lines.len() - usize::from(lost > 0);
                    (0..queued).for_each(|_| drop(self.waiting.borrow_mut().pop_front()));
                    self.lost.set(self.lost.get().saturating_sub(lost));
                    for line in &lines {
                        line.tell(has_files);
                    }
                    match behind {
                        Some(error) => self.failing("the head of the audit log", &error),
                        None if self.is_failing.replace(false) => log::info!("flash takes audit lines again"),
                        None => {}
                    }
                }
                Err(NotTaken::Touched) => self.broken("its file is gone, or not as long as the agent left it"),
                Err(NotTaken::Files(error)) => return self.wait_on("the audit log", &error),
                Err(NotTaken::State(error)) => return self.wait_on("the head of the audit log", &error),
            }
        }
    }

    /// What waits stays; it is tried again with the next line: no turning in circles on a full disk.
    fn wait_on(&self, what: &str, error: &std::io::Error) {
        self.failing(what, error);
        for noted in self.waiting.borrow().iter().filter(|noted| !noted.is_told.replace(true)) {
            log::warn!("waits for flash: {}", noted.in_words());
        }
    }

    fn failing(&self, what: &str, error: &std::io::Error) {
        if !self.is_failing.replace(true) {
            log::warn!("cannot write {what}: {error}; lines wait");
        }
    }

    /// What waits, as lines behind the head, and how many lost ones the last of them tells.
    fn chained(&self) -> (Vec<Line>, u64) {
        let mut head = self.head.get();
        let mut lines = Vec::new();
        let mut chain = |noted: &Noted| {
            let line = Line::behind(&head, noted);
            head = line.head;
            lines.push(line);
        };
        self.waiting.borrow().iter().for_each(&mut chain);
        let lost = self.lost.get();
        if lost > 0 {
            let (event, stamp) = (Event::AuditLost, Stamp::now());
            chain(&Noted { stamp, event, user: None, code: None, times: lost, is_told: Cell::new(false) });
        }
        (lines, lost)
    }
}

impl Noted {
    fn in_words(&self) -> String {
        let times = if self.times == 1 { String::new() } else { format!(" times {}", self.times) };
        let (user, code) = (self.user.as_deref().unwrap_or("-"), self.code.map_or("-", Code::as_str));
        format!("{} user {user:?} code {code}{times}", self.event)
    }
}

/// A line with its place in the chain.
struct Line {
    head: Head,
    text: String,
    in_words: String,
}

impl Line {
    fn behind(head: &Head, noted: &Noted) -> Self {
        let n = head.count.saturating_add(1);
        let entry = Entry {
            n,
            prev: head.hash.hex(),
            time: noted.stamp.to_string(),
            boot_ms: u64::try_from(noted.stamp.since_boot().as_millis()).unwrap_or(u64::MAX),
            event: noted.event.as_str().into(),
            user: noted.user.as_deref().map(str::to_owned),
            code: noted.code.map(|code| code.as_str().into()),
            times: noted.times,
        };
        let text = entry.to_line();
        Self { head: Head::after(n, text.as_bytes()), text, in_words: noted.in_words() }
    }

    /// On the console, with the head that it makes; whole where there is no file.
    fn tell(&self, has_files: bool) {
        let said = if has_files { &self.in_words } else { &self.text };
        log::info!("{} {} {said}", self.head.count, self.head.hash.hex());
    }
}
