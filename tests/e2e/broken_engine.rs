//! Engines that are absent, or die in the middle: the image list is unchanged or complete, and the agent goes on.

use azaion_cloud::archive::Layout;
use serde_json::{Value, json};

use crate::harness::{Board, cloud};
use crate::samples;
use crate::shown::docker_shows;
use crate::support;
use crate::support::engine::{Engine, Kind};

#[test]
fn an_absent_socket_is_told() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let socket = board.path("absent.sock");
    let board = board.engine(&format!("unix://{}", socket.display()));
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "absent"));
    let mut agent = board.start();
    assert_eq!(agent.unlock().0, 202);
    let (answer, _) = agent.settle();
    assert_eq!(answer["error"]["code"], "engine_unreachable", "{answer}");
    assert_eq!(agent.curl("/health", &[]), (200, json!({"status": "healthy"})));
}

/// Kills the engine once a part of the archive is over, brings it back, and expects the suite complete.
fn killed_in_mid_load(kind: Kind) {
    let engine = match Engine::start(kind) {
        Ok(engine) => engine,
        Err(reason) => return support::skip(&reason),
    };
    let cloud = cloud();
    let board = Board::new(&cloud).engine(&format!("unix://{}", engine.socket().display()));
    let made = samples::write(&board.archive(), Layout::Oci, &samples::large(64 << 20));
    let mut agent = board.start();
    assert_eq!(agent.unlock().0, 202);
    // An event, not a time: some of the load has gone over the socket.
    loop {
        let (_, answer) = agent.curl("/unlock/status", &[]);
        let done = answer["progress"]["bytes_done"].as_u64().unwrap_or(0);
        if answer["state"] == "loading_images" && done > 8 << 20 {
            break;
        }
        assert_ne!(answer["state"], "error", "{answer}");
        assert_ne!(answer["state"], "ready", "the load was over before the engine could be killed");
    }
    engine.kill();
    assert_eq!(agent.curl("/health", &[]).0, 200, "the agent goes on without an engine");
    engine.restart();
    let (answer, _) = agent.settle();
    assert_eq!(answer["state"], "ready", "{answer}\n{}", agent.log());
    assert_eq!(answer["error"], Value::Null);
    docker_shows(&engine, &made);
}

#[test]
fn docker_20_killed_in_mid_load() {
    killed_in_mid_load(Kind::Docker20);
}

#[test]
fn docker_26_with_the_containerd_store_killed_in_mid_load() {
    killed_in_mid_load(Kind::Docker26Containerd);
}
