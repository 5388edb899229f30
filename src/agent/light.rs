//! Shows the unlock's state on the board's light.

use std::rc::Rc;

use smol::Timer;

use crate::board::{Board, Light, LightError, Pattern};
use crate::config;
use crate::error::chain;
use crate::unlock::{Meter, State};

/// What the light shows in each state; `docs/CONTROL-PORT.md` has the same table.
const fn pattern(state: State) -> Pattern {
    match state {
        State::Idle => Pattern::WAITING,
        State::Authenticating | State::DownloadingKey => Pattern::ASKING,
        State::Decrypting | State::LoadingImages => Pattern::WORKING,
        State::Ready => Pattern::STEADY,
        State::Error => Pattern::FAILED,
    }
}

/// The light that the configuration names, or the board's profile; none where there is none, or it is not ours to switch.
pub(super) fn find(config: &config::Board, board: &Board) -> Option<Light> {
    let named = match &config.led {
        config::Led::None => return None,
        config::Led::Named(name) => Some(std::slice::from_ref(name)),
        config::Led::Auto => None,
    };
    match Light::take(&config.root, named.unwrap_or(&board.profile.led.names)) {
        Ok(light) => {
            log::info!("the light {} shows the state", light.name());
            Some(light)
        }
        // A board whose profile knows none, and any board's container: as it should be.
        Err(LightError::None { names }) if named.is_none() => {
            log::debug!("no light: none of {names:?} under /sys/class/leds");
            None
        }
        Err(error) => {
            log::warn!("no light: {}; the udev rule of the package gives it to the agent's group", chain(&error));
            None
        }
    }
}

/// Plays what the state asks for until the light fails; pending for ever where there is none. It sleeps through a state
/// whose pattern stands still.
pub(super) async fn show(light: Option<Light>, meter: Rc<Meter>) {
    let Some(light) = light else { return std::future::pending().await };
    loop {
        let mut moved = meter.moved();
        let state = meter.state();
        for phase in pattern(state).phases() {
            if let Err(error) = light.set(phase.is_lit) {
                log::warn!("the light is given up: {}", chain(&error));
                return;
            }
            let pause = async {
                match phase.lasts {
                    Some(lasts) => drop(Timer::after(lasts).await),
                    None => std::future::pending().await,
                }
            };
            let is_over = async {
                (&mut moved).await;
                true
            };
            let lasted = async {
                pause.await;
                false
            };
            if smol::future::or(is_over, lasted).await {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use smol::LocalExecutor;

    use super::*;
    use crate::net::Clock;

    /// Waits until the file says so; a light that never does ends the test by its own limit.
    async fn until(file: &Path, wanted: &str) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while fs::read_to_string(file).expect("there") != wanted {
            assert!(std::time::Instant::now() < deadline, "{} never says {wanted}", file.display());
            Timer::after(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn the_light_follows_the_state_and_is_given_back() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("sys/class/leds/ACT");
        fs::create_dir_all(&dir).expect("made");
        for (file, content) in [("trigger", "none [mmc0]"), ("brightness", "0"), ("max_brightness", "1")] {
            fs::write(dir.join(file), content).expect("written");
        }
        let light = Light::take(root.path(), &["ACT".into()]).expect("there");
        let meter = Rc::new(Meter::new(Clock::boot()));
        let executor = LocalExecutor::new();
        smol::block_on(executor.run(async {
            let shown = executor.spawn(show(Some(light), Rc::clone(&meter)));
            let brightness = dir.join("brightness");
            // Waiting: mostly dark; ready: lit, and it stays so.
            until(&brightness, "1").await;
            until(&brightness, "0").await;
            meter.rest(State::Ready);
            until(&brightness, "1").await;
            fs::write(&brightness, "untouched").expect("written");
            meter.rest(State::Ready);
            Timer::after(Duration::from_millis(50)).await;
            assert_eq!(
                fs::read_to_string(&brightness).expect("there"),
                "untouched",
                "nothing is written in a steady state"
            );
            meter.rest(State::Error);
            until(&brightness, "0").await;
            until(&brightness, "1").await;
            shown.cancel().await;
        }));
        assert_eq!(fs::read_to_string(dir.join("trigger")).expect("there"), "mmc0");
    }

    #[test]
    fn every_state_has_its_pattern() {
        assert_eq!(pattern(State::Ready), Pattern::STEADY);
        assert_ne!(pattern(State::Error), pattern(State::Idle));
        assert_ne!(pattern(State::Authenticating), pattern(State::LoadingImages));
    }
}
