//! Whole boards and two CDNs, one in process and `SeaweedFS`: sizes at every edge and 2 GiB through API, CDN and cache, and a
//! second implementation (`boto3`, `cryptography`) in both directions. What an agent at work costs is watched beside it.
//!
//! A test binary of its own, and one test at a time in it: what is measured is the agent, not its neighbours.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use azaion_cloud::Cloud;
use azaion_cloud::keys::Salts;

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "e2e/harness.rs"]
mod harness;
mod support;
#[path = "support/watch.rs"]
mod watch;

use harness::{Agent, Board, EMAIL, PASSWORD, cloud_with_models, noise};
use support::peer::Peer;
use support::seaweed::Seaweed;
use support::skip;
use support::slow_flash::SlowFlash;
use watch::{MIB, Watch, start};

/// Held by the one test that measures.
static ALONE: Mutex<()> = Mutex::new(());

/// The names of the same, at every edge of split and cipher.
const SIZES: [usize; 12] = [0, 1, 15, 16, 17, 3071, 3072, 3073, 10_191, 10_192, 262_144 + 3056, 10 << 20];

fn salts() -> Salts {
    Salts { hardware: "hw".into(), api: "api".into(), resource: "res".into(), separator: String::new() }
}

/// A cloud whose CDN is `SeaweedFS`, on TLS with an authority of its own, or in the clear on loopback.
fn cloud_with_seaweed(is_safe: bool) -> Result<(Cloud, Seaweed, String), String> {
    let seaweed = Seaweed::start()?;
    let cloud = cloud_with_models();
    for bucket in ["models", "default"] {
        seaweed.make_bucket(bucket);
    }
    let yaml = seaweed.cdn_yaml();
    let yaml = if is_safe { yaml } else { yaml.replace(&seaweed.url(), &seaweed.plain_url()) };
    cloud.put_resource("", "cdn.yaml", yaml.into_bytes());
    let authorities = cloud.ca_pem().to_owned() + &seaweed.ca_pem();
    Ok((cloud, seaweed, authorities))
}

fn logged_in(board: &Board) -> Agent {
    let mut agent = start(board);
    agent.log_in(EMAIL);
    agent
}

/// Through one board up, through another one down, twice: from the CDN and from flash.
fn sizes_round_trip(cloud: &Cloud, authorities: &str) {
    let boards = [(); 2].map(|()| Board::new(cloud).ca(authorities.to_owned()));
    let mut agents = [logged_in(&boards[0]), logged_in(&boards[1])];
    for size in SIZES {
        let bytes = noise(size as u64 + 3, size);
        let file = boards[0].path("to-upload");
        fs::write(&file, &bytes).expect("written");
        let (status, answer) = agents[0].upload(&file, &format!("m{size}"), "models");
        assert_eq!(status, 200, "{size}: {answer}\n{}", agents[0].log());
        for _ in 0..2 {
            assert!(agents[1].load_whole(&format!("m{size}"), "models") == bytes, "{size}: other bytes");
        }
    }
    let status = agents[1].curl("/status", &[]).1;
    assert_eq!(status["cache"]["entries"].as_u64(), Some(SIZES.len() as u64), "{status}");
}

/// The second implementation puts, the agent loads; the agent uploads, the second implementation gets.
fn both_directions(cloud: &Cloud, authorities: &str, peer: &Peer) {
    let board = Board::new(cloud).ca(authorities.to_owned());
    let mut agent = logged_in(&board);
    for (size, name) in SIZES.into_iter().zip(["a", "модель ü", "x+y", "q\"q", "e", "f", "g", "h", "i", "j", "k", "l"])
    {
        let bytes = noise(size as u64 + 5, size);
        let file = board.path("file");
        fs::write(&file, &bytes).expect("written");
        let encoded = name.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
        peer.put("models", name, &file).expect("the peer puts it");
        assert!(agent.load_whole(&encoded, "models") == bytes, "{size}: put by the peer");
        let back = format!("{name}-back");
        let (status, answer) = agent.upload(&file, &format!("{encoded}-back"), "models");
        assert_eq!(status, 200, "{size}: {answer}");
        peer.get("models", &back, &file).unwrap_or_else(|error| panic!("{size}: uploaded by the agent: {error}"));
    }
}

#[test]
fn sizes_and_the_peer_by_the_server_in_process() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cloud = cloud_with_models();
    sizes_round_trip(&cloud, cloud.ca_pem());
    match Peer::new(&cloud, EMAIL, PASSWORD, &salts()) {
        Ok(peer) => both_directions(&cloud, cloud.ca_pem(), &peer),
        Err(reason) => skip(&reason),
    }
}

#[test]
fn sizes_and_the_peer_by_seaweedfs() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (cloud, seaweed, authorities) = match cloud_with_seaweed(true) {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };
    sizes_round_trip(&cloud, &authorities);
    match Peer::new(&cloud, EMAIL, PASSWORD, &salts()) {
        Ok(peer) => both_directions(&cloud, &authorities, &peer.with_cdn(&seaweed.cdn_yaml(), &seaweed.ca_pem())),
        Err(reason) => skip(&reason),
    }
}

const LARGE: u64 = 2 << 30;

/// Writes noise of this length without holding it.
fn write_noise(to: &Path, size: u64) {
    let mut file = fs::File::create(to).expect("created");
    let mut seed = 0;
    let mut left = size;
    while left > 0 {
        seed += 1;
        let piece = noise(seed, usize::try_from(left.min(8 * MIB)).expect("small"));
        file.write_all(&piece).expect("written");
        left -= piece.len() as u64;
    }
}

/// Whether two files are equal, without holding them.
fn equal(one: &Path, other: &Path) -> bool {
    let mut files = [one, other].map(|path| fs::File::open(path).expect("there"));
    let mut pieces = [vec![0; 1 << 20], vec![0; 1 << 20]];
    loop {
        let [first, second] = &mut files;
        let read = first.read(&mut pieces[0]).expect("readable");
        if read == 0 {
            return second.read(&mut pieces[1]).expect("readable") == 0;
        }
        if second.read_exact(&mut pieces[1][..read]).is_err() || pieces[0][..read] != pieces[1][..read] {
            return false;
        }
    }
}

/// Runs `curl` beside a watch, to its end.
fn watched(agent: &Agent, what: &str, path: &str, args: &[&str]) -> u64 {
    let mut watch = Watch::start(agent);
    let mut curl = Command::new("curl")
        .args(["-sS", "--fail", "--noproxy", "*", &format!("{}{path}", agent.base)])
        .args(args)
        .stdout(Stdio::null())
        .spawn()
        .expect("curl runs");
    let status = loop {
        if let Some(status) = curl.try_wait().expect("ours") {
            break status;
        }
        assert!(watch.elapsed() < Duration::from_mins(10), "{what} does not end");
        watch.look();
        std::thread::park_timeout(Duration::from_millis(5));
    };
    assert!(status.success(), "{what}: curl ends with {status}");
    watch.end(what)
}

fn two_gibibytes(cloud: &Cloud, authorities: &str, server: &str) {
    let source = tempfile::tempdir().expect("a temporary directory");
    let (model, loaded) = (source.path().join("model"), source.path().join("loaded"));
    write_noise(&model, LARGE);
    let boards = [(); 2].map(|()| {
        Board::new(cloud)
            .ca(authorities.to_owned())
            .set("cache", "max_bytes = \"4 GiB\"")
            .set("log", "level = \"info\"")
    });
    let agent = logged_in(&boards[0]);
    let file = model.to_str().expect("UTF-8");
    watched(&agent, &format!("2 GiB up to {server}"), "/upload/large?folder=models", &["-T", file]);
    drop(agent);
    let agent = logged_in(&boards[1]);
    let args = ["-d", r#"{"folder":"models"}"#, "-o", loaded.to_str().expect("UTF-8")];
    for from in [server, "flash"] {
        watched(&agent, &format!("2 GiB down from {from}"), "/load/large", &args);
        assert!(equal(&model, &loaded), "from {from}: other bytes");
        fs::remove_file(&loaded).expect("it was there");
    }
}

#[test]
fn two_gibibytes_through_the_server_in_process() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cloud = cloud_with_models();
    two_gibibytes(&cloud, cloud.ca_pem(), "the server in process");
}

#[test]
fn two_gibibytes_through_seaweedfs() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match cloud_with_seaweed(false) {
        Ok((cloud, _seaweed, authorities)) => two_gibibytes(&cloud, &authorities, "SeaweedFS"),
        Err(reason) => skip(&reason),
    }
}

#[test]
fn flash_of_a_megabyte_a_second_does_not_hold_up_the_port() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let flash = match SlowFlash::mount(Some(MIB)) {
        Ok(flash) => flash,
        Err(reason) => return skip(&reason),
    };
    let cloud = cloud_with_models();
    let bytes = noise(31, 6 << 20);
    let fast = Board::new(&cloud);
    let file = fast.path("to-upload");
    fs::write(&file, &bytes).expect("written");
    let mut agent = logged_in(&fast);
    assert_eq!(agent.upload(&file, "m", "models").0, 200);
    drop(agent);

    let board = Board::new(&cloud).set("cache", &format!("dir = {:?}", flash.path())).set("cache", "reserve_bytes = 0");
    let mut agent = logged_in(&board);
    let loaded = board.path("loaded");
    let args = ["-d", r#"{"folder":"models"}"#, "-o", loaded.to_str().expect("UTF-8")];
    watched(&agent, "6 MiB down to slow flash", "/load/m", &args);
    assert!(fs::read(&loaded).expect("there") == bytes, "other bytes");
    let file = file.to_str().expect("UTF-8");
    watched(&agent, "6 MiB up over slow flash", "/upload/again?folder=models", &["-T", file]);
    assert!(agent.load_whole("again", "models") == bytes, "other bytes");
}
