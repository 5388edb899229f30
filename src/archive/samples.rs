//! Image archives made for tests, in the layouts that engines write. Shared with `tests/` by path: it uses no room.

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `sha256:` and hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The hex part of [`digest`].
pub(crate) fn hex(bytes: &[u8]) -> String {
    digest(bytes).split_off("sha256:".len())
}

/// A tar under construction.
pub(crate) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, bytes).expect("memory");
        self
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, name: &str, target: &str) -> &mut Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        self.0.append_link(&mut header, name, target).expect("memory");
        self
    }

    /// Adds a blob under its digest and gives the digest.
    pub(crate) fn blob(&mut self, bytes: &[u8]) -> String {
        self.file(&format!("blobs/sha256/{}", hex(bytes)), bytes);
        digest(bytes)
    }

    /// Adds a JSON document.
    pub(crate) fn json(&mut self, name: &str, document: &Value) -> &mut Self {
        self.file(name, document.to_string().as_bytes())
    }

    /// The bytes, with end marker.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory")
    }
}

/// A layer: a tar with one file of `len` bytes that depend on `seed`.
pub(crate) fn layer(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes: Vec<u8> = (0..len)
        .map(|_| {
            // Xorshift: bytes that do not compress.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    let mut tar = Tar::new();
    tar.file(&format!("usr/share/file{seed}"), &bytes);
    tar.finish()
}

/// A config over layers.
pub(crate) fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": []})
        .to_string()
        .into_bytes()
}

/// What an image must come out as: tags, config digest, `diff_ids`.
pub(crate) type Expected = (Vec<String>, String, Vec<String>);

/// Layers of two images that share the first.
pub(crate) fn two_images() -> [Vec<Vec<u8>>; 2] {
    [vec![layer(1, 20_000), layer(2, 150_000)], vec![layer(1, 20_000), layer(3, 5_000)]]
}

/// The expectation for [`two_images`].
pub(crate) fn expected() -> Vec<Expected> {
    two_images()
        .iter()
        .zip(["suite/one:1", "suite/two:1"])
        .map(|(layers, tag)| {
            let diff_ids = layers.iter().map(|layer| digest(layer)).collect();
            (vec![tag.to_owned()], digest(&config(layers)), diff_ids)
        })
        .collect()
}

/// The classic layout: `<id>/layer.tar`, a shared layer as a link, `<digest>.json`, `manifest.json`.
pub(crate) fn classic() -> Vec<u8> {
    let mut tar = Tar::new();
    let mut entries = Vec::new();
    for (i, (layers, (tags, ..))) in two_images().iter().zip(expected()).enumerate() {
        let mut paths = Vec::new();
        for (j, layer) in layers.iter().enumerate() {
            let path = format!("id{i}{j}/layer.tar");
            if (i, j) == (1, 0) {
                tar.link(&path, "../id00/layer.tar");
            } else {
                tar.file(&path, layer);
            }
            paths.push(path);
        }
        let config = config(layers);
        let name = format!("{}.json", hex(&config));
        tar.file(&name, &config);
        entries.push(json!({"Config": name, "RepoTags": tags, "Layers": paths}));
    }
    tar.json("manifest.json", &Value::Array(entries));
    tar.finish()
}

/// How layers are packed in [`oci`].
#[derive(Clone, Copy)]
pub(crate) enum Layers {
    /// As they are.
    Plain,
    /// With gzip.
    Gzip,
    /// With zstd.
    Zstd,
}

/// The OCI layout as the containerd store writes it: nested index, attestation, a platform that was not saved.
pub(crate) fn oci(packed: Layers, with_manifest_json: bool) -> Vec<u8> {
    let mut tar = Tar::new();
    let (mut index, mut entries) = (Vec::new(), Vec::new());
    for (layers, (tags, ..)) in two_images().iter().zip(expected()) {
        let config = config(layers);
        let config_digest = tar.blob(&config);
        let (mut descriptors, mut paths) = (Vec::new(), Vec::new());
        for layer in layers {
            let (bytes, suffix) = match packed {
                Layers::Plain => (layer.clone(), ""),
                Layers::Gzip => (gzip(layer), "+gzip"),
                Layers::Zstd => (zstd(layer), "+zstd"),
            };
            let digest = tar.blob(&bytes);
            let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
            descriptors.push(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}));
            paths.push(format!("blobs/sha256/{}", &digest["sha256:".len()..]));
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest, "size": config.len(),
            },
            "layers": descriptors,
        });
        let attestation = tar.blob(b"{\"not\": \"an image\"}");
        let manifest = tar.blob(manifest.to_string().as_bytes());
        let inner = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(b"another platform"), "size": 1},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": 1},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": attestation, "size": 1,
             "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
        ]});
        let inner = tar.blob(inner.to_string().as_bytes());
        index.push(json!({
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": inner, "size": 1,
            "annotations": {
                "io.containerd.image.name": format!("docker.io/{}", tags[0]),
                "org.opencontainers.image.ref.name": "1",
            },
        }));
        let config = format!("blobs/sha256/{}", &config_digest["sha256:".len()..]);
        entries.push(json!({"Config": config, "RepoTags": tags, "Layers": paths}));
    }
    tar.json("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}));
    tar.json("index.json", &json!({"schemaVersion": 2, "manifests": index}));
    if with_manifest_json {
        tar.json("manifest.json", &Value::Array(entries));
    }
    tar.finish()
}

/// gzip of `bytes`.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// zstd of `bytes`, with check sum.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("memory");
    encoder.include_checksum(true).expect("a flag");
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}
