//! Flash that fails: flipped bits, cut, empty, replaced and vanished files, full and read-only file systems. Right bytes
//! or a clear error, never wrong bytes, never a dead agent, and nothing outside the cache directory.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use azaion_cloud::Cloud;

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "e2e/harness.rs"]
mod harness;
mod support;

use harness::{Agent, Board, EMAIL, cloud_with_models, noise};

/// Uploads a model by another board, so that it is at the CDN and not on the flash under test.
fn upload(cloud: &Cloud, name: &str, bytes: &[u8]) {
    let board = Board::new(cloud);
    let mut agent = board.start();
    agent.log_in(EMAIL);
    let file = board.path("to-upload");
    fs::write(&file, bytes).expect("written");
    let (status, answer) = agent.upload(&file, name, "models");
    assert_eq!(status, 200, "{answer}\n{}", agent.log());
}

fn started(board: &Board) -> Agent {
    let mut agent = board.start();
    agent.log_in(EMAIL);
    agent
}

/// The files of the cache by their ending, the largest first: the big part's own is the first of them.
fn files(board: &Board) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(board.path("cache"))
        .expect("the cache's directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).map_or(0, |m| m.len())));
    files
}

/// What befalls a file of the cache; the second path is of a file that is not the cache's.
type Damage = fn(&Path, &Path);

/// Turns one bit of a file round, in its place.
fn flip(path: &Path, at: u64, bit: u8) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("ours");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("within the file");
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at).expect("written");
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 16) % bound
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_cached_part_is_mended_from_the_cdn() {
    let cloud = cloud_with_models();
    let bytes = noise(21, 3_000_000);
    upload(&cloud, "m", &bytes);
    let board = Board::new(&cloud);
    let mut agent = started(&board);
    assert_eq!(agent.load_whole("m", "models"), bytes);
    let part = files(&board)[0].clone();
    let size = fs::metadata(&part).expect("there").len();
    let mut dice = Dice(4);
    for turn in 0..100_u8 {
        let at = dice.below(size);
        flip(&part, at, turn % 8);
        let before = cloud.s3().bytes_out();
        assert_eq!(agent.load_whole("m", "models"), bytes, "bit at {at}\n{}", agent.log());
        let came = cloud.s3().bytes_out() - before;
        assert!(came > 0 && came <= 256 * 1024 + 64, "bit at {at}: {came} bytes came for one damaged chunk");
        let before = cloud.s3().bytes_out();
        assert_eq!(agent.load_whole("m", "models"), bytes);
        assert_eq!(cloud.s3().bytes_out(), before, "bit at {at}: it was mended on flash");
    }
    // Without the CDN there is nothing to mend it with.
    cloud.s3().set_away(true);
    for turn in 0..4 {
        let at = dice.below(size);
        flip(&part, at, turn % 8);
        let to = board.path("loaded");
        let fetched = agent.load("m", "models", &to);
        assert!(!fetched.is_whole(), "bit at {at}: damaged bytes went out as whole");
        if fetched.status == 200 {
            let got = fs::read(&to).expect("written");
            assert!(bytes.starts_with(&got), "bit at {at}: wrong bytes went out before the cut");
        }
        flip(&part, at, turn % 8);
        assert_eq!(agent.load_whole("m", "models"), bytes, "it is whole again");
    }
}

#[test]
fn a_flipped_bit_in_what_the_cache_notes_costs_at_most_a_download() {
    let cloud = cloud_with_models();
    let bytes = noise(22, 1_500_000);
    upload(&cloud, "m", &bytes);
    let board = Board::new(&cloud);
    drop({
        let mut agent = started(&board);
        assert_eq!(agent.load_whole("m", "models"), bytes);
        assert_eq!(agent.terminate(), Some(0));
        agent
    });
    let mut dice = Dice(5);
    for turn in 0..30_u8 {
        let notes: Vec<PathBuf> =
            files(&board).into_iter().skip(1).filter(|p| fs::metadata(p).is_ok_and(|m| m.len() > 0)).collect();
        let note = &notes[usize::try_from(dice.below(notes.len() as u64)).expect("small")];
        let size = fs::metadata(note).expect("there").len();
        flip(note, dice.below(size), turn % 8);
        let mut agent = started(&board);
        assert_eq!(agent.load_whole("m", "models"), bytes, "{}\n{}", note.display(), agent.log());
        assert_eq!(agent.terminate(), Some(0));
    }
}

#[test]
fn cut_empty_replaced_and_vanished_files() {
    let cloud = cloud_with_models();
    let bytes = noise(23, 1_500_000);
    upload(&cloud, "m", &bytes);
    let board = Board::new(&cloud);
    let outside = board.path("outside");
    fs::write(&outside, b"not the cache's").expect("written");
    let damages: [(&str, Damage); 7] = [
        ("cut", |path, _| {
            let file = fs::OpenOptions::new().write(true).open(path).expect("ours");
            let len = file.metadata().expect("there").len();
            file.set_len(len / 2).expect("cut");
        }),
        ("empty", |path, _| drop(fs::File::create(path).expect("ours"))),
        ("longer", |path, _| {
            let file = fs::OpenOptions::new().write(true).open(path).expect("ours");
            let len = file.metadata().expect("there").len();
            file.set_len(len + 1000).expect("longer");
        }),
        ("a symbolic link", |path, outside| {
            fs::remove_file(path).expect("ours");
            std::os::unix::fs::symlink(outside, path).expect("linked");
        }),
        ("a directory", |path, _| {
            fs::remove_file(path).expect("ours");
            fs::create_dir(path).expect("made");
        }),
        ("a pipe", |path, _| {
            fs::remove_file(path).expect("ours");
            assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
        }),
        ("gone", |path, _| fs::remove_file(path).expect("ours")),
    ];
    for (what, damage) in damages {
        for restarted in [false, true] {
            let mut agent = started(&board);
            assert_eq!(agent.load_whole("m", "models"), bytes, "before {what}");
            let all = files(&board);
            let count = all.len();
            for path in all {
                if restarted {
                    assert_eq!(agent.terminate(), Some(0));
                }
                // What the repair before, or the agent's end, has made superfluous needs no damage.
                if fs::symlink_metadata(&path).is_ok() {
                    damage(&path, &outside);
                }
                if restarted {
                    agent = started(&board);
                }
                let name = path.extension().unwrap_or_default().to_string_lossy().into_owned();
                assert_eq!(agent.load_whole("m", "models"), bytes, "{what}: .{name} of {count}\n{}", agent.log());
            }
            assert_eq!(fs::read(&outside).expect("there"), b"not the cache's", "{what}");
            assert_eq!(agent.terminate(), Some(0));
            fs::remove_dir_all(board.path("cache")).expect("ours");
            fs::create_dir(board.path("cache")).expect("made");
        }
    }
}

/// A file system of its own over the board's cache directory; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: PathBuf, mib: u32) -> Result<Self, String> {
        let options = format!("size={mib}m,mode=0700");
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "azaion-test"]).arg(&at).output();
        match made {
            Ok(made) if made.status.success() => Ok(Self(at)),
            Ok(made) => Err(format!("tmpfs cannot be mounted: {}", String::from_utf8_lossy(&made.stderr).trim())),
            Err(error) => Err(format!("mount cannot be run: {error}")),
        }
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().expect("mount runs").success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status().is_ok_and(|status| status.success())
            || Command::new("umount").arg("-l").arg(&self.0).status().is_ok_and(|status| status.success());
        assert!(done || std::thread::panicking(), "{} is still mounted", self.0.display());
    }
}

#[test]
fn a_full_and_a_read_only_file_system() {
    let cloud = cloud_with_models();
    let (large, small) = (noise(24, 20 << 20), noise(25, 2 << 20));
    upload(&cloud, "large", &large);
    upload(&cloud, "small", &small);
    let board = Board::new(&cloud).set("cache", "reserve_bytes = 0");
    let mounted = match Mounted::tmpfs(board.path("cache"), 8) {
        Ok(mounted) => mounted,
        Err(reason) => return support::skip(&reason),
    };
    let mut agent = started(&board);
    let file = board.path("to-upload");
    fs::write(&file, &large).expect("written");

    // Too small for it: straight through, and an upload is told so.
    assert_eq!(agent.load_whole("large", "models"), large, "{}", agent.log());
    let (status, answer) = agent.upload(&file, "another", "models");
    assert_eq!((status, answer["error"]["code"].as_str()), (507, Some("no_space")), "{answer}");
    assert_eq!(agent.load_whole("small", "models"), small);

    // Filled up by somebody else.
    fs::write(board.path("cache/filler"), vec![0; 16 << 20]).expect_err("it is full now");
    assert_eq!(agent.load_whole("small", "models"), small, "from flash\n{}", agent.log());
    assert_eq!(agent.load_whole("large", "models"), large);
    fs::write(&file, &small).expect("written");
    let (status, answer) = agent.upload(&file, "another", "models");
    assert!(status == 507 || status == 200, "{answer}");
    let _ = fs::remove_file(board.path("cache/filler"));

    // Read-only in the middle of life: what is there is served, what is not comes straight from the CDN.
    mounted.remount("ro");
    assert_eq!(agent.load_whole("small", "models"), small, "{}", agent.log());
    assert_eq!(agent.load_whole("large", "models"), large);
    let (status, answer) = agent.upload(&file, "another", "models");
    assert!(status == 500 || status == 507, "{status} {answer}");
    assert!(answer["error"]["next"].as_str().is_some_and(|next| !next.is_empty()), "{answer}");
    assert_eq!(agent.terminate(), Some(0));

    // Started on it.
    let mut agent = started(&board);
    assert_eq!(agent.load_whole("small", "models"), small, "{}", agent.log());
    assert_eq!(agent.load_whole("large", "models"), large);
    assert_eq!(agent.upload(&file, "another", "models").0 / 100, 5);
    assert_eq!(agent.curl("/health", &[]).0, 200);
    mounted.remount("rw");
    assert_eq!(agent.terminate(), Some(0));
    let mut agent = started(&board);
    assert_eq!(agent.upload(&file, "another", "models").0, 200, "{}", agent.log());
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn a_cache_directory_that_cannot_be_used_costs_speed_and_nothing_else() {
    let cloud = cloud_with_models();
    let bytes = noise(26, 1 << 20);
    upload(&cloud, "m", &bytes);
    let board = Board::new(&cloud);
    fs::remove_dir_all(board.path("cache")).expect("ours");
    fs::write(board.path("cache"), b"a file").expect("written");
    let mut agent = started(&board);
    assert_eq!(agent.load_whole("m", "models"), bytes, "{}", agent.log());
    let status = agent.curl("/status", &[]).1;
    assert_eq!(status["cache"]["usable"], false, "{status}");
    let file = board.path("to-upload");
    fs::write(&file, &bytes).expect("written");
    let (status, answer) = agent.upload(&file, "another", "models");
    assert_eq!((status, answer["error"]["code"].as_str()), (500, Some("cache_unavailable")), "{answer}");
}
