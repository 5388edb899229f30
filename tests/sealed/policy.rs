//! What a board demands: seals, signatures, names, versions, images; and what it remembers of it.

use std::fs;

use azaion_cloud::Cloud;
use azaion_cloud::archive::Layout;
use serde_json::Value;

use crate::harness::{Agent, Board, FRAGMENT, cloud};
use crate::publisher::{Signer, beside, seal};
use crate::samples;

/// A release on a board: its archive, without a seal.
fn release(board: &Board, salt: &str) {
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, salt));
    for ending in [".seal", ".seal.minisig"] {
        let _may_not_be_there = fs::remove_file(beside(&board.archive(), ending));
    }
}

fn sealed_release(board: &Board, version: u64) {
    release(board, &version.to_string());
    seal(&board.archive(), "images", version);
}

/// The code that an unlock ends in; `ready` when it does not fail.
fn outcome(agent: &mut Agent) -> String {
    error(agent).map_or("ready".into(), |error| error["code"].as_str().unwrap_or_default().to_owned())
}

fn error(agent: &mut Agent) -> Option<Value> {
    let (status, answer) = agent.unlock();
    assert!(status == 202 || status == 200, "{status} {answer}");
    let (answer, _) = agent.settle();
    if answer["state"] == "ready" { None } else { Some(answer["error"].clone()) }
}

fn seal_shown(agent: &mut Agent) -> Value {
    agent.curl("/status", &[]).1["seal"].clone()
}

fn trust(board: &Board, args: &[&str]) -> String {
    let output = board.run(&[&["trust"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn once_a_sealed_one_was_accepted_an_unsealed_one_is_refused_until_the_operator_says_so() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    release(&board, "unsealed");
    let mut agent = board.start();
    assert_eq!(seal_shown(&mut agent), Value::Null, "nothing is known yet");
    assert_eq!((outcome(&mut agent).as_str(), seal_shown(&mut agent)), ("ready", "unsealed".into()));
    agent.wait_for_line("unsealed_accepted");

    sealed_release(&board, 7);
    assert_eq!((outcome(&mut agent).as_str(), seal_shown(&mut agent)), ("ready", "sealed".into()));
    let shown = trust(&board, &[]);
    assert!(shown.contains("sealed archive seen yes") && shown.contains("images 7"), "{shown}");

    release(&board, "without");
    let refused = error(&mut agent).expect("unsealed");
    assert_eq!(refused["code"], "archive_unsealed");
    assert!(refused["next"].as_str().is_some_and(|next| next.contains("azaion-loader trust")), "{refused}");
    trust(&board, &["reset"]);
    assert_eq!((outcome(&mut agent).as_str(), seal_shown(&mut agent)), ("ready", "unsealed".into()));
}

#[test]
fn how_it_was_sealed_is_known_again_after_a_restart_without_the_cloud() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    sealed_release(&board, 1);
    let mut agent = board.start();
    agent.unlock_to_ready();
    agent.terminate();
    drop(cloud);
    let mut agent = board.start();
    agent.wait_for_line("ready: ");
    assert_eq!(seal_shown(&mut agent), "sealed");
}

#[test]
fn an_older_release_is_refused_until_the_operator_allows_it() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let mut agent = board.start();
    for (version, wanted) in [(5, "ready"), (9, "ready"), (8, "archive_older"), (9, "ready")] {
        sealed_release(&board, version);
        assert_eq!(outcome(&mut agent), wanted, "{version}");
    }
    sealed_release(&board, 6);
    let refused = error(&mut agent).expect("older");
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(message.contains("version 6") && message.contains("version 9"), "{refused}");
    trust(&board, &["allow", "6"]);
    assert_eq!(outcome(&mut agent), "ready");
    sealed_release(&board, 5);
    assert_eq!(outcome(&mut agent), "archive_older");
}

#[test]
fn the_version_moves_when_the_board_is_ready_and_not_before() {
    let cloud = cloud();
    let board = Board::new(&cloud).engine("unix:///nowhere/docker.sock");
    sealed_release(&board, 9);
    let mut agent = board.start();
    assert_eq!(outcome(&mut agent), "engine_unreachable");
    assert!(!board.path("state/trust.json").exists());
    assert!(!trust(&board, &[]).contains("highest"));
}

#[test]
fn what_is_demanded_always_is_demanded_from_the_first_one_on() {
    let cloud = cloud();
    let board = Board::new(&cloud).set("archive", "require_seal = \"always\"");
    release(&board, "unsealed");
    let mut agent = board.start();
    assert_eq!(outcome(&mut agent), "archive_unsealed");
    sealed_release(&board, 1);
    assert_eq!(outcome(&mut agent), "ready");
}

#[test]
fn never_lets_unsealed_ones_in_and_holds_sealed_ones_to_their_seal() {
    let cloud = cloud();
    let board = Board::new(&cloud).set("archive", "require_seal = \"never\"");
    sealed_release(&board, 4);
    let mut agent = board.start();
    assert_eq!(outcome(&mut agent), "ready");
    release(&board, "unsealed");
    assert_eq!(outcome(&mut agent), "ready");
    // The seal of another one, or none that can be read, is not the same as none.
    sealed_release(&board, 5);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "another"));
    assert_eq!(outcome(&mut agent), "archive_not_authentic");
    let seal = beside(&board.archive(), ".seal");
    fs::write(&seal, b"AZSEAL").expect("written");
    assert_eq!(outcome(&mut agent), "archive_not_authentic");
    fs::remove_file(&seal).expect("it was there");
    fs::create_dir(&seal).expect("made");
    assert_eq!(outcome(&mut agent), "archive_not_authentic");
}

#[test]
fn an_archive_of_another_name_or_fleet_is_refused() {
    let cloud = cloud();
    let board = Board::new(&cloud).set("archive", "name = \"blue\"");
    let mut agent = board.start();
    release(&board, "one");
    seal(&board.archive(), "red", 1);
    assert_eq!(outcome(&mut agent), "archive_not_authentic");
    seal(&board.archive(), "blue", 1);
    cloud.set_fragment(b"the fragment of another fleet".to_vec());
    assert_eq!(outcome(&mut agent), "archive_not_authentic");
    cloud.set_fragment(FRAGMENT.to_vec());
    assert_eq!(outcome(&mut agent), "ready");
}

#[test]
fn other_images_than_the_configured_ones_are_refused() {
    let cloud = cloud();
    for (images, wanted) in [
        (r#"["azaion/annotations:1.0", "azaion/detections:1.0"]"#, "ready"),
        (r#"["azaion/annotations:1.0"]"#, "archive_other"),
        (r#"["azaion/annotations:1.0", "azaion/detections:1.0", "azaion/flights:1.0"]"#, "archive_other"),
    ] {
        let board = Board::new(&cloud).set("archive", &format!("images = {images}"));
        release(&board, "expected");
        assert_eq!(outcome(&mut board.start()), wanted, "{images}");
    }
}

fn signed_board(cloud: &Cloud, keys: &[&Signer]) -> Board {
    let keys: Vec<_> = keys.iter().map(|signer| format!("{:?}", signer.public)).collect();
    Board::new(cloud).set("archive", &format!("publisher_key = [{}]", keys.join(", ")))
}

#[test]
fn a_configured_publisher_s_signature_is_required() {
    let (Some(publisher), Some(stranger)) = (Signer::new(), Signer::new()) else { return };
    let cloud = cloud();
    let board = signed_board(&cloud, &[&publisher]);
    let mut agent = board.start();
    release(&board, "bare");
    assert_eq!(outcome(&mut agent), "archive_unsealed");
    sealed_release(&board, 1);
    let refused = error(&mut agent).expect("no signature");
    assert_eq!(refused["code"], "archive_unsealed");
    assert!(refused["next"].as_str().is_some_and(|next| next.contains("images.enc.seal.minisig")), "{refused}");
    stranger.sign(&board.archive());
    assert_eq!(outcome(&mut agent), "archive_not_authentic");
    publisher.sign(&board.archive());
    assert_eq!((outcome(&mut agent).as_str(), seal_shown(&mut agent)), ("ready", "signed".into()));
    // The signature of an earlier seal is not one of this one.
    let old = fs::read(beside(&board.archive(), ".seal.minisig")).expect("there");
    sealed_release(&board, 2);
    fs::write(beside(&board.archive(), ".seal.minisig"), old).expect("written");
    assert_eq!(outcome(&mut agent), "archive_not_authentic");
    fs::write(beside(&board.archive(), ".seal.minisig"), "untrusted comment: nothing\n").expect("written");
    assert_eq!(outcome(&mut agent), "archive_not_authentic");
}

#[test]
fn keys_rotate() {
    let (Some(old), Some(new)) = (Signer::new(), Signer::new()) else { return };
    let cloud = cloud();
    let board = signed_board(&cloud, &[&old, &new]);
    let mut agent = board.start();
    for (version, signer) in [(1, &old), (2, &new)] {
        sealed_release(&board, version);
        signer.sign(&board.archive());
        assert_eq!((outcome(&mut agent).as_str(), seal_shown(&mut agent)), ("ready", "signed".into()), "{version}");
    }
}

#[test]
fn what_was_seen_and_cannot_be_read_is_refused_until_it_is_reset() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    sealed_release(&board, 1);
    fs::write(board.path("state/trust.json"), "{\"version\":1").expect("written");
    let mut agent = board.start();
    assert_eq!(outcome(&mut agent), "state_unavailable");
    trust(&board, &["reset"]);
    assert_eq!(outcome(&mut agent), "ready");
}
