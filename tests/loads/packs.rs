//! Archives for these tests: of the writers that the other tests have, and made by hand where those write no such thing.

use std::io::Read as _;
use std::process::Command;

use azaion_cloud::archive::{self, Image, Layer, Layout, architecture};
use serde_json::{Value, json};

use crate::harness::binary;
use crate::support::archive::{digest, layer};

/// A suite as `docker save` writes it.
pub(crate) fn saved(layout: Layout, images: &[Image]) -> Vec<u8> {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut tar = Vec::new();
    archive::write(layout, images, scratch.path(), &mut tar).expect("memory takes everything");
    tar
}

/// One layer with one file.
pub(crate) fn file(path: &str, content: &[u8]) -> Layer {
    Layer::Files(vec![(path.into(), 0o644, content.to_vec())])
}

pub(crate) fn image(tags: &[&str], layers: &[Layer], command: &str) -> Image {
    let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
    Image { tags, layers: layers.to_vec(), command: vec![command.into()] }
}

/// A member of an archive made by hand.
pub(crate) enum Member {
    File(String, Vec<u8>),
    Link { name: String, to: String },
}

/// An entry of `manifest.json` made by hand, with its config.
pub(crate) struct Entry {
    pub(crate) tags: Vec<&'static str>,
    pub(crate) config: Vec<u8>,
    /// Where the layers are, the lowest first.
    pub(crate) layers: Vec<String>,
    /// The digest of another entry's config.
    pub(crate) parent: Option<String>,
}

impl Entry {
    /// An image of these layers' tars in their usual places. With a history, which `docker load` compares before it
    /// believes in a parent.
    pub(crate) fn of(names: &[&'static str], tars: &[&[u8]]) -> Self {
        let diff_ids: Vec<_> = tars.iter().map(|tar| format!("sha256:{}", digest(tar))).collect();
        let history: Vec<_> = diff_ids.iter().map(|id| json!({"created": CREATED, "created_by": id})).collect();
        Self {
            tags: names.to_vec(),
            config: config(&diff_ids, &json!({"history": history})),
            layers: tars.iter().map(|tar| place(tar)).collect(),
            parent: None,
        }
    }

    pub(crate) fn digest(&self) -> String {
        format!("sha256:{}", digest(&self.config))
    }
}

const CREATED: &str = "2026-01-01T00:00:00Z";

/// The usual name of a layer in a classic archive.
pub(crate) fn place(tar: &[u8]) -> String {
    format!("{}/layer.tar", digest(tar))
}

/// The members that hold these layers in their usual places.
pub(crate) fn members(tars: &[&[u8]]) -> Vec<Member> {
    tars.iter().map(|tar| Member::File(place(tar), tar.to_vec())).collect()
}

/// A config with these layers, and more.
pub(crate) fn config(diff_ids: &[String], more: &Value) -> Vec<u8> {
    let mut config = json!({
        "architecture": architecture(), "os": "linux", "created": CREATED, "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config.to_string().into_bytes()
}

/// A classic archive of these entries.
pub(crate) fn classic(entries: &[Entry], members: Vec<Member>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |size: usize, kind| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o644);
        header
    };
    for member in members {
        match member {
            Member::File(name, bytes) => {
                tar.append_data(&mut header(bytes.len(), tar::EntryType::Regular), name, bytes.as_slice())
            }
            Member::Link { name, to } => tar.append_link(&mut header(0, tar::EntryType::Symlink), name, to),
        }
        .expect("memory takes everything");
    }
    let mut manifest = Vec::new();
    let mut written = Vec::new();
    for entry in entries {
        let name = format!("{}.json", digest(&entry.config));
        if !written.contains(&name) {
            let mut header = header(entry.config.len(), tar::EntryType::Regular);
            tar.append_data(&mut header, &name, entry.config.as_slice()).expect("memory takes everything");
            written.push(name.clone());
        }
        let mut line = json!({"Config": name, "RepoTags": entry.tags, "Layers": entry.layers});
        if let Some(parent) = &entry.parent {
            line["Parent"] = json!(parent);
        }
        manifest.push(line);
    }
    let manifest = json!(manifest).to_string();
    let mut header = header(manifest.len(), tar::EntryType::Regular);
    tar.append_data(&mut header, "manifest.json", manifest.as_bytes()).expect("memory takes everything");
    tar.into_inner().expect("memory takes everything")
}

/// Two images, the second built from the first and, if `said`, saying so.
pub(crate) fn with_parent(said: bool) -> Vec<u8> {
    let (base, upper) = (layer(&[("base", b"of the parent")]), layer(&[("upper", b"of the child")]));
    let parent = Entry::of(&["azaion/parent:1"], &[&base]);
    let mut child = Entry::of(&["azaion/child:1"], &[&base, &upper]);
    child.parent = said.then(|| parent.digest());
    classic(&[child, parent], members(&[&base, &upper]))
}

/// The same OCI archive as `BuildKit` makes one: each image under an index of its own, beside what attests something about
/// it and a platform that was not saved.
pub(crate) fn nested(tar: &[u8]) -> Vec<u8> {
    let mut members = Vec::new();
    let mut index = Value::Null;
    for entry in tar::Archive::new(tar).entries().expect("a tar") {
        let mut entry = entry.expect("a member");
        let name = entry.path().expect("a name").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("memory");
        if name == "index.json" {
            index = serde_json::from_slice(&bytes).expect("JSON");
        } else {
            members.push((name, bytes));
        }
    }
    let mut blob = |bytes: Vec<u8>, media: &str| {
        let digest = digest(&bytes);
        let descriptor = json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": bytes.len()});
        members.push((format!("blobs/sha256/{digest}"), bytes));
        descriptor
    };
    for entry in index["manifests"].as_array_mut().expect("a list") {
        let mut image = entry.clone();
        image.as_object_mut().expect("an object").remove("annotations");
        image["platform"] = json!({"architecture": architecture(), "os": "linux"});
        let statement = blob(format!("about {}", image["digest"]).into_bytes(), "application/vnd.in-toto+json");
        let config = json!({"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": []}});
        let config = blob(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
        let media = "application/vnd.oci.image.manifest.v1+json";
        let attests = json!({"schemaVersion": 2, "mediaType": media, "config": config, "layers": [statement]});
        let mut attests = blob(attests.to_string().into_bytes(), media);
        attests["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        attests["annotations"] = json!({
            "vnd.docker.reference.digest": image["digest"], "vnd.docker.reference.type": "attestation-manifest",
        });
        let absent = json!({
            "mediaType": media, "digest": format!("sha256:{}", digest(b"not saved")), "size": 9,
            "platform": {"architecture": "s390x", "os": "linux"},
        });
        let media = "application/vnd.oci.image.index.v1+json";
        let inner = json!({"schemaVersion": 2, "mediaType": media, "manifests": [image, absent, attests]});
        let mut inner = blob(inner.to_string().into_bytes(), media);
        inner["annotations"] = entry["annotations"].clone();
        *entry = inner;
    }
    members.push(("index.json".into(), index.to_string().into_bytes()));
    let mut out = tar::Builder::new(Vec::new());
    let mut written = std::collections::BTreeSet::new();
    for (name, bytes) in members {
        if written.insert(name.clone()) {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            out.append_data(&mut header, name, bytes.as_slice()).expect("memory");
        }
    }
    out.into_inner().expect("memory")
}

/// Whether the agent's binary needs no library, so that an image of nothing else runs.
pub(crate) fn is_static() -> bool {
    let said = Command::new("ldd").arg(binary()).output().expect("ldd runs");
    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    said.contains("statically linked") || said.contains("not a dynamic executable")
}

/// What GNU tar writes with these arguments.
pub(crate) fn gnu_tar(args: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(["-c", "-f", "-"]).args(args).output().expect("tar runs");
    assert!(output.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
