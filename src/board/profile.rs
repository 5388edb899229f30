//! Profiles: what is known of a kind of board, as data. `boards/*.toml`, compiled in, and those of a directory that win
//! over them; `boards/README.md` documents the format.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::read_small;
use crate::limits::{PROFILE_BYTES, PROFILES};

/// The profiles this binary carries.
const BUILT_IN: &[&str] = &[
    include_str!("../../boards/generic-arm64.toml"),
    include_str!("../../boards/generic-x86-64.toml"),
    include_str!("../../boards/jetson-agx-orin.toml"),
    include_str!("../../boards/jetson-nano.toml"),
    include_str!("../../boards/jetson-orin-nano.toml"),
    include_str!("../../boards/jetson-xavier-nx.toml"),
    include_str!("../../boards/orange-pi-5.toml"),
    include_str!("../../boards/raspberry-pi-4.toml"),
    include_str!("../../boards/raspberry-pi-5.toml"),
    include_str!("../../boards/raspberry-pi-cm4.toml"),
    include_str!("../../boards/raspberry-pi-zero-2-w.toml"),
];

/// What is known of a kind of board.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name in `[board] profile`.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// How the board is recognised.
    pub recognise: Recognise,
    /// The facts of the fingerprint, in order.
    #[serde(rename = "fact")]
    pub facts: Vec<FactRule>,
    /// Its light.
    pub led: Led,
    /// Where the big parts of models go, and sizes that suit its flash, where the configuration says nothing.
    pub cache: Cache,
    /// Where the agent remembers things, where the configuration says nothing.
    pub state: State,
    /// What its cores do for the cipher.
    pub crypto: Crypto,
}

/// How a board is recognised: by its architecture and, if any are named, one of its device-tree names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recognise {
    /// Architectures as `uname -m` names them.
    pub arch: Vec<String>,
    /// Entries of `/proc/device-tree/compatible`; one is enough, none means any.
    pub compatible: Vec<String>,
    /// Beginnings of `/proc/device-tree/model`, where `compatible` does not tell boards apart; none means any.
    #[serde(default)]
    pub model: Vec<String>,
}

/// One fact of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactRule {
    /// What stands before it in the fingerprint. It is hashed: it must never change.
    pub label: String,
    /// Where it comes from.
    pub source: Source,
    /// What it is for.
    pub part: Part,
    /// Whether some boards of the kind do not have it.
    #[serde(default)]
    pub optional: bool,
}

/// Where a fact comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The processor's model.
    CpuModel,
    /// The memory, rounded up to the next size that is sold: what firmware and kernel keep for themselves changes with
    /// their versions, on a Jetson by more than 1 GiB.
    Memory,
    /// The system-on-chip's serial number.
    SocSerial,
    /// The product's name in the firmware's tables.
    DmiProductName,
    /// The card identification of the eMMC: soldered flash.
    EmmcCid,
    /// The hardware addresses of what network is built in.
    Mac,
    /// The card identification of the SD card.
    SdCid,
    /// The installation's id.
    MachineId,
}

impl Source {
    /// The name in the profile.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CpuModel => "cpu-model",
            Self::Memory => "memory",
            Self::SocSerial => "soc-serial",
            Self::DmiProductName => "dmi-product-name",
            Self::EmmcCid => "emmc-cid",
            Self::Mac => "mac",
            Self::SdCid => "sd-cid",
            Self::MachineId => "machine-id",
        }
    }

    /// What a person calls it, to say that it changed.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::CpuModel => "processor model",
            Self::Memory => "memory size",
            Self::SocSerial => "serial number",
            Self::DmiProductName => "product name",
            Self::EmmcCid => "eMMC",
            Self::Mac => "network address (MAC)",
            Self::SdCid => "SD card",
            Self::MachineId => "machine-id",
        }
    }

    /// Whether no two boards have it in common.
    pub const fn is_unique(self) -> bool {
        matches!(self, Self::SocSerial | Self::EmmcCid)
    }
}

/// What a fact is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// It goes into the fingerprint and so into the key.
    Key,
    /// It changes in ordinary life; only its change is reported.
    Drift,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Drift => "drift",
        })
    }
}

/// The light that shows the state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Led {
    /// Names under `/sys/class/leds`, the first that is there; kernels call one light by different names.
    pub names: Vec<String>,
}

/// The cache of models.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// The directory.
    pub dir: PathBuf,
    /// What it may take at most, in bytes.
    pub max_bytes: u64,
    /// What it leaves free, in bytes.
    pub reserve_bytes: u64,
}

/// What survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The directory.
    pub dir: PathBuf,
}

/// What a board's cores do for the cipher. For people: the code asks the processor itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crypto {
    /// Whether they have instructions for AES.
    pub aes: bool,
    /// What follows from that.
    pub note: String,
}

/// A profile that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRefused {
    /// Its file, or the directory.
    pub path: PathBuf,
    /// What is wrong, in one line.
    pub why: String,
}

impl fmt::Display for ProfileRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "board profile {}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for ProfileRefused {}

impl Profile {
    /// Parses one profile. Unknown keys are refused: a misspelt fact would silently change the key.
    ///
    /// # Errors
    /// What TOML or serde say, or what a profile cannot have, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            format!("{place}{}", error.message().replace('\n', ", "))
        })?;
        match profile.fault() {
            None => Ok(profile),
            Some(fault) => Err(fault.into()),
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let is_name = |name: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            (1..=64).contains(&name.len()) && name.chars().all(fits)
        };
        let is_led = |name: &String| (1..=64).contains(&name.len()) && !name.contains('/') && !name.starts_with('.');
        let is_label =
            |label: &str| (1..=32).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric());
        let has_two = self.facts.iter().enumerate().any(|(n, fact)| {
            self.facts[..n].iter().any(|other| other.label == fact.label || other.source == fact.source)
        });
        if !is_name(&self.name) {
            Some("name: letters a to z, digits, hyphens")
        } else if !self.facts.iter().any(|fact| fact.part == Part::Key) {
            Some("no fact has part = \"key\"")
        } else if has_two {
            Some("two facts have one label or one source")
        } else if !self.facts.iter().all(|fact| is_label(&fact.label)) {
            Some("fact.label: letters and digits, at most 32")
        } else if self.recognise.arch.is_empty() {
            Some("recognise.arch: at least one architecture")
        } else if !self.led.names.iter().all(is_led) {
            Some("led.names: names under /sys/class/leds")
        } else if !self.cache.dir.is_absolute() || !self.state.dir.is_absolute() {
            Some("cache.dir and state.dir: absolute paths")
        } else {
            None
        }
    }

    /// The profiles this binary carries. Each parses: a test sees to it.
    pub fn built_in() -> Vec<Self> {
        BUILT_IN.iter().filter_map(|text| Self::parse(text).ok()).collect()
    }

    /// The profiles of `dir`, by file name, then those built in that have no namesake there. A directory that is not there
    /// has none.
    ///
    /// # Errors
    /// [`ProfileRefused`]: one that is left out without a word could change the board's key.
    pub fn all(dir: &Path) -> Result<Vec<Self>, ProfileRefused> {
        let refused = |path: &Path, why: String| ProfileRefused { path: path.to_owned(), why };
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::built_in()),
            Err(error) => return Err(refused(dir, error.to_string())),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| refused(dir, error.to_string()))?.path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                files.push(path);
            }
            if files.len() > PROFILES {
                return Err(refused(dir, format!("more than {PROFILES} profiles")));
            }
        }
        files.sort();
        let mut all: Vec<Self> = Vec::new();
        for path in files {
            let bytes = read_small(&path, PROFILE_BYTES).map_err(|error| refused(&path, error.to_string()))?;
            let text = str::from_utf8(&bytes).map_err(|_| refused(&path, "not UTF-8".into()))?;
            let profile = Self::parse(text).map_err(|why| refused(&path, why))?;
            if all.iter().any(|other| other.name == profile.name) {
                return Err(refused(&path, format!("another file has the name {} too", profile.name)));
            }
            all.push(profile);
        }
        let own = all.len();
        all.extend(Self::built_in());
        let names: Vec<String> = all[..own].iter().map(|profile| profile.name.clone()).collect();
        let mut at = 0;
        all.retain(|profile| {
            at += 1;
            at <= own || !names.contains(&profile.name)
        });
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_that_is_compiled_in_parses_and_can_make_a_fingerprint() {
        for text in BUILT_IN {
            let profile = Profile::parse(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
            assert!(profile.facts.iter().any(|fact| fact.part == Part::Key), "{}", profile.name);
            assert!(!profile.recognise.arch.is_empty(), "{}", profile.name);
            for fact in &profile.facts {
                let spelt = format!("source = \"{}\"", fact.source.as_str());
                assert!(text.contains(&spelt), "{:?} is spelt otherwise", fact.source);
                let is_soldered = !matches!(fact.source, Source::Mac | Source::SdCid | Source::MachineId);
                assert_eq!(fact.part == Part::Key, is_soldered, "{}: {}", profile.name, fact.label);
            }
            assert_eq!(profile.cache.dir, Path::new("/var/cache/azaion-loader"), "CONTRACT section 7");
            assert_eq!(profile.state.dir, Path::new("/var/lib/azaion-loader"), "CONTRACT section 7");
        }
        assert_eq!(
            BUILT_IN.len(),
            std::fs::read_dir("boards")
                .expect("boards")
                .filter(|entry| {
                    entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|e| e == "toml"))
                })
                .count(),
            "a profile in boards/ is not compiled in"
        );
    }

    #[test]
    fn what_a_profile_cannot_have_is_refused() {
        let good = BUILT_IN[0];
        for (from, to) in [
            ("label = \"CPU\"", "label = \"CPU\"\ncolour = 1"),
            ("source = \"memory\"", "source = \"memori\""),
            ("part = \"drift\"", "part = \"maybe\""),
            ("names = []", ""),
            ("max_bytes = 4", "max_bytes = -4"),
            ("names = []", "names = [\"../x\"]"),
            ("label = \"CPU\"", "label = \"Memory\""),
            ("label = \"CPU\"", "label = \"CPU: x\""),
            ("source = \"cpu-model\"", "source = \"memory\""),
            ("dir = \"/var/cache", "dir = \"var/cache"),
            ("part = \"key\"", "part = \"drift\""),
            ("arch = [\"aarch64\"]", "arch = []"),
            ("name = \"generic-arm64\"", "name = \"Generic\""),
            ("[recognise]", "[recognize]"),
        ] {
            assert!(good.contains(from), "{from}");
            assert!(Profile::parse(&good.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_profile_of_the_directory_wins_over_its_namesake_and_comes_first() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(Profile::all(&dir.path().join("none")).expect("none there"), Profile::built_in());
        let own = BUILT_IN[0].replace("generic ARM64 board", "ours");
        std::fs::write(dir.path().join("b.toml"), &own).expect("written");
        std::fs::write(dir.path().join("a.toml"), own.replace("generic-arm64", "ours")).expect("written");
        std::fs::write(dir.path().join("a.toml.bak"), "not read").expect("written");
        let all = Profile::all(dir.path()).expect("good");
        assert_eq!(all.len(), BUILT_IN.len() + 1);
        assert_eq!(all.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>()[..2], ["ours", "generic-arm64"]);
        assert_eq!(all.iter().filter(|profile| profile.title == "ours").count(), 2);
    }

    #[test]
    fn a_profile_of_the_directory_that_cannot_be_used_is_told_by_its_file_and_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("x.toml");
        let refused = |content: &[u8]| {
            std::fs::write(&file, content).expect("written");
            Profile::all(dir.path()).expect_err("refused").to_string()
        };
        let text = refused(BUILT_IN[0].replace("[led]", "[lead]").as_bytes());
        assert!(text.contains("x.toml: line ") && text.contains("lead"), "{text}");
        assert!(refused(b"\xff").ends_with("not UTF-8"));
        assert!(refused(&vec![b'#'; PROFILE_BYTES + 1]).contains("larger than"));
        std::fs::copy("boards/generic-arm64.toml", dir.path().join("y.toml")).expect("copied");
        assert!(refused(BUILT_IN[0].as_bytes()).contains("another file has the name generic-arm64 too"));
        std::fs::remove_file(dir.path().join("y.toml")).expect("removed");
        std::fs::remove_file(&file).expect("removed");
        for n in 0..=PROFILES {
            let text = BUILT_IN[0].replace("generic-arm64", &format!("board-{n}"));
            std::fs::write(dir.path().join(format!("{n}.toml")), text).expect("written");
        }
        assert!(Profile::all(dir.path()).expect_err("too many").why.contains("more than"));
        std::fs::remove_file(dir.path().join("0.toml")).expect("removed");
        assert_eq!(Profile::all(dir.path()).expect("at the bound").len(), PROFILES + BUILT_IN.len());
    }
}
