//! The main job: both layouts, from the cloud to the engine, watched with `curl`.

use std::process::Command;

use azaion_cloud::archive::Layout;
use serde_json::{Value, json};

use crate::harness::{Board, EMAIL, PASSWORD, cloud, credentials};
use crate::samples;
use crate::shown::{docker_shows, skopeo_shows};
use crate::support::engine::Kind;
use crate::support::{self, engine};

#[test]
fn the_vectors_unlock_into_an_oci_directory() {
    for vector in samples::vectors() {
        let cloud = cloud();
        cloud.set_fragment(vector.fragment.clone());
        let board = Board::new(&cloud);
        std::fs::copy(&vector.path, board.archive()).expect("copied");
        let mut agent = board.start();
        assert_eq!(agent.curl("/health", &[]), (200, json!({"status": "healthy"})));
        let (_, before) = agent.curl("/unlock/status", &[]);
        assert_eq!(before["state"], "idle");

        let (status, answer) = agent.unlock();
        assert_eq!((status, &answer["state"]), (202, &json!("authenticating")));
        let (answer, _) = agent.settle();
        assert_eq!(answer["state"], "ready", "{answer}");
        assert_eq!(answer["error"], Value::Null);
        assert_eq!(answer["progress"]["images_done"], 2);
        assert_eq!(answer["progress"]["images_total"], 2);
        skopeo_shows(&board, &vector.images);

        for token in cloud.issued_tokens() {
            agent.must_not_print(&token);
        }
        let (status, answer) = agent.unlock();
        assert_eq!((status, &answer["state"]), (200, &json!("ready")));
        let (_, shown) = agent.curl("/status", &[]);
        assert_eq!(shown["user"], json!({"email": EMAIL, "role": "Operator"}));
        assert_eq!(shown["last_error"], Value::Null);
        assert_eq!(agent.terminate(), Some(0));
    }
}

#[test]
fn a_login_is_held_for_an_unlock_without_a_body() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "held"));
    let mut agent = board.start();
    let (status, answer) = agent.curl("/unlock", &["-X", "POST"]);
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("not_logged_in")));
    assert_eq!(agent.post("/login", &credentials(EMAIL, PASSWORD)), (200, json!({"status": "success"})));
    let (status, _) = agent.curl("/unlock", &["-X", "POST"]);
    assert_eq!(status, 202);
    assert_eq!(agent.settle().0["state"], "ready");
    let logins = cloud.calls().iter().filter(|call| call.path == "/login").count();
    assert_eq!(logins, 1, "the session of /login was used");
}

#[test]
fn packed_archives_unlock_too() {
    for (name, program) in [("gzip", "gzip"), ("zstd", "zstd")] {
        if Command::new(program).arg("--version").output().is_err() {
            support::skip(&format!("{program} is not installed"));
            continue;
        }
        let cloud = cloud();
        let board = Board::new(&cloud);
        let images = samples::small(Layout::Oci, name);
        let made = samples::write_packed(&board.archive(), Layout::Oci, &images, |plain, packed| {
            let out = std::fs::File::create(packed).expect("created");
            let status = Command::new(program).arg("-qc").arg(plain).stdout(out).status().expect("runs");
            assert!(status.success());
        });
        let mut agent = board.start();
        agent.unlock_to_ready();
        skopeo_shows(&board, &made);
    }
}

#[test]
fn a_changed_archive_starts_an_unlock() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "one"));
    let mut agent = board.start();
    agent.unlock_to_ready();
    let made = samples::write(&board.archive(), Layout::Classic, &samples::small(Layout::Classic, "two"));
    let (status, _) = agent.curl("/unlock", &["-X", "POST"]);
    assert_eq!(status, 202, "the archive is another one: the held credentials unlock it");
    assert_eq!(agent.settle().0["state"], "ready");
    skopeo_shows(&board, &made);
}

/// The vectors and two samples, one after the other, on one real engine.
fn on_docker(kind: Kind) {
    let engine = match engine::Engine::start(kind) {
        Ok(engine) => engine,
        Err(reason) => return support::skip(&reason),
    };
    let socket = format!("unix://{}", engine.socket().display());
    for vector in samples::vectors() {
        let cloud = cloud();
        cloud.set_fragment(vector.fragment.clone());
        let board = Board::new(&cloud).engine(&socket);
        std::fs::copy(&vector.path, board.archive()).expect("copied");
        let mut agent = board.start();
        agent.unlock_to_ready();
        docker_shows(&engine, &vector.images);
        let (_, shown) = agent.curl("/status", &[]);
        assert_eq!(shown["unlock"]["state"], "ready", "{shown}");
    }
    for layout in [Layout::Classic, Layout::Oci] {
        let cloud = cloud();
        let board = Board::new(&cloud).engine(&socket);
        let images = samples::small(layout, "docker");
        let made = samples::write_packed(&board.archive(), layout, &images, |plain, packed| {
            let out = std::fs::File::create(packed).expect("created");
            let status = Command::new("gzip").arg("-c").arg(plain).stdout(out).status().expect("gzip runs");
            assert!(status.success());
        });
        let mut agent = board.start();
        agent.unlock_to_ready();
        docker_shows(&engine, &made);
    }
}

#[test]
fn docker_20_holds_the_suite() {
    on_docker(Kind::Docker20);
}

#[test]
fn docker_26_holds_the_suite() {
    on_docker(Kind::Docker26);
}

#[test]
fn docker_26_with_the_containerd_store_holds_the_suite() {
    on_docker(Kind::Docker26Containerd);
}
