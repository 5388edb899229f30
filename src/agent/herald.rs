//! Tells those who follow how the unlock gets on.

use std::rc::Rc;

use smol::Timer;
use smol::future::or;

use super::unlocker::Unlocker;
use crate::control::{Feed, Topic, UnlockView};
use crate::limits::EVENT_PROGRESS;
use crate::unlock::{Progress, State};

/// Says each state that the unlock comes to, and while it runs, once a second, how far it is. It sleeps while nothing runs.
pub(super) async fn tell(unlocker: Rc<Unlocker>, feed: Rc<Feed>) {
    let mut said: Option<(State, Progress)> = None;
    loop {
        let moved = unlocker.meter().moved();
        let view = view(&unlocker);
        let now = (view.state, view.progress);
        if said.as_ref().map(|(state, _)| *state) != Some(now.0) {
            feed.unlock(Topic::State, &view);
        } else if said.as_ref() != Some(&now) {
            feed.unlock(Topic::Progress, &view);
        }
        said = Some(now);
        if view.state.is_running() {
            or(moved, async {
                Timer::after(EVENT_PROGRESS).await;
            })
            .await;
        } else {
            moved.await;
        }
    }
}

/// The unlock at a glance.
pub(super) fn view(unlocker: &Unlocker) -> UnlockView {
    let meter = unlocker.meter();
    UnlockView {
        state: meter.state(),
        error: (meter.state() == State::Error).then(|| unlocker.error()).flatten(),
        progress: meter.progress(),
    }
}
