//! What happens on the board, for whoever follows: the last events, and a wait for the next one.
//!
//! An event is said twice in the stream of `GET /events`: as a comment, one line for a person with `curl -N`, which a
//! browser's `EventSource` reads over, and as JSON for programs (HTML standard, section 9.2). Nothing here may hold a secret
//! or a path.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use event_listener::{Event, EventListener};
use serde::Serialize;
use smol::Timer;
use smol::future::or;

use super::answer::cut;
use super::desk::{Outgoing, UnlockView};
use crate::error::Report;
use crate::limits::{EVENT_TEXT_BYTES, EVENTS_KEPT};
use crate::logging::Stamp;

/// What kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The unlock is in another state.
    State,
    /// The unlock got on. Only the newest is kept.
    Progress,
    /// Something went wrong.
    Error,
    /// Something else that a person may want to know.
    Note,
}

impl Topic {
    /// The event's name in the stream.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Progress => "progress",
            Self::Error => "error",
            Self::Note => "note",
        }
    }
}

/// One event, as it is sent.
#[derive(Debug)]
struct Notice {
    id: u64,
    topic: Topic,
    block: String,
}

/// The data of an event.
#[derive(Serialize)]
struct Data<'a> {
    time: String,
    boot_ms: u64,
    text: &'a str,
    state: Option<&'static str>,
    percent: Option<u64>,
    code: Option<&'static str>,
    next: Option<&'a str>,
}

/// The last events of this run of the agent.
#[derive(Debug, Default)]
pub struct Feed {
    kept: RefCell<VecDeque<Rc<Notice>>>,
    last: Cell<u64>,
    news: Event,
}

impl Feed {
    /// Nothing has happened yet. The numbers begin with the milliseconds since the board was started: behind those of an
    /// agent that ran before this one, so that whoever followed that one misses nothing.
    pub fn new() -> Self {
        let begin = u64::try_from(Stamp::now().since_boot().as_millis()).unwrap_or_default();
        Self { last: Cell::new(begin), ..Self::default() }
    }

    /// The unlock's state, or how far it is.
    pub fn unlock(&self, topic: Topic, view: &UnlockView) {
        let percent = percent(view);
        let mut text = view.state.as_str().replace('_', " ");
        if topic == Topic::Progress {
            text.push_str(&numbers(view, percent));
        }
        if let Some(report) = &view.error {
            let _fits = write!(text, ": {} ({})", report.message, report.code);
        }
        self.say(topic, &text, Some(view.state.as_str()), percent, view.error.as_ref());
    }

    /// Something went wrong.
    pub fn error(&self, report: &Report) {
        self.say(Topic::Error, &report.message, None, None, Some(report));
    }

    /// Something that a person may want to know: one sentence.
    pub fn note(&self, text: &str) {
        self.say(Topic::Note, text, None, None, None);
    }

    fn say(
        &self,
        topic: Topic,
        text: &str,
        state: Option<&'static str>,
        percent: Option<u64>,
        report: Option<&Report>,
    ) {
        let stamp = Stamp::now();
        let text = cut::<EVENT_TEXT_BYTES>(text);
        let next = report.map(|report| cut::<EVENT_TEXT_BYTES>(&report.next));
        let id = self.last.get() + 1;
        self.last.set(id);
        let data = Data {
            time: stamp.to_string(),
            boot_ms: u64::try_from(stamp.since_boot().as_millis()).unwrap_or(u64::MAX),
            text: &text,
            state,
            percent,
            code: report.map(|report| report.code.as_str()),
            next: next.as_deref(),
        };
        let mut block = format!(": {} {}: {text}", uptime(stamp.since_boot()), topic.as_str());
        if let Some(next) = &next {
            let _fits = write!(block, "; next: {next}");
        }
        let json = serde_json::to_string(&data).unwrap_or_default();
        let _fits = write!(block, "\nid: {id}\nevent: {}\ndata: {json}\n\n", topic.as_str());
        let mut kept = self.kept.borrow_mut();
        if topic == Topic::Progress {
            kept.retain(|notice| notice.topic != Topic::Progress);
        }
        if kept.len() == EVENTS_KEPT {
            kept.pop_front();
        }
        kept.push_back(Rc::new(Notice { id, topic, block }));
        drop(kept);
        self.news.notify(usize::MAX);
    }

    /// The oldest that is kept of those behind `id`.
    fn after(&self, id: u64) -> Option<Rc<Notice>> {
        self.kept.borrow().iter().find(|notice| notice.id > id).cloned()
    }

    fn news(&self) -> EventListener {
        self.news.listen()
    }
}

/// A client that follows, from the oldest event that is kept or from one it has seen.
pub(super) struct Follower {
    feed: Rc<Feed>,
    seen: u64,
    heartbeat: Duration,
    text: String,
    has_begun: bool,
}

impl Follower {
    /// Behind the event `seen`; 0 is before the first. A number that no event had yet was of an earlier run: all of them.
    /// After `heartbeat` without one it says that it is still there.
    pub(super) fn new(feed: Rc<Feed>, seen: u64, heartbeat: Duration) -> Self {
        let seen = if seen > feed.last.get() { 0 } else { seen };
        Self { feed, seen, heartbeat, text: String::new(), has_begun: false }
    }
}

impl Outgoing for Follower {
    fn length(&self) -> Option<u64> {
        None
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Report> {
        if !std::mem::replace(&mut self.has_begun, true) {
            // At once, so that a client sees that it follows; and how soon to come back where the line breaks.
            ": following\nretry: 2000\n\n".clone_into(&mut self.text);
            return Ok(Some(self.text.as_bytes()));
        }
        loop {
            let news = self.feed.news();
            if let Some(notice) = self.feed.after(self.seen) {
                self.seen = notice.id;
                self.text.clone_from(&notice.block);
                return Ok(Some(self.text.as_bytes()));
            }
            let is_late = or(
                async {
                    news.await;
                    false
                },
                async {
                    Timer::after(self.heartbeat).await;
                    true
                },
            );
            if is_late.await {
                // Shows the client that the board lives, and the board that the client does.
                ": still here\n\n".clone_into(&mut self.text);
                return Ok(Some(self.text.as_bytes()));
            }
        }
    }
}

fn percent(view: &UnlockView) -> Option<u64> {
    let (done, total) = (view.progress.bytes_done?, view.progress.bytes_total?);
    (u128::from(done) * 100).checked_div(u128::from(total)).and_then(|percent| u64::try_from(percent.min(100)).ok())
}

fn numbers(view: &UnlockView, percent: Option<u64>) -> String {
    let progress = &view.progress;
    let mut text = String::new();
    if let Some(percent) = percent {
        let _fits = write!(text, ", {percent} %");
    }
    if let (Some(done), Some(total)) = (progress.images_done, progress.images_total) {
        let _fits = write!(text, ", {done} of {total} images");
    }
    if let Some(rate) = progress.bytes_per_second {
        let _fits = write!(text, ", {}.{} MB/s", rate / 1_000_000, rate / 100_000 % 10);
    }
    if let Some(left) = progress.seconds_left {
        let _fits = write!(text, ", {left} s left");
    }
    text
}

/// Time since the board was started, for people: the wall clock may be wrong.
fn uptime(since: Duration) -> String {
    let seconds = since.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use smol::future::{block_on, poll_once};

    use super::*;
    use crate::error::Code;
    use crate::limits::EVENT_HEARTBEAT;
    use crate::unlock::{Progress, State};

    fn view(state: State, done: u64) -> UnlockView {
        let progress = Progress {
            bytes_done: Some(done),
            bytes_total: Some(200),
            images_done: Some(1),
            images_total: Some(4),
            bytes_per_second: Some(61_240_000),
            seconds_left: Some(9),
            ..Progress::default()
        };
        UnlockView { state, error: None, progress }
    }

    fn behind(feed: &Rc<Feed>, seen: u64) -> Follower {
        Follower::new(Rc::clone(feed), seen, EVENT_HEARTBEAT)
    }

    fn next(follower: &mut Follower) -> Option<String> {
        let piece = block_on(poll_once(follower.next()))?;
        Some(String::from_utf8(piece.expect("never fails").expect("never ends").to_vec()).expect("text"))
    }

    fn id(block: &str) -> u64 {
        block.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").parse().expect("a number")
    }

    #[test]
    fn an_event_is_a_line_for_people_and_json_for_programs() {
        let feed = Rc::new(Feed::new());
        feed.unlock(Topic::Progress, &view(State::LoadingImages, 86));
        let mut follower = behind(&feed, 0);
        assert_eq!(next(&mut follower).as_deref(), Some(": following\nretry: 2000\n\n"));
        let block = next(&mut follower).expect("an event");
        let first = block.lines().next().expect("a line");
        assert!(
            first.ends_with("progress: loading images, 43 %, 1 of 4 images, 61.2 MB/s, 9 s left")
                && first.starts_with(": "),
            "{block}"
        );
        let data = block.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
        let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
        assert_eq!((&data["state"], &data["percent"]), (&"loading_images".into(), &43.into()));
        assert!(block.ends_with("\n\n") && next(&mut follower).is_none(), "then it waits");
        feed.note("hello");
        assert!(next(&mut follower).is_some_and(|block| block.contains(" note: hello\n")));
    }

    #[test]
    fn the_last_ones_are_kept_and_progress_pushes_none_out() {
        let feed = Rc::new(Feed::new());
        feed.note("first");
        for done in 0..200 {
            feed.unlock(Topic::Progress, &view(State::LoadingImages, done));
        }
        let mut follower = behind(&feed, 0);
        next(&mut follower);
        assert!(next(&mut follower).is_some_and(|block| block.contains("first")));
        assert!(next(&mut follower).is_some_and(|block| block.contains("99 %")));
        assert!(next(&mut follower).is_none());
        for n in 0..EVENTS_KEPT + 3 {
            feed.note(&n.to_string());
        }
        let mut follower = behind(&feed, 0);
        next(&mut follower);
        let blocks: Vec<String> = std::iter::from_fn(|| next(&mut follower)).collect();
        assert_eq!(blocks.len(), EVENTS_KEPT);
        assert!(blocks[0].contains(" note: 3\n"), "the oldest went");
        let seen = id(&blocks[10]);
        let mut again = behind(&feed, seen);
        next(&mut again);
        assert_eq!(next(&mut again).map(|block| id(&block)), Some(seen + 1));
        let mut other_run = behind(&feed, u64::MAX);
        next(&mut other_run);
        assert_eq!(next(&mut other_run).map(|block| id(&block)), Some(id(&blocks[0])), "of an earlier run: all");
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let feed = Rc::new(Feed::new());
        let text = "a\nid: 9\r\nevent: x\u{1b}[31m".repeat(40);
        feed.error(&Report { code: Code::Internal, message: text.clone(), next: text });
        let mut follower = behind(&feed, 0);
        next(&mut follower);
        let block = next(&mut follower).expect("an event");
        assert_eq!(block.lines().count(), 5, "{block}");
        assert!(!block.contains('\u{1b}') && block.len() < 6 * EVENT_TEXT_BYTES, "{block}");
    }
}
