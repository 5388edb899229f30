//! What the agent loads is what `docker load` loads: the same images, and the same in every field that an engine shows.

use std::sync::OnceLock;

use azaion_cloud::archive::Layout;

use crate::bench::{Bench, Findings};
use crate::packs::{file, image, nested, saved, with_parent};
use crate::samples::small;
use crate::support::archive::{self, Packed, layer, pack};
use crate::support::engine::{Engine, Kind};

const KINDS: [Kind; 3] = [Kind::Docker20, Kind::Docker26, Kind::Docker26Containerd];

/// A name for what is compared, and the tar.
type Named = (String, Vec<u8>);

/// Suites in the two layouts that `docker save` has had.
fn written(layout: Layout) -> Vec<Named> {
    let (base, upper) = (file("base", b"shared by all"), |text: &str| file("upper", text.as_bytes()));
    let images = [
        ("shared bases", small(layout, "compared")),
        (
            "several tags",
            vec![image(&["azaion/a:1", "azaion/a:latest", "other/b:2"], &[base.clone(), upper("1")], "/x")],
        ),
        (
            "repeated layers",
            vec![
                image(&["azaion/repeated:1"], &[base.clone(), upper("2"), base.clone()], "/x"),
                image(&["azaion/repeated:2"], &[base.clone(), base.clone(), upper("3"), upper("3")], "/x"),
            ],
        ),
    ];
    images.into_iter().map(|(name, images)| (format!("{name}, {layout:?}"), saved(layout, &images))).collect()
}

/// Images whose layers are packed inside the archive, and one without a tag.
fn packed(layout: archive::Layout, how: Packed) -> Vec<u8> {
    let (base, upper) = (layer(&[("base", b"packed base")]), layer(&[("upper", format!("{how:?}").as_bytes())]));
    let image = |tags: &[&'static str], layers: &[&Vec<u8>]| archive::Image {
        tags: tags.to_vec(),
        layers: layers.iter().map(|&tar| (tar.clone(), how)).collect(),
    };
    archive::archive(
        layout,
        &[
            image(&["azaion/packed:1"], &[&base, &upper]),
            image(&["azaion/packed:2", "azaion/packed:also"], &[&base]),
            image(&[], &[&upper]),
        ],
    )
}

/// What engines themselves save: two images of an archive, and one committed on top of the first. Made once, by engines
/// of its own.
fn really_saved() -> &'static [Named] {
    static SAVED: OnceLock<Vec<Named>> = OnceLock::new();
    SAVED.get_or_init(|| KINDS.into_iter().filter_map(save).collect())
}

/// `None` where this engine does not run, of which the test of that kind tells.
fn save(kind: Kind) -> Option<Named> {
    let engine = Engine::start(kind).ok()?;
    let tar = engine.dir().join("suite.tar");
    let path = tar.to_str().expect("a temporary directory has a name in UTF-8");
    let docker = |args: &[&str]| engine.docker(args).unwrap_or_else(|why| panic!("docker {args:?} on {kind:?}: {why}"));
    // The containerd store keeps layers as they came and saves them so; the classic one unpacks them.
    std::fs::write(&tar, packed(archive::Layout::Oci, Packed::Gzip)).expect("written");
    docker(&["load", "-i", path]);
    docker(&["create", "--name", "changed", "azaion/packed:1"]);
    docker(&["cp", path, "changed:/added"]);
    docker(&["commit", "changed", "azaion/committed:1"]);
    docker(&["save", "-o", path, "azaion/packed:1", "azaion/packed:2", "azaion/packed:also", "azaion/committed:1"]);
    Some((format!("saved by {kind:?}"), std::fs::read(&tar).expect("saved")))
}

fn loads_as_docker_load_does(kind: Kind) {
    let Some(bench) = Bench::start(kind) else { return };
    let mut findings = Findings::default();
    let mut compare = |name: &str, tar: &[u8], plain: &[u8]| {
        findings.same(&format!("{kind:?}: {name}"), bench.compare(tar, plain, &|_| ()));
    };
    for (name, tar) in written(Layout::Classic).iter().chain(&written(Layout::Oci)).chain(really_saved()) {
        compare(name, tar, tar);
    }
    for (name, tar) in written(Layout::Oci) {
        compare(&format!("{name}, nested"), &nested(&tar), &nested(&tar));
    }
    compare("Parent", &with_parent(true), &with_parent(true));
    for layout in [archive::Layout::Classic, archive::Layout::Oci] {
        let tar = packed(layout, Packed::Gzip);
        compare(&format!("layers in gzip, {layout:?}"), &tar, &tar);
        let tar = packed(layout, Packed::Plain);
        let whole = pack(&tar, Packed::Gzip);
        compare(&format!("whole in gzip, {layout:?}"), &whole, &whole);
        let whole = pack(&tar, Packed::Zstd);
        // Docker 20 does not read zstd, the agent does.
        compare(&format!("whole in zstd, {layout:?}"), &whole, if kind == Kind::Docker20 { &tar } else { &whole });
    }
    for layout in [archive::Layout::Classic, archive::Layout::Oci] {
        let tar = packed(layout, Packed::Zstd);
        let compared = bench.compare(&tar, &tar, &|_| ());
        findings.same_end(&format!("{kind:?}: layers in zstd, {layout:?}"), compared);
    }
    findings.none();
}

#[test]
fn docker_20_shows_the_same() {
    loads_as_docker_load_does(Kind::Docker20);
}

#[test]
fn docker_26_shows_the_same() {
    loads_as_docker_load_does(Kind::Docker26);
}

#[test]
fn docker_26_with_the_containerd_store_shows_the_same() {
    loads_as_docker_load_does(Kind::Docker26Containerd);
}

#[test]
fn a_difference_is_seen() {
    let Some(bench) = Bench::start(Kind::Docker26) else { return };
    let compared = bench.compare(&with_parent(false), &with_parent(true), &|_| ());
    let seen: Vec<_> = compared.differs.iter().map(|difference| difference.split(": by").next()).collect();
    assert!(seen.iter().flatten().any(|place| place.ends_with(".inspected.Parent")), "{seen:?}");
    let one = |text: &str| saved(Layout::Oci, &[image(&["azaion/one:1"], &[file(text, b"x")], "/x")]);
    let compared = bench.compare(&one("a"), &one("b"), &|_| ());
    assert_eq!(compared.differs.len(), 2, "an image more, an image less: {:?}", compared.differs);
}
