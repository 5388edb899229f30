//! All that an engine shows of its images, so that two loads can be held against each other.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::{Map, Value, json};

use crate::api::{Api, id, list};
use crate::support::archive::digest;

/// Image id → what is listed of it, what inspect says, and what a container made from it holds.
pub(crate) type Record = BTreeMap<String, Value>;

/// Records every image. What differs from load to load by its nature is left out: when a tag was set, and the names
/// that the storage driver draws; of those, which there are and how many lower directories, is kept.
pub(crate) fn record(api: &Api) -> Record {
    let one = |listed: Value| {
        let id = id(&listed);
        let mut inspected = api.ask(&format!("/images/{id}/json"));
        if let Some(metadata) = inspected["Metadata"].as_object_mut() {
            metadata.remove("LastTagTime");
        }
        if let Some(names) = inspected["GraphDriver"]["Data"].as_object_mut() {
            for (name, path) in names {
                let dirs = path.as_str().map_or(0, |path| path.split(':').count());
                *path = if name == "LowerDir" { json!(dirs) } else { Value::Null };
            }
        }
        let mut listed = listed;
        if let Some(listed) = listed.as_object_mut() {
            // On the containerd store the list tells them only while no second, nameless record of the image is left, as
            // a plain load leaves one beside the image of a container; inspect tells them always.
            listed.remove("RepoDigests");
        }
        let mut both = json!({"listed": listed, "inspected": inspected, "files": Value::Null});
        for part in ["listed", "inspected"] {
            for names in ["RepoTags", "RepoDigests"] {
                sort(&mut both[part][names]);
            }
        }
        both["files"] = files(api, &id);
        (id, both)
    };
    api.images().into_iter().map(one).collect()
}

fn sort(names: &mut Value) {
    if let Some(names) = names.as_array_mut() {
        names.sort_by_key(ToString::to_string);
    }
}

/// The files of a container made from the image: kind, mode, size and digest of each. Where the engine makes no
/// container of it, its refusal.
fn files(api: &Api, image: &str) -> Value {
    let container = match api.create(image) {
        Ok(container) => container,
        Err(refusal) => return json!(refusal),
    };
    // Not `export`, which keeps the image's layers for ever on Docker 26.1 with the classic store.
    let path = format!("/containers/{container}/archive?path=/");
    let exported = api.call("GET", &path, b"").expect("the engine answers");
    api.remove(&container);
    if !exported.is_good() {
        return json!(exported.status);
    }
    let mut files = Map::new();
    let mut tar = tar::Archive::new(exported.body.as_slice());
    for entry in tar.entries().expect("a tar") {
        let mut entry = entry.expect("a whole tar");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("a whole entry");
        let (kind, mode) = (entry.header().entry_type(), entry.header().mode().unwrap_or_default());
        let link = String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        files.insert(name, json!(format!("{kind:?} {mode:o} {} {} {link}", bytes.len(), digest(&bytes))));
    }
    Value::Object(files)
}

/// Every place where two records differ, with both values.
pub(crate) fn differences(left: &Record, right: &Record) -> Vec<String> {
    let mut found = Vec::new();
    let none = Value::Null;
    for id in left.keys().chain(right.keys().filter(|id| !left.contains_key(*id))) {
        compare(id, left.get(id).unwrap_or(&none), right.get(id).unwrap_or(&none), &mut found);
    }
    found
}

fn compare(at: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            for key in l.keys().chain(r.keys().filter(|key| !l.contains_key(*key))) {
                compare(&format!("{at}.{key}"), &left[key.as_str()], &right[key.as_str()], found);
            }
        }
        _ if left == right => {}
        _ => found.push(format!("{at}: by the agent {left}, by docker load {right}")),
    }
}

/// Whether every image that is shown is whole: a container can be made of it.
pub(crate) fn all_whole(api: &Api) -> Result<(), String> {
    for image in api.images() {
        let made = api
            .create(&id(&image))
            .map_err(|why| format!("{} {}: {why}", id(&image), json!(list(image["RepoTags"].clone()))))?;
        api.remove(&made);
    }
    Ok(())
}
