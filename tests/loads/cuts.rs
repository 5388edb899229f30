//! Power cuts for the agent and for the engine at random points of a load: the next unlock makes the board ready, every
//! image is whole, and nothing of the attempt is left.

use std::fs;
use std::path::Path;

use azaion_cloud::archive::{Image, Layout};

use crate::api::{holds, list, tags, until};
use crate::bench::{Bench, put};
use crate::dice::{Dice, seed};
use crate::harness::{Agent, Board, noise};
use crate::packs::{file, image, saved};
use crate::record::all_whole;
use crate::support::engine::Kind;

const MIB: usize = 1 << 20;

/// Two images on one base, 68 MiB: a load takes about a second.
fn suite() -> Vec<Image> {
    let layer =
        |seed: u64| file(&format!("noise-{seed}"), &noise(seed, (6 + usize::try_from(seed % 5).unwrap_or(0)) * MIB));
    let of = |seeds: [u64; 5]| seeds.map(layer);
    vec![image(&["azaion/one:1"], &of([1, 2, 3, 4, 5]), "/x"), image(&["azaion/two:1"], &of([1, 7, 8, 9, 10]), "/x")]
}

/// A board at an engine, with an archive that is loaded again and again.
struct Cuts {
    bench: Bench,
    board: Board,
    /// Tag and `diff_ids`, as the first load, which was not cut, left them.
    whole: Vec<(String, Vec<String>)>,
    /// How many bytes of layers that load sent.
    bytes: u64,
    dice: Dice,
}

impl Cuts {
    fn start(kind: Kind, what: u64) -> Option<Self> {
        let bench = Bench::start(kind)?;
        let board = bench.board();
        put(&board, &saved(if what.is_multiple_of(2) { Layout::Classic } else { Layout::Oci }, &suite()));
        let mut cuts = Self { bench, board, whole: Vec::new(), bytes: 0, dice: Dice::new(seed() + what) };
        cuts.bench.wipe();
        let mut agent = cuts.board.start();
        agent.unlock_to_ready();
        let (_, status) = agent.curl("/unlock/status", &[]);
        cuts.bytes = status["progress"]["bytes_total"].as_u64().expect("what it sent");
        drop(agent);
        let shown = cuts.bench.api.tags().into_keys();
        cuts.whole = shown.map(|tag| (tag.clone(), cuts.bench.api.layers(&tag).expect("it is listed"))).collect();
        assert_eq!(cuts.whole.len(), 2, "{:?}", cuts.whole);
        println!("{kind:?}: a load sends {} bytes", cuts.bytes);
        Some(cuts)
    }

    /// The board forgets that it was ever ready.
    fn forget(&self) {
        let state = self.board.path("state");
        fs::remove_dir_all(&state).and_then(|()| fs::create_dir(&state)).expect("the directory is the agent's only");
    }

    /// Unlocks, and returns when a random number of bytes is on its way: from none, before the agent has asked for
    /// anything, to all, while the engine works on the last of them.
    fn cut_load(&mut self) -> (Agent, u64) {
        self.bench.wipe();
        self.forget();
        let mut agent = self.board.start();
        let at = self.dice.below(self.bytes + 1);
        let (status, answer) = agent.unlock();
        assert_eq!(status, 202, "{answer}");
        until("the bytes of the cut", || {
            let (_, status) = agent.curl("/unlock/status", &[]);
            // Of the archive's opening and of the log-in none counts.
            let sent =
                if status["state"] == "loading_images" { status["progress"]["bytes_done"].as_u64() } else { None };
            let is_over = status["state"] == "ready" || status["state"] == "error";
            holds(at == 0 || sent >= Some(at) || is_over, || format!("{at} bytes; {status}"))
        });
        (agent, at)
    }

    /// Nothing but the whole images, and nothing of an attempt.
    fn settled(&self) -> Result<(), String> {
        let api = &self.bench.api;
        for (tag, layers) in &self.whole {
            let shown = api.layers(tag);
            holds(shown.as_ref() == Some(layers), || format!("{tag} shows {shown:?}"))?;
        }
        let prefixes = api.prefixes();
        holds(prefixes.is_empty(), || format!("prefixes are left: {prefixes:?}"))?;
        let untagged: Vec<_> = api.images().into_iter().filter(|image| tags(image).is_empty()).collect();
        holds(untagged.is_empty(), || format!("untagged images are left: {untagged:?}"))?;
        let containers = list(api.ask("/containers/json?all=true"));
        holds(containers.is_empty(), || format!("containers are left: {containers:?}"))
    }

    /// The engine's temporary directory holds no archive.
    fn cleared(&self) -> Result<(), String> {
        let left = fs::read_dir(self.bench.engine.dir().join("data/tmp")).into_iter().flatten().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        let archive = left.iter().find(|name| name.to_string_lossy().starts_with("docker-import-"));
        holds(archive.is_none(), || format!("{archive:?} is left"))
    }

    /// What must hold after every cut, once the board is ready again.
    fn check(&self, agent: &mut Agent, what: &str) {
        // What the agent clears away after `ready` shows by itself.
        until(&format!("{what}; the log:\n{}", agent.log()), || self.settled());
        all_whole(&self.bench.api).unwrap_or_else(|why| panic!("{what}: {why}\n{}", agent.log()));
        until(what, || self.cleared());
    }
}

fn killed_agent(kind: Kind, cuts: u64) {
    let Some(mut board) = Cuts::start(kind, 0) else { return };
    for cut in 0..cuts {
        let (mut agent, at) = board.cut_load();
        agent.kill();
        drop(agent);
        let mut agent = board.board.start();
        agent.unlock_to_ready();
        board.check(&mut agent, &format!("{kind:?}, cut {cut} of the agent at {at} bytes"));
    }
}

/// The engine dies, and in every second case the agent with it, as in a power cut of the board.
fn killed_engine(kind: Kind, cuts: u64) {
    let Some(mut board) = Cuts::start(kind, 1) else { return };
    for cut in 0..cuts {
        let (mut agent, at) = board.cut_load();
        board.bench.engine.kill();
        let both = board.dice.below(2) == 0;
        if both {
            agent.kill();
        }
        board.bench.engine.restart();
        if both {
            drop(agent);
            agent = board.board.start();
        } else {
            // It waits for the engine, or says that it is gone: then it is told again.
            agent.settle();
        }
        agent.unlock_to_ready();
        board.check(&mut agent, &format!("{kind:?}, cut {cut} of the engine at {at} bytes, of both: {both}"));
    }
}

/// What the kernel had not written when the power went: the engine flushes what it knows of images and layers, and leaves
/// the files of the layers to the kernel.
fn lose_files(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            lose_files(&entry.path());
        } else if kind.is_file() {
            // Gone to zero length, as delayed allocation leaves them.
            let emptied = fs::OpenOptions::new().write(true).truncate(true).open(entry.path());
            emptied.expect("a file of the engine's own directory");
        }
    }
}

/// The board goes down in mid-load: agent, engine, and what neither had flushed. The state is of another boot then.
fn power_cut(kind: Kind, cuts: u64) {
    let Some(mut board) = Cuts::start(kind, 2) else { return };
    for cut in 0..cuts {
        let (mut agent, at) = board.cut_load();
        board.bench.engine.kill();
        agent.kill();
        drop(agent);
        let brought = board.board.path("state").join("brought.json");
        let is_flushed = match fs::read_to_string(&brought) {
            Ok(text) => {
                let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux tells");
                fs::write(&brought, text.replace(boot.trim(), "00000000-another-boot")).expect("written");
                !text.contains(boot.trim())
            }
            Err(_) => false,
        };
        // Once the suite is switched to, all of it was flushed before.
        if !is_flushed {
            lose_files(&board.bench.engine.dir().join("data/overlay2"));
        }
        board.bench.engine.restart();
        let mut agent = board.board.start();
        agent.unlock_to_ready();
        let what = format!("{kind:?}, power cut {cut} at {at} bytes, flushed: {is_flushed}");
        board.check(&mut agent, &what);
        // The engine puts each layer together again out of its files, and compares.
        for (tag, _) in &board.whole {
            let saved = board.board.path("saved.tar");
            let saved = saved.to_str().expect("a temporary file has a name in UTF-8");
            board.bench.engine.docker(&["save", "-o", saved, tag]).unwrap_or_else(|why| panic!("{what}: {tag}: {why}"));
        }
    }
}

#[test]
fn the_power_cut_at_docker_20() {
    power_cut(Kind::Docker20, 5);
}

#[test]
fn the_power_cut_at_docker_26() {
    power_cut(Kind::Docker26, 5);
}

#[test]
fn an_agent_killed_at_docker_20() {
    killed_agent(Kind::Docker20, 34);
}

#[test]
fn an_agent_killed_at_docker_26() {
    killed_agent(Kind::Docker26, 33);
}

#[test]
fn an_agent_killed_at_docker_26_with_the_containerd_store() {
    killed_agent(Kind::Docker26Containerd, 33);
}

#[test]
fn docker_20_killed() {
    killed_engine(Kind::Docker20, 7);
}

#[test]
fn docker_26_killed() {
    killed_engine(Kind::Docker26, 7);
}

#[test]
fn docker_26_with_the_containerd_store_killed() {
    killed_engine(Kind::Docker26Containerd, 6);
}
