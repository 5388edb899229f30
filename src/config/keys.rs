//! Every key the agent knows, in one table: name, kind, default, environment names.
//!
//! The file, the environment, the `config` command, the annotated example and the tests all go by this table
//! (CONTRACT section 7). A key that is not here does not exist; nothing else in the crate may name an environment
//! variable for a setting.

/// What a key's value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One text.
    Text,
    /// One whole number.
    Number,
    /// Bytes: a whole number, or a text such as `"8 GiB"`.
    Size,
    /// `true` or `false`.
    Switch,
    /// A list of texts; in the environment separated by commas.
    Texts,
    /// A list of whole numbers; in the environment separated by commas.
    Numbers,
}

impl Kind {
    /// What the file must hold, for the error that says so.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Number => "a whole number",
            Self::Size => "a whole number of bytes or a text such as \"8 GiB\"",
            Self::Switch => "true or false",
            Self::Texts => "a list of texts",
            Self::Numbers => "a list of whole numbers",
        }
    }

    /// Whether the value is a list.
    pub const fn is_list(self) -> bool {
        matches!(self, Self::Texts | Self::Numbers)
    }
}

/// One key of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// The table it stands in.
    pub section: &'static str,
    /// Its name in that table.
    pub name: &'static str,
    /// What its value is made of.
    pub kind: Kind,
    /// What holds when nobody says anything; `None` where that is "not set".
    pub default: Option<&'static str>,
    /// A second environment name, fixed by CONTRACT section 7.
    pub also: Option<&'static str>,
    /// Whether the value is kept out of everything that is printed.
    pub hidden: bool,
}

impl Key {
    const fn new(section: &'static str, name: &'static str, kind: Kind) -> Self {
        Self { section, name, kind, default: None, also: None, hidden: false }
    }

    const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    const fn also(mut self, env: &'static str) -> Self {
        self.also = Some(env);
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The key as errors name it: `cloud.ca_file`.
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable of this key: `AZAION_CLOUD_CA_FILE`.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}_{}", self.section, self.name).to_ascii_uppercase()
    }
}

/// How the environment names of this program begin; one that no key has is refused.
pub const ENV_PREFIX: &str = "AZAION_";

/// Base URL of the Resource API.
pub const RESOURCE_API_URL: Key =
    Key::new("cloud", "resource_api_url", Kind::Text).default("https://api.azaion.com").also("RESOURCE_API_URL");
/// PEM file with the certificate authorities to trust instead of the built-in ones.
pub const CA_FILE: Key = Key::new("cloud", "ca_file", Kind::Text);
/// PEM file with the key that signs the API's tokens.
pub const TOKEN_PUBLIC_KEY: Key = Key::new("cloud", "token_public_key", Kind::Text);
/// Seconds that the Resource API may be silent before a call is given up.
pub const CLOUD_TIMEOUT: Key = Key::new("cloud", "timeout_seconds", Kind::Number).default("30");
/// The encrypted image archive.
pub const ARCHIVE_PATH: Key =
    Key::new("archive", "path", Kind::Text).default("/opt/azaion/images.enc").also("IMAGES_PATH");
/// The name that the archive's seal must have.
pub const ARCHIVE_NAME: Key = Key::new("archive", "name", Kind::Text).default("images");
/// When an archive or a model without a seal is refused.
pub const REQUIRE_SEAL: Key = Key::new("archive", "require_seal", Kind::Text).default("once-seen");
/// minisign public keys; once there is one, every archive needs a signed seal.
pub const PUBLISHER_KEY: Key = Key::new("archive", "publisher_key", Kind::Texts);
/// The tags that the archive must hold, these and no others.
pub const ARCHIVE_IMAGES: Key = Key::new("archive", "images", Kind::Texts);
/// Salt of the hardware hash.
pub const HARDWARE_SALT: Key = Key::new("keys", "hardware_salt", Kind::Text).hidden();
/// Salt of the API key.
pub const API_SALT: Key = Key::new("keys", "api_salt", Kind::Text).hidden();
/// Salt of the resource key.
pub const RESOURCE_SALT: Key = Key::new("keys", "resource_salt", Kind::Text).hidden();
/// What stands between the parts of a key before they are hashed.
pub const SEPARATOR: Key = Key::new("keys", "separator", Kind::Text).default("");
/// The container engine's socket, or a directory.
pub const ENGINE_SOCKET: Key =
    Key::new("engine", "socket", Kind::Text).default("/var/run/docker.sock").also("DOCKER_HOST");
/// Images that go in side by side, at most; the board decides when it is not set.
pub const ENGINE_AT_ONCE: Key = Key::new("engine", "at_once", Kind::Number);
/// Earlier suites whose images stay in the engine.
pub const ENGINE_KEEP_OLD: Key = Key::new("engine", "keep_old", Kind::Number).default("0");
/// Where the control port listens.
pub const LISTEN: Key = Key::new("control", "listen", Kind::Texts).default("127.0.0.1:8080");
/// File with the bearer token of the control port.
pub const TOKEN_FILE: Key = Key::new("control", "token_file", Kind::Text);
/// Further names under which clients may call this board.
pub const ALLOW_HOSTS: Key = Key::new("control", "allow_hosts", Kind::Texts);
/// Users who may call through the unix socket besides root and the agent's own.
pub const ALLOW_UIDS: Key = Key::new("control", "allow_uids", Kind::Numbers);
/// The role a user must have, or one above it, to upload resources.
pub const UPLOAD_ROLE: Key = Key::new("control", "upload_role", Kind::Text).default("ResourceUploader");
/// The CDN's S3 endpoint, for development; wins over `cdn.yaml`, as all of this section.
pub const CDN_HOST: Key = Key::new("cdn", "host", Kind::Text).also("CDN_HOST");
/// The CDN's region.
pub const CDN_REGION: Key = Key::new("cdn", "region", Kind::Text).also("CDN_REGION");
/// Key id for reading.
pub const CDN_DOWNLOADER_ACCESS_KEY: Key =
    Key::new("cdn", "downloader_access_key", Kind::Text).also("CDN_DOWNLOADER_ACCESS_KEY");
/// Secret for reading.
pub const CDN_DOWNLOADER_ACCESS_SECRET: Key =
    Key::new("cdn", "downloader_access_secret", Kind::Text).also("CDN_DOWNLOADER_ACCESS_SECRET").hidden();
/// Key id for writing.
pub const CDN_UPLOADER_ACCESS_KEY: Key =
    Key::new("cdn", "uploader_access_key", Kind::Text).also("CDN_UPLOADER_ACCESS_KEY");
/// Secret for writing.
pub const CDN_UPLOADER_ACCESS_SECRET: Key =
    Key::new("cdn", "uploader_access_secret", Kind::Text).also("CDN_UPLOADER_ACCESS_SECRET").hidden();
/// Where the big parts of resources are kept.
pub const CACHE_DIR: Key = Key::new("cache", "dir", Kind::Text).default("/var/cache/azaion-loader");
/// What the cache may take at most; the board's profile decides when it is not set.
pub const CACHE_MAX_BYTES: Key = Key::new("cache", "max_bytes", Kind::Size);
/// What the cache leaves free on its file system; the board's profile decides when it is not set.
pub const CACHE_RESERVE_BYTES: Key = Key::new("cache", "reserve_bytes", Kind::Size);
/// Whether what a cached resource needs besides its big part is kept too, for boards without network.
pub const CACHE_OFFLINE: Key = Key::new("cache", "offline", Kind::Switch).default("false");
/// What the agent remembers across restarts.
pub const STATE_DIR: Key = Key::new("state", "dir", Kind::Text).default("/var/lib/azaion-loader");
/// Daily log files; not set: the console alone.
pub const LOG_DIR: Key = Key::new("log", "dir", Kind::Text);
/// How much is logged.
pub const LOG_LEVEL: Key = Key::new("log", "level", Kind::Text).default("info");
/// How long daily files are kept.
pub const LOG_RETENTION_DAYS: Key = Key::new("log", "retention_days", Kind::Number).default("30");
/// The board's profile by name, or `auto`.
pub const BOARD_PROFILE: Key = Key::new("board", "profile", Kind::Text).default("auto");
/// Where `/proc` and `/sys` of the board are seen.
pub const BOARD_ROOT: Key = Key::new("board", "root", Kind::Text).default("/");
/// Where profiles are that win over those that are built in.
pub const BOARD_PROFILES_DIR: Key = Key::new("board", "profiles_dir", Kind::Text).default("/etc/azaion/boards");
/// The light that shows the state.
pub const BOARD_LED: Key = Key::new("board", "led", Kind::Text).default("auto");
/// A fixed fingerprint, for development.
pub const BOARD_FINGERPRINT: Key = Key::new("board", "fingerprint", Kind::Text).hidden();
/// File with the e-mail address and password the board unlocks itself with.
pub const CREDENTIALS_FILE: Key = Key::new("boot", "credentials_file", Kind::Text);
/// Whether those credentials are used by themselves or when asked.
pub const BOOT_UNLOCK: Key = Key::new("boot", "unlock", Kind::Text).default("auto");

/// All keys in the order of CONTRACT section 7.
pub const KEYS: &[&Key] = &[
    &RESOURCE_API_URL,
    &CA_FILE,
    &TOKEN_PUBLIC_KEY,
    &CLOUD_TIMEOUT,
    &ARCHIVE_PATH,
    &ARCHIVE_NAME,
    &REQUIRE_SEAL,
    &PUBLISHER_KEY,
    &ARCHIVE_IMAGES,
    &HARDWARE_SALT,
    &API_SALT,
    &RESOURCE_SALT,
    &SEPARATOR,
    &ENGINE_SOCKET,
    &ENGINE_AT_ONCE,
    &ENGINE_KEEP_OLD,
    &LISTEN,
    &TOKEN_FILE,
    &ALLOW_HOSTS,
    &ALLOW_UIDS,
    &UPLOAD_ROLE,
    &CDN_HOST,
    &CDN_REGION,
    &CDN_DOWNLOADER_ACCESS_KEY,
    &CDN_DOWNLOADER_ACCESS_SECRET,
    &CDN_UPLOADER_ACCESS_KEY,
    &CDN_UPLOADER_ACCESS_SECRET,
    &CACHE_DIR,
    &CACHE_MAX_BYTES,
    &CACHE_RESERVE_BYTES,
    &CACHE_OFFLINE,
    &STATE_DIR,
    &LOG_DIR,
    &LOG_LEVEL,
    &LOG_RETENTION_DAYS,
    &BOARD_PROFILE,
    &BOARD_ROOT,
    &BOARD_PROFILES_DIR,
    &BOARD_LED,
    &BOARD_FINGERPRINT,
    &CREDENTIALS_FILE,
    &BOOT_UNLOCK,
];

/// The key of that name in that section.
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().copied().find(|key| key.section == section && key.name == name)
}

/// Of `known`, the name nearest to `name`. A right last part in the wrong section counts as near.
pub fn nearest(name: &str, known: impl Iterator<Item = String>) -> String {
    let leaf = |text: &str| text.rsplit('.').next().map(str::to_ascii_lowercase);
    known
        .map(|candidate| {
            let likeness =
                strsim::normalized_damerau_levenshtein(&name.to_ascii_lowercase(), &candidate.to_ascii_lowercase());
            let likeness = if leaf(name) == leaf(&candidate) { likeness.max(0.9) } else { likeness };
            (likeness, candidate)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_share_a_name() {
        let mut names: Vec<String> =
            KEYS.iter().flat_map(|k| [Some(k.dotted()), Some(k.env()), k.also.map(str::to_owned)]).flatten().collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        let near = |name| nearest(name, KEYS.iter().map(|k| k.dotted()));
        assert_eq!(near("cloud.resource_api_ur"), "cloud.resource_api_url");
        assert_eq!(near("cloud.socket"), "engine.socket");
        assert_eq!(near("level"), "log.level");
        assert_eq!(near("cache.maxbytes"), "cache.max_bytes");
        assert_eq!(nearest("AZAION_CLOUD_CA", KEYS.iter().map(|k| k.env())), "AZAION_CLOUD_CA_FILE");
    }
}
