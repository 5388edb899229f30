//! Image archives made in memory, as `docker save` writes them (CONTRACT section 4).
//!
//! Names nothing of the agent, so that its unit tests include this file too.

use std::fmt::Write as _;
use std::io::Write as _;

use cbc::cipher::array::Array;
use cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How the tar is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Docker up to 24.
    Classic,
    /// Docker from 25 on.
    Oci,
}

/// How a layer or the whole archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packed {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// An image to make.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// `name:tag`, any number.
    pub(crate) tags: Vec<&'static str>,
    /// The layers' tars, the lowest first, and how each is packed in the archive.
    pub(crate) layers: Vec<(Vec<u8>, Packed)>,
}

/// The tar of a layer with these files.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        append(&mut tar, name, content);
    }
    tar.into_inner().expect("memory takes everything")
}

/// The tar of an archive of these images.
pub(crate) fn archive(layout: Layout, images: &[Image]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut written = Vec::new();
    let mut put = |tar: &mut tar::Builder<_>, name: String, content: &[u8]| {
        if !written.contains(&name) {
            append(tar, &name, content);
            written.push(name.clone());
        }
        name
    };
    let (mut manifest, mut index) = (Vec::new(), Vec::new());
    for image in images {
        let diff_ids: Vec<_> = image.layers.iter().map(|(tar, _)| format!("sha256:{}", digest(tar))).collect();
        let mut places = Vec::new();
        let mut descriptors = Vec::new();
        for (bytes, how) in &image.layers {
            let blob = pack(bytes, *how);
            descriptors.push(described(&format!("application/vnd.oci.image.layer.v1.tar{}", ending(*how)), &blob));
            let name = match layout {
                Layout::Classic => format!("{}/layer.tar", digest(bytes)),
                Layout::Oci => format!("blobs/sha256/{}", digest(&blob)),
            };
            places.push(put(&mut tar, name, &blob));
        }
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/tool"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let name = match layout {
            Layout::Classic => format!("{}.json", digest(&config)),
            Layout::Oci => format!("blobs/sha256/{}", digest(&config)),
        };
        let config_place = put(&mut tar, name, &config);
        if layout == Layout::Oci {
            let media = "application/vnd.oci.image.manifest.v1+json";
            let own = json!({
                "schemaVersion": 2, "mediaType": media, "layers": descriptors,
                "config": described("application/vnd.oci.image.config.v1+json", &config),
            });
            let own = own.to_string().into_bytes();
            put(&mut tar, format!("blobs/sha256/{}", digest(&own)), &own);
            let entry = |tag: Option<&&str>| {
                let mut entry = described(media, &own);
                if let Some(tag) = tag {
                    entry["annotations"] = json!({
                        "io.containerd.image.name": format!("docker.io/{tag}"),
                        "org.opencontainers.image.ref.name": tag.rsplit(':').next(),
                    });
                }
                entry
            };
            index.extend(image.tags.iter().map(|tag| entry(Some(tag))));
            index.extend(image.tags.is_empty().then(|| entry(None)));
        }
        let tags = if image.tags.is_empty() { Value::Null } else { json!(image.tags) };
        manifest.push(json!({"Config": config_place, "RepoTags": tags, "Layers": places}));
    }
    if layout == Layout::Oci {
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index = json!({"schemaVersion": 2, "manifests": index});
        append(&mut tar, "index.json", index.to_string().as_bytes());
    }
    append(&mut tar, "manifest.json", json!(manifest).to_string().as_bytes());
    tar.into_inner().expect("memory takes everything")
}

/// Packs bytes.
pub(crate) fn pack(bytes: &[u8], how: Packed) -> Vec<u8> {
    match how {
        Packed::Plain => bytes.to_vec(),
        Packed::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(bytes).expect("memory takes everything");
            gzip.finish().expect("memory takes everything")
        }
        Packed::Zstd => zstd::encode_all(bytes, 1).expect("memory takes everything"),
    }
}

/// `IV ‖ AES-256-CBC(plain)` under the key that `fragment` stands for.
pub(crate) fn encrypt(fragment: &[u8], plain: &[u8]) -> Vec<u8> {
    let iv = [7; 16];
    let padding = 16 - plain.len() % 16;
    let mut text = plain.to_vec();
    text.resize(plain.len() + padding, u8::try_from(padding).expect("1 to 16"));
    let mut cipher = cbc::Encryptor::<aes::Aes256>::new(&Sha256::digest(fragment), &iv.into());
    cipher.encrypt_blocks(Array::slice_as_chunks_mut(&mut text).0);
    [&iv[..], &text].concat()
}

/// SHA-256 in hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}").expect("memory takes everything");
    }
    hex
}

fn described(media: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()})
}

const fn ending(how: Packed) -> &'static str {
    match how {
        Packed::Plain => "",
        Packed::Gzip => "+gzip",
        Packed::Zstd => "+zstd",
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).expect("memory takes everything");
}
