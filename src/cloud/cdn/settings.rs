//! With what the CDN is reached: `cdn.yaml`, and the configuration that wins over it.

use std::fmt;

use rusty_s3::{Bucket, Credentials, UrlStyle};
use subtle::ConstantTimeEq;

use super::error::{CdnError, SettingsFault};
use super::yaml;
use crate::config;
use crate::name::Folder;
use crate::net::BaseUrl;
use crate::secret::SecretText;

/// The region where none is told (CONTRACT section 2).
const DEFAULT_REGION: &str = "us-east-1";

const HOST: &str = "host";
const REGION: &str = "region";
const DOWNLOADER_KEY: &str = "downloader_access_key";
const DOWNLOADER_SECRET: &str = "downloader_access_secret";
const UPLOADER_KEY: &str = "uploader_access_key";
const UPLOADER_SECRET: &str = "uploader_access_secret";

const KEYS: [&str; 6] = [HOST, REGION, DOWNLOADER_KEY, DOWNLOADER_SECRET, UPLOADER_KEY, UPLOADER_SECRET];

/// Where the CDN is and with which keys it is called.
pub struct CdnSettings {
    base: BaseUrl,
    /// The same as text, for `rusty-s3`.
    url: String,
    region: String,
    downloader: Credentials,
    uploader: Option<Credentials>,
}

/// Who signs a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signer {
    Downloader,
    Uploader,
}

/// The six values, each from the configuration or else from the file.
#[derive(Default)]
struct Values([Option<SecretText>; 6]);

impl Values {
    fn set(&mut self, key: &'static str, value: SecretText) {
        if let Some(slot) = KEYS.iter().position(|known| *known == key) {
            self.0[slot] = Some(value);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<SecretText> {
        KEYS.iter().position(|known| *known == key).and_then(|slot| self.0[slot].take())
    }

    fn need(&mut self, key: &'static str) -> Result<SecretText, SettingsFault> {
        self.take(key).ok_or(SettingsFault::Missing { key })
    }

    /// Both halves of a pair of keys, or neither.
    fn pair(&mut self, id: &'static str, secret: &'static str) -> Result<Option<Credentials>, SettingsFault> {
        match (self.take(id), self.take(secret)) {
            (None, None) => Ok(None),
            (Some(id), Some(secret)) => Ok(Some(Credentials::new(id.expose(), secret.expose()))),
            (None, Some(_)) => Err(SettingsFault::Missing { key: id }),
            (Some(_), None) => Err(SettingsFault::Missing { key: secret }),
        }
    }
}

impl CdnSettings {
    /// Reads `cdn.yaml`, where there is one, under the values of `over`, each of which wins by itself.
    ///
    /// # Errors
    /// [`CdnError::Settings`] names what is missing or wrong, never a value.
    pub fn from_yaml(yaml: Option<&[u8]>, over: &config::Cdn) -> Result<Self, CdnError> {
        Self::read(yaml, over).map_err(CdnError::Settings)
    }

    fn read(yaml: Option<&[u8]>, over: &config::Cdn) -> Result<Self, SettingsFault> {
        let mut values = Values::default();
        if let Some(bytes) = yaml {
            yaml::entries(bytes, &KEYS, |key, value| values.set(key, value))?;
        }
        for (key, value) in overrides(over) {
            if let Some(value) = value {
                values.set(key, SecretText::new(value.to_owned()));
            }
        }
        let url = values.need(HOST)?.expose().to_owned();
        let base = BaseUrl::parse(&url).map_err(|source| SettingsFault::Host { source })?;
        let region = values.take(REGION).map_or_else(|| DEFAULT_REGION.to_owned(), |region| region.expose().to_owned());
        let downloader =
            values.pair(DOWNLOADER_KEY, DOWNLOADER_SECRET)?.ok_or(SettingsFault::Missing { key: DOWNLOADER_KEY })?;
        let uploader = values.pair(UPLOADER_KEY, UPLOADER_SECRET)?;
        let settings = Self { base, url, region, downloader, uploader };
        // Two parsers read the address; what one of them does not take is refused here and not at the first call.
        settings.bucket(&Folder::default())?;
        Ok(settings)
    }

    /// Whether the configuration says everything by itself, so that no `cdn.yaml` is needed.
    pub fn is_enough_alone(over: &config::Cdn, for_upload: bool) -> bool {
        let has = |wanted: &[&str]| overrides(over).iter().all(|(key, value)| !wanted.contains(key) || value.is_some());
        has(&[HOST, DOWNLOADER_KEY, DOWNLOADER_SECRET]) && (!for_upload || has(&[UPLOADER_KEY, UPLOADER_SECRET]))
    }

    /// Host and port, for messages.
    pub fn host(&self) -> String {
        self.base.host()
    }

    /// The region that is signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Whether there are keys for uploads.
    pub const fn can_upload(&self) -> bool {
        self.uploader.is_some()
    }

    /// Whether these are the keys for reading, in a time that depends on the lengths alone.
    pub fn reads_with(&self, id: &str, secret: &str) -> bool {
        is_pair(&self.downloader, id, secret)
    }

    /// Whether these are the keys for uploads, in a time that depends on the lengths alone.
    pub fn uploads_with(&self, id: &str, secret: &str) -> bool {
        self.uploader.as_ref().is_some_and(|pair| is_pair(pair, id, secret))
    }

    pub(super) const fn base(&self) -> &BaseUrl {
        &self.base
    }

    pub(super) fn signer(&self, signer: Signer) -> Result<&Credentials, SettingsFault> {
        match signer {
            Signer::Downloader => Ok(&self.downloader),
            Signer::Uploader => self.uploader.as_ref().ok_or(SettingsFault::Missing { key: UPLOADER_KEY }),
        }
    }

    /// The bucket of a folder, addressed by path: host names of buckets need a certificate for each.
    pub(super) fn bucket(&self, folder: &Folder) -> Result<Bucket, SettingsFault> {
        let url = self.url.parse().map_err(|_| SettingsFault::Address)?;
        Bucket::new(url, UrlStyle::Path, folder.bucket().to_owned(), self.region.clone())
            .map_err(|_| SettingsFault::Address)
    }

    /// `text` without the secrets, should a server have repeated one.
    pub(super) fn scrub(&self, text: String) -> String {
        let text = crate::cloud::answer::without(text, self.downloader.secret());
        match &self.uploader {
            Some(uploader) => crate::cloud::answer::without(text, uploader.secret()),
            None => text,
        }
    }
}

fn overrides(over: &config::Cdn) -> [(&'static str, Option<&str>); 6] {
    [
        (HOST, over.host.as_deref()),
        (REGION, over.region.as_deref()),
        (DOWNLOADER_KEY, over.downloader_access_key.as_deref()),
        (DOWNLOADER_SECRET, over.downloader_access_secret.as_ref().map(SecretText::expose)),
        (UPLOADER_KEY, over.uploader_access_key.as_deref()),
        (UPLOADER_SECRET, over.uploader_access_secret.as_ref().map(SecretText::expose)),
    ]
}

fn is_pair(pair: &Credentials, id: &str, secret: &str) -> bool {
    (pair.key().as_bytes().ct_eq(id.as_bytes()) & pair.secret().as_bytes().ct_eq(secret.as_bytes())).into()
}

impl fmt::Debug for CdnSettings {
    /// The host alone: key ids are half of a pair.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CdnSettings({}, …)", self.base.host())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{CDN_VALUE_BYTES, CDN_YAML_BYTES, CDN_YAML_DEPTH};

    const LEAST: &str = "host: https://cdn.example.com\ndownloader_access_key: AK\ndownloader_access_secret: canary\n";

    fn read(yaml: &str) -> Result<CdnSettings, SettingsFault> {
        CdnSettings::read(Some(yaml.as_bytes()), &config::Cdn::default())
    }

    fn with(rest: &str) -> Result<CdnSettings, SettingsFault> {
        read(&format!("{LEAST}{rest}"))
    }

    #[test]
    fn the_least_file_reads_and_does_not_upload() {
        let settings = read(LEAST).expect("enough");
        assert_eq!((settings.host().as_str(), settings.region()), ("cdn.example.com", "us-east-1"));
        assert!(settings.reads_with("AK", "canary") && !settings.reads_with("AK", "canarx"));
        assert!(!settings.can_upload());
        assert!(!format!("{settings:?}").contains("canary") && !format!("{settings:?}").contains("AK"));
        assert!(matches!(settings.signer(Signer::Uploader), Err(SettingsFault::Missing { key: UPLOADER_KEY })));
    }

    #[test]
    fn a_scalar_is_the_text_it_is() {
        for (written, text) in [
            ("0123", "0123"),
            ("1e10", "1e10"),
            ("'it''s'", "it's"),
            ("\"a\\u0042\"", "aB"),
            ("true # comment", "true"),
            ("!!str 7", "7"),
            ("a:b#c/d+e=", "a:b#c/d+e="),
            ("\"~\"", "~"),
        ] {
            let settings = with(&format!("uploader_access_key: U\nuploader_access_secret: {written}\n"));
            assert!(settings.expect(written).uploads_with("U", text), "{written}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (yaml, key) in [
            ("downloader_access_key: a\ndownloader_access_secret: b\n", HOST),
            ("host: https://h\n", DOWNLOADER_KEY),
            ("host: https://h\ndownloader_access_secret: b\n", DOWNLOADER_KEY),
            ("host: https://h\ndownloader_access_key: b\ndownloader_access_secret: ~\n", DOWNLOADER_SECRET),
            ("host:\n", HOST),
        ] {
            assert!(matches!(read(yaml), Err(SettingsFault::Missing { key: named }) if named == key), "{yaml}");
        }
        assert!(matches!(with("uploader_access_key: a"), Err(SettingsFault::Missing { key: UPLOADER_SECRET })));
    }

    #[test]
    fn what_is_not_one_flat_mapping_is_refused() {
        assert!(matches!(read("- a\n"), Err(SettingsFault::NotAMapping)));
        assert!(matches!(read(""), Err(SettingsFault::NotAMapping)));
        assert!(matches!(read("text"), Err(SettingsFault::NotAMapping)));
        assert!(matches!(with("host: https://h\n"), Err(SettingsFault::Twice)));
        assert!(matches!(with("x: 1\nx: 2\n"), Err(SettingsFault::Twice)));
        assert!(matches!(with("x: &a 1\ny: *a\n"), Err(SettingsFault::Alias)));
        assert!(matches!(with("x: &a 1\nregion: *a\n"), Err(SettingsFault::Alias)));
        assert!(matches!(with("x: [&a 1, *a]\n"), Err(SettingsFault::Alias)));
        assert!(matches!(with("region: [a]\n"), Err(SettingsFault::Value { key: REGION })));
        assert!(matches!(with("region: \"\"\n"), Err(SettingsFault::Value { key: REGION })));
        assert!(matches!(with("region: \"a\\nb\"\n"), Err(SettingsFault::Value { key: REGION })));
        assert!(matches!(with("region: 'a\n"), Err(SettingsFault::Syntax { .. })));
        assert!(matches!(with("---\na: b\n"), Err(SettingsFault::Documents)));
        assert!(matches!(CdnSettings::read(Some(b"a: \xff"), &config::Cdn::default()), Err(SettingsFault::Encoding)));
        assert!(with("other: {a: [1, {b: c}]}\nmore: text\n").is_ok());
    }

    #[test]
    fn the_file_holds_at_its_bounds() {
        let value = |n: usize| with(&format!("region: {}\n", "x".repeat(n)));
        assert!(value(CDN_VALUE_BYTES).is_ok());
        assert!(matches!(value(CDN_VALUE_BYTES + 1), Err(SettingsFault::Value { key: REGION })));
        let filled = |n: usize| with(&format!("#{}", "x".repeat(n - LEAST.len() - 1)));
        assert!(filled(CDN_YAML_BYTES).is_ok());
        assert!(matches!(filled(CDN_YAML_BYTES + 1), Err(SettingsFault::TooLong)));
        let nested = |n: usize| with(&format!("x: {}{}\n", "[".repeat(n), "]".repeat(n)));
        assert!(nested(CDN_YAML_DEPTH).is_ok());
        assert!(matches!(nested(CDN_YAML_DEPTH + 1), Err(SettingsFault::TooDeep)));
        assert!(nested(CDN_YAML_BYTES / 4).is_err());
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for host in ["cdn.example.com", "http://cdn.example.com", "https://a:b@h", "https://h/?x=y", "ftp://h"] {
            let yaml = LEAST.replace("https://cdn.example.com", host);
            assert!(matches!(read(&yaml), Err(SettingsFault::Host { .. })), "{host}");
        }
    }

    #[test]
    fn the_configuration_wins_value_by_value() {
        let over = config::Cdn {
            host: Some("http://127.0.0.1:9000".into()),
            downloader_access_secret: Some(SecretText::new("other".into())),
            ..config::Cdn::default()
        };
        let settings = CdnSettings::read(Some(LEAST.as_bytes()), &over).expect("both together");
        assert_eq!(settings.host(), "127.0.0.1:9000");
        assert!(settings.reads_with("AK", "other"));
        assert!(!CdnSettings::is_enough_alone(&over, false));
        let over = config::Cdn { downloader_access_key: Some("A".into()), ..over };
        assert!(CdnSettings::is_enough_alone(&over, false) && !CdnSettings::is_enough_alone(&over, true));
        assert!(CdnSettings::read(None, &over).is_ok());
        let secret = Some(SecretText::new("s".into()));
        let over = config::Cdn { uploader_access_key: Some("U".into()), uploader_access_secret: secret, ..over };
        assert!(CdnSettings::is_enough_alone(&over, true));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\n]{0,200}") {
            let _either = with(&text);
            let _either = read(&text);
        }

        #[test]
        fn any_mapping_of_odd_pieces_is_read_or_refused(
            pieces in prop::collection::vec("(host|region|x|: |:|\n|- |\\[|\\]|\\{|\\}|&a|\\*a|!!str|!|'|\"|\\||>|#|---|\\.\\.\\.|\\?|,|~|%|  |\u{e9}|\u{feff}|\u{85})", 0..40)
        ) {
            let _either = read(&pieces.concat());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _either = CdnSettings::read(Some(&bytes), &config::Cdn::default());
        }

        #[test]
        fn a_quoted_secret_comes_back(secret in "[^\\p{C}]{1,100}") {
            let quoted = secret.replace('\'', "''");
            let settings = with(&format!("uploader_access_key: U\nuploader_access_secret: '{quoted}'\n"));
            // A single-quoted scalar folds the line ends in it; there are none here but Unicode's own.
            if !secret.contains(['\u{2028}', '\u{2029}', '\u{85}']) {
                prop_assert!(settings.expect("a quoted text").uploads_with("U", &secret));
            }
        }
    }
}
