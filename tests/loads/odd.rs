//! Images that are odd, and engines that know a part of them: the agent comes to the end that `docker load` comes to.

use std::path::Path;

use azaion_cloud::archive::{Image, Layout};
use serde_json::json;

use crate::api::holds;
use crate::bench::{Bench, Findings, put, unlock};
use crate::packs::{Entry, classic, config, file, image, members, place, saved};
use crate::record::all_whole;
use crate::support::archive::{digest, layer};
use crate::support::engine::Kind;

const LAYOUTS: [Layout; 2] = [Layout::Classic, Layout::Oci];

fn nothing(_: &Bench) {}

/// Two images on one base.
fn suite() -> Vec<Image> {
    let (a, b, c) = (file("a", b"the base"), file("b", b"of the first"), file("c", b"of the second"));
    vec![image(&["azaion/first:1"], &[a.clone(), b], "/x"), image(&["azaion/second:1"], &[a, c], "/x")]
}

/// Loads an archive by `docker load`.
fn present(bench: &Bench, tar: &[u8]) {
    bench.plainly(tar).expect("docker load takes it");
}

/// `docker rmi --force`, which also removes what containers are made from.
fn forget(bench: &Bench, tag: &str) {
    let answer = bench.api.call("DELETE", &format!("/images/{tag}?force=true"), b"").expect("the engine answers");
    assert!(answer.is_good(), "{tag} is not removed: {} {}", answer.status, answer.json());
}

fn removed_images(bench: &Bench, findings: &mut Findings) {
    for layout in LAYOUTS {
        let tar = saved(layout, &suite());
        let forgotten = |bench: &Bench| {
            present(bench, &tar);
            forget(bench, "azaion/second:1");
        };
        findings.same(&format!("a removed image, {layout:?}"), bench.compare(&tar, &tar, &forgotten));
        let in_use = |bench: &Bench| {
            present(bench, &tar);
            bench.api.create("azaion/second:1").expect("a container");
            forget(bench, "azaion/second:1");
            forget(bench, "azaion/first:1");
        };
        findings.same(&format!("removed images, one in use, {layout:?}"), bench.compare(&tar, &tar, &in_use));
    }
}

/// The agent remembers that it brought an image, and somebody has removed it since.
fn removed_from_a_board_that_was_ready(bench: &Bench, findings: &mut Findings) {
    for (layout, in_use) in LAYOUTS.into_iter().flat_map(|layout| [(layout, false), (layout, true)]) {
        let what = format!("a ready board whose image is removed, {layout:?}, container: {in_use}");
        bench.wipe();
        let board = bench.board();
        put(&board, &saved(layout, &suite()));
        findings.hold(&what, unlock(&board));
        let before = bench.api.tags();
        if in_use {
            findings.hold(&what, bench.api.create("azaion/second:1").map(drop));
        }
        forget(bench, "azaion/second:1");
        findings.hold(&what, unlock(&board));
        findings.hold(&what, all_whole(&bench.api));
        let after = bench.api.tags();
        findings.hold(&what, holds(before == after, || format!("{before:?}, then {after:?}")));
        println!("{what}: {} tags", after.len());
    }
    bench.wipe();
}

fn layers_under_another_parent(bench: &Bench, findings: &mut Findings) {
    let [a, b, c] = ["a", "b", "c"].map(|name| file(name, name.as_bytes()));
    let orders = [
        vec![c.clone(), b.clone()],
        vec![b.clone()],
        vec![b.clone(), a.clone()],
        vec![a.clone(), c.clone()],
        vec![a.clone()],
        vec![a.clone(), b.clone(), c],
    ];
    for layout in LAYOUTS {
        let known = saved(layout, &[image(&["azaion/known:1"], &[a.clone(), b.clone()], "/x")]);
        for (number, layers) in orders.iter().enumerate() {
            let tar = saved(layout, &[image(&["azaion/other:1"], layers, "/x")]);
            let compared = bench.compare(&tar, &tar, &|bench| present(bench, &known));
            findings.same(&format!("layers under another parent, {layout:?} {number}"), compared);
        }
    }
}

fn equal_parts(bench: &Bench, findings: &mut Findings) {
    let tar = layer(&[("file", b"of both")]);
    let twice = [Entry::of(&["azaion/one:1"], &[&tar]), Entry::of(&["azaion/two:1", "azaion/two:2"], &[&tar])];
    let twice = classic(&twice, members(&[&tar]));
    findings.same("two images with one config", bench.compare(&twice, &twice, &nothing));
    let layers = [file("a", b"in both"), file("b", b"too")];
    let images = [image(&["azaion/one:1"], &layers, "/one"), image(&["azaion/two:1"], &layers, "/two")];
    for layout in LAYOUTS {
        let tar = saved(layout, &images);
        findings.same(&format!("two configs on the same layers, {layout:?}"), bench.compare(&tar, &tar, &nothing));
        let one = saved(layout, &images[..1]);
        let compared = bench.compare(&tar, &tar, &|bench| present(bench, &one));
        findings.same(&format!("two configs, one known, {layout:?}"), compared);
    }
}

fn many_layers_and_none(bench: &Bench, findings: &mut Findings) {
    let thirty: Vec<_> = (0..30).map(|i| file(&format!("file-{i}"), format!("layer {i}").as_bytes())).collect();
    for layout in LAYOUTS {
        let tar = saved(layout, &[image(&["azaion/thirty:1"], &thirty, "/x")]);
        findings.same(&format!("thirty layers, {layout:?}"), bench.compare(&tar, &tar, &nothing));
        let half = saved(layout, &[image(&["azaion/fifteen:1"], &thirty[..15], "/x")]);
        let compared = bench.compare(&tar, &tar, &|bench| present(bench, &half));
        findings.same(&format!("thirty layers, fifteen known, {layout:?}"), compared);
        let tar = saved(layout, &[image(&["azaion/none:1"], &[], "/x")]);
        findings.same_end(&format!("no layers, {layout:?}"), bench.compare(&tar, &tar, &nothing));
    }
    let first = Entry::of(&["azaion/some:1"], &[]);
    let tar = classic(&[first], Vec::new());
    findings.same_end("no layers, alone and by hand", bench.compare(&tar, &tar, &nothing));
}

/// A tar of nothing is its end marker; a file of no bytes is no tar, whatever engines make of it.
fn empty_layers(bench: &Bench, findings: &mut Findings) {
    let (marker, full) = (layer(&[]), layer(&[("file", b"content")]));
    assert_eq!(marker, [0; 1024]);
    let nothing_at_all: &[u8] = &[];
    for (what, empty) in [("end marker", marker.as_slice()), ("no bytes", nothing_at_all), ("512 zeros", &[0; 512])] {
        for (place, layers) in [("alone", vec![empty]), ("above", vec![&full, empty]), ("below", vec![empty, &full])] {
            let tar = classic(&[Entry::of(&["azaion/empty:1"], &layers)], members(&layers));
            let what = format!("an empty layer ({what}, {place})");
            let compared = bench.compare(&tar, &tar, &nothing);
            if what.contains("marker") {
                findings.same(&what, compared);
            } else {
                findings.same_end(&what, compared);
            }
        }
    }
}

/// A config that docker never writes, and that runtimes read: no history, fields that nobody knows, blanks.
fn configs_by_others(bench: &Bench, findings: &mut Findings) {
    let tar = layer(&[("file", b"under odd configs")]);
    let ids = [format!("sha256:{}", digest(&tar))];
    let bare = config(&ids, &json!({}));
    let more = json!({
        "variant": "v8", "x-unknown": {"kept": [1, 2.5, "три"]}, "author": "ü",
        "config": {"Cmd": null, "Entrypoint": ["/x"], "Labels": {"com.azaion.note": "\u{1f680}"}, "Volumes": {"/v": {}}},
        "history": [{"created_by": "nothing", "empty_layer": true}, {"created_by": "a layer"}],
    });
    let odd = config(&ids, &more);
    let spaced = serde_json::to_vec_pretty(&serde_json::from_slice::<serde_json::Value>(&odd).expect("JSON"));
    for (what, config) in [("bare", bare), ("odd", odd), ("spaced", spaced.expect("JSON"))] {
        let entry = Entry { tags: vec!["azaion/config:1"], config, layers: vec![place(&tar)], parent: None };
        let archive = classic(&[entry], members(&[&tar]));
        findings.same(&format!("a config that is {what}"), bench.compare(&archive, &archive, &nothing));
    }
}

type Case = fn(&Bench, &mut Findings);

fn on(kind: Kind, cases: &[Case]) {
    let Some(bench) = Bench::start(kind) else { return };
    let mut findings = Findings::default();
    println!("{kind:?}");
    for case in cases {
        case(&bench, &mut findings);
    }
    assert!(Path::new(&bench.engine.socket()).exists(), "the engine lived to the end");
    findings.none();
}

const KNOWN: [Case; 3] = [removed_images, removed_from_a_board_that_was_ready, layers_under_another_parent];
const ODD: [Case; 4] = [equal_parts, many_layers_and_none, empty_layers, configs_by_others];

#[test]
fn docker_20_that_knows_a_part() {
    on(Kind::Docker20, &KNOWN);
}

#[test]
fn docker_26_that_knows_a_part() {
    on(Kind::Docker26, &KNOWN);
}

#[test]
fn docker_26_with_the_containerd_store_that_knows_a_part() {
    on(Kind::Docker26Containerd, &KNOWN);
}

#[test]
fn odd_images_into_docker_20() {
    on(Kind::Docker20, &ODD);
}

#[test]
fn odd_images_into_docker_26() {
    on(Kind::Docker26, &ODD);
}

#[test]
fn odd_images_into_docker_26_with_the_containerd_store() {
    on(Kind::Docker26Containerd, &ODD);
}
