//! Keys and the sealed form, scheme v1 (CONTRACT section 3), written independently of the agent.
//!
//! Also for tests and the demo that need an archive (section 4) or a resource (section 5) made by another hand than the
//! agent's. This module must never call the agent's own crypto, or both would be wrong together.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha384};

/// An AES-256 key.
pub type Key = [u8; 32];

/// Bytes of the IV that stands before the ciphertext.
const IV_BYTES: usize = 16;

/// The salts and the separator that cloud and agent must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salts {
    /// `[keys] hardware_salt`; here only for [`Salts::hardware_hash`].
    pub hardware: String,
    /// `[keys] api_salt`.
    pub api: String,
    /// `[keys] resource_salt`; here only for [`Salts::resource_key`].
    pub resource: String,
    /// `[keys] separator`.
    pub separator: String,
}

impl Default for Salts {
    /// `hardware-salt`, `api-salt`, `resource-salt`, no separator.
    fn default() -> Self {
        Self {
            hardware: "hardware-salt".into(),
            api: "api-salt".into(),
            resource: "resource-salt".into(),
            separator: String::new(),
        }
    }
}

impl Salts {
    /// The hardware hash of a fingerprint: what the board sends as `hardware`.
    pub fn hardware_hash(&self, fingerprint: &str) -> String {
        self.s384(&[&format!("Azaion_{fingerprint}"), &self.hardware])
    }

    /// The API key's text.
    pub fn api_key(&self, email: &str, password: &str, hardware_hash: &str) -> String {
        self.s384(&[email, password, hardware_hash, &self.api])
    }

    /// The resource key's text.
    pub fn resource_key(&self) -> String {
        self.s384(&[&self.resource])
    }

    fn s384(&self, parts: &[&str]) -> String {
        STANDARD.encode(Sha384::digest(parts.join(&self.separator)))
    }
}

/// The AES key behind a key's text.
pub fn aes_key(text: &str) -> Key {
    Sha256::digest(text).into()
}

/// The AES key of the image archive.
pub fn archive_key(fragment: &[u8]) -> Key {
    Sha256::digest(fragment).into()
}

/// `IV ‖ AES-256-CBC(plain)` with PKCS#7 padding and a fresh random IV.
///
/// # Panics
/// When the system has no randomness.
pub fn seal(key: &Key, plain: &[u8]) -> Vec<u8> {
    let mut iv = [0; IV_BYTES];
    getrandom::fill(&mut iv).expect("the system gives random bytes");
    let mut sealed = iv.to_vec();
    sealed.extend(cbc::Encryptor::<Aes256>::new(key.into(), &iv.into()).encrypt_padded_vec::<Pkcs7>(plain));
    sealed
}

/// The plain bytes of [`seal`]; `None` when too short, cut or sealed under another key (as far as padding shows it).
pub fn open(key: &Key, sealed: &[u8]) -> Option<Vec<u8>> {
    let (iv, ciphertext) = sealed.split_first_chunk::<IV_BYTES>()?;
    cbc::Decryptor::<Aes256>::new(key.into(), iv.into()).decrypt_padded_vec::<Pkcs7>(ciphertext).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The salts of the shared vectors.
    fn salts(separator: &str) -> Salts {
        Salts {
            hardware: "hw-salt-123612".into(),
            api: "api-salt-500944".into(),
            resource: "res-salt-261839".into(),
            separator: separator.into(),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("the constant is ASCII"));
        digits.map(|pair| u8::from_str_radix(pair, 16).expect("the constant is hexadecimal")).collect()
    }

    #[test]
    fn keys_agree_with_the_shared_vectors() {
        let plain = salts("");
        let hash = plain.hardware_hash("CPU: ARMv8 Processor rev 1 (v8l). Serial: 1424221030523");
        assert_eq!(hash, "QdHPwwhy/pxKdCJh7jrX6wD1WhAeBsabVTHWbI7Y9JoKc0GdnHE/1w3eqQqDMlvO");
        let api = plain.api_key("a+b@ex.org", "пароль-ключ", &hash);
        assert_eq!(api, "rvocVK2+T4FKJksHqWMxgHy68QVRkNunbMug/g0LQpFwmBhvtq0SFR1ud2Sxvw12");
        assert_eq!(hex(&aes_key(&api)), "e826a5f63ca5f231706450cbe8eb038df2c7b2d8c3a03a773df2609cd408a08c");
        let resource = plain.resource_key();
        assert_eq!(resource, "YgNvS3CM+42yB+Q05PL5JTpzMMMdswem2nVkJBpq10GPT10IjbQPmBPRi2wyolVu");

        let dashed = salts("-");
        let hash = dashed.hardware_hash("");
        assert_eq!(hash, "ozfBkSt0LjgBk3tDYiUKJTAXNrLSyA03bw5iyPpuNkoRyHqhJsq5FUYj9DofRneY");
        let api = dashed.api_key("оператор@example.com", "correct horse", &hash);
        assert_eq!(hex(&aes_key(&api)), "8145f7c0171c03aaba9f93e6587f3d6776c78f4fa46a1a8a3bfc447d4a6baeef");
    }

    #[test]
    fn a_shared_sealed_vector_opens() {
        let key = aes_key("rvocVK2+T4FKJksHqWMxgHy68QVRkNunbMug/g0LQpFwmBhvtq0SFR1ud2Sxvw12");
        let sealed = unhex("d1630bea413fc894de3030d9dcdaebcf353426ee0540e732d298c4486be99c99");
        assert_eq!(hex(&open(&key, &sealed).expect("the vector opens")), "48194883ed35bb7fedf8b92170adb3");
    }

    #[test]
    fn what_is_sealed_opens_and_no_two_seals_are_equal() {
        let key = archive_key(b"a fragment");
        for length in [0, 1, 15, 16, 17, 4096] {
            let plain = vec![7; length];
            let sealed = seal(&key, &plain);
            assert_eq!(sealed.len(), IV_BYTES + (length / 16 + 1) * 16);
            assert_eq!(open(&key, &sealed), Some(plain.clone()));
            assert_ne!(seal(&key, &plain), sealed);
        }
        assert_eq!(open(&key, &[0; 15]), None);
        assert_eq!(open(&key, &[0; 33]), None);
    }
}
