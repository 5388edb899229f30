//! The files that the configuration names, read when they are needed: PEM roots and keys, the port's token.

use std::path::Path;

use zeroize::Zeroizing;

use super::keys::{self, Key};
use super::{Config, ConfigError, Control};
use crate::limits::{PEM_BYTES, TOKEN_BYTES};
use crate::secret::SecretText;

impl Config {
    /// The roots of `cloud.ca_file`, if it is set. For start-up: it blocks on flash.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] with the key.
    pub fn ca_pem(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        pem(&keys::CA_FILE, self.cloud.ca_file.as_deref())
    }

    /// The key of `cloud.token_public_key`, if it is set. For start-up: it blocks on flash.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] with the key.
    pub fn token_key_pem(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        pem(&keys::TOKEN_PUBLIC_KEY, self.cloud.token_public_key.as_deref())
    }
}

fn pem(key: &Key, path: Option<&Path>) -> Result<Option<Vec<u8>>, ConfigError> {
    path.map(|path| Config::read_file(key, path, PEM_BYTES)).transpose()
}

impl Control {
    /// The bearer token of `control.token_file`, if it is set. It blocks on flash.
    ///
    /// # Errors
    /// As [`read_token`].
    pub fn token(&self) -> Result<Option<SecretText>, ConfigError> {
        self.token_file.as_deref().map(read_token).transpose()
    }
}

/// Reads a file with one bearer token; white space around it is not part of it.
///
/// # Errors
/// [`ConfigError::Unreadable`], or the error of a value when there is no token in it.
pub fn read_token(path: &Path) -> Result<SecretText, ConfigError> {
    let bytes = Zeroizing::new(Config::read_file(&keys::TOKEN_FILE, path, TOKEN_BYTES)?);
    let text = str::from_utf8(&bytes).unwrap_or_default().trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let allowed = "a file with one token of visible ASCII characters";
        return Err(ConfigError::value(&keys::TOKEN_FILE.dotted(), &path.display().to_string(), allowed));
    }
    Ok(SecretText::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("token");
        std::fs::write(&path, "abc-123\n").expect("written");
        assert_eq!(read_token(&path).expect("a token").expose(), "abc-123");
        for wrong in ["", "\n", "two words", "ключ"] {
            std::fs::write(&path, wrong).expect("written");
            assert!(read_token(&path).is_err(), "{wrong:?}");
        }
    }
}
