//! The status light: one entry of `/sys/class/leds`, and the patterns it can show.
//!
//! A pattern is played by whoever owns the [`Light`], phase by phase, and not by a trigger of the kernel: the `timer` and
//! `pattern` triggers are modules that many kernels lack, their files appear only when the trigger is chosen and then
//! belong to root alone; and a light that goes on blinking when the agent hangs says the wrong thing. Writing `brightness`
//! does not wait: `led_set_brightness` hands what may sleep to a work queue (`drivers/leds/led-core.c` in Linux).

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::read_small;
use crate::limits::BOARD_FILE_BYTES;

/// What a light shows: phases, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern(&'static [Phase]);

/// A stretch of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// Whether it is lit.
    pub is_lit: bool,
    /// How long; `None` is until something else is to be shown.
    pub lasts: Option<Duration>,
}

const fn lit(milliseconds: u64) -> Phase {
    Phase { is_lit: true, lasts: Some(Duration::from_millis(milliseconds)) }
}

const fn dark(milliseconds: u64) -> Phase {
    Phase { is_lit: false, lasts: Some(Duration::from_millis(milliseconds)) }
}

impl Pattern {
    /// Lit without a break: the board is ready.
    pub const STEADY: Self = Self(&[Phase { is_lit: true, lasts: None }]);
    /// A short flash every two seconds: the board waits for a person.
    pub const WAITING: Self = Self(&[lit(100), dark(1900)]);
    /// Half a second on, half a second off: it talks to the cloud.
    pub const ASKING: Self = Self(&[lit(500), dark(500)]);
    /// Four times a second: it decrypts and loads.
    pub const WORKING: Self = Self(&[lit(125), dark(125)]);
    /// Three short flashes and a pause: the last unlock failed.
    pub const FAILED: Self = Self(&[lit(150), dark(150), lit(150), dark(150), lit(150), dark(1250)]);

    /// The phases, without an end.
    pub fn phases(self) -> impl Iterator<Item = Phase> {
        self.0.iter().copied().cycle()
    }
}

/// A light that is ours to switch; when it is dropped, the trigger that it had before has it again.
#[derive(Debug)]
pub struct Light {
    name: String,
    dir: PathBuf,
    /// The trigger it had.
    before: Option<String>,
    /// What `brightness` is written to light it.
    lit: String,
}

/// The light cannot be had.
#[derive(Debug)]
pub enum LightError {
    /// None of these names is under `/sys/class/leds`.
    None {
        /// The names.
        names: Vec<String>,
    },
    /// It is there, and one of its files cannot be read or written.
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for LightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None { names } => write!(f, "there is no light {} under /sys/class/leds", names.join(" or ")),
            Self::Unavailable { path, .. } => write!(f, "cannot switch the light by {}", path.display()),
        }
    }
}

impl std::error::Error for LightError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unavailable { source, .. } => Some(source),
            Self::None { .. } => None,
        }
    }
}

impl Light {
    /// Takes the first of these lights that the board seen at `root` has, away from its trigger, and leaves it dark.
    ///
    /// # Errors
    /// [`LightError`]; nothing was changed.
    pub fn take(root: &Path, names: &[String]) -> Result<Self, LightError> {
        let found = names.iter().map(|name| (name, root.join("sys/class/leds").join(name)));
        let Some((name, dir)) = found.into_iter().find(|(_, dir)| dir.exists()) else {
            return Err(LightError::None { names: names.to_vec() });
        };
        let read = |file: &str| {
            let path = dir.join(file);
            let bytes = read_small(&path, BOARD_FILE_BYTES);
            bytes.map_err(|source| LightError::Unavailable { path, source })
        };
        let triggers = read("trigger")?;
        let before = chosen(&String::from_utf8_lossy(&triggers)).map(str::to_owned);
        let most = String::from_utf8_lossy(&read("max_brightness")?).trim().parse::<u32>().unwrap_or(1);
        let light = Self { name: name.clone(), dir, before, lit: most.max(1).to_string() };
        // Brightness first: an agent that may write only one of both must not leave a light dark that has no trigger.
        light.write("brightness", "0")?;
        light.write("trigger", "none")?;
        Ok(light)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Switches it.
    ///
    /// # Errors
    /// [`LightError::Unavailable`]
    pub fn set(&self, is_lit: bool) -> Result<(), LightError> {
        self.write("brightness", if is_lit { &self.lit } else { "0" })
    }

    fn write(&self, file: &str, text: &str) -> Result<(), LightError> {
        let path = self.dir.join(file);
        let written = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|source| LightError::Unavailable { path, source })
    }
}

impl Drop for Light {
    fn drop(&mut self) {
        // Best effort: the board is going down, or the light is gone.
        let _ = self.set(false);
        if let Some(before) = &self.before {
            let _ = self.write("trigger", before);
        }
    }
}

/// The trigger in brackets: `none [mmc0] timer`.
fn chosen(triggers: &str) -> Option<&str> {
    triggers
        .split_whitespace()
        .find_map(|name| name.strip_prefix('[')?.strip_suffix(']'))
        .filter(|name| *name != "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leds(name: &str, trigger: &str, most: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("sys/class/leds").join(name);
        fs::create_dir_all(&dir).expect("made");
        for (file, content) in [("trigger", trigger), ("brightness", "7"), ("max_brightness", most)] {
            fs::write(dir.join(file), content).expect("written");
        }
        root
    }

    fn now(root: &tempfile::TempDir, name: &str, file: &str) -> String {
        let text = fs::read_to_string(root.path().join("sys/class/leds").join(name).join(file)).expect("there");
        text.trim().to_owned()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_light_is_taken_from_its_trigger_and_given_back() {
        let root = leds("led0", "none timer [mmc0] heartbeat\n", "255\n");
        let light = Light::take(root.path(), &names(&["ACT", "led0"])).expect("it is there");
        assert_eq!(light.name(), "led0");
        assert_eq!((now(&root, "led0", "trigger"), now(&root, "led0", "brightness")), ("none".into(), "0".into()));
        light.set(true).expect("lit");
        assert_eq!(now(&root, "led0", "brightness"), "255");
        drop(light);
        assert_eq!((now(&root, "led0", "trigger"), now(&root, "led0", "brightness")), ("mmc0".into(), "0".into()));
    }

    #[test]
    fn a_board_without_the_light_and_a_light_that_is_not_ours_are_told() {
        let root = leds("ACT", "[none]", "garbage");
        let error = Light::take(root.path(), &names(&["green", "blue"])).expect_err("none");
        assert_eq!(error.to_string(), "there is no light green or blue under /sys/class/leds");
        fs::remove_file(root.path().join("sys/class/leds/ACT/trigger")).expect("removed");
        let error = Light::take(root.path(), &names(&["ACT"])).expect_err("no trigger");
        assert!(matches!(error, LightError::Unavailable { .. }), "{error}");
        assert_eq!(now(&root, "ACT", "brightness"), "7", "untouched");
    }

    #[test]
    fn a_light_without_a_trigger_stays_dark_and_a_strange_maximum_is_one() {
        let root = leds("ACT", "[none] timer", "garbage");
        let light = Light::take(root.path(), &names(&["ACT"])).expect("there");
        light.set(true).expect("lit");
        assert_eq!(now(&root, "ACT", "brightness"), "1");
        drop(light);
        assert_eq!(now(&root, "ACT", "brightness"), "0");
    }

    #[test]
    fn no_two_patterns_look_alike() {
        let all = [Pattern::STEADY, Pattern::WAITING, Pattern::ASKING, Pattern::WORKING, Pattern::FAILED];
        for (n, pattern) in all.iter().enumerate() {
            assert!(!all[..n].contains(pattern));
            assert!(pattern.phases().next().is_some_and(|phase| phase.is_lit), "each begins lit");
            let wakes: Duration = pattern.phases().take(pattern.0.len()).filter_map(|phase| phase.lasts).sum();
            assert!(*pattern == Pattern::STEADY || wakes >= Duration::from_millis(250), "at most 8 wakes a second");
        }
    }
}
