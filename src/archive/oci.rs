//! From `index.json` to image manifests: OCI image layout 1.0, with nested indexes and attestations in between.
//!
//! A saved index names what was not saved too (other platforms): a missing blob is passed over here, and only an
//! archive with no image left is refused. Every blob that is read is compared with its digest.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::{ArchiveError, Feature};
use super::manifest::{Manifest, blob_name};
use super::source::ReadAt;
use super::store::{Store, digest_of, parse};
use crate::crypto::Digest;
use crate::limits::{IMAGE_LAYERS, OCI_DESCRIPTORS, OCI_INDEX_DEPTH};

/// An image manifest that lies in the archive.
pub(super) struct OciManifest {
    pub(super) manifest: Manifest,
    pub(super) config: Digest,
    pub(super) layers: Vec<OciLayer>,
    pub(super) tags: Vec<String>,
}

/// A layer as a manifest names it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OciLayer {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// `index.json`, an index blob, or an image manifest: told apart by what they hold.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<ConfigDescriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: Option<String>,
    digest: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigDescriptor {
    media_type: String,
    digest: String,
}

const INDEX: &str = "index.json";

/// Media types of configs of runnable images, OCI and Docker; everything else under a manifest is an artifact.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The media type of a manifest that does not tell it.
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// All image manifests that `index.json` leads to, in its order; `None` without one.
pub(super) async fn manifests<R: ReadAt>(store: &Store<'_, R>) -> Result<Option<Vec<OciManifest>>, ArchiveError> {
    let Some(member) = store.index.file(INDEX) else { return Ok(None) };
    let root: Document = store.json(member).await?;
    let mut found: Vec<OciManifest> = Vec::new();
    // Descriptors to follow, the next one last, each with its depth and the tag it inherits.
    let mut stack = Vec::new();
    push(&mut stack, root.manifests.unwrap_or_default(), 0, None);
    let mut followed = 0;
    while let Some((descriptor, depth, inherited)) = stack.pop() {
        followed += 1;
        if followed > OCI_DESCRIPTORS {
            return Err(Feature::limit("descriptors in the index", OCI_DESCRIPTORS));
        }
        if descriptor.is_attestation() {
            continue;
        }
        // Other algorithms name blobs that no engine of ours loads.
        let Ok(digest) = descriptor.digest.parse::<Digest>() else { continue };
        let tag = descriptor.tag().or(inherited);
        if let Some(known) = found.iter_mut().find(|known| known.manifest.digest == digest) {
            known.tags.extend(tag);
            continue;
        }
        let name = blob_name(&digest);
        let Some(member) = store.index.file(&name) else { continue };
        let bytes = store.document(member).await?;
        let is = digest_of(&bytes).await;
        if is != digest {
            return Err(ArchiveError::Digest { name, expected: digest, found: is });
        }
        let document: Document = parse(&name, &bytes)?;
        if let Some(inner) = document.manifests {
            if depth == OCI_INDEX_DEPTH {
                return Err(Feature::limit("indexes inside indexes", OCI_INDEX_DEPTH));
            }
            push(&mut stack, inner, depth + 1, tag.as_deref());
            continue;
        }
        let Some(config) = document.config.filter(|config| CONFIGS.contains(&config.media_type.as_str())) else {
            continue;
        };
        let Ok(config) = config.digest.parse() else { continue };
        let media_type = document.media_type.or(descriptor.media_type).unwrap_or_else(|| MANIFEST_TYPE.to_owned());
        let layers: Layers = parse(&name, &bytes)?;
        if layers.layers.len() > IMAGE_LAYERS {
            return Err(Feature::limit("layers of one image", IMAGE_LAYERS));
        }
        let manifest = Manifest { digest, media_type, place: member.into() };
        found.push(OciManifest { manifest, config, layers: layers.layers, tags: tag.into_iter().collect() });
    }
    Ok(Some(found))
}

/// The layers of a document that is known to be an image manifest.
#[derive(Deserialize)]
struct Layers {
    layers: Vec<OciLayer>,
}

type Step = (Descriptor, usize, Option<String>);

fn push(stack: &mut Vec<Step>, descriptors: Vec<Descriptor>, depth: usize, tag: Option<&str>) {
    stack.extend(descriptors.into_iter().rev().map(|descriptor| (descriptor, depth, tag.map(str::to_owned))));
}

impl Descriptor {
    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// `BuildKit` marks what it attests about an image, beside the image, so.
    fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type").is_some()
    }

    /// The tag, as engines show it. `ref.name` alone is often a mere version, which names no image.
    fn tag(&self) -> Option<String> {
        let full = self.annotation("io.containerd.image.name").or_else(|| {
            self.annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']))
        })?;
        let short = full.strip_prefix("docker.io/").unwrap_or(full);
        Some(short.strip_prefix("library/").filter(|_| short.len() < full.len()).unwrap_or(short).to_owned())
    }
}
