//! Split resources made by another implementation (`split.json`), for the tests of this room.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::crypto::{AesKey, BLOCK, Salts, Sealer};
use crate::secret::SecretArray;

/// One case of `split.json`.
pub(super) struct Case {
    pub(super) key: AesKey,
    pub(super) iv: [u8; BLOCK],
    pub(super) plain: Vec<u8>,
    pub(super) small: Vec<u8>,
    pub(super) big: Vec<u8>,
    pub(super) big_sha256: String,
}

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let document: Value =
        serde_json::from_str(include_str!("../../tests/fixtures/vectors/split.json")).expect("the vectors are JSON");
    let text = |value: &Value, key: &str| value[key].as_str().expect("a text").to_owned();
    let salts = Salts {
        hardware: String::new(),
        api: String::new(),
        resource: text(&document, "resource_salt"),
        separator: String::new(),
    };
    let cases = document["cases"].as_array().expect("an array");
    assert!(!cases.is_empty());
    cases
        .iter()
        .map(|case| {
            let hex = text(case, "iv_hex");
            let mut iv = [0; BLOCK];
            for (byte, at) in iv.iter_mut().zip((0..).step_by(2)) {
                *byte = u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
            }
            let key = AesKey::from_text(&salts.resource_key());
            let plain = STANDARD.decode(text(case, "plain_b64")).expect("base64");
            let small = STANDARD.decode(text(case, "small_b64")).expect("base64");
            let big = sealed(&key, iv, &plain).split_off(small.len());
            Case { key, iv, plain, small, big, big_sha256: text(case, "big_sha256") }
        })
        .collect()
}

/// A key of one byte, repeated.
pub(super) fn key(byte: u8) -> AesKey {
    AesKey::new(SecretArray::fill(|key| key.fill(byte)))
}

/// `plain`, sealed in one go.
pub(super) fn sealed(key: &AesKey, iv: [u8; BLOCK], plain: &[u8]) -> Vec<u8> {
    let (mut sealer, mut message) = (Sealer::new(key, iv), Vec::new());
    sealer.push(plain, &mut message);
    sealer.finish(&mut message);
    message
}
