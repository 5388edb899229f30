//! From `index.json` to image manifests: OCI image layout 1.0, with nested indexes and attestations in between.
//!
//! A saved index names what was not saved too (other platforms): a missing blob is passed over here, and only an
//! archive with no image left is refused. Every blob that is read is compared with its digest.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::error::{ArchiveError, Feature};
use super::manifest::{Layer, Manifest, Place, blob_name};
use super::source::ReadAt;
use super::store::{Store, digest_of, parse};
use crate::crypto::Digest;
use crate::limits::{IMAGE_LAYERS, OCI_DESCRIPTORS, OCI_INDEX_DEPTH};

/// What `index.json` names: an image manifest, or an index that leads to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its digest.
    pub digest: Digest,
    /// Its descriptor as it stands in `index.json`, without names.
    pub descriptor: Value,
    /// Blobs of the archive that belong to the image beside its config, its manifest and its layers: the indexes on
    /// the way to it, what is attested about it, other platforms.
    pub companions: Vec<Blob>,
    /// Whether an engine makes this one image of it, under the tags that the image has here. Two platforms under one
    /// index, or a name that is none for Docker, make it something else.
    pub is_one_image: bool,
}

/// A blob of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// The digest of its bytes, by its name.
    pub digest: Digest,
    /// Where it lies.
    pub place: Place,
}

impl Root {
    /// The same without what goes by itself.
    pub(super) fn beside(&self, config: &Digest, manifest: &Digest, layers: &[Layer]) -> Self {
        let goes_by_itself = |digest: &Digest| {
            digest == config || digest == manifest || layers.iter().any(|layer| layer.stored_digest() == Some(*digest))
        };
        let mut root = self.clone();
        root.companions.retain(|blob| !goes_by_itself(&blob.digest));
        root
    }

    fn of(digest: Digest, descriptor: &Descriptor, mut spelt: Value) -> Self {
        if let Some(annotations) = spelt.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| key != IMAGE_NAME && key != REF_NAME);
            if annotations.is_empty() {
                let _empty = spelt.as_object_mut().and_then(|spelt| spelt.remove("annotations"));
            }
        }
        Self { digest, descriptor: spelt, companions: Vec::new(), is_one_image: descriptor.is_named_plainly() }
    }

    /// Adds what a manifest names and the archive has.
    fn add_named<R: ReadAt>(&mut self, store: &Store<'_, R>, manifest: &[u8]) {
        let Ok(References { config, layers }) = parse("", manifest) else { return };
        for reference in config.into_iter().chain(layers).take(IMAGE_LAYERS) {
            let Ok(digest) = reference.digest.parse::<Digest>() else { continue };
            if let Some(member) = store.index.file(&blob_name(&digest)) {
                self.add(digest, member.into());
            }
        }
    }

    fn add(&mut self, digest: Digest, place: Place) {
        if !self.companions.iter().any(|known| known.digest == digest) {
            self.companions.push(Blob { digest, place });
        }
    }
}

/// An image manifest that lies in the archive.
pub(super) struct OciManifest {
    /// What leads to it.
    pub(super) root: Root,
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

/// The annotation by which containerd names an image.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// The annotation by which the OCI image specification (annotations.md) names a reference.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Media types of configs of runnable images, OCI and Docker; everything else under a manifest is an artifact.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The media type of a manifest that does not tell it.
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// All image manifests that `index.json` leads to, in its order; `None` without one.
pub(super) async fn manifests<R: ReadAt>(store: &Store<'_, R>) -> Result<Option<Vec<OciManifest>>, ArchiveError> {
    let Some(member) = store.index.file(INDEX) else { return Ok(None) };
    let bytes = store.document(member).await?;
    let index: Document = parse(&member.name, &bytes)?;
    let spelt: Spelt = parse(&member.name, &bytes)?;
    let mut roots: Vec<Root> = Vec::new();
    // Each image manifest with the place of its root.
    let mut found: Vec<(usize, OciManifest)> = Vec::new();
    // Descriptors to follow, the next one last.
    let mut stack = Vec::new();
    for (descriptor, spelt) in index.manifests.unwrap_or_default().into_iter().zip(spelt.manifests).rev() {
        let Ok(digest) = descriptor.digest.parse::<Digest>() else { continue };
        let root = Root::of(digest, &descriptor, spelt);
        let at = if let Some(at) = roots.iter().position(|known| known.digest == digest) {
            roots[at].is_one_image &= root.is_one_image;
            at
        } else {
            roots.push(root);
            roots.len() - 1
        };
        stack.push(Step { descriptor, root: at, depth: 0, tag: None });
    }
    let mut followed = 0;
    while let Some(Step { descriptor, root, depth, tag: inherited }) = stack.pop() {
        followed += 1;
        if followed > OCI_DESCRIPTORS {
            return Err(Feature::limit("descriptors in the index", OCI_DESCRIPTORS));
        }
        // Other algorithms name blobs that no engine of ours loads.
        let Ok(digest) = descriptor.digest.parse::<Digest>() else { continue };
        if descriptor.is_attestation() {
            attested(store, digest, &mut roots[root]).await;
            continue;
        }
        let tag = descriptor.tag().or(inherited);
        if let Some((at, known)) = found.iter_mut().find(|(_, known)| known.manifest.digest == digest) {
            known.tags.extend(tag);
            if *at != root {
                // An engine makes one image of each root.
                roots[*at].is_one_image = false;
            }
            continue;
        }
        let name = blob_name(&digest);
        let Some(member) = store.index.file(&name) else { continue };
        let bytes = store.document(member).await?;
        let is = digest_of(&bytes).await;
        if is != digest {
            return Err(ArchiveError::Digest { name, expected: digest, found: is });
        }
        roots[root].add(digest, member.into());
        let document: Document = parse(&name, &bytes)?;
        if let Some(inner) = document.manifests {
            if depth == OCI_INDEX_DEPTH {
                return Err(Feature::limit("indexes inside indexes", OCI_INDEX_DEPTH));
            }
            let step = |descriptor| Step { descriptor, root, depth: depth + 1, tag: tag.clone() };
            stack.extend(inner.into_iter().rev().map(step));
            continue;
        }
        let Some(config) = document.config.filter(|config| CONFIGS.contains(&config.media_type.as_str())) else {
            roots[root].add_named(store, &bytes);
            continue;
        };
        let Ok(config) = config.digest.parse() else { continue };
        let media_type = document.media_type.or(descriptor.media_type).unwrap_or_else(|| MANIFEST_TYPE.to_owned());
        let layers: Layers = parse(&name, &bytes)?;
        if layers.layers.len() > IMAGE_LAYERS {
            return Err(Feature::limit("layers of one image", IMAGE_LAYERS));
        }
        if found.iter().any(|(other, _)| *other == root) {
            roots[root].is_one_image = false;
        }
        let manifest = Manifest { digest, media_type, place: member.into() };
        let (layers, tags) = (layers.layers, tag.into_iter().collect());
        found.push((root, OciManifest { root: roots[root].clone(), manifest, config, layers, tags }));
    }
    // What belongs to a root is known only now.
    let whole = |(root, manifest): (usize, OciManifest)| OciManifest { root: roots[root].clone(), ..manifest };
    Ok(Some(found.into_iter().map(whole).collect()))
}

/// Adds what stands beside an image and attests something about it. What of it was not saved is passed over, as an
/// engine does.
async fn attested<R: ReadAt>(store: &Store<'_, R>, digest: Digest, root: &mut Root) {
    let Some(member) = store.index.file(&blob_name(&digest)) else { return };
    root.add(digest, member.into());
    if let Ok(bytes) = store.document(member).await {
        root.add_named(store, &bytes);
    }
}

/// The layers of a document that is known to be an image manifest.
#[derive(Deserialize)]
struct Layers {
    layers: Vec<OciLayer>,
}

/// The descriptors of `index.json` as they stand there.
#[derive(Deserialize)]
struct Spelt {
    #[serde(default)]
    manifests: Vec<Value>,
}

/// A descriptor to follow.
struct Step {
    descriptor: Descriptor,
    /// Place of the root that leads here.
    root: usize,
    depth: usize,
    /// The tag that a descriptor above gives.
    tag: Option<String>,
}

/// All blobs that a manifest names.
#[derive(Deserialize)]
struct References {
    #[serde(default)]
    config: Option<Reference>,
    #[serde(default)]
    layers: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    digest: String,
}

impl Descriptor {
    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// `BuildKit` marks what it attests about an image, beside the image, so.
    fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type").is_some()
    }

    /// Whether engines give it the name that [`Descriptor::tag`] tells, or none where that tells none.
    fn is_named_plainly(&self) -> bool {
        self.annotation(IMAGE_NAME).is_some() || self.annotation(REF_NAME).is_none()
    }

    /// The tag, as engines show it. `ref.name` alone is often a mere version, which names no image.
    fn tag(&self) -> Option<String> {
        let full = self
            .annotation(IMAGE_NAME)
            .or_else(|| self.annotation(REF_NAME).filter(|name| name.contains([':', '/'])))?;
        let short = full.strip_prefix("docker.io/").unwrap_or(full);
        Some(short.strip_prefix("library/").filter(|_| short.len() < full.len()).unwrap_or(short).to_owned())
    }
}
