//! Large archives of real file trees: the port answers all the time, memory and threads stay bounded whatever the
//! size, and nothing of the plaintext is left in the agent's directories.
//!
//! A test binary of its own, and one test at a time in it: what is measured is the agent, not its neighbours.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use azaion_cloud::archive::{Image, Layer, Layout, Made};
use serde_json::json;

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "e2e/harness.rs"]
mod harness;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "e2e/samples.rs"]
mod samples;
#[path = "e2e/shown.rs"]
mod shown;
mod support;
#[path = "support/watch.rs"]
mod watch;

use harness::{Agent, Board, cloud};
use shown::{docker_shows, skopeo_shows};
use support::engine::{Engine, Kind};
use watch::{MIB, Watch, start};

/// Held by the one test that measures.
static ALONE: Mutex<()> = Mutex::new(());

/// Whether a file below `dir` holds the marker of the samples.
fn holds_marker(dir: &Path) -> bool {
    fs::read_dir(dir).expect("readable").any(|entry| {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            return holds_marker(&path);
        }
        let bytes = fs::read(&path).expect("readable");
        bytes.windows(samples::MARKER.len()).any(|window| window == samples::MARKER)
    })
}

/// Layers of one image, at most.
const LAYERS: usize = 8;

/// Images of this machine's own file trees, `size` bytes and hardly more, with the marker in each.
fn real_trees(size: u64) -> Vec<Image> {
    let marker = Layer::Files(vec![("etc/marker".into(), 0o644, samples::MARKER.to_vec())]);
    let mut layers = Vec::new();
    let mut so_far = 0;
    'full: for copy in 0.. {
        let before = so_far;
        for tree in ["/usr/share", "/usr/lib", "/usr/include"].iter().flat_map(fs::read_dir).flatten().flatten() {
            // Larger trees would overshoot, smaller ones make layers of nothing.
            let bytes = if tree.path().is_dir() { size_of(&tree.path()) } else { 0 };
            if (MIB..150 * MIB).contains(&bytes) {
                so_far += bytes;
                let to = format!("copy{copy}/{}", tree.file_name().display());
                layers.push(Layer::Directory { from: tree.path(), to });
            }
            if so_far >= size {
                break 'full;
            }
        }
        assert!(so_far > before, "this machine has no file trees to pack");
    }
    let images = layers.chunks(LAYERS - 1).enumerate();
    images
        .map(|(number, layers)| Image {
            tags: vec![format!("azaion/trees-{number}:1.0")],
            layers: std::iter::once(&marker).chain(layers).cloned().collect(),
            command: vec!["/x".into()],
        })
        .collect()
}

fn size_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |m| m.len()),
            _ => 0,
        })
        .sum()
}

/// Unlocks under watch; returns the agent's peak of memory.
fn unlock_watched(board: &Board, agent: &mut Agent) -> u64 {
    let mut watch = Watch::start(agent);
    assert_eq!(agent.unlock().0, 202);
    loop {
        watch.look();
        let (_, answer) = agent.curl("/unlock/status", &[]);
        match answer["state"].as_str() {
            Some("ready") => break,
            Some("error") => panic!("{answer}\n{}", agent.log()),
            _ => assert!(watch.elapsed() < Duration::from_mins(10), "{answer}"),
        }
    }
    let peak = watch.end(&format!("{} MiB", fs::metadata(board.archive()).map_or(0, |m| m.len()) / MIB));
    for dir in ["state", "cache"] {
        assert!(!holds_marker(&board.path(dir)), "plaintext in {dir}");
    }
    peak
}

fn make(board: &Board, size: u64) -> Vec<Made> {
    let made = samples::write(&board.archive(), Layout::Oci, &real_trees(size));
    let length = fs::metadata(board.archive()).expect("there").len();
    assert!(length >= size, "{length} bytes");
    made
}

fn on_docker(kind: Kind, size: u64) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let engine = match Engine::start(kind) {
        Ok(engine) => engine,
        Err(reason) => return support::skip(&reason),
    };
    let cloud = cloud();
    let board = Board::new(&cloud).engine(&format!("unix://{}", engine.socket().display()));
    let made = make(&board, size);
    let mut agent = start(&board);
    unlock_watched(&board, &mut agent);
    docker_shows(&engine, &made);

    // Started again: ready without the cloud, within the inspects.
    assert_eq!(agent.terminate(), Some(0));
    drop(cloud);
    let mut agent = start(&board);
    agent.wait_for_line("ready: ");
    let (_, answer) = agent.curl("/unlock", &["-X", "POST"]);
    assert_eq!(answer, json!({"state": "ready"}));
}

#[test]
fn three_hundred_megabytes_into_docker_20() {
    on_docker(Kind::Docker20, 300_000_000);
}

#[test]
fn three_hundred_megabytes_into_docker_26_with_the_containerd_store() {
    on_docker(Kind::Docker26Containerd, 300_000_000);
}

#[test]
fn a_gigabyte_takes_no_more_memory_than_a_third_of_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cloud = cloud();
    let peaks: Vec<u64> = [300_000_000, 1_000_000_000]
        .into_iter()
        .map(|size| {
            let board = Board::new(&cloud);
            let made = make(&board, size);
            let mut agent = start(&board);
            let peak = unlock_watched(&board, &mut agent);
            skopeo_shows(&board, &made);
            peak
        })
        .collect();
    assert!(peaks[1] < peaks[0] + 2 * MIB, "memory grows with the archive: {peaks:?}");
}
