//! The OCI directory on a flash that fails at every call in turn, and on one that loses what was not flushed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use smol::LocalExecutor;

use super::layout::{Index, diff_ids};
use super::model::{Failure, Model, Remains};
use super::*;
use crate::crypto::Fragment;
use crate::engine::made::{self, Layout, Packed, layer};
use crate::engine::{Place, Presence};
use crate::net::turn;

const ROOM: u64 = 1 << 40;

/// An opened archive and what it must look like in the directory.
struct Suite {
    archive: Archive,
    images: Vec<Expected>,
    _file: tempfile::NamedTempFile,
}

fn suite_of(plain: &[u8]) -> Suite {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), made::encrypt(b"fragment", plain)).expect("it is written");
    let key = Fragment::new(b"fragment".to_vec()).expect("a fragment").archive_key();
    let archive = run(Archive::open(file.path(), key, &Cell::new(0))).expect("the archive opens");
    let images = archive.images().iter().map(|image| Expected::of(image, EngineStore::Layout)).collect();
    Suite { archive, images, _file: file }
}

fn suite(layout: Layout, whole: Packed, images: &[made::Image]) -> Suite {
    suite_of(&made::pack(&made::archive(layout, images), whole))
}

fn image(tags: &[&'static str], layers: &[(&str, Packed)]) -> made::Image {
    let layers = layers.iter().map(|(text, how)| (layer(&[("file", text.as_bytes())]), *how)).collect();
    made::Image { tags: tags.to_vec(), layers }
}

/// Two images that share a layer, as both kinds of archive.
fn old_suite(layout: Layout) -> Suite {
    let base = ("base", Packed::Plain);
    suite(
        layout,
        Packed::Plain,
        &[
            image(&["a:1", "a:latest"], &[base, ("old a", Packed::Plain)]),
            image(&["b:1"], &[base, ("old b", Packed::Plain)]),
        ],
    )
}

/// One image the same, one changed, one gone and one without a tag.
fn new_suite(layout: Layout) -> Suite {
    let base = ("base", Packed::Plain);
    suite(
        layout,
        Packed::Plain,
        &[
            image(&["a:2", "a:latest"], &[base, ("new a", Packed::Gzip)]),
            image(&[], &[base, ("untagged", Packed::Zstd)]),
        ],
    )
}

fn run<T>(future: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), future)
}

fn root() -> PathBuf {
    PathBuf::from("/flash/images")
}

fn directory(flash: &Model) -> Directory<Model> {
    Directory::new(root(), flash.clone())
}

fn load(flash: &Model, suite: &Suite) -> Result<(), LoadError> {
    run(directory(flash).load(&suite.archive, &Cell::new(0)))
}

fn shows(flash: &Model, suite: &Suite) -> Presence {
    let mut missing = Vec::new();
    for image in &suite.images {
        if run(directory(flash).find(image)).expect("the directory is readable").is_err() {
            missing.push(image.name());
        }
    }
    if missing.is_empty() { Presence::AllShown } else { Presence::Missing(missing) }
}

/// Tags and `diff_ids` of all images of the index, after every blob they need was hashed.
fn shown(flash: &Model) -> BTreeSet<(Option<String>, Vec<Digest>)> {
    let files = flash.files();
    let Some(index) = files.get(&root().join("index.json")) else { return BTreeSet::new() };
    let index = Index::parse(index).expect("the index is whole");
    let blob = |digest: &Digest| {
        let found = files.get(&root().join("blobs/sha256").join(digest.hex())).expect("the blob is there");
        assert_eq!(Digest::of(found), *digest, "the blob is what its name says");
        found
    };
    index
        .ours()
        .map(|entry| {
            for reference in references(blob(&entry.manifest.digest)).expect("a manifest") {
                blob(&reference.digest().expect("sha256"));
            }
            (entry.tag, diff_ids(blob(&entry.config)).expect("a config"))
        })
        .collect()
}

fn expected(suite: &Suite) -> BTreeSet<(Option<String>, Vec<Digest>)> {
    let with_tag = |image: &Expected, tag| (tag, image.diff_ids.clone());
    let mut all = BTreeSet::new();
    for image in &suite.images {
        all.extend(image.tags.iter().map(|tag| with_tag(image, Some(tag.clone()))));
        all.extend(image.tags.is_empty().then(|| with_tag(image, None)));
    }
    all
}

/// Nothing is there that the index does not need, but for the agent's record and foreign files.
fn has_no_leftovers(flash: &Model) {
    let files = flash.files();
    let record = Record::parse(&files[&root().join(".azaion-loader.json")]).expect("the record is whole");
    let is_blob = |path: &&PathBuf| path.starts_with(root().join("blobs/sha256"));
    let names: BTreeSet<_> = files.keys().filter(is_blob).filter_map(|path| path.file_name()?.to_str()).collect();
    let recorded: BTreeSet<_> = record.blobs.keys().map(Digest::hex).collect();
    assert_eq!(names, recorded.iter().map(String::as_str).collect());
    let index = Index::parse(&files[&root().join("index.json")]).expect("the index is whole");
    let mut used = BTreeSet::new();
    for entry in index.ours() {
        used.insert(entry.manifest.digest);
        let manifest = &files[&root().join("blobs/sha256").join(entry.manifest.digest.hex())];
        used.extend(references(manifest).expect("a manifest").iter().filter_map(layout::Reference::digest));
    }
    assert_eq!(record.blobs.keys().copied().collect::<BTreeSet<_>>(), used);
}

/// A flash on which other bytes stand under every name that the suite's blobs will have.
fn with_impostors(suite: &Suite) -> Model {
    let loaded = Model::new(Path::new("/flash"), ROOM);
    load(&loaded, suite).expect("it loads");
    let flash = Model::new(Path::new("/flash"), ROOM);
    run(async {
        for dir in ["/flash/images", "/flash/images/blobs", "/flash/images/blobs/sha256"] {
            let dir = Path::new(dir);
            flash.make_dir(dir).await.expect("made");
            flash.sync_dir(dir.parent().expect("not the root")).await.expect("flushed");
        }
    });
    for (path, content) in loaded.files().iter().filter(|(path, _)| path.starts_with(root().join("blobs"))) {
        flash.put(path, &vec![0; content.len()]);
    }
    flash
}

#[test]
fn every_kind_of_archive_is_shown_after_its_load() {
    for layout in [Layout::Classic, Layout::Oci] {
        for whole in [Packed::Plain, Packed::Gzip, Packed::Zstd] {
            let images = [
                image(&["a:1"], &[("base", Packed::Plain), ("z", Packed::Zstd)]),
                image(&["b:1"], &[("base", Packed::Plain), ("g", Packed::Gzip)]),
            ];
            let suite = suite(layout, whole, &images);
            let flash = Model::new(Path::new("/flash"), ROOM);
            load(&flash, &suite).expect("it loads");
            assert_eq!(shown(&flash), expected(&suite), "{layout:?} {whole:?}");
            assert_eq!(shows(&flash, &suite), Presence::AllShown);
            has_no_leftovers(&flash);
        }
    }
}

#[test]
fn a_flash_that_fails_at_any_call_shows_the_old_images_or_the_new_ones() {
    let mut cuts = 0;
    for layout in [Layout::Classic, Layout::Oci] {
        let (old, new) = (old_suite(layout), new_suite(layout));
        let before = Model::new(Path::new("/flash"), ROOM);
        load(&before, &old).expect("the old images load");
        for start in [Model::new(Path::new("/flash"), ROOM), before, with_impostors(&new)] {
            let was = shown(&start);
            for failure in [Failure::Once, Failure::FromThenOn] {
                for n in 1.. {
                    let flash = start.copy();
                    flash.fail_at(n, failure);
                    let loaded = load(&flash, &new);
                    if !flash.has_failed() {
                        loaded.expect("nothing failed");
                        let found = flash.after_cut(Remains::FlushedOnly);
                        assert_eq!(shown(&found), expected(&new));
                        has_no_leftovers(&found);
                        break;
                    }
                    for remains in [Remains::Everything, Remains::FlushedOnly, Remains::NamesBeforeContents] {
                        let found = flash.after_cut(remains);
                        let case = format!("{layout:?}, {failure:?} at call {n}, {remains:?}");
                        let is = shown(&found);
                        assert!(is == was || is == expected(&new), "{case}: {is:?}");
                        // What was said to be loaded is there.
                        assert!(loaded.is_err() || is == expected(&new), "{case}");
                        load(&found, &new).unwrap_or_else(|error| panic!("{case}: {error}"));
                        assert_eq!(shown(&found), expected(&new), "{case}");
                        has_no_leftovers(&found);
                        cuts += 1;
                    }
                }
            }
        }
    }
    assert!(cuts > 500, "{cuts} cuts were tried");
}

#[test]
fn what_is_there_is_not_written_again() {
    let suite = old_suite(Layout::Classic);
    let flash = Model::new(Path::new("/flash"), ROOM);
    load(&flash, &suite).expect("it loads");
    let blob = flash.files().into_keys().find(|path| path.starts_with(root().join("blobs"))).expect("a blob");
    // Another content of the same length stays: nobody looks into a recorded blob again.
    let size = flash.files()[&blob].len();
    flash.put(&blob, &vec![0; size]);
    load(&flash, &suite).expect("it loads");
    assert_eq!(flash.files()[&blob], vec![0; size]);
    // Another length does not.
    flash.put(&blob, b"short");
    load(&flash, &suite).expect("it loads");
    assert_eq!(shown(&flash), expected(&suite));
}

#[test]
fn foreign_files_and_images_stay() {
    let flash = Model::new(Path::new("/flash"), ROOM);
    let (old, new) = (old_suite(Layout::Oci), new_suite(Layout::Oci));
    load(&flash, &old).expect("it loads");
    let blobs = root().join("blobs/sha256");
    let foreign = [root().join("README"), blobs.join("note"), blobs.join(Digest::of(b"x").hex())];
    for path in &foreign {
        flash.put(path, b"x");
    }
    // Someone else's entry keeps one of our old images alive.
    let index = Index::parse(&flash.files()[&root().join("index.json")]).expect("an index");
    let kept = index.ours().find(|entry| entry.tag.as_deref() == Some("b:1")).expect("it is there").manifest;
    let mut text: serde_json::Value = serde_json::from_slice(&index.bytes()).expect("JSON");
    let own = serde_json::json!({"mediaType": kept.media_type, "digest": kept.digest, "size": kept.size, "mine": 1});
    text["manifests"].as_array_mut().expect("a list").push(own.clone());
    flash.put(&root().join("index.json"), text.to_string().as_bytes());

    load(&flash, &new).expect("it loads");
    assert_eq!(shown(&flash), expected(&new));
    let files = flash.files();
    assert!(foreign.iter().all(|path| files[path] == b"x"));
    let manifest = &files[&blobs.join(kept.digest.hex())];
    for reference in references(manifest).expect("a manifest") {
        assert!(files.contains_key(&blobs.join(reference.digest().expect("sha256").hex())));
    }
    let index: serde_json::Value = serde_json::from_slice(&files[&root().join("index.json")]).expect("JSON");
    assert!(index["manifests"].as_array().expect("a list").contains(&own));
}

#[test]
fn a_foreign_blob_under_a_name_of_ours_is_not_trusted() {
    let suite = old_suite(Layout::Classic);
    let fresh = with_impostors(&suite);
    load(&fresh, &suite).expect("it loads");
    assert_eq!(shown(&fresh), expected(&suite));
}

#[test]
fn an_index_that_cannot_be_read_stops_the_load_and_stays() {
    let flash = Model::new(Path::new("/flash"), ROOM);
    let suite = old_suite(Layout::Classic);
    load(&flash, &suite).expect("it loads");
    flash.put(&root().join("index.json"), b"not json");
    let error = load(&flash, &suite).expect_err("it is not overwritten");
    assert!(matches!(error, LoadError::Engine(EngineError::Layout { .. })), "{error}");
    assert_eq!(flash.files()[&root().join("index.json")], b"not json");
}

#[test]
fn too_little_room_is_told_with_numbers_before_a_blob_is_written() {
    let suite = old_suite(Layout::Classic);
    let flash = Model::new(Path::new("/flash"), LAYOUT_SPARE_BYTES);
    let error = load(&flash, &suite).expect_err("there is no room");
    let LoadError::Engine(EngineError::NoRoom { place: Place::Directory, needed, free }) = error else {
        panic!("{error}")
    };
    assert_eq!(free, LAYOUT_SPARE_BYTES);
    assert!(needed > free);
    assert!(!flash.files().keys().any(|path| path.starts_with(root().join("blobs"))));
    // With exactly what is needed it goes.
    load(&Model::new(Path::new("/flash"), needed), &suite).expect("it fits");
    load(&Model::new(Path::new("/flash"), needed - 1), &suite).expect_err("one byte short");
}

#[test]
fn other_layers_and_missing_blobs_are_told_apart() {
    let (old, new) = (old_suite(Layout::Classic), new_suite(Layout::Classic));
    let flash = Model::new(Path::new("/flash"), ROOM);
    assert_eq!(shows(&flash, &old), Presence::Missing(vec!["a:1".into(), "b:1".into()]));
    load(&flash, &old).expect("it loads");
    let look = |image: &Expected| run(directory(&flash).find(image)).expect("readable");
    assert_eq!(look(&old.images[0]), Ok(()));
    assert_eq!(look(&new.images[0]), Err(Difference::Missing));
    let other = Expected { diff_ids: vec![Digest::of(b"other")], ..old.images[0].clone() };
    assert_eq!(look(&other), Err(Difference::Layers));
    let entry_point = Expected { config: Digest::of(b"other"), ..old.images[0].clone() };
    assert_eq!(look(&entry_point), Err(Difference::Missing), "the same layers, another config");
    let untagged = Expected { tags: vec![], ..old.images[1].clone() };
    assert_eq!(look(&untagged), Ok(()));
    // A layer that was removed by other hands.
    let layer = root().join("blobs/sha256").join(old.images[0].diff_ids[1].hex());
    run(flash.remove(&layer)).expect("removed");
    assert_eq!(look(&old.images[0]), Err(Difference::Missing));
    load(&flash, &old).expect("it loads");
    assert_eq!(look(&old.images[0]), Ok(()));
}

#[test]
fn the_directory_has_an_identity_once_it_was_loaded_into() {
    let flash = Model::new(Path::new("/flash"), ROOM);
    let id = || run(directory(&flash).survey()).expect("readable").id;
    assert_eq!(id(), None);
    load(&flash, &old_suite(Layout::Oci)).expect("it loads");
    let first = id();
    assert!(first.is_some());
    load(&flash, &new_suite(Layout::Oci)).expect("it loads");
    assert_eq!(id(), first);
}

#[test]
fn a_damaged_layer_gets_no_name() {
    let content = b"something that can be found again";
    let images = [image(&["a:1"], &[(std::str::from_utf8(content).expect("text"), Packed::Plain)])];
    let mut tar = made::archive(Layout::Classic, &images);
    let at = tar.windows(content.len()).position(|window| window == content).expect("it is in there");
    tar[at] ^= 1;
    let suite = suite_of(&tar);
    let flash = Model::new(Path::new("/flash"), ROOM);
    let error = load(&flash, &suite).expect_err("the layer is not what the config says");
    assert!(matches!(error, LoadError::Archive(ArchiveError::Digest { .. })), "{error:?}");
    assert_eq!(shown(&flash), BTreeSet::new());
    let files: BTreeMap<_, _> = flash.files();
    assert!(!files.keys().any(|path| path.starts_with(root().join("blobs"))), "{:?}", files.keys());
}
