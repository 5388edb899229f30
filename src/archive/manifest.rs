//! From documents to images: Docker's `manifest.json` (written by `docker save`, classic and OCI layout alike).
//!
//! Format: Docker image specification v1.2, "combined image JSON + filesystem changeset format"; configs as of the OCI
//! image specification. An archive without `manifest.json` is read by [`super::oci`].

use serde::Deserialize;
use serde_json::Value;

use super::error::{ArchiveError, Content, DocumentFault, Feature};
use super::look::Packing;
use super::oci::{self, OciManifest, Root};
use super::source::ReadAt;
use super::store::{Store, digest_of, parse};
use super::tar::Member;
use crate::crypto::Digest;
use crate::limits::{ARCHIVE_IMAGES, IMAGE_LAYERS, IMAGE_TAGS, TAG_BYTES};
use crate::seal::SealedImage;

/// Where bytes lie in the plain tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub size: u64,
}

impl From<&Member> for Place {
    fn from(member: &Member) -> Self {
        Self { offset: member.offset, size: member.size }
    }
}

/// An image of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Names under which the engine shows it; may be none.
    pub tags: Vec<String>,
    /// Digest of the config: the image id of Docker's classic store.
    pub config: Digest,
    /// Where the config lies; its bytes have the digest.
    pub config_place: Place,
    /// The archive's own OCI manifest of this image, if there is one.
    pub manifest: Option<Manifest>,
    /// What `index.json` names for this image, if there is one: what the containerd store knows it by.
    pub root: Option<Root>,
    /// The image that `manifest.json` calls its parent, as it spells it; Docker's classic store keeps that.
    pub parent: Option<String>,
    /// `LayerSources` of its entry in `manifest.json`, as it stands there; Docker's classic store keeps that.
    pub sources: Option<Value>,
    /// `os/architecture` as the config tells it.
    pub platform: String,
    /// The architecture's variant, where the config tells one.
    pub variant: Option<String>,
    /// Digests of the unpacked layers, bottom first.
    pub diff_ids: Vec<Digest>,
    /// The layers, one for each `diff_id`.
    pub layers: Vec<Layer>,
}

impl Image {
    /// The image as a seal names it.
    pub fn as_sealed(&self) -> SealedImage {
        SealedImage { tags: self.tags.clone(), config: self.config, layers: self.diff_ids.clone() }
    }
}

/// An OCI manifest that lies in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Where it lies.
    pub place: Place,
}

/// A layer, where it lies and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the unpacked layer.
    pub diff_id: Digest,
    /// Digest of the layer as it lies there, if the archive names it.
    pub blob: Option<Digest>,
    /// Media type, if the archive names it.
    pub media_type: Option<String>,
    /// Where it lies in the plain tar.
    pub offset: u64,
    /// Bytes as it lies there.
    pub size: u64,
    /// How it is packed there.
    pub packing: Packing,
}

impl Layer {
    /// The digest that the bytes have as they lie there; unknown for a compressed layer without a blob digest.
    pub fn stored_digest(&self) -> Option<Digest> {
        match self.packing {
            Packing::Plain => Some(self.diff_id),
            Packing::Gzip | Packing::Zstd => self.blob,
        }
    }
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    #[serde(default)]
    parent: Option<String>,
    #[serde(default)]
    layer_sources: Option<Value>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

const MANIFEST: &str = "manifest.json";

/// All images of the archive, in its own order.
pub(super) async fn images<R: ReadAt>(store: &Store<'_, R>) -> Result<Vec<Image>, ArchiveError> {
    let manifests = oci::manifests(store).await?;
    let images = match store.index.file(MANIFEST) {
        Some(member) => docker(store, member, manifests.unwrap_or_default()).await?,
        None => match manifests {
            Some(manifests) => from_index(store, manifests).await?,
            None => return Err(ArchiveError::NotAnArchive(Content::NoManifest)),
        },
    };
    if images.is_empty() { Err(ArchiveError::NotAnArchive(Content::NoImage)) } else { Ok(images) }
}

/// The images of `manifest.json`; the OCI manifests add what it does not know.
async fn docker<R: ReadAt>(
    store: &Store<'_, R>,
    member: &Member,
    manifests: Vec<OciManifest>,
) -> Result<Vec<Image>, ArchiveError> {
    let entries: Vec<Entry> = store.json(member).await?;
    let mut images = Images::default();
    for entry in entries {
        let tags = entry.repo_tags.unwrap_or_default();
        let config = store.index.named_by(MANIFEST, &entry.config)?;
        let known = manifests.iter().find(|known| store.index.file(&blob_name(&known.config)) == Some(config));
        let paths = entry.layers.unwrap_or_default();
        let mut layers = Vec::new();
        for (i, path) in paths.iter().take(IMAGE_LAYERS + 1).enumerate() {
            let member = store.index.named_by(MANIFEST, path)?;
            let media_type = known.and_then(|known| known.layers.get(i)).map(|layer| layer.media_type.clone());
            layers.push(Found { member, blob: digest_in_name(&member.name), media_type });
        }
        let named = Named { document: MANIFEST, config, layers, oci: known };
        let at = images.add(store, named, tags).await?;
        let image = &mut images.list[at];
        image.parent = image.parent.take().or(entry.parent.filter(|parent| !parent.is_empty()));
        image.sources = image.sources.take().or(entry.layer_sources.filter(|sources| !sources.is_null()));
    }
    Ok(images.list)
}

/// The images of `index.json`.
async fn from_index<R: ReadAt>(store: &Store<'_, R>, manifests: Vec<OciManifest>) -> Result<Vec<Image>, ArchiveError> {
    let mut images = Images::default();
    for found in manifests {
        let name = blob_name(&found.manifest.digest);
        let config = store.index.named_by(&name, &blob_name(&found.config))?;
        let mut layers = Vec::new();
        for layer in &found.layers {
            let member = store.index.named_by(&name, &blob_name(&layer.digest))?;
            if member.size != layer.size {
                return Err(DocumentFault::Size { member: member.name.to_string() }.of(&name));
            }
            layers.push(Found { member, blob: Some(layer.digest), media_type: Some(layer.media_type.clone()) });
        }
        let named = Named { document: &name, config, layers, oci: Some(&found) };
        images.add(store, named, found.tags.clone()).await?;
    }
    Ok(images.list)
}

/// A layer that a document names.
struct Found<'a> {
    member: &'a Member,
    blob: Option<Digest>,
    media_type: Option<String>,
}

/// What documents say of one image.
struct Named<'a> {
    /// The document that names its parts, for errors.
    document: &'a str,
    config: &'a Member,
    layers: Vec<Found<'a>>,
    oci: Option<&'a OciManifest>,
}

#[derive(Default)]
struct Images {
    list: Vec<Image>,
}

impl Images {
    /// Adds an image, or its tags to the one that has the same config, and gives its place. A tag means the image that
    /// had it last, as it does when an engine loads one after the other.
    async fn add<R: ReadAt>(
        &mut self,
        store: &Store<'_, R>,
        named: Named<'_>,
        tags: Vec<String>,
    ) -> Result<usize, ArchiveError> {
        if tags.iter().any(|tag| !is_tag(tag)) {
            return Err(DocumentFault::Tag.of(named.document));
        }
        let place = Place::from(named.config);
        let known = self.list.iter().position(|image| image.config_place == place);
        let at = if let Some(at) = known {
            at
        } else {
            let document = named.document;
            let image = image(store, named).await?;
            self.same_digests(document, &image, store)?;
            self.push(image)?
        };
        for tag in tags {
            if self.list[at].tags.contains(&tag) {
                continue;
            }
            for other in &mut self.list {
                other.tags.retain(|known| *known != tag);
            }
            let image = &mut self.list[at];
            if image.tags.len() == IMAGE_TAGS {
                return Err(Feature::limit("tags of one image", IMAGE_TAGS));
            }
            image.tags.push(tag);
        }
        Ok(at)
    }

    /// Gives the place of the image, which is that of another one if two members hold the same config.
    fn push(&mut self, image: Image) -> Result<usize, ArchiveError> {
        if let Some(at) = self.list.iter().position(|known| known.config == image.config) {
            return Ok(at);
        }
        if self.list.len() == ARCHIVE_IMAGES {
            return Err(Feature::limit("images", ARCHIVE_IMAGES));
        }
        self.list.push(image);
        Ok(self.list.len() - 1)
    }

    /// One layer file must not stand for two digests.
    fn same_digests<R>(&self, document: &str, image: &Image, store: &Store<'_, R>) -> Result<(), ArchiveError> {
        let known = self.list.iter().chain([image]).flat_map(|image| &image.layers);
        for layer in &image.layers {
            let mut same_place = known.clone().filter(|other| other.offset == layer.offset && layer.size > 0);
            if same_place.any(|other| other.diff_id != layer.diff_id) {
                let member = store.index.name_at(layer.offset).to_owned();
                return Err(DocumentFault::LayerDigest { member }.of(document));
            }
        }
        Ok(())
    }
}

async fn image<R: ReadAt>(store: &Store<'_, R>, named: Named<'_>) -> Result<Image, ArchiveError> {
    let Named { document, config, layers: found, oci } = named;
    let bytes = store.document(config).await?;
    let digest = digest_of(&bytes).await;
    if let Some(expected) = digest_in_name(&config.name).filter(|expected| *expected != digest) {
        return Err(ArchiveError::Digest { name: config.name.to_string(), expected, found: digest });
    }
    let Config { os, architecture, variant, rootfs } = parse(&config.name, &bytes)?;
    let diff_ids = rootfs.diff_ids.unwrap_or_default();
    if found.len() > IMAGE_LAYERS || diff_ids.len() > IMAGE_LAYERS {
        return Err(Feature::limit("layers of one image", IMAGE_LAYERS));
    }
    if found.len() != diff_ids.len() {
        let fault = DocumentFault::LayerCount { layers: found.len(), diff_ids: diff_ids.len() };
        return Err(fault.of(document));
    }
    let mut layers = Vec::with_capacity(found.len());
    for (Found { member, blob, media_type }, &diff_id) in found.into_iter().zip(&diff_ids) {
        let packing = store.packing(member).await?;
        if packing == Packing::Plain && blob.is_some_and(|blob| blob != diff_id) {
            return Err(DocumentFault::LayerDigest { member: member.name.to_string() }.of(document));
        }
        let Place { offset, size } = Place::from(member);
        layers.push(Layer { diff_id, blob, media_type, offset, size, packing });
    }
    Ok(Image {
        tags: Vec::new(),
        config: digest,
        config_place: config.into(),
        root: oci.map(|known| known.root.beside(&digest, &known.manifest.digest, &layers)),
        manifest: oci.map(|known| known.manifest.clone()),
        parent: None,
        sources: None,
        platform: format!("{os}/{architecture}"),
        variant,
        diff_ids,
        layers,
    })
}

/// What an engine can take as a tag; whether it does is its own business.
fn is_tag(tag: &str) -> bool {
    (1..=TAG_BYTES).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The member name of a blob in the OCI layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The digest that a member's name promises: `blobs/sha256/<hex>`, `<hex>.json`.
pub(super) fn digest_in_name(name: &str) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".json"))?;
    Digest::from_hex(hex).ok()
}
