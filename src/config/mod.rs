//! The configuration: TOML and environment of CONTRACT section 7, read once at start and never again.
//!
//! [`Settings`] is what was said and where; [`Config`] is what it means. Every mistake is one [`ConfigError`] of one
//! line, and the process ends with exit code 2. Addresses stay text here, checked as far as everyone needs; the rooms
//! that use them parse them into their own types and report with [`Config::refuse`].

mod build;
mod credentials;
mod error;
mod file;
mod files;
pub mod keys;
mod listen;
mod settings;
mod show;
mod value;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use credentials::{CredentialsFileError, read_credentials};
pub use error::ConfigError;
pub use file::read_small;
pub use files::read_token;
pub use listen::{Listen, NotListen};
pub use settings::{DEFAULT_FILE, Origin, Settings, Source};

use crate::crypto::Salts;
use crate::seal::{PublisherKey, SealName};
use crate::secret::{Credentials, SecretText};
use keys::Key;

/// The whole configuration, checked. It holds salts, so it shows nothing of itself; [`Settings`] can be displayed.
pub struct Config {
    /// `[cloud]`
    pub cloud: Cloud,
    /// `[archive]`
    pub archive: Archive,
    /// `[keys]`
    pub keys: Salts,
    /// `[engine]`
    pub engine: Engine,
    /// `[control]`
    pub control: Control,
    /// `[cdn]`
    pub cdn: Cdn,
    /// `[cache]`
    pub cache: Cache,
    /// `[state]`
    pub state: State,
    /// `[log]`
    pub log: Log,
    /// `[board]`
    pub board: Board,
    /// `[boot]`
    pub boot: Boot,
    settings: Settings,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// `[cloud]`: the Resource API.
#[derive(Debug)]
pub struct Cloud {
    /// `https://…`, or `http://…` of this machine.
    pub resource_api_url: String,
    /// PEM roots to trust instead of the built-in ones, for API and CDN alike.
    pub ca_file: Option<PathBuf>,
    /// PEM key that the API's tokens are signed with.
    pub token_public_key: Option<PathBuf>,
    /// How long the API may be silent before a call is given up.
    pub timeout: Duration,
}

/// `[archive]`: the encrypted images.
#[derive(Debug)]
pub struct Archive {
    /// Where `images.enc` lies; it need not be there yet.
    pub path: PathBuf,
    /// The name that its seal must have.
    pub name: SealName,
    /// When one without a seal is refused; models too.
    pub require_seal: RequireSeal,
    /// minisign public keys; once there is one, every archive needs a signed seal.
    pub publisher_keys: Vec<PublisherKey>,
    /// The tags that it must hold, these and no others; empty: whatever it holds.
    pub images: Vec<String>,
}

/// When what has no seal is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequireSeal {
    /// Always.
    Always,
    /// From the first one on that had a seal.
    OnceSeen,
    /// Never; one that has a seal is held to it all the same.
    Never,
}

/// `[engine]`: where the images go.
#[derive(Debug)]
pub struct Engine {
    /// `unix:///path`, `/path` or `dir:/path`.
    pub socket: String,
    /// Images that go in side by side, at most; `None` lets the board decide.
    pub at_once: Option<usize>,
    /// Earlier suites whose images stay.
    pub keep_old: usize,
}

/// `[control]`: the technician's port.
#[derive(Debug)]
pub struct Control {
    /// At least one; any that is neither loopback nor a unix socket comes with a `token_file`.
    pub listen: Vec<Listen>,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// Further names of this board, in lower case.
    pub allow_hosts: Vec<String>,
    /// Users of the unix socket besides root and the agent's own.
    pub allow_uids: Vec<u32>,
    /// The name of the role that may upload, as the token writes it.
    pub upload_role: String,
}

/// `[cdn]`: what wins over `cdn.yaml`, each value by itself; for development.
#[derive(Debug, Default)]
pub struct Cdn {
    /// The S3 endpoint.
    pub host: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Key id for reading.
    pub downloader_access_key: Option<String>,
    /// Secret for reading.
    pub downloader_access_secret: Option<SecretText>,
    /// Key id for writing.
    pub uploader_access_key: Option<String>,
    /// Secret for writing.
    pub uploader_access_secret: Option<SecretText>,
}

/// `[cache]`: the big parts of resources on flash.
#[derive(Debug)]
pub struct Cache {
    /// The directory.
    pub dir: Directory,
    /// What it may take at most; `None`: as the board's profile says.
    pub max_bytes: Option<u64>,
    /// What it leaves free; `None`: as the board's profile says.
    pub reserve_bytes: Option<u64>,
    /// Whether what a cached resource needs besides its big part is kept too.
    pub offline: bool,
}

/// `[state]`: what survives a restart.
#[derive(Debug)]
pub struct State {
    /// The directory.
    pub dir: Directory,
}

/// A directory that the board's profile may set where the configuration does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// What the configuration says, or the default.
    pub path: PathBuf,
    /// Whether the configuration says it.
    pub is_said: bool,
}

impl Directory {
    /// The directory, where the board's profile has this one.
    pub fn or<'a>(&'a self, profile: &'a Path) -> &'a Path {
        if self.is_said { &self.path } else { profile }
    }
}

/// `[log]`
#[derive(Debug)]
pub struct Log {
    /// Where daily files go; `None`: the console alone.
    pub dir: Option<PathBuf>,
    /// The least important that is still said.
    pub level: log::LevelFilter,
    /// How long daily files are kept.
    pub retention_days: u32,
}

/// `[board]`
#[derive(Debug)]
pub struct Board {
    /// A profile's name; `None`: the one that recognises the board.
    pub profile: Option<String>,
    /// Where `/proc` and `/sys` of the board are seen.
    pub root: PathBuf,
    /// Where profiles are that win over those that are built in.
    pub profiles_dir: PathBuf,
    /// The light.
    pub led: Led,
    /// A fixed fingerprint, for development.
    pub fingerprint: Option<SecretText>,
}

/// Which light shows the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Led {
    /// The one that the board's profile names.
    Auto,
    /// None.
    None,
    /// This one under `/sys/class/leds`.
    Named(String),
}

/// `[boot]`
#[derive(Debug)]
pub struct Boot {
    /// See [`read_credentials`].
    pub credentials_file: Option<PathBuf>,
    /// When they are used.
    pub unlock: UnlockMode,
}

/// When the credentials of `[boot]` are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlockMode {
    /// As soon as the agent runs.
    Auto,
    /// When somebody asks with an empty `POST /unlock`.
    OnRequest,
}

impl Config {
    /// Reads file and environment and checks all of it.
    ///
    /// # Errors
    /// The first mistake, as one line.
    pub fn load(source: &Source) -> Result<Self, ConfigError> {
        Self::of(Settings::read(source, std::env::vars_os())?)
    }

    /// The error for a value that a room refused: names the key, where it was said, its text and what is allowed.
    /// `key` is dotted, `engine.socket`.
    pub fn refuse(&self, key: &str, allowed: impl fmt::Display) -> ConfigError {
        match keys::KEYS.iter().find(|known| known.dotted() == key) {
            Some(known) => build::refuse(&self.settings, known, allowed.to_string()),
            None => ConfigError::value(key, "…", allowed),
        }
    }

    /// Reads a small file that `key` names: PEM, token. For start-up: it blocks on flash.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] with the key.
    pub fn read_file(key: &Key, path: &Path, limit: usize) -> Result<Vec<u8>, ConfigError> {
        read_small(path, limit).map_err(|source| ConfigError::Unreadable {
            key: Some(key.dotted()),
            path: path.to_owned(),
            source,
        })
    }

    /// The credentials of `[boot]`, if a file with them is named. For start-up: it blocks on flash.
    ///
    /// # Errors
    /// [`ConfigError::Credentials`] says why the file is not used.
    pub fn boot_credentials(&self) -> Result<Option<Credentials>, ConfigError> {
        let path = self.boot.credentials_file.as_deref();
        path.map(read_credentials).transpose().map_err(ConfigError::Credentials)
    }

    /// The file that was read, if there was one.
    pub fn file(&self) -> Option<&Path> {
        self.settings.file()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    const EXAMPLE: &str = include_str!("../../docs/loader.example.toml");

    fn settings(text: &str, environment: &[(OsString, OsString)]) -> Settings {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("loader.toml");
        std::fs::write(&path, text).expect("written");
        Settings::read(&Source::Given(path), environment.to_vec()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The example with the settings that it only shows.
    fn uncommented() -> String {
        let shown =
            |line: &str| line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).map(str::to_owned);
        EXAMPLE.lines().map(|line| shown(line).unwrap_or(line.to_owned()) + "\n").collect()
    }

    #[test]
    fn the_example_is_a_configuration_that_lacks_the_salts_alone() {
        let error = Config::of(settings(EXAMPLE, &[])).expect_err("no salts");
        assert!(matches!(&error, ConfigError::Missing { keys } if keys.len() == 3), "{error}");
        let all = settings(&uncommented(), &[]);
        let shown = all.to_string();
        // The separator: its default is the empty text, which counts as not said.
        assert!(!shown.contains("is not set") && shown.matches("# default").count() == 1, "{shown}");
        Config::of(all).expect("everything it shows is allowed");
    }

    #[test]
    fn the_example_sets_each_key_to_its_default_and_names_its_variables() {
        let said = settings(EXAMPLE, &[]);
        for key in keys::KEYS {
            let section = EXAMPLE.split(&format!("[{}]\n", key.section)).nth(1).expect(key.section);
            let section = section.split("\n[").next().expect("the section");
            assert!(
                section.contains(&format!("\n{} = ", key.name)) || section.contains(&format!("\n#{} = ", key.name))
            );
            for name in [Some(key.env()), key.also.map(str::to_owned)].into_iter().flatten() {
                assert!(section.contains(&name), "{name}");
            }
            match (key.default, said.said(key)) {
                // An empty text counts as not said.
                (Some("") | None, None) => {}
                // A profile may have another: whoever copies the example has not said it.
                (Some(default), None) if ["cache.dir", "state.dir"].contains(&&*key.dotted()) => {
                    assert!(section.contains(&format!("\n#{} = {default:?}", key.name)), "{}", key.dotted());
                }
                (Some(default), Some(said)) => assert_eq!(said.texts, [default], "{}", key.dotted()),
                (default, _) => panic!("{}: the default is {default:?}", key.dotted()),
            }
        }
    }

    #[test]
    fn the_credentials_of_a_boot_are_read_or_refused_with_their_key() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("boot.json");
        std::fs::write(&file, r#"{"email":"a@b","password":"p"}"#).expect("written");
        let set_mode = |mode| {
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("own file");
        };
        let environment = ["HARDWARE_SALT", "API_SALT", "RESOURCE_SALT"]
            .map(|name| (OsString::from(format!("AZAION_KEYS_{name}")), OsString::from("x")));
        let environment = [&environment[..], &[("AZAION_BOOT_CREDENTIALS_FILE".into(), file.clone().into())]].concat();
        let config = Config::of(settings("", &environment)).expect("good");
        set_mode(0o644);
        let error = config.boot_credentials().expect_err("open to others").to_string();
        assert!(error.starts_with("boot.credentials_file: ") && error.contains("mode 0644"), "{error}");
        set_mode(0o600);
        assert_eq!(config.boot_credentials().expect("good").expect("named").email(), "a@b");
    }
}
