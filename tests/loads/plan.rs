//! The plan before the load: what `azaion-loader plan` tells, and that what cannot fit is told before anything is sent.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::api::Api;
use crate::bench::{Bench, put};
use crate::harness::{self, Board, EMAIL, PASSWORD};
use crate::packs::{file, image, saved};
use crate::support;
use crate::support::engine::{Engine, Kind};
use azaion_cloud::archive::Layout;

/// Two images on one base of 6 MiB.
fn suite(change: &str) -> Vec<u8> {
    let base = file("base", &vec![b'b'; 6 << 20]);
    let app = |name: &str| image(&[&format!("azaion/{name}:1")], &[base.clone(), file(name, change.as_bytes())], "/x");
    saved(Layout::Oci, &[app("first"), app("second")])
}

/// `azaion-loader plan`: exit code, what it printed, what it complained of.
fn plan(board: &Board, more: &[&str]) -> (Option<i32>, String, String) {
    let password = board.path("password");
    fs::write(&password, PASSWORD).expect("written");
    let password = password.to_str().expect("a temporary file has a name in UTF-8").to_owned();
    let mut args = vec!["plan", "--email", EMAIL, "--password-file", &password];
    args.extend(more);
    let output = board.run(&args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json(board: &Board) -> Value {
    let (code, said, complaint) = plan(board, &["--json"]);
    assert_eq!(code, Some(0), "{said} {complaint}");
    serde_json::from_str(&said).expect("JSON")
}

fn told_on(kind: Kind) {
    let Some(bench) = Bench::start(kind) else { return };
    let board = bench.board();
    put(&board, &suite("old"));
    let before = json(&board);
    assert_eq!((before["thin"].as_bool(), before["requests"].as_u64()), (Some(true), Some(3)), "{before}");
    assert!(
        before["bytes"].as_u64() > Some(6 << 20) && before["bytes"].as_u64() < Some(7 << 20),
        "the base once: {before}"
    );
    assert_eq!(before["images"][1]["builds_on"], "azaion/first:1", "{before}");
    assert!(before["free_bytes"].as_u64() > Some(0), "{before}");
    let (code, said, _) = plan(&board, &[]);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("azaion/second:1") && said.contains("missing") && said.contains("2 images, 0 present"),
        "{said}"
    );
    assert!(bench.api.tags().is_empty(), "nothing was done");
    assert!(!board.path("state/brought.json").exists(), "nothing was written");

    let mut agent = board.start();
    agent.unlock_to_ready();
    let (_, status) = agent.curl("/unlock/status", &[]);
    assert_eq!(status["progress"]["images_done"], 2, "{status}");
    let after = json(&board);
    assert_eq!((after["requests"].as_u64(), after["bytes"].as_u64()), (Some(0), Some(0)), "{after}");
    assert!(plan(&board, &[]).1.contains("nothing to send"));

    // An update of one layer sends one layer.
    put(&board, &suite("new"));
    let update = json(&board);
    assert!(update["bytes"].as_u64() < Some(10_000), "{update}");
    drop(agent);
    bench.wipe();
}

#[test]
fn docker_20_is_told() {
    told_on(Kind::Docker20);
}

#[test]
fn docker_26_with_the_containerd_store_is_told() {
    told_on(Kind::Docker26Containerd);
}

/// Mounts a small file system where the engine will keep everything; `tests/tools/engine stop` unmounts it.
fn mount_small(dir: &std::path::Path) {
    let data = dir.join("data");
    fs::create_dir(&data).expect("made");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"]).arg(&data).status();
    assert!(mounted.expect("mount runs").success());
}

#[test]
fn what_cannot_fit_is_told_with_its_numbers_before_anything_is_sent() {
    let engine = match Engine::start_in(Kind::Docker26, mount_small) {
        Ok(engine) => engine,
        Err(reason) => return support::skip(&reason),
    };
    let cloud = harness::cloud();
    let board = Board::new(&cloud).engine(&format!("unix://{}", engine.socket().display()));
    let layers: Vec<_> = (0..4_u8).map(|number| file(&format!("f{number}"), &vec![number; 30 << 20])).collect();
    put(&board, &saved(Layout::Classic, &[image(&["azaion/large:1"], &layers, "/x")]));
    let (code, said, _) = plan(&board, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("120.0 MiB stay") && said.contains("do not fit"), "{said}");
    let mut agent = board.start();
    agent.unlock();
    let (answer, _) = agent.settle();
    assert_eq!(answer["error"]["code"], "no_space", "{answer}");
    let message = answer["error"]["message"].as_str().expect("a message");
    let numbers: Vec<f64> = message.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(matches!(numbers[..], [needed, free] if needed > 120.0 && free < 96.0), "{message}");
    assert_eq!(message.matches(" MiB ").count(), 2, "{message}");
    assert!(answer["error"]["next"].as_str().is_some_and(|next| next.contains("docker image prune")), "{answer}");
    assert!(Api::of(&engine).tags().is_empty());
    // What fits goes in, though not with everything at once.
    put(&board, &saved(Layout::Classic, &[image(&["azaion/small:1"], &layers[..1], "/x")]));
    agent.unlock_to_ready();
    drop(agent);
}
