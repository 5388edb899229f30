//! Archives that are wrong in every way: told with a code, before the engine is touched.

use std::path::Path;

use azaion_cloud::archive::Layout;
use serde_json::{Value, json};

use crate::harness::{Board, EMAIL, PASSWORD, cloud, credentials};
use crate::samples;

/// Starts a board whose archive was damaged by `damage`, unlocks, and returns the error that is shown.
fn error_of(layout: Layout, damage: impl Fn(&Path)) -> Value {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), layout, &samples::small(layout, "broken"));
    damage(&board.archive());
    let mut agent = board.start();
    let (http, answer) = agent.unlock();
    assert_eq!(http, 202, "{answer}");
    let (answer, seen) = agent.settle();
    assert_eq!(answer["state"], "error", "{answer}");
    assert!(!seen.contains(&"loading_images".to_owned()), "{seen:?}: the engine was not touched");
    let left: Vec<_> = std::fs::read_dir(board.path("oci")).expect("there").collect();
    assert!(left.is_empty(), "the engine's directory is unchanged: {left:?}");
    let shown = &answer["error"];
    assert!(!shown["next"].as_str().unwrap_or_default().is_empty(), "{answer}");

    // The same agent goes on when the archive is put right.
    samples::write(&board.archive(), layout, &samples::small(layout, "mended"));
    agent.unlock_to_ready();
    shown.clone()
}

fn edit(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("read");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn a_wrong_fragment_is_told_at_once() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "key"));
    cloud.set_fragment(b"of another fleet".to_vec());
    let mut agent = board.start();
    assert_eq!(agent.unlock().0, 202);
    let (answer, _) = agent.settle();
    assert_eq!(answer["error"]["code"], "wrong_key_or_damaged", "{answer}");
    assert_eq!(std::fs::read_dir(board.path("oci")).expect("there").count(), 0);
}

#[test]
fn a_cut_archive_is_told() {
    for layout in [Layout::Classic, Layout::Oci] {
        for part in 1..=20 {
            let error = error_of(layout, |path| edit(path, |bytes| bytes.truncate(bytes.len() * part / 21)));
            assert_eq!(error["code"], "archive_cut", "{layout:?} {part}/21: {error}");
        }
    }
}

#[test]
fn an_empty_archive_is_told() {
    let error = error_of(Layout::Oci, |path| edit(path, Vec::clear));
    assert_eq!(error["code"], "archive_cut", "{error}");
}

#[test]
fn a_flipped_bit_in_the_headers_is_told() {
    for at in [0, 7, 16, 100, 16 + 124, 16 + 148, 500] {
        let error = error_of(Layout::Oci, |path| edit(path, |bytes| bytes[at] ^= 0x10));
        assert_eq!(error["code"], "wrong_key_or_damaged", "byte {at}: {error}");
    }
}

#[test]
fn a_directory_instead_of_a_file_is_told() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    std::fs::create_dir(board.archive()).expect("made");
    let mut agent = board.start();
    let (http, answer) = agent.unlock();
    assert_eq!((http, &answer["error"]["code"]), (500, &json!("archive_unreadable")), "{answer}");
    assert!(cloud.calls().is_empty(), "no log-in for nothing");
    std::fs::remove_dir(board.archive()).expect("removed");
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "mended"));
    agent.unlock_to_ready();
}

#[test]
fn a_missing_archive_is_answered_at_once() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let mut agent = board.start();
    let (http, answer) = agent.unlock();
    assert_eq!((http, &answer["error"]["code"]), (404, &json!("archive_missing")));
    assert!(cloud.calls().is_empty(), "no log-in for nothing");
    let (_, answer) = agent.curl("/unlock/status", &[]);
    assert_eq!(answer["state"], "idle");
    // It may come later: the agent is still there.
    assert_eq!(agent.post("/login", &credentials(EMAIL, PASSWORD)).0, 200);
    samples::write(&board.archive(), Layout::Classic, &samples::small(Layout::Classic, "late"));
    assert_eq!(agent.curl("/unlock", &["-X", "POST"]).0, 202);
    assert_eq!(agent.settle().0["state"], "ready");
}
