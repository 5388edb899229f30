//! Tests of the room as a whole: archives in, images and the tar out.

use std::cell::Cell;

use proptest::prelude::*;
use serde_json::{Value, json};
use smol::LocalExecutor;

use super::samples::{self, Layers, Tar};
use super::*;
use crate::crypto::{AesKey, BLOCK, Digest, Sealer};
use crate::limits::*;
use crate::net::turn;
use crate::secret::SecretArray;

fn key() -> AesKey {
    AesKey::new(SecretArray::fill(|key| key.fill(3)))
}

fn seal(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sealer = Sealer::new(&key(), [5; BLOCK]);
    sealer.push(plain, &mut out);
    sealer.finish(&mut out);
    out
}

fn run<T>(main: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), main)
}

fn open(tar: &[u8]) -> Result<Archive<Vec<u8>>, ArchiveError> {
    run(Archive::open_source(seal(tar), key(), &Cell::new(0)))
}

fn stream<R: ReadAt>(archive: &Archive<R>) -> Result<Vec<u8>, ArchiveError> {
    run(async {
        let (mut tar, mut all) = (archive.tar(), Vec::new());
        while let Some(piece) = tar.next().await? {
            assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
            all.extend_from_slice(piece);
        }
        assert_eq!(all.len() as u64, tar.length());
        Ok(all)
    })
}

fn shown(images: &[Image]) -> Vec<samples::Expected> {
    let shown = |image: &Image| {
        let diff_ids = image.diff_ids.iter().map(ToString::to_string).collect();
        (image.tags.clone(), image.config.to_string(), diff_ids)
    };
    images.iter().map(shown).collect()
}

/// Every layout, plain and packed.
fn layouts() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("classic", samples::classic()),
        ("oci", samples::oci(Layers::Plain, true)),
        ("oci, index only", samples::oci(Layers::Plain, false)),
        ("oci, gzip layers", samples::oci(Layers::Gzip, true)),
        ("oci, zstd layers, index only", samples::oci(Layers::Zstd, false)),
    ]
}

#[test]
fn every_layout_and_packing_shows_the_same_images_and_the_same_tar() {
    for (name, tar) in layouts() {
        for (packing, packed) in
            [(Packing::Plain, tar.clone()), (Packing::Gzip, samples::gzip(&tar)), (Packing::Zstd, samples::zstd(&tar))]
        {
            let sealed = seal(&packed);
            let (len, done) = (sealed.len() as u64, Cell::new(0));
            let archive = run(Archive::open_source(sealed, key(), &done)).expect(name);
            assert_eq!(shown(archive.images()), samples::expected(), "{name} {packing:?}");
            assert_eq!((archive.packing(), archive.tar_len()), (packing, tar.len() as u64));
            assert_eq!(done.get(), len);
            assert!(stream(&archive).expect(name) == tar, "{name} {packing:?}");
        }
    }
}

#[test]
fn layers_and_documents_lie_where_the_images_say() {
    for (name, tar) in layouts() {
        for packed in [tar.clone(), samples::gzip(&tar)] {
            let archive = open(&packed).expect(name);
            for (image, layers) in archive.images().iter().zip(samples::two_images()) {
                let config = run(archive.document(image.config_place)).expect(name);
                assert_eq!(samples::digest(&config), image.config.to_string());
                assert_eq!(image.manifest.is_some(), name.starts_with("oci"));
                if let Some(manifest) = &image.manifest {
                    let bytes = run(archive.document(manifest.place)).expect(name);
                    assert_eq!(samples::digest(&bytes), manifest.digest.to_string());
                }
                for (layer, plain) in image.layers.iter().zip(layers) {
                    let range = usize::try_from(layer.offset).expect("fits")..;
                    let bytes = &tar[range][..usize::try_from(layer.size).expect("fits")];
                    let digest = layer.stored_digest().expect("known in these layouts").to_string();
                    assert_eq!(samples::digest(bytes), digest);
                    assert_eq!(layer.diff_id.to_string(), samples::digest(&plain));
                    match archive.packing() {
                        Packing::Plain => assert!(run(archive.read(layer.offset, bytes.len())).expect(name) == bytes),
                        _ => assert!(matches!(run(archive.read(layer.offset, 1)), Err(ArchiveError::NotSeekable))),
                    }
                }
            }
        }
    }
}

/// A classic archive of one image; `change` edits its manifest entry.
fn one(layers: &[Vec<u8>], change: impl FnOnce(&mut Value, &mut Tar)) -> Vec<u8> {
    let mut tar = Tar::new();
    let config = samples::config(layers);
    let paths: Vec<String> = (0..layers.len()).map(|i| format!("{i}/layer.tar")).collect();
    for (path, layer) in paths.iter().zip(layers) {
        tar.file(path, layer);
    }
    tar.file("config.json", &config);
    let mut entries = json!([{"Config": "config.json", "RepoTags": ["one:1"], "Layers": paths}]);
    change(&mut entries, &mut tar);
    tar.json("manifest.json", &entries);
    tar.finish()
}

#[test]
fn images_without_layers_without_tags_with_many_and_twice() {
    let none = open(&one(&[], |entries, _| entries[0]["Layers"] = Value::Null)).expect("no layers");
    assert_eq!(none.images()[0].layers.len(), 0);
    let untagged = open(&one(&[], |entries, _| entries[0]["RepoTags"] = Value::Null)).expect("no tags");
    assert_eq!(untagged.images()[0].tags.len(), 0);

    let layer = samples::layer(1, 100);
    let twice = open(&one(&[layer.clone(), layer.clone()], |entries, _| {
        let mut second = entries[0].clone();
        second["RepoTags"] = json!(["two:1", "one:1", "three:1"]);
        entries.as_array_mut().expect("an array").push(second);
    }))
    .expect("one layer twice, one config twice");
    assert_eq!(twice.images().len(), 1);
    assert_eq!(twice.images()[0].tags, ["one:1", "two:1", "three:1"]);
    assert_eq!(twice.images()[0].layers.len(), 2);
    assert!(stream(&twice).is_ok());
}

#[test]
fn a_tag_means_the_image_that_had_it_last_and_parents_and_sources_are_kept() {
    let layers = [samples::layer(1, 100)];
    let archive = open(&one(&layers, |entries, tar| {
        let other = samples::config(&[]);
        let name = format!("{}.json", samples::hex(&other));
        tar.file(&name, &other);
        let entry = json!({"Config": name, "RepoTags": ["one:1", "other:1"], "Layers": null, "Parent": "sha256:ab",
            "LayerSources": {"sha256:cd": {"size": 1}}});
        entries.as_array_mut().expect("an array").push(entry);
    }))
    .expect("two images, one tag");
    let [first, second] = archive.images() else { panic!("two images") };
    assert!(first.tags.is_empty(), "{:?}", first.tags);
    assert_eq!(second.tags, ["one:1", "other:1"]);
    assert_eq!((&first.parent, &second.parent), (&None, &Some("sha256:ab".to_owned())));
    assert_eq!(second.sources, Some(json!({"sha256:cd": {"size": 1}})));
}

fn document_fault(tar: &[u8]) -> DocumentFault {
    match open(tar) {
        Err(ArchiveError::Document { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn documents_that_do_not_fit_are_refused() {
    let layers = [samples::layer(1, 100)];
    let fault = |change: fn(&mut Value, &mut Tar)| document_fault(&one(&layers, change));
    assert!(matches!(fault(|e, _| e[0]["Config"] = json!("none")), DocumentFault::Missing { .. }));
    assert!(matches!(fault(|e, _| e[0]["Layers"] = json!(["0"])), DocumentFault::Missing { .. }));
    assert_eq!(fault(|e, _| e[0]["Layers"] = json!([])), DocumentFault::LayerCount { layers: 0, diff_ids: 1 });
    assert_eq!(fault(|e, _| e[0]["RepoTags"] = json!(["a b"])), DocumentFault::Tag);
    assert_eq!(fault(|e, _| e[0]["RepoTags"] = json!([""])), DocumentFault::Tag);
    assert!(matches!(fault(|e, _| *e = json!({})), DocumentFault::Json(_)));
    assert!(matches!(open(&one(&layers, |e, _| *e = json!([]))), Err(ArchiveError::NotAnArchive(Content::NoImage))));
    assert!(matches!(open(&Tar::new().finish()), Err(ArchiveError::NotAnArchive(Content::NoManifest))));

    let mut blob = Tar::new();
    blob.file("blobs/sha256/ab", &[1]);
    let wrong = format!("blobs/sha256/{}", samples::hex(b"something else"));
    let config = samples::config(&[]);
    blob.file(&wrong, &config).json("manifest.json", &json!([{"Config": wrong}]));
    assert!(matches!(open(&blob.finish()), Err(ArchiveError::Digest { .. })));
}

#[test]
fn a_layer_cannot_have_two_digests() {
    let (one_layer, other) = (samples::layer(1, 100), samples::layer(2, 100));
    let tar = one(std::slice::from_ref(&one_layer), |entries, tar| {
        let config = samples::config(std::slice::from_ref(&other));
        tar.file("other.json", &config);
        let second = json!({"Config": "other.json", "Layers": ["0/layer.tar"]});
        entries.as_array_mut().expect("an array").push(second);
    });
    assert!(matches!(document_fault(&tar), DocumentFault::LayerDigest { .. }));

    let mut tar = Tar::new();
    let blob = tar.blob(&one_layer).replace("sha256:", "blobs/sha256/");
    tar.file("config.json", &samples::config(&[other]));
    tar.json("manifest.json", &json!([{"Config": "config.json", "Layers": [blob]}]));
    assert!(matches!(document_fault(&tar.finish()), DocumentFault::LayerDigest { .. }));
}

#[test]
fn bounds_of_images_hold() {
    let limit = |tar: Vec<u8>| match open(&tar) {
        Ok(_) => None,
        Err(ArchiveError::Unsupported(Feature::Limit { of, limit })) => Some((of, limit)),
        Err(other) => panic!("{other:?}"),
    };
    let images = |count: usize| {
        let mut tar = Tar::new();
        let entries: Vec<Value> = (0..count)
            .map(|i| {
                let config = json!({"os": i.to_string(), "rootfs": {}}).to_string();
                tar.file(&format!("c{i}"), config.as_bytes());
                json!({"Config": format!("c{i}")})
            })
            .collect();
        tar.json("manifest.json", &Value::Array(entries));
        tar.finish()
    };
    assert_eq!(limit(images(ARCHIVE_IMAGES)), None);
    assert_eq!(limit(images(ARCHIVE_IMAGES + 1)), Some(("images", ARCHIVE_IMAGES as u64)));

    let layers = |count: usize| {
        let layer = samples::layer(1, 1);
        let all = vec![layer.clone(); count];
        let mut tar = Tar::new();
        tar.file("l", &layer).file("c", &samples::config(&all));
        tar.json("manifest.json", &json!([{"Config": "c", "Layers": vec!["l"; count]}]));
        tar.finish()
    };
    assert_eq!(limit(layers(IMAGE_LAYERS)), None);
    assert_eq!(limit(layers(IMAGE_LAYERS + 1)), Some(("layers of one image", IMAGE_LAYERS as u64)));

    let tags = |count: usize| {
        let tags: Vec<String> = (0..count).map(|i| format!("t:{i}")).collect();
        one(&[], |entries, _| entries[0]["RepoTags"] = json!(tags))
    };
    assert_eq!(limit(tags(IMAGE_TAGS)), None);
    assert_eq!(limit(tags(IMAGE_TAGS + 1)), Some(("tags of one image", IMAGE_TAGS as u64)));

    let tag = |len: usize| one(&[], |entries, _| entries[0]["RepoTags"] = json!(["t".repeat(len)]));
    assert!(open(&tag(TAG_BYTES)).is_ok());
    assert_eq!(document_fault(&tag(TAG_BYTES + 1)), DocumentFault::Tag);

    let document = |len: usize| {
        one(&[], |entries, _| {
            let spare = len - entries.to_string().len();
            entries[0]["RepoTags"][0] = json!("one:1");
            entries[0]["Unknown"] = json!("x".repeat(spare - ",\"Unknown\":\"\"".len()));
            assert_eq!(entries.to_string().len(), len);
        })
    };
    let bytes = usize::try_from(DOCUMENT_BYTES).expect("fits");
    assert_eq!(limit(document(bytes)), None);
    assert_eq!(limit(document(bytes + 1)), Some(("bytes of one document", DOCUMENT_BYTES)));
}

#[test]
fn bounds_of_the_index_hold() {
    let limit = |tar: Vec<u8>| match open(&tar) {
        Ok(_) => None,
        Err(ArchiveError::Unsupported(Feature::Limit { of, limit })) => Some((of, limit)),
        Err(other) => panic!("{other:?}"),
    };
    let archive = |depth: usize, spare: usize| {
        let mut tar = Tar::new();
        let config = tar.blob(&samples::config(&[]));
        let manifest = json!({"layers": [], "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 1}});
        let mut digest = tar.blob(manifest.to_string().as_bytes());
        for _ in 0..depth {
            digest = tar.blob(json!({"manifests": [{"digest": digest}]}).to_string().as_bytes());
        }
        let mut descriptors = vec![json!({"digest": digest})];
        descriptors.extend((0..spare).map(|_| json!({"digest": samples::digest(b"not saved")})));
        tar.json("index.json", &json!({"manifests": descriptors}));
        tar.finish()
    };
    assert_eq!(limit(archive(OCI_INDEX_DEPTH, 0)), None);
    assert_eq!(limit(archive(OCI_INDEX_DEPTH + 1, 0)).map(|(_, limit)| limit), Some(OCI_INDEX_DEPTH as u64));
    assert_eq!(limit(archive(0, OCI_DESCRIPTORS - 1)), None);
    assert_eq!(limit(archive(0, OCI_DESCRIPTORS)).map(|(_, limit)| limit), Some(OCI_DESCRIPTORS as u64));
}

#[test]
fn documents_kept_of_a_compressed_archive_hold_at_their_bound() {
    let archive = |over: usize| {
        let rest = DOCUMENTS_BYTES + over;
        let part = usize::try_from(DOCUMENT_BYTES).expect("fits");
        samples::gzip(&one(&[], |entries, tar| {
            let own = entries.to_string().len() + samples::config(&[]).len();
            let mut left = rest - own;
            while left > 0 {
                let n = left.min(part);
                tar.file(&format!("{left}"), format!("[{}", " ".repeat(n - 1)).as_bytes());
                left -= n;
            }
        }))
    };
    assert!(open(&archive(0)).is_ok());
    assert!(matches!(open(&archive(1)), Err(ArchiveError::Unsupported(Feature::Limit { .. }))));
}

#[test]
fn a_changed_layer_is_told_before_the_end_marker_goes_out() {
    for (name, tar) in layouts() {
        let archive = open(&tar).expect(name);
        let layer = &archive.images()[1].layers[1];
        let mut bad = tar.clone();
        bad[usize::try_from(layer.offset + layer.size / 2).expect("fits")] ^= 1;
        for packed in [bad.clone(), samples::zstd(&bad)] {
            let archive = open(&packed).expect("documents and headers are as they were");
            run(async {
                let (mut stream, mut sent) = (archive.tar(), 0);
                let error = loop {
                    match stream.next().await {
                        Ok(Some(piece)) => sent += piece.len(),
                        Ok(None) => panic!("{name}: ended cleanly"),
                        Err(error) => break error,
                    }
                };
                assert!(matches!(error, ArchiveError::Digest { .. }), "{name}: {error:?}");
                assert!(sent <= bad.len() - 1024, "{name}: the end marker went out");
                assert!(matches!(stream.next().await, Err(ArchiveError::Stopped)));
            });
        }
    }
}

#[test]
fn bytes_behind_the_end_marker_travel_along() {
    let mut tar = samples::classic();
    tar.extend(std::iter::repeat_n(7, 100_000));
    let archive = open(&tar).expect("whole");
    assert!(stream(&archive).expect("whole") == tar);
}

/// Ciphertext that is another one from the second look on.
struct Fickle {
    bytes: Vec<u8>,
    same: Cell<bool>,
}

impl ReadAt for Fickle {
    fn len(&self) -> u64 {
        ReadAt::len(&self.bytes)
    }

    async fn read_at(&self, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        self.bytes.read_at(offset, buf).await
    }

    async fn unchanged(&self) -> Result<bool, ArchiveError> {
        Ok(self.same.get())
    }
}

#[test]
fn a_file_that_changes_is_refused_before_the_end_marker() {
    let tar = samples::classic();
    let source = |same| Fickle { bytes: seal(&tar), same: Cell::new(same) };
    let early = run(Archive::open_source(source(false), key(), &Cell::new(0)));
    assert!(matches!(early, Err(ArchiveError::Changed)));
    let archive = run(Archive::open_source(source(true), key(), &Cell::new(0))).expect("whole");
    archive.cipher.source().same.set(false);
    assert!(matches!(stream(&archive), Err(ArchiveError::Changed)));
}

#[test]
fn wrong_keys_are_told_from_damage() {
    let tar = samples::classic();
    for packed in [tar.clone(), samples::gzip(&tar), samples::zstd(&tar)] {
        let sealed = seal(&packed);
        // Enough keys for some to show padding by chance.
        for i in 0..1000_u32 {
            let wrong = AesKey::new(SecretArray::fill(|key| key[..4].copy_from_slice(&i.to_le_bytes())));
            let opened = run(Archive::open_source(sealed.clone(), wrong, &Cell::new(0)));
            assert!(matches!(opened, Err(ArchiveError::WrongKey)), "{i}: {opened:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_changes_never_panic(
        layout in 0..5_usize,
        packing in 0..3_u8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (_, tar) = layouts().swap_remove(layout);
        let mut packed = match packing {
            0 => tar,
            1 => samples::gzip(&tar),
            _ => samples::zstd(&tar),
        };
        for (at, byte) in changes {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        if let Ok(archive) = open(&packed) {
            drop(stream(&archive));
        }
    }

    #[test]
    fn arbitrary_documents_never_panic(text in "[\\[\\]{}\":,a-zA-Z0-9 ./]{0,200}", which in 0..2_usize) {
        let mut tar = Tar::new();
        tar.file(["manifest.json", "index.json"][which], text.as_bytes());
        prop_assert!(open(&tar.finish()).is_err());
    }
}

#[test]
fn what_belongs_to_an_image_beside_its_layers_is_found_below_its_root() {
    let archive = open(&samples::oci(Layers::Plain, true)).expect("oci");
    for image in archive.images() {
        let root = image.root.as_ref().expect("index.json leads to it");
        assert!(root.is_one_image);
        assert_eq!(root.descriptor["digest"], root.digest.to_string());
        assert_eq!(root.descriptor.get("annotations"), None, "names are left out");
        let digests: Vec<String> = root.companions.iter().map(|blob| blob.digest.to_string()).collect();
        // The nested index and the attestation; not the image's own manifest, config or layers.
        assert_eq!(digests.len(), 2, "{digests:?}");
        assert!(digests.contains(&root.digest.to_string()));
        assert!(digests.contains(&samples::digest(b"{\"not\": \"an image\"}")));
        for blob in &root.companions {
            let size = usize::try_from(blob.place.size).expect("fits");
            let bytes = run(archive.read(blob.place.offset, size)).expect("there");
            assert_eq!(samples::digest(&bytes), blob.digest.to_string());
        }
    }
}

fn span<R: ReadAt>(archive: &Archive<R>, place: Place, digest: Option<Digest>) -> Result<Vec<u8>, ArchiveError> {
    run(async {
        let (mut span, mut all, mut piece) = (archive.span(place, digest), Vec::new(), Vec::new());
        loop {
            piece = span.next(piece).await?;
            if piece.is_empty() {
                return Ok(all);
            }
            assert!(piece.len() <= PIECE_BYTES);
            all.extend_from_slice(&piece);
        }
    })
}

#[test]
fn a_span_is_the_members_bytes_and_its_last_piece_waits_for_the_digest() {
    let layers = [samples::layer(1, 3 * PIECE_BYTES + 77), samples::layer(2, 5)];
    let tar = one(&layers, |_, _| ());
    let archive = open(&tar).expect("classic");
    for (layer, bytes) in archive.images()[0].layers.iter().zip(&layers) {
        let place = Place { offset: layer.offset, size: layer.size };
        assert!(span(&archive, place, Some(layer.diff_id)).expect("right") == *bytes);
        assert!(span(&archive, place, None).expect("unchecked") == *bytes);
        let wrong = Digest::of(b"another");
        let refused = span(&archive, place, Some(wrong)).expect_err("wrong");
        assert!(matches!(&refused, ArchiveError::Digest { name, .. } if name.ends_with("layer.tar")), "{refused:?}");
        assert_eq!(span(&archive, Place { size: 0, ..place }, Some(wrong)).expect("nothing"), Vec::<u8>::new());
    }
    let packed = open(&samples::gzip(&tar)).expect("gzip");
    let refused = span(&packed, Place { offset: 512, size: 1 }, None);
    assert!(matches!(refused, Err(ArchiveError::NotSeekable)), "{refused:?}");
}
