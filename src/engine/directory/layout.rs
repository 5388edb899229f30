//! The documents of an OCI image layout: index, manifests, and the agent's record beside them.
//!
//! Format: OCI image specification v1.1, `image-layout.md`, `image-index.md`, `manifest.md`, `annotations.md`. Entries
//! that others put into the index are carried along byte for byte in meaning; none of them is ever dropped.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::crypto::Digest;
use crate::json::{self, JsonRefused};
use crate::limits::{LAYOUT_DOCUMENT_BYTES, LAYOUT_INDEX_BYTES, LAYOUT_RECORD_BYTES};

/// Content of `oci-layout`.
pub(super) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An image configuration; Docker's own is valid as one.
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer as a plain tar; `+gzip` and `+zstd` behind it for packed ones.
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The name under which tools find an image in a layout: `skopeo inspect oci:/dir:NAME`.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks the entries of the index that are the agent's; the value is the image's config digest.
const OURS: &str = "com.azaion.loader.config";

/// Points to a blob: media type, digest, size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType")]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// A manifest as it is made for an archive that has none.
#[derive(Debug, Serialize)]
pub(super) struct Manifest {
    #[serde(rename = "schemaVersion")]
    schema_version: u8,
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Manifest {
    /// The manifest's bytes; equal images give equal bytes, so that the digest stays the same.
    pub(super) fn bytes(config: Descriptor, layers: Vec<Descriptor>) -> Vec<u8> {
        let manifest = Self { schema_version: 2, media_type: MANIFEST, config, layers };
        serde_json::to_vec(&manifest).expect("a manifest of texts and numbers is always writable")
    }
}

/// The digests that a manifest or a nested index points to.
pub(super) fn references(document: &[u8]) -> Result<Vec<Reference>, JsonRefused> {
    #[derive(Deserialize)]
    struct Any {
        #[serde(default)]
        config: Option<Reference>,
        #[serde(default)]
        layers: Vec<Reference>,
        #[serde(default)]
        manifests: Vec<Reference>,
    }
    let any: Any = json::from_slice(document, LAYOUT_DOCUMENT_BYTES)?;
    Ok(any.config.into_iter().chain(any.layers).chain(any.manifests).collect())
}

/// What a document points to; `None` where another algorithm than SHA-256 is used, which is none of ours.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Reference {
    digest: String,
    pub(super) size: u64,
    #[serde(rename = "mediaType", default)]
    media_type: String,
}

impl Reference {
    pub(super) fn digest(&self) -> Option<Digest> {
        self.digest.parse().ok()
    }

    /// Whether it points to a document that points on: a manifest or an index, OCI's or Docker's.
    pub(super) fn points_on(&self) -> bool {
        ["manifest", "index"].iter().any(|kind| self.media_type.contains(kind))
    }
}

/// The `diff_ids` of an image configuration.
pub(super) fn diff_ids(config: &[u8]) -> Result<Vec<Digest>, JsonRefused> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: Root,
    }
    #[derive(Deserialize)]
    struct Root {
        diff_ids: Vec<Digest>,
    }
    Ok(json::from_slice::<Config>(config, LAYOUT_DOCUMENT_BYTES)?.rootfs.diff_ids)
}

/// `index.json`, with everything in it that is not ours left as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    manifests: Vec<Map<String, Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// One entry of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The manifest.
    pub(super) manifest: Descriptor,
    /// The image's config digest.
    pub(super) config: Digest,
    /// The tag; an image without one is found by its config alone.
    pub(super) tag: Option<String>,
}

impl Index {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, JsonRefused> {
        json::from_slice(bytes, LAYOUT_INDEX_BYTES)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an index of texts and numbers is always writable")
    }

    /// The agent's own entries; one that was spoilt by other hands is not among them.
    pub(super) fn ours(&self) -> impl Iterator<Item = Entry> {
        self.manifests.iter().filter_map(|entry| {
            let note = |name: &str| entry.get("annotations")?.get(name)?.as_str();
            Some(Entry {
                manifest: Descriptor::deserialize(&Value::Object(entry.clone())).ok()?,
                config: note(OURS)?.parse().ok()?,
                tag: note(REF_NAME).map(str::to_owned),
            })
        })
    }

    /// Everything that the index points to, whoever put it there.
    pub(super) fn pointed_to(&self) -> impl Iterator<Item = Reference> {
        self.manifests.iter().filter_map(|entry| Reference::deserialize(&Value::Object(entry.clone())).ok())
    }

    /// The index with `entries` in the place of all entries of ours. A tag that moves here leaves whatever had it.
    pub(super) fn with(&self, entries: &[Entry]) -> Self {
        let tags: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.tag.as_deref()).collect();
        let stays = |entry: &&Map<String, Value>| {
            let notes = entry.get("annotations");
            let tag = notes.and_then(|notes| notes.get(REF_NAME)).and_then(Value::as_str);
            notes.and_then(|notes| notes.get(OURS)).is_none() && tag.is_none_or(|tag| !tags.contains(tag))
        };
        let mut manifests: Vec<_> = self.manifests.iter().filter(stays).cloned().collect();
        manifests.extend(entries.iter().map(Entry::document));
        let mut rest = self.rest.clone();
        rest.entry("schemaVersion").or_insert(json!(2));
        rest.entry("mediaType").or_insert(json!(INDEX));
        Self { manifests, rest }
    }
}

impl Entry {
    fn document(&self) -> Map<String, Value> {
        let mut notes = Map::new();
        notes.insert(OURS.to_owned(), json!(self.config));
        notes.extend(self.tag.iter().map(|tag| (REF_NAME.to_owned(), json!(tag))));
        let Descriptor { media_type, digest, size } = &self.manifest;
        let document = json!({"mediaType": media_type, "digest": digest, "size": size, "annotations": notes});
        let Value::Object(document) = document else { return Map::new() };
        document
    }
}

/// What the agent remembers in the directory: who it is to the state on flash, and which blobs it wrote itself.
///
/// A blob gets its name only when it was written whole and verified, so a recorded blob with the recorded size is
/// good. A blob that is not recorded is someone else's: never trusted, never removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Random, made with the record: tells one directory from another, or from itself wiped.
    pub(super) id: String,
    /// Blobs of ours and their sizes.
    pub(super) blobs: BTreeMap<Digest, u64>,
}

impl Record {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        Ok(Self { id: format!("{:032x}", u128::from_be_bytes(id)), blobs: BTreeMap::new() })
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, JsonRefused> {
        json::from_slice(bytes, LAYOUT_RECORD_BYTES)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record of texts and numbers is always writable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tag: Option<&str>, content: &str) -> Entry {
        let digest = Digest::of(content.as_bytes());
        Entry {
            manifest: Descriptor { media_type: MANIFEST.into(), digest, size: content.len() as u64 },
            config: Digest::of(b"config"),
            tag: tag.map(str::to_owned),
        }
    }

    #[test]
    fn entries_of_ours_are_replaced_and_foreign_ones_stay_as_they_were() {
        let foreign = r#"{"schemaVersion":2,"x":[1],"manifests":[{"mediaType":"m","digest":"sha512:0","size":1,"y":{"z":null}}]}"#;
        let start = Index::parse(foreign.as_bytes()).expect("an index");
        let first = start.with(&[entry(Some("a:1"), "1"), entry(None, "2")]);
        assert_eq!(first.ours().collect::<Vec<_>>(), [entry(Some("a:1"), "1"), entry(None, "2")]);
        let second = Index::parse(&first.bytes()).expect("it comes back").with(&[entry(Some("b:1"), "3")]);
        assert_eq!(second.ours().collect::<Vec<_>>(), [entry(Some("b:1"), "3")]);
        assert_eq!(second.pointed_to().count(), 2);
        let shown = String::from_utf8(second.bytes()).expect("text");
        assert!(shown.contains(r#""y":{"z":null}"#) && shown.contains(r#""x":[1]"#), "{shown}");
    }

    #[test]
    fn a_tag_has_one_image() {
        let foreign = format!(
            r#"{{"manifests":[{{"digest":"{}","size":1,"annotations":{{"{REF_NAME}":"a:1"}}}}]}}"#,
            Digest::of(b"x")
        );
        let index = Index::parse(foreign.as_bytes()).expect("an index").with(&[entry(Some("a:1"), "1")]);
        assert_eq!(index.pointed_to().count(), 1);
    }

    #[test]
    fn an_index_that_cannot_be_read_is_refused() {
        for text in ["", "[]", r#"{"manifests":[1]}"#, r#"{"manifests":[],"manifests":[]}"#] {
            assert!(Index::parse(text.as_bytes()).is_err(), "{text}");
        }
        let padded = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
        assert!(Index::parse(padded(LAYOUT_INDEX_BYTES).as_bytes()).is_ok());
        assert!(Index::parse(padded(LAYOUT_INDEX_BYTES + 1).as_bytes()).is_err());
    }

    #[test]
    fn a_record_comes_back() {
        let mut record = Record::new().expect("random bytes");
        record.blobs.insert(Digest::of(b"x"), 7);
        assert_eq!(Record::parse(&record.bytes()), Ok(record.clone()));
        assert_ne!(Record::new().expect("random bytes").id, record.id);
    }

    #[test]
    fn documents_are_followed_to_what_they_point_to() {
        let config = Descriptor { media_type: CONFIG.into(), digest: Digest::of(b"c"), size: 1 };
        let layer = Descriptor { media_type: LAYER.into(), digest: Digest::of(b"l"), size: 2 };
        let manifest = Manifest::bytes(config, vec![layer]);
        let found = references(&manifest).expect("a manifest");
        let digests: Vec<_> = found.iter().map(Reference::digest).collect();
        assert_eq!(digests, [Some(Digest::of(b"c")), Some(Digest::of(b"l"))]);
        assert!(found.iter().all(|reference| !reference.points_on()));
        let odd =
            br#"{"manifests":[{"digest":"sha512:00","size":1,"mediaType":"application/vnd.oci.image.index.v1+json"}]}"#;
        let found = references(odd).expect("an index");
        assert_eq!(found[0].digest(), None);
        assert!(found[0].points_on());
    }
}
