//! The tamper list, on every engine, with a seal and without.
//!
//! Sealed: one code, nothing of the forgery at the engine, no tag set or moved. Unsealed: what is caught is written down in
//! docs/SECURITY.md, and held here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;

use azaion_cloud::archive::{Image, Layer, Layout};
use serde_json::Value;

use crate::harness::{Agent, Board, EMAIL, cloud, noise};
use crate::proxy::{Load, Proxy};
use crate::publisher::{beside, seal};
use crate::samples;
use crate::support;
use crate::support::archive::digest;
use crate::support::engine::{Engine, Kind};
use crate::tamper::{Lies, Original, Tamper, all};

/// Where the tamper list is tried.
enum Place {
    Docker(Engine, Proxy),
    Directory,
}

impl Place {
    /// What the engine shows: each tag and what it means, and every image.
    fn shown(&self, board: &Board) -> BTreeSet<String> {
        match self {
            Self::Docker(engine, _) => {
                let args = ["images", "--all", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"];
                engine.docker(&args).expect("it answers").lines().map(str::to_owned).collect()
            }
            Self::Directory => {
                let index = fs::read_to_string(board.path("oci/index.json")).unwrap_or_default();
                let blobs = fs::read_dir(board.path("oci/blobs/sha256")).into_iter().flatten().flatten();
                for blob in blobs.collect::<Vec<_>>() {
                    let bytes = fs::read(blob.path()).expect("readable");
                    assert_eq!(digest(&bytes), blob.file_name().to_string_lossy(), "a blob that was not verified");
                }
                [index].into()
            }
        }
    }

    fn loads(&self) -> Vec<Load> {
        match self {
            Self::Docker(_, proxy) => proxy.loads(),
            Self::Directory => Vec::new(),
        }
    }
}

/// Two images over one base, about two MiB: eight chunks; `release` makes them differ in every chunk.
fn images(release: u64) -> Vec<Image> {
    let file = |name: &str, content: Vec<u8>| Layer::Files(vec![(name.to_owned(), 0o644, content)]);
    let base = file("base", noise(release * 10, 700_000));
    let image = |number: u64, content: Vec<u8>| Image {
        tags: vec![format!("azaion/tampered-{number}:1.0")],
        layers: vec![
            base.clone(),
            file("zeros", vec![0; 200_000 + usize::try_from(release).expect("small") * 512]),
            file("app", content),
        ],
        command: vec!["/app".into()],
    };
    vec![image(1, noise(release * 10 + 1, 600_000)), image(2, noise(release * 10 + 2, 500_000))]
}

/// Writes and seals a release; the bytes of both files.
fn release(board: &Board, version: u64) -> (Vec<u8>, Vec<u8>) {
    samples::write(&board.archive(), Layout::Oci, &images(version));
    seal(&board.archive(), "images", version);
    let read = |path: &Path| fs::read(path).expect("written");
    (read(&board.archive()), read(&beside(&board.archive(), ".seal")))
}

/// The plain tar of an archive, by `openssl`.
fn plain(board: &Board) -> Vec<u8> {
    let key = digest(crate::harness::FRAGMENT);
    let archive = fs::read(board.archive()).expect("there");
    let iv = format!("{:032x}", u128::from_be_bytes(*archive.first_chunk().expect("an IV")));
    let body = board.path("body");
    fs::write(&body, &archive[16..]).expect("written");
    let mut command = std::process::Command::new("openssl");
    command.args(["enc", "-d", "-aes-256-cbc", "-K", &key, "-iv", &iv, "-in"]).arg(&body);
    let output = command.output().expect("openssl runs");
    assert!(output.status.success());
    fs::remove_file(body).expect("it was there");
    output.stdout
}

/// Everything in the archive by its digest: what may reach an engine, or a beginning of it.
fn blobs(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut blobs = BTreeMap::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().expect("a tar") {
        let mut bytes = Vec::new();
        entry.expect("a whole entry").read_to_end(&mut bytes).expect("whole");
        blobs.insert(digest(&bytes), bytes);
    }
    blobs
}

/// A load is made of beginnings of what was sealed and of documents that the agent makes, and is cut before its end where
/// it is not whole.
fn is_of_sealed_bytes(load: &Load, blobs: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let mut at = 0;
    while at + 512 <= load.body.len() {
        let header = tar::Header::from_byte_slice(&load.body[at..at + 512]);
        if load.body[at..at + 512].iter().all(|byte| *byte == 0) {
            break;
        }
        let name = header.path().map_err(|error| error.to_string())?.display().to_string();
        let size = usize::try_from(header.entry_size().map_err(|error| error.to_string())?).expect("small");
        let content = &load.body[at + 512..load.body.len().min(at + 512 + size)];
        let hex = name.trim_end_matches("/layer.tar").trim_start_matches("blobs/sha256/");
        match blobs.get(hex) {
            Some(blob) if blob.starts_with(content) => {}
            Some(_) => return Err(format!("{name} holds bytes that were not sealed")),
            // Configs of prefixes, manifests and indexes are made by the agent.
            None if content.is_empty() || content.starts_with(b"{") || content.starts_with(b"[") => {}
            None => return Err(format!("{name} is of another archive")),
        }
        at += 512 + size.next_multiple_of(512);
    }
    let is_whole = load.body.len() == load.announced;
    if is_whole || at >= load.body.len() { Ok(()) } else { Err("an end marker behind a part".into()) }
}

/// Unlocks with the session that is held: log-ins are rationed.
fn unlock(agent: &mut Agent) -> (String, Value) {
    let (status, answer) = agent.curl("/unlock", &["-X", "POST"]);
    assert!(status == 202 || status == 200, "{status} {answer}");
    let (answer, _) = agent.settle();
    let code = answer["error"]["code"].as_str().unwrap_or("ready").to_owned();
    if code == "ready" {
        // Answered when the clean-up behind it is over.
        assert_eq!(agent.curl("/unlock", &["-X", "POST"]).0, 200);
    }
    (code, answer)
}

struct Case {
    place: Place,
    board: Board,
    original: Original,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Case {
    fn new(kind: Option<Kind>, cloud: &azaion_cloud::Cloud, policy: &str) -> Option<Self> {
        let board = Board::new(cloud).set("archive", policy);
        let (place, board) = match kind.map(Engine::start) {
            None => (Place::Directory, board),
            Some(Ok(engine)) => {
                let proxy = Proxy::start(&board.path("proxy.sock"), &engine.socket());
                let board = board.engine(&format!("unix://{}", proxy.socket.display()));
                (Place::Docker(engine, proxy), board)
            }
            Some(Err(reason)) => {
                support::skip(&reason);
                return None;
            }
        };
        // The release before is in the engine and has the tags that the new one wants.
        let old = release(&board, 1);
        let (archive, seal) = release(&board, 2);
        let tar = plain(&board);
        let zeros = tar.windows(2048).position(|window| window.iter().all(|byte| *byte == 0)).expect("a file of zeros");
        let member = {
            let mut archive = tar::Archive::new(tar.as_slice());
            let mut entries = archive.entries().expect("a tar");
            let second = entries.nth(1).expect("a second one").expect("whole");
            usize::try_from(second.raw_header_position()).expect("small")
        };
        let original = Original { archive, seal, zeros: zeros.next_multiple_of(512), member, old };
        Some(Self { place, board, original, blobs: blobs(&tar) })
    }

    fn put(&self, archive: &[u8], seal: Option<&[u8]>) {
        fs::write(self.board.archive(), archive).expect("written");
        let beside = beside(&self.board.archive(), ".seal");
        match seal {
            Some(seal) => fs::write(beside, seal).expect("written"),
            None => drop(fs::remove_file(beside)),
        }
    }

    /// Behind a seal: one code, nothing at the engine that was not sealed, no tag moved, nothing left.
    fn sealed(&self, agent: &mut Agent, tamper: &Tamper, before: &BTreeSet<String>) -> Result<(), String> {
        self.put(&[], Some(&tamper.seal));
        let growth = tamper.put(&self.board.archive());
        let (code, answer) = unlock(agent);
        drop(growth);
        if code != tamper.sealed {
            return Err(format!("ends in {code}: {answer}"));
        }
        let shown = self.place.shown(&self.board);
        if shown != *before {
            return Err(format!("the engine shows {shown:#?}"));
        }
        self.place.loads().iter().try_for_each(|load| is_of_sealed_bytes(load, &self.blobs))
    }
}

fn sealed_on(kind: Option<Kind>) {
    let cloud = cloud();
    let Some(case) = Case::new(kind, &cloud, "require_seal = \"always\"") else { return };
    let mut agent = case.board.start();
    agent.log_in(EMAIL);
    case.put(&case.original.old.0, Some(&case.original.old.1));
    assert_eq!(unlock(&mut agent).0, "ready");
    // Version 2 was seen: from then on version 1 is old. It is the old images that stay in the engine meanwhile.
    let output = case.board.run(&["trust", "allow", "2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let before = case.place.shown(&case.board);
    let _of_the_old_release = case.place.loads();
    let mut wrong = Vec::new();
    for tamper in all(&case.original) {
        if let Err(why) = case.sealed(&mut agent, &tamper, &before) {
            wrong.push(format!("{}: {why}", tamper.what));
        }
    }
    assert!(wrong.is_empty(), "{} forgeries:\n{}", wrong.len(), wrong.join("\n"));
    case.put(&case.original.archive, Some(&case.original.seal));
    assert_eq!(unlock(&mut agent).0, "ready", "the original is taken all the same");
    assert_ne!(case.place.shown(&case.board), before);
}

#[test]
fn sealed_into_docker_20() {
    sealed_on(Some(Kind::Docker20));
}

#[test]
fn sealed_into_docker_26() {
    sealed_on(Some(Kind::Docker26));
}

#[test]
fn sealed_into_docker_26_with_the_containerd_store() {
    sealed_on(Some(Kind::Docker26Containerd));
}

#[test]
fn sealed_into_a_directory() {
    sealed_on(None);
}

/// What becomes of a forgery that no seal stands against, as docs/SECURITY.md tells it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Caught,
    /// The padding is right by chance in one of 256 cases: then bytes follow the tar's end that nobody reads.
    MostlyCaught,
    Passes,
}

fn fate(what: &str) -> Fate {
    match what {
        // The images of another release of this fleet; bytes behind the tar's end that nobody reads.
        "an old archive with its old seal" | "an old archive with the new seal" | "the last chunk doubled" => {
            Fate::Passes
        }
        "16 bytes appended" | "1 MiB appended" => Fate::MostlyCaught,
        _ => Fate::Caught,
    }
}

fn unsealed_on(kind: Option<Kind>) {
    let cloud = cloud();
    let Some(case) = Case::new(kind, &cloud, "require_seal = \"never\"") else { return };
    let mut agent = case.board.start();
    agent.log_in(EMAIL);
    let mut wrong = Vec::new();
    // Without a seal the forgeries of seals are none.
    let is_forged = |tamper: &Tamper| tamper.archive != case.original.archive || tamper.lies != Lies::Whole;
    for tamper in all(&case.original).iter().filter(|tamper| is_forged(tamper)) {
        if matches!(case.place, Place::Directory) {
            // What an attempt before this one has verified stays for the next one, which then does not read it.
            fs::remove_dir_all(case.board.path("oci")).expect("it was there");
        }
        case.put(&case.original.old.0, None);
        assert_eq!(unlock(&mut agent).0, "ready");
        let before = case.place.shown(&case.board);
        let growth = tamper.put(&case.board.archive());
        let (code, answer) = unlock(&mut agent);
        drop(growth);
        let is_caught = ["wrong_key_or_damaged", "archive_cut", "archive_changed"].contains(&code.as_str());
        match fate(&tamper.what) {
            Fate::Caught | Fate::MostlyCaught if is_caught => {
                let shown = case.place.shown(&case.board);
                if shown != before {
                    wrong.push(format!("{}: the engine shows {shown:#?}", tamper.what));
                }
            }
            Fate::Passes | Fate::MostlyCaught if code == "ready" => {}
            _ => wrong.push(format!("{}: ends in {code}: {answer}", tamper.what)),
        }
    }
    assert!(wrong.is_empty(), "{} forgeries:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn unsealed_into_docker_20() {
    unsealed_on(Some(Kind::Docker20));
}

#[test]
fn unsealed_into_docker_26() {
    unsealed_on(Some(Kind::Docker26));
}

#[test]
fn unsealed_into_docker_26_with_the_containerd_store() {
    unsealed_on(Some(Kind::Docker26Containerd));
}

#[test]
fn unsealed_into_a_directory() {
    unsealed_on(None);
}
