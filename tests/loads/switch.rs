//! Old suite or new suite, never half: the tags move together once everything is in, and what nothing uses goes after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use azaion_cloud::archive::{Image, Layer, Layout};

use crate::api::{Api, holds, id, list, tags, until};
use crate::bench::{Bench, put};
use crate::dice::{Dice, seed};
use crate::harness::{Agent, Board, PATIENCE, binary, noise};
use crate::packs::{file, image, is_static, saved};
use crate::record::all_whole;
use crate::support::archive as by_hand;
use crate::support::engine::Kind;

const MIB: usize = 1 << 20;
/// Each of the suite's images has so many tags: a switch takes its time.
const TAGS: usize = 4;
/// Kills around the end of a load, on each engine.
const KILLS: u64 = 20;

/// Tag → image id.
type Tags = BTreeMap<String, String>;

fn all(name: &str) -> Vec<String> {
    (0..TAGS).map(|number| format!("azaion/{name}:{number}")).collect()
}

/// A version of the suite: `app`, `tool` and `extra`, and `dropped` in the first version only.
fn suite(version: u64) -> Vec<u8> {
    let base = file("base", &noise(100, 6 * MIB));
    // Something that runs for as long as it is let, where the agent's binary needs no library.
    let program = Layer::Files(vec![("loader".into(), 0o755, std::fs::read(binary()).expect("it is there"))]);
    let of = |number: u64, name: &str| {
        let own = file(name, &noise(version * 10 + number, 5 * MIB));
        Image { tags: all(name), ..image(&[], &[program.clone(), base.clone(), own], "/loader") }
    };
    let mut images = vec![of(1, "app"), of(2, "tool"), of(3, "extra")];
    if version == 1 {
        images.push(image(&["azaion/dropped:1"], &[base.clone(), file("dropped", b"in version 1 only")], "/x"));
    }
    saved(if version.is_multiple_of(2) { Layout::Classic } else { Layout::Oci }, &images)
}

/// What the tags that all versions have stand for.
fn suite_tags(mut shown: Tags) -> Tags {
    let of_all: BTreeSet<_> = ["app", "tool", "extra"].into_iter().flat_map(all).collect();
    shown.retain(|tag, _| of_all.contains(tag));
    shown
}

/// What the engine showed at one moment.
#[derive(PartialEq, Eq, Clone, Debug)]
struct Sight {
    tags: Tags,
    ids: BTreeSet<String>,
}

fn look(api: &Api) -> Sight {
    let images = api.images();
    let of = |image: &serde_json::Value| -> Vec<_> { tags(image).into_iter().map(|tag| (tag, id(image))).collect() };
    Sight { tags: suite_tags(images.iter().flat_map(of).collect()), ids: images.iter().map(id).collect() }
}

/// Looks again and again; every change is kept.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Sight>, usize)>,
}

impl Watcher {
    fn start(api: &Api) -> Self {
        let (stop, api) = (Arc::new(AtomicBool::new(false)), api.clone());
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut seen, mut looks) = (vec![look(&api)], 1);
            while !ended.load(Ordering::Relaxed) {
                let sight = look(&api);
                looks += 1;
                if seen.last() != Some(&sight) {
                    seen.push(sight);
                }
                // The engine has other work.
                std::thread::park_timeout(Duration::from_millis(2));
            }
            (seen, looks)
        });
        Self { stop, thread }
    }

    fn end(self) -> (Vec<Sight>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the engine answered every time")
    }
}

/// All old, then perhaps a stretch of both, then all new; and the stretch begins when every new image is in.
fn moved_together(seen: &[Sight], old: &Tags, new: &Tags) -> Result<(), String> {
    let was_old = seen.iter().take_while(|sight| sight.tags == *old).count();
    let is_new = seen.iter().rev().take_while(|sight| sight.tags == *new).count();
    holds(was_old > 0 && is_new > 0, || format!("it begins with {:?} and ends with {:?}", seen.first(), seen.last()))?;
    for sight in &seen[was_old..] {
        let missing = new.values().find(|id| !sight.ids.contains(*id));
        holds(missing.is_none(), || format!("{missing:?} is not in, and the tags are {:?}", sight.tags))?;
    }
    let between = &seen[was_old..seen.len() - is_new];
    let back = between.iter().find(|sight| sight.tags == *old || sight.tags == *new);
    holds(back.is_none(), || format!("the tags went back and forth: {between:?}"))
}

/// A container of this image that runs, or where none can, one that is created.
fn container(bench: &Bench, image: &str) -> (String, bool) {
    let sleeps = ["/loader", "wait", "--timeout", "3600", "--url", "http://127.0.0.1:9"];
    let run =
        || bench.engine.docker(&[&["run", "-d", "--name", "used", "--network", "none", image][..], &sleeps].concat());
    if is_static() {
        match run() {
            Ok(id) => return (id.trim().to_owned(), true),
            Err(why) => println!("{:?}: no container runs: {why}", bench.kind),
        }
        bench.api.remove("used");
    }
    (bench.api.create(image).expect("a container"), false)
}

fn loading(agent: &mut Agent) -> bool {
    let (_, answer) = agent.curl("/unlock/status", &[]);
    let state = answer["state"].as_str().unwrap_or_default().to_owned();
    assert!(state != "ready" && state != "error", "too late: {answer}\n{}", agent.log());
    let part = |name: &str| answer["progress"][name].as_u64().unwrap_or(0);
    state == "loading_images" && part("bytes_done") > part("bytes_total") / 3
}

/// An update of a board in use, from the first version to the third.
fn an_update(kind: Kind) {
    let Some(bench) = Bench::start(kind) else { return };
    let api = &bench.api;
    let board = bench.board();
    // What the agent did not bring: one with a tag, one without.
    let foreign = |text: &str| vec![(by_hand::layer(&[("foreign", text.as_bytes())]), by_hand::Packed::Plain)];
    let others = [
        by_hand::Image { tags: vec!["other/tagged:1"], layers: foreign("tagged") },
        by_hand::Image { tags: vec![], layers: foreign("untagged") },
    ];
    bench.plainly(&by_hand::archive(by_hand::Layout::Classic, &others)).expect("docker load takes it");
    let others = api.ids();
    assert_eq!(others.len(), 2, "{others:?}");

    put(&board, &suite(1));
    let mut agent = board.start();
    agent.unlock_to_ready();
    let first = look(api);
    assert_eq!(first.tags.len(), 3 * TAGS, "{:?}", first.tags);
    let old = |name: &str| first.tags[&format!("azaion/{name}:0")].clone();
    let dropped = api.tags()["azaion/dropped:1"].clone();
    let (container, runs) = container(&bench, "azaion/app:0");
    bench.engine.docker(&["tag", "azaion/tool:0", "mine/kept:1"]).expect("tagged");

    // Killed in the middle of the load: nothing has moved.
    put(&board, &suite(2));
    assert_eq!(agent.unlock().0, 202);
    while !loading(&mut agent) {}
    agent.kill();
    assert_eq!(look(api).tags, first.tags, "{kind:?}: after a kill in mid-load");

    // And loaded: the tags move together.
    let mut agent = board.start();
    let watcher = Watcher::start(api);
    agent.unlock_to_ready();
    let (seen, looks) = watcher.end();
    let second = seen.last().expect("it looked").clone();
    println!("{kind:?}: {looks} looks, {} changes", seen.len() - 1);
    assert!(second.tags.iter().all(|(tag, id)| first.tags[tag] != *id), "{kind:?}: every tag moved: {second:?}");
    moved_together(&seen, &first.tags, &second.tags).unwrap_or_else(|why| panic!("{kind:?}: {why}\n{}", agent.log()));

    let shows = |gone: &[&String], stay: &[&String]| {
        let (ids, containers) = (api.ids(), list(api.ask("/containers/json?all=true")));
        for id in gone {
            holds(!ids.contains(*id), || format!("the old image {id} is left"))?;
        }
        for id in stay.iter().copied().chain(&others).chain(second.tags.values()) {
            holds(ids.contains(id), || format!("{id} is gone"))?;
        }
        holds(containers.iter().all(|one| runs == (one["State"] == "running")), || format!("{containers:?}"))
    };
    let say = |agent: &mut Agent| format!("{kind:?}: after the update; the log:\n{}", agent.log());
    until(&say(&mut agent), || shows(&[&old("extra"), &dropped], &[&old("app"), &old("tool")]));
    assert_eq!(api.tags().get("mine/kept:1"), Some(&old("tool")), "{kind:?}: a user's tag stays where it was");
    assert!(!api.tags().contains_key("azaion/dropped:1"), "{kind:?}");
    all_whole(api).unwrap_or_else(|why| panic!("{kind:?}: {why}"));
    assert_eq!(list(api.ask("/containers/json?all=true")).len(), 1, "{kind:?}: the user's container only");

    // Once the container is gone, the next update takes its image along.
    api.remove(&container);
    put(&board, &suite(3));
    agent.unlock_to_ready();
    until(&say(&mut agent), || {
        let ids = api.ids();
        for id in [old("app")].iter().chain(second.tags.values()) {
            holds(!ids.contains(id), || format!("the old image {id} is left"))?;
        }
        let prefixes = api.prefixes();
        holds(prefixes.is_empty(), || format!("prefixes are left: {prefixes:?}"))?;
        holds(others.is_subset(&ids) && ids.contains(&old("tool")), || format!("one too many is gone: {ids:?}"))
    });
}

/// Waits until the agent, which has no credentials, says what it is: ready, or waiting to be unlocked.
fn at_rest(agent: &mut Agent) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, answer) = agent.curl("/unlock/status", &[]);
        if answer["state"] == "ready" {
            return true;
        }
        if answer["state"] == "error" || agent.log().contains("waiting to be unlocked") {
            return false;
        }
        assert!(Instant::now() < deadline, "{answer}\n{}", agent.log());
    }
}

/// How long an update takes, of two that load everything anew.
fn measured(bench: &Bench, board: &Board) -> Duration {
    bench.wipe();
    put(board, &suite(2));
    board.start().unlock_to_ready();
    put(board, &suite(3));
    let mut agent = board.start();
    let began = Instant::now();
    agent.unlock_to_ready();
    began.elapsed()
}

/// Killed around the end of an update, by time or at the first tag that moved: without credentials the next run is
/// ready with all tags new, or not ready with all tags old.
fn kills_around_the_end(kind: Kind) {
    let Some(bench) = Bench::start(kind) else { return };
    let (api, board) = (&bench.api, bench.board());
    let mut dice = Dice::new(seed() + 2);
    let takes = u64::try_from(measured(&bench, &board).as_micros()).expect("seconds");
    let (mut old, mut version, mut mixed, mut finished) = (look(api).tags, 3, 0, 0);
    for kill in 0..KILLS {
        // Loaded already or not, the other version comes next.
        version = 5 - version;
        put(&board, &suite(version));
        let mut agent = board.start();
        let by_time = kill % 2 == 0;
        let at = Duration::from_micros(takes * 3 / 4 + dice.below(takes / 2));
        let began = Instant::now();
        assert_eq!(agent.unlock().0, 202);
        while if by_time { began.elapsed() < at } else { look(api).tags == old } {
            assert!(began.elapsed() < PATIENCE, "{kind:?}: no tag moves");
        }
        agent.kill();
        drop(agent);
        let left = look(api).tags;

        let mut agent = board.start();
        let ready = at_rest(&mut agent);
        let now = look(api).tags;
        let moved = old.iter().filter(|(tag, id)| now.get(*tag) != Some(id)).count();
        let what = format!("{kind:?}, kill {kill} at {at:?}, by time: {by_time}, ready: {ready}, {moved} moved");
        assert_eq!(moved, if ready { old.len() } else { 0 }, "{what}: {now:?}\nwas {old:?}\n{}", agent.log());
        finished += u32::from(ready);
        mixed += u32::from(left != old && left != now);

        agent.unlock_to_ready();
        let new = look(api).tags;
        assert!(new.len() == old.len() && new.iter().all(|(tag, id)| old[tag] != *id), "{what}: {new:?}");
        assert!(!ready || new == now, "{what}: ready was ready");
        until(&format!("{what}\n{}", agent.log()), || {
            let left = api.ids().into_iter().find(|id| !new.values().any(|new| new == id));
            holds(left.is_none(), || format!("{left:?} is left"))
        });
        all_whole(api).unwrap_or_else(|why| panic!("{what}: {why}"));
        old = new;
    }
    println!("{kind:?}: {KILLS} kills, {finished} after the switch was noted, {mixed} between two tags");
}

#[test]
fn a_half_switch_is_seen() {
    let tags = |ids: [&str; 2]| Tags::from([("a:1".into(), ids[0].into()), ("b:1".into(), ids[1].into())]);
    let sight = |shown: [&str; 2], ids: &[&str]| Sight {
        tags: tags(shown),
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
    };
    let (old, new, both) = (["1", "2"], ["3", "4"], ["3", "2"]);
    let (half, whole) = (&["1", "2", "3"], &["1", "2", "3", "4"]);
    let (begin, end) = (sight(old, &["1", "2"]), sight(new, whole));
    let told = |between: &[Sight]| {
        let seen = [std::slice::from_ref(&begin), between, std::slice::from_ref(&end)].concat();
        moved_together(&seen, &tags(old), &tags(new)).is_ok()
    };
    assert!(told(&[]) && told(&[sight(old, half), sight(both, whole)]));
    assert!(!told(&[sight(both, half), sight(both, whole)]), "a tag before the last image");
    assert!(!told(&[sight(both, whole), sight(old, whole)]), "back again");
    assert!(moved_together(&[begin.clone(), sight(both, whole)], &tags(old), &tags(new)).is_err(), "never new");
}

#[test]
fn docker_20_is_updated() {
    an_update(Kind::Docker20);
}

#[test]
fn docker_26_is_updated() {
    an_update(Kind::Docker26);
}

#[test]
fn docker_26_with_the_containerd_store_is_updated() {
    an_update(Kind::Docker26Containerd);
}

#[test]
fn kills_around_the_end_at_docker_20() {
    kills_around_the_end(Kind::Docker20);
}

#[test]
fn kills_around_the_end_at_docker_26() {
    kills_around_the_end(Kind::Docker26);
}

#[test]
fn kills_around_the_end_at_docker_26_with_the_containerd_store() {
    kills_around_the_end(Kind::Docker26Containerd);
}
