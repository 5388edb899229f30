//! Boards as trees of files: recognised, named, compared with what is remembered.

use std::path::Path;

use super::*;
use crate::secret::SecretText;

fn config(root: &Path) -> config::Board {
    config::Board {
        profile: None,
        root: root.to_owned(),
        profiles_dir: "/nowhere".into(),
        led: config::Led::Auto,
        fingerprint: None,
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/boards").join(name)
}

#[test]
fn every_profile_is_recognised_and_its_fingerprint_is_fixed_for_ever() {
    let known = [
        ("generic-arm64", "CPU: Cortex-A76. Memory: 8 GiB. Serial: 10000000a1b2c3d4"),
        ("raspberry-pi-4", "Serial: 100000006c1f2ab3. CPU: Cortex-A72. Memory: 4 GiB"),
        ("raspberry-pi-5", "Serial: 5d3a9c41e07b26f8. CPU: Cortex-A76. Memory: 8 GiB"),
        (
            "raspberry-pi-cm4",
            "Serial: 10000000f2094c7e. CPU: Cortex-A72. Memory: 4 GiB. eMMC: 150100424a54443452073f6a91d26b",
        ),
        ("raspberry-pi-zero-2-w", "Serial: 00000000b84e19d5. CPU: Cortex-A53. Memory: 1 GiB"),
        ("jetson-nano", "Serial: 1423521047318. CPU: Cortex-A57. Memory: 4 GiB. eMMC: 150100414a544434520288c1e05f7a"),
        ("jetson-xavier-nx", "Serial: 1421820053946. CPU: Carmel. Memory: 8 GiB. eMMC: 13014e47314d31354c112d7390be59"),
        ("jetson-orin-nano", "Serial: 1423724089651. CPU: Cortex-A78AE. Memory: 8 GiB"),
        (
            "jetson-agx-orin",
            "Serial: 1424123007295. CPU: Cortex-A78AE. Memory: 64 GiB. eMMC: 13014e47314d31354d11b90c63e7aa",
        ),
        ("orange-pi-5", "Serial: d04b7f1e9a2c6385. CPU: Cortex-A55. Memory: 8 GiB"),
        ("generic-x86-64", "Product: NUC7i5BNK. CPU: Intel(R) Core(TM) i5-7260U CPU @ 2.20GHz. Memory: 16 GiB"),
    ];
    for (profile, fingerprint) in known {
        let board = Board::detect(&config(&fixture(profile))).expect(profile);
        assert_eq!(board.profile.name, profile);
        assert_eq!(board.fingerprint.as_str(), fingerprint);
        assert_eq!(board.missing().count(), 0);
        assert!(!format!("{board:?} {:?}", board.fingerprint).contains("CPU"));
    }
    let all: Vec<_> = Profile::built_in().into_iter().map(|profile| profile.name).collect();
    let tested = |name: &String| known.iter().any(|(profile, _)| profile == name);
    assert!(all.iter().all(tested) && all.len() == known.len(), "every profile has its line above: {all:?}");
}

#[test]
fn this_machine_has_a_fingerprint_or_says_why_not() {
    match Board::detect(&config(Path::new("/"))) {
        Ok(board) => assert!(!board.fingerprint.as_str().is_empty()),
        Err(error) => assert!(matches!(error, BoardError::NotRecognised { .. }), "{error}"),
    }
}

#[test]
fn a_fixed_fingerprint_wins() {
    let fixed = Some(SecretText::new("desk".into()));
    let board = Board::detect(&config::Board { fingerprint: fixed, ..config(&fixture("generic-arm64")) });
    let board = board.expect("fixed");
    assert!(board.is_fixed && board.facts.is_empty());
    assert_eq!(board.fingerprint.as_str(), "desk");
}

#[test]
fn a_named_profile_wins_over_what_is_recognised_and_must_exist() {
    let named =
        |name: &str| Board::detect(&config::Board { profile: Some(name.into()), ..config(&fixture("generic-arm64")) });
    let board = named("generic-x86-64").expect("it has cpu and memory");
    assert_eq!(board.fingerprint.as_str(), "CPU: Cortex-A76. Memory: 8 GiB");
    assert_eq!(board.missing().map(|(rule, _)| rule.label.as_str()).collect::<Vec<_>>(), ["Product"]);
    let error = named("generic-arm").expect_err("unknown");
    assert_eq!(error.to_string(), "board.profile: unknown profile generic-arm; the nearest known is generic-arm64");
}

#[test]
fn a_tree_without_facts_gives_no_fingerprint() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(dir.path().join("proc")).expect("created");
    let error = Board::detect(&config(dir.path())).expect_err("nothing to go by");
    assert!(matches!(error, BoardError::NotRecognised { arch: None, .. }), "{error}");
    let profile = Some("generic-arm64".into());
    let error = Board::detect(&config::Board { profile, ..config(dir.path()) }).expect_err("no facts");
    assert!(matches!(error, BoardError::NoFacts { .. }), "{error}");
}

#[test]
fn the_most_special_profile_is_taken() {
    let generic = Profile::built_in().remove(0);
    let special = |name: &str, entry: &str| {
        let mut profile = Profile { name: name.into(), ..generic.clone() };
        profile.recognise.compatible = vec![entry.into()];
        profile
    };
    let all = vec![generic.clone(), special("chip", "brcm,bcm2712"), special("board", "raspberrypi,5-model-b")];
    let probe = Probe::at(&fixture("raspberry-pi-5"));
    assert_eq!(recognised(&probe, &all).map(|profile| &*profile.name), Ok("board"));
    let other = vec![special("other", "nvidia,jetson-nano"), generic];
    assert_eq!(recognised(&probe, &other).map(|profile| &*profile.name), Ok("generic-arm64"));
}

/// A copy of a board's tree that a test changes.
struct Copied(tempfile::TempDir);

impl Copied {
    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        copy(&fixture(name), dir.path());
        Self(dir)
    }

    fn write(&self, file: &str, content: &str) -> &Self {
        let path = self.0.path().join(file);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        std::fs::write(path, content).expect("written");
        self
    }

    fn remove(&self, file: &str) -> &Self {
        std::fs::remove_file(self.0.path().join(file)).expect("removed");
        self
    }

    fn board(&self) -> Board {
        Board::detect(&config(self.0.path())).expect("a board")
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a tree") {
        let entry = entry.expect("readable");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("known").is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&from).expect("a link"), &to).expect("linked");
        } else if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("copied");
        }
    }
}

const SERIAL: &str = "sys/firmware/devicetree/base/serial-number";
const MEMORY: &str = "proc/meminfo";
const MACHINE: &str = "etc/machine-id";

/// What is told of a board that was remembered as the fixture is, after `change`.
fn told(name: &str, change: impl for<'a> FnOnce(&'a Copied) -> &'a Copied) -> (Verdict, String) {
    let copied = Copied::of(name);
    let record = Record::of(&copied.board()).expect("random").expect("facts");
    change(&copied);
    let changes = record.compare(&copied.board());
    (changes.verdict(), changes.to_string())
}

#[test]
fn a_change_is_told_fact_by_fact_and_never_with_its_value() {
    assert_eq!(told("raspberry-pi-5", |board| board), (Verdict::Same, String::new()));
    let (verdict, text) = told("raspberry-pi-5", |board| board.write(MEMORY, "MemTotal: 1 kB\n"));
    assert_eq!((verdict, &*text), (Verdict::KeysChanged, "memory size changed"));
    let (verdict, text) = told("raspberry-pi-5", |board| board.remove(SERIAL).write("proc/cpuinfo", CORE));
    assert_eq!((verdict, &*text), (Verdict::KeysChanged, "serial number cannot be read any more"));
    let (verdict, text) = told("raspberry-pi-5", |board| {
        board.write(MACHINE, "ffffffffffffffffffffffffffffffff\n").write("sys/class/net/eth0/address", OTHER_MAC)
    });
    assert_eq!((verdict, &*text), (Verdict::Drift, "network address (MAC) changed, machine-id changed"));
}

const CORE: &str = "CPU implementer : 0x41\nCPU part : 0xd0b\n";
const OTHER_MAC: &str = "2c:cf:67:01:02:03\n";
const OTHER_CID: &str = "035344534e313238858f3e5a1b017a00\n";
const CARD: &str = "sys/block/mmcblk0/device/cid";

#[test]
fn a_card_that_was_moved_copied_or_cloned_is_told() {
    let moved = told("raspberry-pi-5", |board| board.write(SERIAL, "ffff000011112222\0"));
    assert_eq!(moved, (Verdict::Moved, "serial number changed".into()));
    let cloned = told("raspberry-pi-5", |board| board.write(SERIAL, "ffff000011112222\0").write(CARD, OTHER_CID));
    assert_eq!(cloned, (Verdict::Cloned, "serial number changed, SD card changed".into()));
    let copied = told("raspberry-pi-5", |board| board.write(CARD, OTHER_CID));
    assert_eq!(copied, (Verdict::Copied, "SD card changed".into()));
    let fresh = told("raspberry-pi-5", |board| {
        board.write(CARD, OTHER_CID).write(MACHINE, "ffffffffffffffffffffffffffffffff\n")
    });
    assert_eq!(fresh.0, Verdict::Drift, "an installation of its own");
}

#[test]
fn what_is_remembered_holds_no_fact_and_survives_its_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let board = Copied::of("raspberry-pi-5").board();
    let record = Record::of(&board).expect("random").expect("facts");
    assert_eq!(Record::read(dir.path()).expect("none yet"), None);
    record.write(dir.path()).expect("written");
    assert_eq!(Record::read(dir.path()).expect("there"), Some(record.clone()));
    assert_eq!(record.profile(), "raspberry-pi-5");
    let text = std::fs::read_to_string(dir.path().join("board.json")).expect("text");
    for fact in &board.facts {
        let found = fact.value.as_ref().expect("every fact of the fixture");
        assert!(!text.contains(&found.text), "{} is in {text}", fact.rule.label);
    }
    let other = Record::of(&board).expect("random").expect("facts");
    assert_ne!(record, other, "each under its own salt");
    assert!(other.compare(&board).is_empty());

    let file = dir.path().join("board.json");
    for damaged in ["{", "{}", &text.replace("\"version\":1", "\"version\":2"), &text.replace("serial", "colour")] {
        std::fs::write(&file, damaged).expect("written");
        assert!(matches!(Record::read(dir.path()), Err(RecordError::Damaged(_))), "{damaged}");
    }
    std::fs::write(&file, vec![b' '; crate::limits::BOARD_RECORD_BYTES + 1]).expect("written");
    assert!(matches!(Record::read(dir.path()), Err(RecordError::Unreadable(..))));
}

#[test]
fn a_board_keeps_the_facts_that_its_keys_were_made_of_when_a_better_profile_comes() {
    let tree = fixture("raspberry-pi-5");
    let as_known = |name: &str| Board::detect_as(&config(&tree), |_| Some(name.into())).expect("a board");
    let kept = as_known("generic-arm64");
    assert_eq!((&*kept.profile.name, &*kept.facts_of), ("raspberry-pi-5", "generic-arm64"));
    assert!(kept.fingerprint.as_str().starts_with("CPU: Cortex-A76. Memory: "));
    for gone in ["generic-x86-64", "raspberry-pi-4", "no-such-board"] {
        assert_eq!(as_known(gone).facts_of, "raspberry-pi-5", "{gone} does not fit this board");
    }
    let wanted = config::Board { profile: Some("raspberry-pi-5".into()), ..config(&tree) };
    let named = Board::detect_as(&wanted, |_| Some("generic-arm64".into())).expect("a board");
    assert_eq!(named.facts_of, "raspberry-pi-5", "who names one means it");
    let changes = Record::of(&kept).expect("random").expect("facts").compare(&named);
    assert_eq!(changes.to_string(), "another profile makes the keys of the same facts");
    assert_eq!((changes.verdict(), changes.touches_keys()), (Verdict::KeysChanged, true));
}

#[test]
fn a_profile_of_the_directory_is_used_and_a_broken_one_stops_the_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = std::fs::read_to_string("boards/raspberry-pi-5.toml").expect("a profile");
    let with = |text: &str| {
        std::fs::write(dir.path().join("ours.toml"), text).expect("written");
        Board::detect(&config::Board { profiles_dir: dir.path().to_owned(), ..config(&fixture("raspberry-pi-5")) })
    };
    let ours = with(&text.replace("/var/cache/azaion-loader", "/mnt/nvme/azaion")).expect("a board");
    assert_eq!(ours.profile.cache.dir, Path::new("/mnt/nvme/azaion"));
    let error = with("name = 1").expect_err("broken");
    assert!(error.to_string().contains("ours.toml: line 1"), "{error}");
}

#[test]
fn the_model_tells_boards_apart_that_share_an_entry() {
    let generic = Profile::built_in().into_iter().find(|profile| profile.name == "raspberry-pi-5").expect("built in");
    let with = |name: &str, model: &[&str]| {
        let mut profile = Profile { name: name.into(), ..generic.clone() };
        profile.recognise.model = model.iter().map(|&text| text.into()).collect();
        profile
    };
    let probe = Probe::at(&fixture("raspberry-pi-5"));
    let all = [with("any", &[]), with("other", &["Raspberry Pi 6"]), with("this", &["Raspberry Pi 5"])];
    assert_eq!(recognised(&probe, &all).map(|profile| &*profile.name), Ok("this"));
    assert_eq!(recognised(&probe, &all[..2]).map(|profile| &*profile.name), Ok("any"));
    assert!(recognised(&probe, &all[1..2]).is_err());
}

#[test]
fn the_directory_of_the_profile_counts_where_the_configuration_says_nothing() {
    let of: fn(&Profile) -> &Path = |profile| &profile.cache.dir;
    let said = |is_said| config::Directory { path: "/said".into(), is_said };
    let here = config(&fixture("raspberry-pi-5"));
    assert_eq!(directory(&here, &said(true), of), Path::new("/said"));
    assert_eq!(directory(&here, &said(false), of), Path::new("/var/cache/azaion-loader"));
    let nowhere = config::Board { profile: Some("no-such".into()), ..here };
    assert_eq!(directory(&nowhere, &said(false), of), Path::new("/said"));
}

fn odd(name: &str) -> Result<Board, BoardError> {
    Board::detect(&config(&fixture("../boards-odd").join(name)))
}

#[test]
fn a_usb_stick_and_a_kernel_update_leave_the_fingerprint_as_it_is() {
    let before = Board::detect(&config(&fixture("raspberry-pi-5"))).expect("a board");
    let record = Record::of(&before).expect("random").expect("facts");
    for tree in ["usb-stick", "pi-5-kernel-update"] {
        let after = odd(tree).expect(tree);
        assert_eq!(after.fingerprint, before.fingerprint, "{tree}");
        assert_eq!(record.compare(&after).to_string(), "", "{tree}");
    }
}

#[test]
fn unknown_boards_empty_trees_and_garbage_are_sensible_and_told() {
    let unknown = odd("unknown-board").expect("a board");
    assert_eq!(unknown.profile.name, "generic-arm64");
    assert_eq!(unknown.fingerprint.as_str(), "CPU: Cortex-A55. Memory: 8 GiB. Serial: 6f91c3d80a7e452b");
    let empty = odd("empty-device-tree").expect("a board");
    assert_eq!(empty.fingerprint.as_str(), "CPU: Cortex-A76. Memory: 4 GiB");
    let missing: Vec<_> = empty.missing().map(|(rule, why)| format!("{}: {why}", rule.label)).collect();
    assert!(matches!(&missing[..], [one] if one.starts_with("Serial: ")), "{missing:?}");
    let error = odd("garbage").expect_err("nothing to go by");
    assert!(matches!(error, BoardError::NoFacts { .. }), "{error}");
    let profile = Some("raspberry-pi-cm4".into());
    let garbage = fixture("../boards-odd/garbage");
    let error = Board::detect(&config::Board { profile, ..config(&garbage) }).expect_err("nothing to go by");
    for label in ["Serial", "CPU", "Memory", "eMMC"] {
        assert!(error.to_string().contains(&format!("{label}: ")), "{error}");
    }
}
