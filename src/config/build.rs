//! From what was said to what it means.

use std::time::Duration;

use super::error::ConfigError;
use super::keys::{self, Key};
use super::settings::{Origin, Settings};
use super::value::{absolute, engine, host, size, switch, url};
use super::{
    Archive, Board, Boot, Cache, Cdn, Cloud, Config, Control, Directory, Engine, Led, Listen, Log, NotListen,
    RequireSeal, State, UnlockMode,
};
use crate::crypto::Salts;
use crate::limits::{
    self, ALLOW_LIST, CLOUD_TIMEOUT_SECONDS, CONFIG_TEXT_BYTES, ENGINE_LANES, LISTENERS, LOG_RETENTION_DAYS,
    PUBLISHER_KEYS, SUITES_KEPT,
};
use crate::seal::{PublisherKeyRefused, SealNameRefused};
use crate::secret::SecretText;

impl Config {
    /// Checks what was said.
    ///
    /// # Errors
    /// The first value that cannot be, in the order of the contract; the missing salts all at once.
    pub fn of(settings: Settings) -> Result<Self, ConfigError> {
        let said = &settings;
        let secret = |key| Ok(optional(said, key, bounded)?.map(SecretText::new));
        Ok(Self {
            cloud: Cloud {
                resource_api_url: required(said, &keys::RESOURCE_API_URL, url)?,
                ca_file: optional(said, &keys::CA_FILE, absolute)?,
                token_public_key: optional(said, &keys::TOKEN_PUBLIC_KEY, absolute)?,
                timeout: required(said, &keys::CLOUD_TIMEOUT, |text| {
                    let seconds = text.parse().ok().filter(|seconds| (1..=CLOUD_TIMEOUT_SECONDS).contains(seconds));
                    seconds.map(Duration::from_secs).ok_or_else(|| format!("1 to {CLOUD_TIMEOUT_SECONDS} seconds"))
                })?,
            },
            archive: Archive::of(said)?,
            keys: said.salts()?,
            engine: Engine {
                socket: required(said, &keys::ENGINE_SOCKET, engine)?,
                at_once: optional(said, &keys::ENGINE_AT_ONCE, |text| {
                    let lanes = text.parse().ok().filter(|lanes| (1..=ENGINE_LANES).contains(lanes));
                    lanes.ok_or_else(|| format!("1 to {ENGINE_LANES}"))
                })?,
                keep_old: required(said, &keys::ENGINE_KEEP_OLD, |text| {
                    let kept = text.parse().ok().filter(|kept| *kept <= SUITES_KEPT);
                    kept.ok_or_else(|| format!("0 to {SUITES_KEPT}"))
                })?,
            },
            control: Control::of(said)?,
            cdn: Cdn {
                host: optional(said, &keys::CDN_HOST, url)?,
                region: optional(said, &keys::CDN_REGION, bounded)?,
                downloader_access_key: optional(said, &keys::CDN_DOWNLOADER_ACCESS_KEY, bounded)?,
                downloader_access_secret: secret(&keys::CDN_DOWNLOADER_ACCESS_SECRET)?,
                uploader_access_key: optional(said, &keys::CDN_UPLOADER_ACCESS_KEY, bounded)?,
                uploader_access_secret: secret(&keys::CDN_UPLOADER_ACCESS_SECRET)?,
            },
            cache: Cache {
                dir: directory(said, &keys::CACHE_DIR)?,
                max_bytes: optional(said, &keys::CACHE_MAX_BYTES, size)?,
                reserve_bytes: optional(said, &keys::CACHE_RESERVE_BYTES, size)?,
                offline: required(said, &keys::CACHE_OFFLINE, switch)?,
            },
            state: State::of(said)?,
            log: Log::of(said)?,
            board: Board::of(said)?,
            boot: Boot {
                credentials_file: optional(said, &keys::CREDENTIALS_FILE, |text| {
                    if text.contains('\0') { Err("a path") } else { Ok(text.into()) }
                })?,
                unlock: required(said, &keys::BOOT_UNLOCK, |text| match text {
                    "auto" => Ok(UnlockMode::Auto),
                    "on-request" => Ok(UnlockMode::OnRequest),
                    _ => Err("auto, on-request"),
                })?,
            },
            settings,
        })
    }
}

impl Archive {
    /// The archive alone, for `azaion-loader trust`, which works before there are salts.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn of(said: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            path: required(said, &keys::ARCHIVE_PATH, absolute)?,
            name: required(said, &keys::ARCHIVE_NAME, |text| {
                text.parse().map_err(|refused: SealNameRefused| refused.to_string())
            })?,
            require_seal: required(said, &keys::REQUIRE_SEAL, |text| match text {
                "always" => Ok(RequireSeal::Always),
                "once-seen" => Ok(RequireSeal::OnceSeen),
                "never" => Ok(RequireSeal::Never),
                _ => Err("\"always\", \"once-seen\" or \"never\""),
            })?,
            publisher_keys: list(said, &keys::PUBLISHER_KEY, PUBLISHER_KEYS, |text| {
                text.parse().map_err(|PublisherKeyRefused| PublisherKeyRefused::ALLOWED)
            })?,
            images: list(said, &keys::ARCHIVE_IMAGES, limits::ARCHIVE_IMAGES, |text| {
                if (1..=limits::TAG_BYTES).contains(&text.len()) { Ok(text.to_owned()) } else { Err("tags, name:tag") }
            })?,
        })
    }
}

impl State {
    /// The state alone.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn of(said: &Settings) -> Result<Self, ConfigError> {
        Ok(Self { dir: directory(said, &keys::STATE_DIR)? })
    }
}

impl Log {
    /// The log alone, for `azaion-loader audit`, which works without salts.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn of(said: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            dir: optional(said, &keys::LOG_DIR, absolute)?,
            level: required(said, &keys::LOG_LEVEL, |text| {
                text.parse().map_err(|_| "off, error, warn, info, debug, trace")
            })?,
            retention_days: required(said, &keys::LOG_RETENTION_DAYS, |text| {
                text.parse()
                    .ok()
                    .filter(|days| (1..=LOG_RETENTION_DAYS).contains(days))
                    .ok_or_else(|| format!("1 to {LOG_RETENTION_DAYS}"))
            })?,
        })
    }
}

impl Control {
    /// The control port alone, for the clients: they need no salts.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn of(said: &Settings) -> Result<Self, ConfigError> {
        let control = Self {
            listen: list(said, &keys::LISTEN, LISTENERS, |text| {
                text.parse::<Listen>().map_err(|_| NotListen::ALLOWED)
            })?,
            token_file: optional(said, &keys::TOKEN_FILE, absolute)?,
            allow_hosts: list(said, &keys::ALLOW_HOSTS, ALLOW_LIST, host)?,
            allow_uids: list(said, &keys::ALLOW_UIDS, ALLOW_LIST, |text| {
                text.parse().map_err(|_| "user ids from 0 to 4294967295")
            })?,
            upload_role: required(said, &keys::UPLOAD_ROLE, bounded)?,
        };
        match control.listen.iter().find(|listen| !listen.is_local()) {
            Some(open) if control.token_file.is_none() => Err(refuse(
                said,
                &keys::LISTEN,
                format!(
                    "loopback addresses and unix sockets, or control.token_file set as well: {open} is open to the network"
                ),
            )),
            _ => Ok(control),
        }
    }
}

impl Board {
    /// The board alone, for `azaion-loader fingerprint`, which works before there are salts.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn of(said: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            profile: Some(required(said, &keys::BOARD_PROFILE, profile)?).filter(|name| name != "auto"),
            root: required(said, &keys::BOARD_ROOT, absolute)?,
            profiles_dir: required(said, &keys::BOARD_PROFILES_DIR, absolute)?,
            led: required(said, &keys::BOARD_LED, led)?,
            fingerprint: optional(said, &keys::BOARD_FINGERPRINT, bounded)?.map(SecretText::new),
        })
    }
}

impl Settings {
    /// The salts alone.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] names all that are missing at once: who writes the file wants to be told once.
    pub fn salts(&self) -> Result<Salts, ConfigError> {
        salts(self)
    }
}

fn salts(said: &Settings) -> Result<Salts, ConfigError> {
    let salt = |key| optional(said, key, bounded);
    let (hardware, api, resource) = (salt(&keys::HARDWARE_SALT)?, salt(&keys::API_SALT)?, salt(&keys::RESOURCE_SALT)?);
    let separator = required(said, &keys::SEPARATOR, bounded)?;
    match (hardware, api, resource) {
        (Some(hardware), Some(api), Some(resource)) => Ok(Salts { hardware, api, resource, separator }),
        (hardware, api, resource) => {
            let all = [(&keys::HARDWARE_SALT, hardware), (&keys::API_SALT, api), (&keys::RESOURCE_SALT, resource)];
            let missing = all.iter().filter(|(_, salt)| salt.is_none());
            Err(ConfigError::Missing { keys: missing.map(|(key, _)| (key.dotted(), key.env())).collect() })
        }
    }
}

/// A text of bearable length.
fn bounded(text: &str) -> Result<String, String> {
    if text.len() <= CONFIG_TEXT_BYTES {
        Ok(text.to_owned())
    } else {
        Err(format!("a text of at most {CONFIG_TEXT_BYTES} bytes"))
    }
}

/// The name of a profile; whether there is one of that name, the board's room knows.
fn profile(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("auto, or the name of a profile: letters a to z, digits, hyphens")
    }
}

/// A light by name; whether it is there, the board's room finds out.
fn led(text: &str) -> Result<Led, &'static str> {
    match text {
        "auto" => Ok(Led::Auto),
        "none" => Ok(Led::None),
        name if (1..=64).contains(&name.len()) && !name.contains('/') && !name.starts_with('.') => {
            Ok(Led::Named(name.to_owned()))
        }
        _ => Err("auto, none, or a name under /sys/class/leds"),
    }
}

/// A directory that the board's profile may set where nobody else does.
fn directory(said: &Settings, key: &Key) -> Result<Directory, ConfigError> {
    Ok(Directory { path: required(said, key, absolute)?, is_said: said.said(key).is_some() })
}

/// The value of a key that has a default.
fn required<T, A: ToString>(
    said: &Settings,
    key: &Key,
    check: impl Fn(&str) -> Result<T, A>,
) -> Result<T, ConfigError> {
    let text = said.said(key).map_or(key.default.unwrap_or_default(), |said| &said.texts[0]);
    check(text).map_err(|allowed| refuse(said, key, allowed.to_string()))
}

/// The value of a key that need not be set.
fn optional<T, A: ToString>(
    said: &Settings,
    key: &Key,
    check: impl Fn(&str) -> Result<T, A>,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = said.said(key) else { return Ok(None) };
    check(&value.texts[0]).map(Some).map_err(|allowed| refuse(said, key, allowed.to_string()))
}

/// The values of a list.
fn list<T>(
    said: &Settings,
    key: &Key,
    limit: usize,
    check: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Vec<T>, ConfigError> {
    let texts = match said.said(key) {
        Some(said) => said.texts.iter().map(String::as_str).collect(),
        None => key.default.into_iter().collect::<Vec<_>>(),
    };
    if texts.len() > limit {
        return Err(refuse(said, key, format!("at most {limit}")));
    }
    let checked: Result<_, _> = texts.into_iter().map(check).collect();
    checked.map_err(|allowed| refuse(said, key, allowed.to_owned()))
}

/// The error for the value of `key`.
pub(super) fn refuse(said: &Settings, key: &Key, allowed: String) -> ConfigError {
    let value = said.said(key);
    let text = match value {
        _ if key.hidden => "…".to_owned(),
        Some(value) => value.texts.join(", "),
        None => key.default.unwrap_or_default().to_owned(),
    };
    let origin = Some(value.map_or(Origin::Default, |value| value.origin.clone()));
    ConfigError::Value { key: key.dotted(), origin, text, allowed }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    const SALTS: [(&str, &str); 3] =
        [("AZAION_KEYS_HARDWARE_SALT", "a"), ("AZAION_KEYS_API_SALT", "b"), ("AZAION_KEYS_RESOURCE_SALT", "c")];

    fn config(environment: &[(&str, &str)]) -> Result<Config, String> {
        let pairs = environment.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
        let settings = Settings::of_environment(pairs).map_err(|error| error.to_string())?;
        Config::of(settings).map_err(|error| error.to_string())
    }

    fn with(name: &str, value: &str) -> Result<Config, String> {
        config(&[&SALTS[..], &[(name, value)]].concat())
    }

    #[test]
    fn the_defaults_of_the_contract() {
        let config = config(&SALTS).expect("nothing else is needed");
        assert_eq!(config.cloud.resource_api_url, "https://api.azaion.com");
        assert_eq!(config.archive.path.to_str(), Some("/opt/azaion/images.enc"));
        assert_eq!(config.engine.socket, "/var/run/docker.sock");
        assert_eq!(config.control.listen, ["127.0.0.1:8080".parse::<Listen>().expect("an address")]);
        assert!(config.control.allow_hosts.is_empty() && config.control.allow_uids.is_empty());
        assert_eq!(config.cache.dir.path.to_str(), Some("/var/cache/azaion-loader"));
        assert_eq!(config.state.dir.path.to_str(), Some("/var/lib/azaion-loader"));
        assert_eq!((config.log.level, config.log.retention_days), (log::LevelFilter::Info, 30));
        assert_eq!((config.board.profile, config.board.root.to_str()), (None, Some("/")));
        assert_eq!(config.boot.unlock, UnlockMode::Auto);
        assert_eq!(config.keys.separator, "");
    }

    #[test]
    fn missing_salts_are_named_all_at_once_and_an_empty_one_is_missing() {
        let error = config(&[("AZAION_KEYS_API_SALT", "b"), ("AZAION_KEYS_RESOURCE_SALT", "")]).expect_err("missing");
        assert!(
            error.starts_with(
                "missing keys.hardware_salt (environment AZAION_KEYS_HARDWARE_SALT), \
                 keys.resource_salt (environment AZAION_KEYS_RESOURCE_SALT); "
            ),
            "{error}"
        );
    }

    #[test]
    fn impossible_values_are_one_line_that_names_key_and_place() {
        for (name, value, key) in [
            ("RESOURCE_API_URL", "http://api.azaion.com", "cloud.resource_api_url"),
            ("IMAGES_PATH", "images.enc", "archive.path"),
            ("DOCKER_HOST", "tcp://127.0.0.1:2375", "engine.socket"),
            ("AZAION_ENGINE_AT_ONCE", "5", "engine.at_once"),
            ("AZAION_ENGINE_AT_ONCE", "0", "engine.at_once"),
            ("AZAION_ENGINE_KEEP_OLD", "9", "engine.keep_old"),
            ("AZAION_STATE_DIR", "state", "state.dir"),
            ("AZAION_CONTROL_LISTEN", "127.0.0.1:8080,localhost:1", "control.listen"),
            ("AZAION_CONTROL_LISTEN", "1.1.1.1:1,", "control.listen"),
            ("AZAION_CONTROL_ALLOW_UIDS", "-1", "control.allow_uids"),
            ("AZAION_LOG_LEVEL", "loud", "log.level"),
            ("AZAION_LOG_RETENTION_DAYS", "0", "log.retention_days"),
            ("AZAION_LOG_RETENTION_DAYS", "3651", "log.retention_days"),
            ("AZAION_CACHE_MAX_BYTES", "8 GB", "cache.max_bytes"),
            ("AZAION_CACHE_OFFLINE", "yes", "cache.offline"),
            ("AZAION_BOOT_UNLOCK", "always", "boot.unlock"),
            ("AZAION_BOARD_PROFILE", "My Board", "board.profile"),
        ] {
            let error = with(name, value).expect_err(value);
            let start = format!("environment variable {name}: {key} cannot be ");
            assert!(error.starts_with(&start) && error.contains("allowed: ") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn an_open_port_needs_a_token() {
        let open = ("AZAION_CONTROL_LISTEN", "127.0.0.1:8080,0.0.0.0:8080");
        let error = config(&[&SALTS[..], &[open]].concat()).expect_err("open");
        assert!(error.contains("control.token_file") && error.contains("0.0.0.0:8080 is open"), "{error}");
        assert!(config(&[&SALTS[..], &[open, ("AZAION_CONTROL_TOKEN_FILE", "/t")]].concat()).is_ok());
        assert!(with("AZAION_CONTROL_LISTEN", "[::1]:1,127.9.9.9:0,unix:/run/x.sock").is_ok());
    }

    #[test]
    fn lists_and_texts_hold_at_their_bounds() {
        let listeners = |n: usize| vec!["127.0.0.1:0"; n].join(",");
        assert!(with("AZAION_CONTROL_LISTEN", &listeners(LISTENERS)).is_ok());
        assert!(with("AZAION_CONTROL_LISTEN", &listeners(LISTENERS + 1)).is_err());
        let users = |n: usize| vec!["1"; n].join(",");
        assert!(with("AZAION_CONTROL_ALLOW_UIDS", &users(ALLOW_LIST)).is_ok());
        assert!(with("AZAION_CONTROL_ALLOW_UIDS", &users(ALLOW_LIST + 1)).is_err());
        assert!(with("AZAION_BOARD_FINGERPRINT", &"x".repeat(CONFIG_TEXT_BYTES)).is_ok());
        let error = with("AZAION_BOARD_FINGERPRINT", &"x".repeat(CONFIG_TEXT_BYTES + 1)).expect_err("too long");
        assert!(!error.contains("xx"), "{error}");
    }

    #[test]
    fn no_salt_is_printed() {
        let environment = SALTS.map(|(name, _)| (name, "canary"));
        let config = config(&environment).expect("salts are there");
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn a_room_can_refuse_what_it_alone_understands() {
        let config = with("DOCKER_HOST", "/run/x").expect("an absolute path");
        assert_eq!(
            config.refuse("engine.socket", "a socket").to_string(),
            "environment variable DOCKER_HOST: engine.socket cannot be \"/run/x\"; allowed: a socket"
        );
        assert_eq!(
            ConfigError::value("engine.socket", "x", "y").to_string(),
            "engine.socket cannot be \"x\"; allowed: y"
        );
    }
}
