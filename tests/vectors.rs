//! The outside's bytes (CONTRACT: `vectors/`), made by another implementation: keys, archives, split resources, the
//! sealed `cdn.yaml`. Over the copies in `tests/fixtures/` always, over `../shared/vectors` when it is there.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use azaion_loader::archive::Archive;
use azaion_loader::cloud::CdnSettings;
use azaion_loader::config;
use azaion_loader::crypto::{AesKey, Digest, Fragment, Salts, Sealer, Sha256, Unsealer, sealed_len, small_len, unseal};
use azaion_loader::net::turn;
use azaion_loader::secret::{Credentials, SecretText};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use smol::LocalExecutor;

/// The places where the vectors are.
fn places() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../shared/vectors");
    let mut places = vec![root.join("tests/fixtures/vectors")];
    if shared.is_dir() {
        places.push(shared);
    } else {
        println!("skipped: {} is not here", shared.display());
    }
    places
}

fn document(place: &Path, name: &str) -> Value {
    let bytes = fs::read(place.join(name)).expect("the vectors are complete");
    serde_json::from_slice(&bytes).expect("the vectors are JSON")
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("{key} is a text"))
}

fn number(case: &Value, key: &str) -> u64 {
    case[key].as_u64().unwrap_or_else(|| panic!("{key} is a number"))
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex")).collect()
}

fn seal(key: &AesKey, iv: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::new(key, iv.try_into().expect("16 bytes"));
    let mut out = Vec::new();
    sealer.push(plain, &mut out);
    sealer.finish(&mut out);
    out
}

fn salts(case: &Value) -> Salts {
    Salts {
        hardware: text(case, "hardware_salt").into(),
        api: text(case, "api_salt").into(),
        resource: text(case, "resource_salt").into(),
        separator: text(case, "separator").into(),
    }
}

/// The API key of a case of `keys.json`, as text.
fn api_key(case: &Value) -> SecretText {
    let salts = salts(case);
    let hardware = salts.hardware_hash(text(case, "fingerprint"));
    assert_eq!(hardware.as_str(), text(case, "hardware_hash"));
    let password = SecretText::new(text(case, "password").into());
    let credentials = Credentials::new(text(case, "email").into(), password).expect("a possible e-mail and password");
    salts.api_key(&credentials, &hardware)
}

#[test]
fn keys() {
    for place in places() {
        let cases = document(&place, "keys.json");
        let cases = cases.as_array().expect("an array");
        for case in cases {
            let api = api_key(case);
            assert_eq!(api.expose(), text(case, "api_key"));
            let key = AesKey::from_text(&api);
            assert!(key.matches(&hex(text(case, "api_aes_key_hex"))));
            let resource = salts(case).resource_key();
            assert_eq!(resource.expose(), text(case, "resource_key"));
            assert!(AesKey::from_text(&resource).matches(&hex(text(case, "resource_aes_key_hex"))));

            let (plain, sealed) = (hex(text(case, "sample_plain_hex")), hex(text(case, "sample_api_sealed_hex")));
            assert_eq!(seal(&key, &sealed[..16], &plain), sealed);
            assert_eq!(unseal(&key, sealed).expect("the key fits").expose(), plain);
        }
        println!("keys.json: {} cases hold in {}", cases.len(), place.display());
        assert!(!cases.is_empty());
    }
}

#[test]
fn split_resources() {
    for place in places() {
        let document = document(&place, "split.json");
        let salts = Salts {
            hardware: String::new(),
            api: String::new(),
            resource: text(&document, "resource_salt").into(),
            separator: String::new(),
        };
        let key = AesKey::from_text(&salts.resource_key());
        let cases = document["cases"].as_array().expect("an array");
        for case in cases {
            let plain = STANDARD.decode(text(case, "plain_b64")).expect("base64");
            assert_eq!(plain.len() as u64, number(case, "plain_len"));
            let sealed = seal(&key, &hex(text(case, "iv_hex")), &plain);
            assert_eq!(sealed.len() as u64, number(case, "sealed_len"));
            assert_eq!(sealed_len(plain.len() as u64), number(case, "sealed_len"));

            let cut = small_len(sealed.len() as u64);
            assert_eq!(cut, number(case, "small_len"));
            let (small, big) = sealed.split_at(usize::try_from(cut).expect("at most 3072"));
            assert_eq!(small, STANDARD.decode(text(case, "small_b64")).expect("base64"));
            assert_eq!(big.len() as u64, number(case, "big_len"));
            assert_eq!(Digest::of(big).hex(), text(case, "big_sha256"));

            // Back again: the parts join, whatever pieces they arrive in.
            let mut unsealer = Unsealer::new(&key);
            let mut back = Vec::new();
            small.chunks(1000).chain(big.chunks(4099)).for_each(|piece| unsealer.push(piece, &mut back));
            unsealer.finish(&mut back).expect("the key fits");
            assert!(back == plain, "plain_len {}", plain.len());
        }
        println!("split.json: {} cases hold in {}", cases.len(), place.display());
        assert!(!cases.is_empty());
    }
}

#[test]
fn cdn_yaml() {
    for place in places() {
        let document = document(&place, "cdn.json");
        let keys = self::document(&place, "keys.json");
        let case = usize::try_from(number(&document, "api_key_case")).expect("an index");
        let key = AesKey::from_text(&api_key(&keys[case]));
        let sealed = hex(text(&document, "api_sealed_hex"));
        let plain = unseal(&key, sealed).expect("the key fits");
        assert!(plain.matches(text(&document, "plain").as_bytes()));
        let settings = CdnSettings::from_yaml(Some(plain.expose()), &config::Cdn::default()).expect("complete");
        let parsed = &document["parsed"];
        assert_eq!(format!("https://{}", settings.host()), text(parsed, "host"));
        assert_eq!(settings.region(), text(parsed, "region"));
        let (id, secret) = (text(parsed, "downloader_access_key"), text(parsed, "downloader_access_secret"));
        assert!(settings.reads_with(id, secret));
        let (id, secret) = (text(parsed, "uploader_access_key"), text(parsed, "uploader_access_secret"));
        assert!(settings.uploads_with(id, secret));
        println!("cdn.json: 1 case holds in {}", place.display());
    }
}

#[test]
fn archives() {
    for place in places() {
        let cases = document(&place, "archives.json");
        let cases = cases.as_array().expect("an array");
        for case in cases {
            let fragment = Fragment::new(hex(text(case, "key_fragment_hex"))).expect("a possible fragment");
            assert!(fragment.archive_key().matches(&hex(text(case, "aes_key_hex"))));
            let path = place.join(text(case, "file"));
            turn::block_on(&LocalExecutor::new(), check_archive(&path, fragment.archive_key(), case));
        }
        println!("archives.json: {} cases hold in {}", cases.len(), place.display());
        assert!(!cases.is_empty());
    }
}

async fn check_archive(path: &Path, key: AesKey, case: &Value) {
    let done = Cell::new(0);
    let archive = Archive::open(path, key, &done).await.expect("a good archive");
    assert_eq!(archive.identity().length, number(case, "enc_len"));
    assert_eq!(archive.tar_len(), number(case, "tar_len"));
    let images = case["images"].as_array().expect("an array");
    assert_eq!(archive.images().len(), images.len());
    for (image, expected) in archive.images().iter().zip(images) {
        assert_eq!(image.tags, [text(expected, "tag")]);
        assert_eq!(image.config.to_string(), text(expected, "config_digest"));
        let diff_ids: Vec<Value> = image.diff_ids.iter().map(|id| id.to_string().into()).collect();
        assert_eq!(Value::from(diff_ids), expected["diff_ids"]);
        let sizes: Vec<Value> = image.layers.iter().map(|layer| layer.size.into()).collect();
        assert_eq!(Value::from(sizes), expected["layer_sizes"]);
    }
    let (mut tar, mut hash, mut len) = (archive.tar(), Sha256::new(), 0);
    while let Some(piece) = tar.next().await.expect("a good archive") {
        hash.update(piece);
        len += piece.len() as u64;
    }
    assert_eq!((len, hash.finish().hex().as_str()), (number(case, "tar_len"), text(case, "tar_sha256")));
}
