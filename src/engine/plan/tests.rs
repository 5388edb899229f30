//! Plans of made-up archives, and over many of them what must hold of every plan.

use proptest::prelude::*;

use super::*;
use crate::archive::{Layer, Packing, Place};

const MIB: u64 = 1 << 20;

/// An image of these layers, each named by a letter and a size in MiB.
fn image(name: &str, layers: &[(char, u64)]) -> Image {
    let layer = |&(letter, mib): &(char, u64)| {
        let diff_id = Digest::of(format!("{letter}{mib}").as_bytes());
        let offset = u64::from(u32::from(letter)) << 40 | mib << 20;
        Layer { diff_id, blob: None, media_type: None, offset, size: mib * MIB, packing: Packing::Plain }
    };
    let layers: Vec<Layer> = layers.iter().map(layer).collect();
    Image {
        tags: vec![format!("{name}:1")],
        config: Digest::of(name.as_bytes()),
        config_place: Place { offset: 0, size: 1 },
        manifest: None,
        root: None,
        parent: None,
        sources: None,
        platform: "linux/arm64".into(),
        variant: None,
        diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
        layers,
    }
}

fn plan(images: &[Image], store: EngineStore, held: &Held) -> Plan {
    Plan::of(images, store, Way::Thin, held).expect("all digests are known")
}

/// Of each step: image, layers that go out, how many layers are then there, and what it waits for.
fn steps(plan: &Plan) -> Vec<(usize, Vec<usize>, usize, Vec<usize>)> {
    plan.steps.iter().map(|step| (step.image, step.sends.clone(), step.upto, step.after.clone())).collect()
}

fn chains(image: &Image, upto: usize) -> BTreeSet<ChainKey> {
    chain::keys(&image.diff_ids[..upto]).into_iter().collect()
}

#[test]
fn a_large_image_grows_by_prefixes_and_small_layers_go_together() {
    let images = [image("a", &[('a', 40), ('b', 1), ('c', 1), ('d', 30), ('e', 2)])];
    let plan = plan(&images, EngineStore::Classic, &Held::default());
    // The last layer alone would be a request for 2 MiB.
    assert_eq!(steps(&plan), [(0, vec![0], 1, vec![]), (0, vec![1, 2, 3, 4], 5, vec![0])]);
    assert!(matches!(plan.steps[0].leaves, Leaves::Prefix(_)) && plan.steps[1].leaves == Leaves::Image);
    assert_eq!((plan.brought_by, plan.way), (vec![Some(1)], Way::Thin));
}

#[test]
fn a_small_image_is_one_request() {
    let images = [image("a", &[('a', 5), ('b', 5), ('c', 5)])];
    let plan = plan(&images, EngineStore::Classic, &Held::default());
    assert_eq!(steps(&plan), [(0, vec![0, 1, 2], 3, vec![])]);
}

#[test]
fn what_images_share_goes_first_and_once() {
    let images = [image("a", &[('s', 9), ('a', 5)]), image("b", &[('s', 9), ('b', 5)]), image("c", &[('c', 1)])];
    let shared = plan(&images, EngineStore::Classic, &Held::default());
    let expected =
        [(2, vec![0], 1, vec![]), (0, vec![0], 1, vec![]), (0, vec![1], 2, vec![1]), (1, vec![1], 2, vec![1])];
    assert_eq!(steps(&shared), expected);
    // What is small is no request of its own: it goes with the first one.
    let images = [image("a", &[('s', 1), ('a', 5)]), image("b", &[('s', 1), ('b', 5)])];
    let small = plan(&images, EngineStore::Classic, &Held::default());
    assert_eq!(steps(&small), [(0, vec![0, 1], 2, vec![]), (1, vec![1], 2, vec![0])]);
}

#[test]
fn an_image_that_is_the_base_of_another_is_its_prefix() {
    let images = [image("top", &[('a', 2), ('b', 2)]), image("base", &[('a', 2)])];
    let plan = plan(&images, EngineStore::Classic, &Held::default());
    assert_eq!(steps(&plan), [(1, vec![0], 1, vec![]), (0, vec![1], 2, vec![0])]);
    assert!(plan.steps.iter().all(|step| step.leaves == Leaves::Image));
}

#[test]
fn layers_that_are_there_are_not_sent_and_another_parent_makes_another_layer() {
    let old = image("old", &[('a', 20), ('b', 20)]);
    let images = [image("new", &[('a', 20), ('b', 20), ('c', 3)]), image("other", &[('c', 3), ('b', 20)])];
    let held = Held { chains: chains(&old, 2), ..Held::default() };
    let classic = plan(&images, EngineStore::Classic, &held);
    assert_eq!(steps(&classic), [(1, vec![0, 1], 2, vec![]), (0, vec![2], 3, vec![])]);
    assert_eq!((classic.bytes(), classic.lasting_bytes(EngineStore::Classic)), (26 * MIB, 26 * MIB));
    // The containerd store has blobs by themselves: what is there, and what another step brings, is not sent.
    let containerd = plan(&images, EngineStore::Containerd, &held);
    assert_eq!(steps(&containerd), [(1, vec![0], 2, vec![]), (0, vec![], 3, vec![0])]);
    assert_eq!((containerd.bytes(), containerd.lasting_bytes(EngineStore::Containerd)), (3 * MIB, 29 * MIB));
}

#[test]
fn a_layer_that_comes_twice_lies_in_a_tar_once() {
    let images = [image("a", &[('a', 2), ('b', 2), ('a', 2)])];
    let plan_of = |store| plan(&images, store, &Held::default());
    assert_eq!(plan_of(EngineStore::Classic).bytes(), 4 * MIB);
    assert_eq!(plan_of(EngineStore::Classic).lasting_bytes(EngineStore::Classic), 6 * MIB);
    assert_eq!(plan_of(EngineStore::Containerd).bytes(), 4 * MIB);
}

#[test]
fn what_is_whole_needs_no_step_and_what_has_all_layers_needs_one_without() {
    let images = [image("a", &[('a', 2)]), image("b", &[('a', 2)]), image("none", &[])];
    let held = Held { whole: [images[0].config].into(), chains: chains(&images[0], 1), ..Held::default() };
    let plan = plan(&images, EngineStore::Classic, &held);
    assert_eq!(steps(&plan), [(2, vec![], 0, vec![]), (1, vec![], 1, vec![])]);
    assert_eq!(plan.brought_by, [None, Some(1), Some(0)]);
}

#[test]
fn the_whole_way_assumes_nothing() {
    let images = [image("a", &[('s', 40), ('a', 5)]), image("b", &[('s', 40), ('b', 5)])];
    let held = Held { chains: chains(&images[0], 2), ..Held::default() };
    let plan = Plan::of(&images, EngineStore::Containerd, Way::Whole, &held).expect("all digests are known");
    assert_eq!(steps(&plan), [(0, vec![0, 1], 2, vec![]), (1, vec![0, 1], 2, vec![])]);
    assert_eq!(Plan::of(&images, EngineStore::Classic, Way::Plain, &held), None);
}

#[test]
fn the_longest_way_is_the_most_urgent() {
    let images =
        [image("short", &[('s', 9), ('a', 5)]), image("long", &[('s', 9), ('b', 50)]), image("c", &[('c', 40)])];
    let plan = plan(&images, EngineStore::Classic, &Held::default());
    let urgency: Vec<u64> = plan.urgency().iter().map(|bytes| bytes / MIB).collect();
    assert_eq!(steps(&plan).iter().map(|step| step.0).collect::<Vec<_>>(), [2, 0, 0, 1]);
    assert_eq!(urgency, [40, 59, 5, 50]);
}

#[test]
fn room_counts_the_largest_requests_that_are_under_way() {
    let images = [image("a", &[('a', 40), ('b', 30), ('c', 20)])];
    let plan = plan(&images, EngineStore::Classic, &Held::default());
    assert_eq!(plan.passing_bytes(EngineStore::Classic, 1), 40 * MIB);
    assert_eq!(plan.passing_bytes(EngineStore::Classic, 2), 70 * MIB);
    assert_eq!(plan.passing_bytes(EngineStore::Containerd, 2), 0, "blobs are written where they stay");
}

proptest! {
    /// Whatever the archive and the engine: each image comes to its end, nobody waits for who comes later, and where a
    /// step has ended the engine has every layer below it.
    #[test]
    fn every_plan_can_be_carried_out(
        shapes in prop::collection::vec(prop::collection::vec((0_u8..4, 0_u64..3), 0..8), 1..6),
        has in prop::collection::vec(0_usize..9, 6),
        is_containerd in any::<bool>(),
    ) {
        let sizes = [1, 5, 30];
        let images: Vec<Image> = shapes.iter().enumerate().map(|(at, shape)| {
            let layers: Vec<(char, u64)> =
                shape.iter().map(|&(letter, size)| (char::from(b'a' + letter), sizes[usize::try_from(size).expect("small")])).collect();
            image(&at.to_string(), &layers)
        }).collect();
        let store = if is_containerd { EngineStore::Containerd } else { EngineStore::Classic };
        let mut held = Held::default();
        for (image, &upto) in images.iter().zip(&has) {
            held.chains.extend(chains(image, upto.min(image.layers.len())));
            if upto == 8 {
                held.chains.extend(chains(image, image.layers.len()));
                held.whole.insert(image.config);
            }
        }
        let plan = plan(&images, store, &held);
        let mut there = held.chains.clone();
        let mut blobs: BTreeSet<Digest> = images.iter().flat_map(|image| {
            let keys = chain::keys(&image.diff_ids);
            let count = keys.iter().take_while(|key| there.contains(key)).count();
            image.diff_ids[..count].to_vec()
        }).collect();
        for (at, step) in plan.steps.iter().enumerate() {
            prop_assert!(step.after.iter().all(|&below| below < at));
            let image = &images[step.image];
            let keys = chain::keys(&image.diff_ids);
            let sent: Vec<u64> = step.sends.iter().map(|&layer| image.layers[layer].offset).collect();
            blobs.extend(step.sends.iter().map(|&layer| image.diff_ids[layer]));
            // In the order of the steps everything below is there, or in the tar itself.
            for (layer, key) in keys[..step.upto].iter().enumerate() {
                let comes = match store {
                    EngineStore::Classic => there.contains(key) || sent.contains(&image.layers[layer].offset),
                    _ => blobs.contains(&image.diff_ids[layer]),
                };
                prop_assert!(comes, "step {at} layer {layer} of {plan:?}");
            }
            there.extend(&keys[..step.upto]);
        }
        for (at, image) in images.iter().enumerate() {
            let ends = plan.steps.iter().filter(|step| step.image == at && step.leaves == Leaves::Image).count();
            prop_assert_eq!(ends, usize::from(!held.whole.contains(&image.config)));
        }
    }
}
