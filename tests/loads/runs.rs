//! What was loaded runs: the agent's own binary as an image, started by `docker run` on every engine.

use azaion_cloud::archive::{Image, Layer, Layout};

use crate::bench::{Bench, put, unlock};
use crate::harness::binary;
use crate::packs::{file, is_static, saved};
use crate::support;
use crate::support::engine::Kind;

/// Images of which the lowest, a middle and the highest layer hold the program, beside layers of other files.
fn suite() -> Vec<Image> {
    let program = std::fs::read(binary()).expect("the agent is there");
    let loader = || Layer::Files(vec![("loader".into(), 0o755, program.clone())]);
    let other = |number: usize| file(&format!("etc/other-{number}"), format!("of layer {number}").as_bytes());
    let at = |place: usize| Image {
        tags: vec![format!("azaion/runs:{place}"), format!("azaion/runs:also-{place}")],
        layers: (0..4).map(|number| if number == place { loader() } else { other(number) }).collect(),
        command: vec!["/loader".into(), "--version".into()],
    };
    vec![at(0), at(2), at(3)]
}

fn runs_on(kind: Kind) {
    if !is_static() {
        return support::skip("the agent needs libraries: `make build`, and LOADER_UNDER_TEST names what it makes");
    }
    let Some(bench) = Bench::start(kind) else { return };
    for layout in [Layout::Classic, Layout::Oci] {
        let board = bench.board();
        put(&board, &saved(layout, &suite()));
        unlock(&board).unwrap_or_else(|why| panic!("{kind:?} {layout:?}: {why}"));
        let tags = bench.api.tags();
        assert_eq!(tags.len(), 6, "{tags:?}");
        for tag in tags.keys() {
            let said = bench.engine.docker(&["run", "--rm", "--network", "none", tag]);
            let said = said.unwrap_or_else(|why| panic!("{kind:?} {layout:?} {tag}: {why}"));
            let version = concat!("azaion-loader ", env!("CARGO_PKG_VERSION"));
            assert!(said.starts_with(version), "{kind:?} {layout:?} {tag} says {said:?}");
        }
        bench.wipe();
    }
}

#[test]
fn docker_20_runs_it() {
    runs_on(Kind::Docker20);
}

#[test]
fn docker_26_runs_it() {
    runs_on(Kind::Docker26);
}

#[test]
fn docker_26_with_the_containerd_store_runs_it() {
    runs_on(Kind::Docker26Containerd);
}
