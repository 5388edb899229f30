//! The board itself, seen by the running agent: its profile, its light, and what is told when it is not what it was.

use std::path::{Path, PathBuf};
use std::process::Command;

use azaion_cloud::archive::Layout;
use azaion_cloud::{Cloud, User, keys::Salts};
use serde_json::Value;

use crate::harness::{Agent, Board, EMAIL, PASSWORD, binary, clean, cloud_with_models, noise};
use crate::samples;

const FINGERPRINT_OF_OTHERS: &str = "another board";
const LED: &str = "sys/class/leds/ACT";

fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(kind)
}

/// A board whose `/proc` and `/sys` are a copy of this fixture.
fn board_like(cloud: &Cloud, fixture: &Path) -> Board {
    let board = Board::new(cloud).set("board", "fingerprint = \"\"");
    let root = board.path("root");
    let copied = Command::new("cp").arg("-a").arg(fixture).arg(&root).status().expect("cp runs");
    assert!(copied.success());
    let profiles = board.path("profiles");
    board
        .set("board", &format!("root = \"{}\"", root.display()))
        .set("board", &format!("profiles_dir = \"{}\"", profiles.display()))
}

fn write(board: &Board, file: &str, content: &str) {
    std::fs::write(board.path("root").join(file), content).expect("written");
}

fn read(board: &Board, file: &str) -> String {
    std::fs::read_to_string(board.path("root").join(file)).expect("there").trim_end().to_owned()
}

/// What `fingerprint` prints, and its row of this name.
fn fingerprint(board: &Board, more: &[&str]) -> String {
    let output = board.run(&[&["fingerprint"], more].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn row<'t>(text: &'t str, name: &str) -> &'t str {
    let row = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    row.unwrap_or_else(|| panic!("no row {name} in {text}")).trim()
}

fn notes(agent: &mut Agent) -> String {
    let (status, answer) = agent.curl("/status", &[]);
    assert_eq!(status, 200);
    let notes = answer["notes"].as_array().expect("a list").iter();
    notes.filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

/// A cloud that hands resources to [`EMAIL`] only on the board with this hash.
fn bound_to(cloud: &Cloud, hash: &str) {
    let user = User { hardware_hash: Some(hash.into()), ..User::new(EMAIL, PASSWORD, "ResourceUploader") };
    cloud.add_user(user);
}

fn load(agent: &mut Agent) -> (u16, Value) {
    agent.curl("/load/detector.onnx", &["-d", r#"{"folder":"models"}"#])
}

#[test]
fn a_board_that_changed_is_told_fact_by_fact_until_the_cloud_accepts_it() {
    let cloud = cloud_with_models();
    let board = board_like(&cloud, &fixtures("boards/raspberry-pi-5"));
    let shown = fingerprint(&board, &[]);
    assert!(row(&shown, "board").starts_with("raspberry-pi-5 "), "{shown}");
    assert_eq!(row(&shown, "remembered"), "nothing yet: the agent has not run here");
    let salts = Salts { hardware: "hw".into(), api: "api".into(), resource: "res".into(), separator: String::new() };
    let hash = row(&shown, "hash").to_owned();
    assert_eq!(hash, salts.hardware_hash(row(&shown, "fingerprint")), "scheme v1 by another implementation");
    bound_to(&cloud, &hash);

    // As its keys know it.
    let mut agent = board.start();
    assert_eq!(agent.curl("/status", &[]).1["board"], "raspberry-pi-5");
    agent.log_in(EMAIL);
    let file = board.path("model");
    std::fs::write(&file, noise(7, 50_000)).expect("written");
    assert_eq!(agent.upload(&file, "detector.onnx", "models").0, 200);
    agent.load_whole("detector.onnx", "models");
    assert!(!notes(&mut agent).contains("changed"));
    assert_eq!(agent.terminate(), Some(0));
    assert_eq!(row(&fingerprint(&board, &[]), "remembered"), "the same");

    // Memory was taken out: the cloud refuses, and the answer names the fact, never its value.
    let memory = read(&board, "proc/meminfo");
    write(&board, "proc/meminfo", "MemTotal:         947732 kB\n");
    let mut agent = board.start();
    assert!(agent.log().contains("this board is not as its keys knew it: memory size changed"), "{}", agent.log());
    agent.log_in(EMAIL);
    let (status, answer) = load(&mut agent);
    let next = answer["error"]["next"].as_str().unwrap_or_default();
    assert_eq!(status, 502, "{answer}");
    assert!(next.contains("memory size changed") && next.contains("registered anew"), "{answer}");
    assert!(notes(&mut agent).contains("memory size changed"));
    assert!(agent.log().contains(r#""event":"board_changed""#), "the audit log has it: {}", agent.log());
    for secret in ["1 GiB", "8 GiB", "947732"] {
        assert!(!agent.log().contains(secret), "{secret} in {}", agent.log());
    }
    assert_eq!(agent.terminate(), Some(0));

    // Back again, but another network address: told, the keys are the same, and the cloud's answer ends it.
    write(&board, "proc/meminfo", &memory);
    write(&board, "sys/class/net/eth0/address", "2c:cf:67:aa:bb:cc\n");
    let shown = fingerprint(&board, &[]);
    assert_eq!(row(&shown, "hash"), hash);
    let remembered = row(&shown, "remembered");
    assert_eq!(remembered, "something of this board changed, its keys are the same: network address (MAC) changed");
    let mut agent = board.start();
    assert!(notes(&mut agent).contains("network address (MAC) changed"));
    agent.log_in(EMAIL);
    agent.load_whole("detector.onnx", "models");
    assert!(!notes(&mut agent).contains("changed"));
    agent.wait_for_line(r#""event":"board_accepted""#);
    assert_eq!(agent.terminate(), Some(0));
    assert_eq!(row(&fingerprint(&board, &[]), "remembered"), "the same");
}

#[test]
fn a_card_in_another_board_is_told_and_a_person_can_accept_it() {
    let cloud = cloud_with_models();
    let board = board_like(&cloud, &fixtures("boards/raspberry-pi-5"));
    bound_to(&cloud, &Salts::default().hardware_hash(FINGERPRINT_OF_OTHERS));
    assert_eq!(board.start().terminate(), Some(0));
    write(&board, "sys/firmware/devicetree/base/serial-number", "c0ffee00c0ffee00\0");
    let mut agent = board.start();
    assert!(notes(&mut agent).contains("this installation ran on another board before"), "{}", agent.log());
    agent.log_in(EMAIL);
    let (_, answer) = load(&mut agent);
    assert!(answer["error"]["next"].as_str().is_some_and(|next| next.contains("serial number changed")), "{answer}");
    assert_eq!(agent.terminate(), Some(0));
    write(&board, "sys/block/mmcblk0/device/cid", "035344534e313238858f3e5a1b017a00\n");
    let cloned = fingerprint(&board, &[]);
    assert!(row(&cloned, "remembered").starts_with("this installation is a copy of another board's: "), "{cloned}");
    assert!(fingerprint(&board, &["--accept"]).contains("accepted     what is found now is remembered"));
    assert_eq!(row(&fingerprint(&board, &[]), "remembered"), "the same");
}

#[test]
fn the_light_shows_the_state_and_is_given_back() {
    let cloud = crate::harness::cloud();
    let board = board_like(&cloud, &fixtures("boards/raspberry-pi-5"));
    write(&board, &format!("{LED}/trigger"), "none timer [mmc0] heartbeat");
    let mut agent = board.start();
    assert_eq!(read(&board, &format!("{LED}/trigger")), "none");
    assert!(agent.log().contains("the light ACT shows the state"), "{}", agent.log());
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "one"));
    agent.unlock_to_ready();
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while read(&board, &format!("{LED}/brightness")) == "0" {
        assert!(std::time::Instant::now() < deadline, "ready is lit without a break");
    }
    assert_eq!(agent.terminate(), Some(0));
    assert_eq!(read(&board, &format!("{LED}/trigger")), "mmc0");
    assert_eq!(read(&board, &format!("{LED}/brightness")), "0");
}

#[test]
fn a_light_that_is_not_ours_and_one_that_is_not_there_are_told() {
    let cloud = crate::harness::cloud();
    let board = board_like(&cloud, &fixtures("boards/raspberry-pi-5")).set("board", "led = \"disco\"");
    let mut agent = board.start();
    assert!(agent.log().contains("no light: there is no light disco under /sys/class/leds"), "{}", agent.log());
    assert_eq!(agent.curl("/health", &[]).0, 200);
}

#[test]
fn every_fixture_is_shown_by_fingerprint_and_odd_ones_end_in_one_line() {
    for kind in ["boards", "boards-odd"] {
        for entry in std::fs::read_dir(fixtures(kind)).expect("fixtures") {
            let root = entry.expect("an entry").path();
            let name = root.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            let mut command = clean(&binary());
            command.arg("fingerprint").arg("--root").arg(&root).env("AZAION_BOARD_PROFILES_DIR", "/nowhere");
            let output = command.output().expect("runs");
            let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(
                !out.contains('\u{1b}') && !said.contains('\u{1b}') && !said.contains("panicked"),
                "{name}: {out}{said}"
            );
            if kind == "boards" {
                assert_eq!(output.status.code(), Some(0), "{name}: {said}");
                assert!(row(&out, "board").starts_with(&format!("{name} ")), "{out}");
                assert!(!out.contains("missing:"), "{out}");
            } else {
                assert!(matches!(output.status.code(), Some(0 | 1)), "{name}: {said}");
                let is_told = output.status.success() || said.lines().count() == 1;
                assert!(is_told, "{name}: {said}");
            }
        }
    }
}
