//! The documents around layers, as engines read them from a tar: `manifest.json` (Docker image specification v1.2),
//! and manifests and `index.json` (Docker image manifest v2 schema 2; OCI image specification v1.1).
//!
//! What an archive has is passed on byte for byte. What a classic archive lacks is made as the engine itself would make
//! it, field by field in its order, because the digest of a manifest is the image's id on the containerd store.

use serde::Serialize;
use serde_json::Value;

use super::super::EngineStore;
use super::super::plan::{Leaves, Step};
use super::names::split;
use crate::archive::{Image, Layer, Packing};
use crate::crypto::Digest;

/// The label of a prefix: it tells the images that the agent removes again, on any engine and without any state.
pub(super) const PREFIX_LABEL: &str = "com.azaion.loader.prefix";

/// `oci-layout` (OCI image specification, image-layout.md).
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A descriptor; the fields stand in the order in which Go writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform<'a>>,
}

#[derive(Serialize)]
struct Platform<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

impl<'a> Platform<'a> {
    fn of(image: &'a Image) -> Self {
        let (os, architecture) = image.platform.split_once('/').unwrap_or((&image.platform, ""));
        Self { architecture, os, variant: image.variant.as_deref() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor<'a>,
    layers: Vec<Descriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    manifests: Vec<Value>,
}

/// An entry of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    config: String,
    repo_tags: Option<()>,
    layers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer_sources: Option<&'a Value>,
}

#[derive(Serialize)]
struct PrefixConfig<'a> {
    #[serde(flatten)]
    platform: Platform<'a>,
    config: PrefixSettings,
    rootfs: RootFs<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PrefixSettings {
    labels: Value,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    diff_ids: &'a [Digest],
}

fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("texts and numbers are JSON")
}

/// Member name of a config in the classic layout.
pub(super) fn config_name(config: &Digest) -> String {
    format!("{}.json", config.hex())
}

/// Member name of a layer in the classic layout.
pub(super) fn layer_name(layer: &Layer) -> String {
    format!("{}/layer.tar", layer.diff_id.hex())
}

/// Member name of a blob in the OCI layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The config of a prefix of `image`.
pub(super) fn prefix_config(image: &Image, step: &Step, key: impl std::fmt::Display) -> Vec<u8> {
    let labels = serde_json::json!({ PREFIX_LABEL: key.to_string() });
    json(&PrefixConfig {
        platform: Platform::of(image),
        config: PrefixSettings { labels },
        rootfs: RootFs { kind: "layers", diff_ids: &image.diff_ids[..step.upto] },
    })
}

/// `manifest.json` for one image of these layers, without a tag.
pub(super) fn manifest_json(image: &Image, step: &Step, config: &Digest) -> Vec<u8> {
    let entry = match step.leaves {
        Leaves::Image => entry(image),
        Leaves::Prefix(_) => Entry {
            config: config_name(config),
            repo_tags: None,
            layers: image.layers[..step.upto].iter().map(layer_name).collect(),
            parent: None,
            layer_sources: None,
        },
    };
    json(&[entry])
}

/// `manifest.json` for all images, whose layers are there: only together do they keep who is whose parent.
pub(super) fn family_json(images: &[Image]) -> Vec<u8> {
    json(&images.iter().map(entry).collect::<Vec<_>>())
}

fn entry(image: &Image) -> Entry<'_> {
    Entry {
        config: config_name(&image.config),
        repo_tags: None,
        layers: image.layers.iter().map(layer_name).collect(),
        parent: image.parent.as_deref(),
        layer_sources: image.sources.as_ref(),
    }
}

/// The manifest that the containerd store makes of a classic archive's image (containerd, `archive/importer.go`);
/// `None` when a layer's digest is not known.
pub(super) fn made_manifest(image: &Image) -> Option<Vec<u8>> {
    let config =
        Descriptor { media_type: DOCKER_CONFIG, digest: image.config, size: image.config_place.size, platform: None };
    layers(image, image.layers.len()).map(|layers| manifest(DOCKER_MANIFEST, config, layers))
}

/// The manifest of a prefix over `config`.
pub(super) fn prefix_manifest(image: &Image, step: &Step, config: &[u8]) -> Option<Vec<u8>> {
    let media_type = image.manifest.as_ref().map_or(DOCKER_MANIFEST, |manifest| &manifest.media_type);
    let is_docker = media_type == DOCKER_MANIFEST;
    let config = Descriptor {
        media_type: if is_docker { DOCKER_CONFIG } else { "application/vnd.oci.image.config.v1+json" },
        digest: Digest::of(config),
        size: config.len() as u64,
        platform: None,
    };
    layers(image, step.upto).map(|layers| manifest(media_type, config, layers))
}

fn manifest(media_type: &str, config: Descriptor<'_>, layers: Vec<Descriptor<'_>>) -> Vec<u8> {
    json(&Manifest { schema_version: 2, media_type, config, layers })
}

fn layers(image: &Image, upto: usize) -> Option<Vec<Descriptor<'_>>> {
    let descriptor = |layer: &'_ Layer| {
        let digest = layer.stored_digest()?;
        Some((digest, layer.size))
    };
    image.layers[..upto]
        .iter()
        .map(|layer| {
            let (digest, size) = descriptor(layer)?;
            let media_type = match (&layer.media_type, layer.packing) {
                (Some(told), _) => told.as_str(),
                (None, Packing::Plain) => DOCKER_LAYER,
                // containerd calls every packed layer so and looks at its bytes.
                (None, Packing::Gzip | Packing::Zstd) => DOCKER_LAYER_GZIP,
            };
            Some(Descriptor { media_type, digest, size, platform: None })
        })
        .collect()
}

/// What `index.json` says of a manifest made here.
pub(super) fn descriptor_of_made(image: &Image, manifest: &[u8], is_image: bool) -> Value {
    let media_type = match &image.manifest {
        Some(own) if !is_image => own.media_type.as_str(),
        _ => DOCKER_MANIFEST,
    };
    let descriptor = Descriptor {
        media_type,
        digest: Digest::of(manifest),
        size: manifest.len() as u64,
        platform: is_image.then(|| Platform::of(image)),
    };
    serde_json::to_value(descriptor).expect("texts and numbers are JSON")
}

/// `index.json` that names `descriptor` alone, once for each of `tags`, or without a name.
pub(super) fn index(descriptor: &Value, tags: &[String]) -> Vec<u8> {
    let named = |tag: &String| {
        let mut descriptor = descriptor.clone();
        let (_, version) = split(tag);
        descriptor["annotations"]["io.containerd.image.name"] = full_name(tag).into();
        descriptor["annotations"]["org.opencontainers.image.ref.name"] = version.into();
        descriptor
    };
    let manifests = if tags.is_empty() { vec![descriptor.clone()] } else { tags.iter().map(named).collect() };
    json(&Index { schema_version: 2, manifests })
}

/// A tag as containerd spells it: with its registry (`distribution/reference`, `normalize.go`).
fn full_name(tag: &str) -> String {
    match tag.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => tag.to_owned(),
        Some(_) => format!("docker.io/{tag}"),
        None => format!("docker.io/library/{tag}"),
    }
}

/// The id that the engine gives an image; `None` when the archive does not tell enough, or makes one image of what an
/// engine makes another of.
pub(in crate::engine) fn image_id(image: &Image, store: EngineStore) -> Option<Digest> {
    match (store, &image.root) {
        (EngineStore::Classic | EngineStore::Layout, _) => Some(image.config),
        (EngineStore::Containerd, Some(root)) => root.is_one_image.then_some(root.digest),
        (EngineStore::Containerd, None) => made_manifest(image).map(|manifest| Digest::of(&manifest)),
    }
}
