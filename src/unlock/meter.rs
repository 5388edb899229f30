//! The gauge that an observer reads while the machine works: the state, and how far its work is.

use std::cell::Cell;
use std::time::Duration;

use event_listener::{Event, EventListener};

use super::{Progress, State};
use crate::net::Clock;

/// State and progress of the unlock, written by the machine and its parts, read by anyone at any time.
#[derive(Debug)]
pub struct Meter {
    clock: Clock,
    state: Cell<State>,
    /// The stage whose numbers stand here; kept when the state turns to `ready` or `error`.
    stage: Cell<Option<State>>,
    began: Cell<Duration>,
    ended: Cell<Option<Duration>>,
    done: Cell<u64>,
    total: Cell<Option<u64>>,
    images_done: Cell<Option<u32>>,
    images_total: Cell<Option<u32>>,
    /// How long each state of the last unlock took.
    took: Cell<[Option<Duration>; State::ALL.len()]>,
    moved: Event,
}

impl Meter {
    /// A meter at rest.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Cell::new(State::Idle),
            stage: Cell::new(None),
            began: Cell::new(Duration::ZERO),
            ended: Cell::new(None),
            done: Cell::new(0),
            total: Cell::new(None),
            images_done: Cell::new(None),
            images_total: Cell::new(None),
            took: Cell::default(),
            moved: Event::new(),
        }
    }

    /// A stage's work begins: its bytes count from zero.
    pub fn begin(&self, state: State, total_bytes: Option<u64>) {
        self.take_time();
        self.turn(state);
        self.stage.set(Some(state));
        self.began.set(self.clock.now());
        self.ended.set(None);
        self.done.set(0);
        self.total.set(total_bytes);
        if state == State::Authenticating {
            self.took.set(Default::default());
            self.images_done.set(None);
            self.images_total.set(None);
        }
    }

    /// Nothing is under way any more.
    pub fn rest(&self, state: State) {
        self.take_time();
        self.turn(state);
        self.ended.set(Some(self.clock.now()));
    }

    /// The state that ends now took this long.
    fn take_time(&self) {
        let state = self.state.get();
        let mut took = self.took.get();
        if let (true, Some(entry)) = (state.is_running(), took.get_mut(state as usize)) {
            // A stage may begin anew within one unlock: its times add up.
            *entry = Some(entry.unwrap_or_default() + self.clock.now().saturating_sub(self.began.get()));
            self.took.set(took);
        }
    }

    /// How long each state of the last unlock took, as far as it has ended.
    pub fn stages(&self) -> impl Iterator<Item = (State, Duration)> {
        State::ALL.into_iter().zip(self.took.get()).filter_map(|(state, took)| Some((state, took?)))
    }

    fn turn(&self, state: State) {
        if self.state.replace(state) != state {
            self.moved.notify(usize::MAX);
        }
    }

    /// Ends when the state is another one. Who needs the state looks at it after asking for this, not before.
    pub fn moved(&self) -> EventListener {
        self.moved.listen()
    }

    /// What an observer sees.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Bytes of this stage that are done; the part that does the work counts here.
    pub fn done(&self) -> &Cell<u64> {
        &self.done
    }

    /// The work of this stage in bytes, once it is known.
    pub fn expect_bytes(&self, total: u64) {
        self.total.set(Some(total));
    }

    /// Images of the archive, once they are known.
    pub fn expect_images(&self, total: u32) {
        self.images_total.set(Some(total));
        self.images_done.set(self.images_done.get().filter(|&done| done <= total));
    }

    /// Images that the engine has been seen to hold. Within one unlock they do not become fewer, though they are counted
    /// again when all of them are asked for.
    pub fn confirm_images(&self, done: u32) {
        self.images_done.set(self.images_done.get().max(Some(done)));
    }

    /// How far the work is, with the mean rate of this stage.
    pub fn progress(&self) -> Progress {
        let Some(stage) = self.stage.get() else { return Progress::default() };
        let elapsed = self.ended.get().unwrap_or_else(|| self.clock.now()).saturating_sub(self.began.get());
        let done = self.done.get();
        let total = self.total.get();
        let rate = u64::try_from(u128::from(done) * 1000 / elapsed.as_millis().max(1)).ok().filter(|rate| *rate > 0);
        let left = match (total, rate) {
            (Some(total), Some(rate)) if self.state.get().is_running() => {
                Some(total.saturating_sub(done).div_ceil(rate))
            }
            _ => None,
        };
        let has_bytes = total.is_some() || done > 0;
        Progress {
            stage: Some(stage.as_str()),
            images_done: self.images_done.get(),
            images_total: self.images_total.get(),
            bytes_done: has_bytes.then_some(done),
            bytes_total: total,
            bytes_per_second: rate,
            seconds_left: left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_come_from_the_clock() {
        let clock = Clock::manual();
        let meter = Meter::new(clock.clone());
        assert_eq!(meter.progress(), Progress::default());
        meter.begin(State::LoadingImages, Some(1000));
        clock.advance(Duration::from_secs(2));
        meter.done().set(500);
        let progress = meter.progress();
        assert_eq!(progress.stage, Some("loading_images"));
        assert_eq!(progress.bytes_per_second, Some(250));
        assert_eq!(progress.seconds_left, Some(2));
    }

    #[test]
    fn at_rest_the_numbers_stand_still() {
        let clock = Clock::manual();
        let meter = Meter::new(clock.clone());
        meter.begin(State::LoadingImages, Some(1000));
        clock.advance(Duration::from_secs(2));
        meter.done().set(1000);
        meter.rest(State::Ready);
        clock.advance(Duration::from_secs(100));
        let progress = meter.progress();
        assert_eq!(progress.bytes_per_second, Some(500));
        assert_eq!(progress.seconds_left, None);
        assert_eq!(meter.state(), State::Ready);
    }

    #[test]
    fn whoever_listens_is_told_of_another_state_and_of_nothing_else() {
        use smol::future::{block_on, poll_once};

        let meter = Meter::new(Clock::manual());
        let mut moved = meter.moved();
        meter.rest(State::Idle);
        meter.expect_bytes(7);
        assert!(block_on(poll_once(&mut moved)).is_none());
        meter.begin(State::Authenticating, None);
        assert!(block_on(poll_once(&mut moved)).is_some());
        let mut moved = meter.moved();
        meter.begin(State::Authenticating, None);
        assert!(block_on(poll_once(&mut moved)).is_none(), "the same state again");
        meter.rest(State::Error);
        assert!(block_on(poll_once(&mut moved)).is_some());
    }

    #[test]
    fn a_stage_without_bytes_shows_none() {
        let meter = Meter::new(Clock::manual());
        meter.begin(State::Authenticating, None);
        assert_eq!(meter.progress().bytes_done, None);
        assert_eq!(meter.progress().bytes_per_second, None);
    }
}
