//! The engine room on real engines: what is loaded is shown, what fails leaves nothing, what dies is waited for.
//!
//! One engine of each kind is started, and all cases run on it in sequence: what an earlier case left must not help or
//! hinder a later one.

mod support;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;

use azaion_loader::archive::{Archive, ArchiveError};
use azaion_loader::crypto::Fragment;
use azaion_loader::engine::{
    Engine, EngineAddress, EngineError, EngineStore, Expected, Gauge, LoadError, Order, Presence,
};
use azaion_loader::error::{Code, Explain as _};
use azaion_loader::net::{Client, tls, turn};
use serde_json::Value;
use smol::LocalExecutor;
use smol::future::{yield_now, zip};
use support::archive::{Image, Layout, Packed, archive, digest, encrypt, layer, pack};
use support::engine::Kind;
use tempfile::TempDir;

const FRAGMENT: &[u8] = b"a key fragment";

fn run<T>(future: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), future)
}

/// A tag, and the layers that must be shown under it.
type Shown = (String, Vec<String>);

fn engine_at(address: &EngineAddress) -> Engine {
    let tls = tls::client_config(None).expect("built-in roots");
    Engine::at(address, Rc::new(Client::new(tls)))
}

fn open(path: &Path, fragment: &[u8]) -> Archive {
    let key = Fragment::new(fragment.to_vec()).expect("1 to 4096 bytes").archive_key();
    run(Archive::open(path, key, &Cell::new(0))).expect("the archive opens")
}

/// The archives of `tests/fixtures/vectors`, with what must be shown of them: tag and `diff_ids`.
fn vectors() -> Vec<(Archive, Vec<Shown>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors");
    let told = std::fs::read(dir.join("archives.json")).expect("the vectors are part of the repository");
    let told: Vec<Value> = serde_json::from_slice(&told).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let one = |vector: &Value| {
        let hex = text(&vector["key_fragment_hex"]);
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        let fragment: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let image = |image: &Value| {
            let layers = image["diff_ids"].as_array().expect("a list").iter().map(text).collect();
            (text(&image["tag"]), layers)
        };
        let images = vector["images"].as_array().expect("a list").iter().map(image).collect();
        (open(&dir.join(text(&vector["file"])), &fragment), images)
    };
    told.iter().map(one).collect()
}

/// An archive on flash. The directory lives as long as the archive is read.
struct Made {
    archive: Archive,
    expected: Vec<Expected>,
    _dir: TempDir,
}

fn made(plain: &[u8]) -> Made {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("images.enc");
    std::fs::write(&path, encrypt(FRAGMENT, plain)).expect("it is written");
    let archive = open(&path, FRAGMENT);
    let expected = expected(&archive, EngineStore::Layout);
    Made { archive, expected, _dir: dir }
}

fn image(tags: &[&'static str], layers: &[(&str, Packed)]) -> Image {
    let layers = layers.iter().map(|(text, how)| (layer(&[("file", text.as_bytes())]), *how)).collect();
    Image { tags: tags.to_vec(), layers }
}

/// Bytes that do not compress, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(next).collect()
}

/// Counts what a load tells.
#[derive(Default)]
struct Counts {
    done: Cell<u64>,
    total: Cell<u64>,
}

impl Gauge for Counts {
    fn done(&self) -> &Cell<u64> {
        &self.done
    }

    fn expect_bytes(&self, bytes: u64) {
        self.total.set(bytes);
    }

    fn images(&self, _done: u32) {}
}

fn expected(archive: &Archive, store: EngineStore) -> Vec<Expected> {
    archive.images().iter().map(|image| Expected::of(image, store)).collect()
}

/// Loads and switches, as the agent does.
async fn load(engine: &Engine, archive: &Archive, gauge: &Counts) -> Result<(), LoadError> {
    load_by(engine, archive, gauge, 2).await
}

/// The same with so many images side by side.
async fn load_by(engine: &Engine, archive: &Archive, gauge: &Counts, at_once: usize) -> Result<(), LoadError> {
    let facts = engine.survey().await?;
    let expected = expected(archive, facts.store);
    let order = Order { store: facts.store, root: &facts.root_dir, brought: &[], at_once };
    engine.load(archive, &expected, &order, gauge).await?;
    engine.switch(&expected).await?;
    Ok(())
}

/// One engine under test.
struct Case {
    real: Arc<support::engine::Engine>,
    engine: Engine,
}

impl Case {
    fn load(&self, archive: &Archive) -> Result<(), LoadError> {
        let gauge = Counts::default();
        let loaded = run(load(&self.engine, archive, &gauge));
        if loaded.is_ok() {
            assert_eq!(gauge.done.get(), gauge.total.get());
            assert!(gauge.total.get() <= archive.tar_len());
        }
        loaded
    }

    fn confirm(&self, images: &[Expected]) -> Result<(), EngineError> {
        let seen = Cell::new(0);
        let confirmed = run(self.engine.confirm(images, |number| seen.set(number)));
        if confirmed.is_ok() {
            assert_eq!(seen.get() as usize, images.len());
        }
        confirmed
    }

    /// Every image of the engine, by the engine's own command.
    fn list(&self) -> BTreeSet<String> {
        let shown = self.real.docker(&["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]);
        shown.expect("docker images answers").lines().map(str::to_owned).collect()
    }

    fn layers(&self, tag: &str) -> Vec<String> {
        let shown = self.real.docker(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", tag]);
        serde_json::from_str(&shown.expect("docker image inspect answers")).expect("JSON")
    }

    fn told_by_survey(&self, kind: Kind) {
        let facts = run(self.engine.survey()).expect("it answers");
        let containerd = kind == Kind::Docker26Containerd;
        assert_eq!(facts.store, if containerd { EngineStore::Containerd } else { EngineStore::Classic });
        assert_eq!(facts.store.shows_only_what_is_whole(), !containerd);
        assert_eq!(facts.root_dir, self.real.dir().join("data"));
        let version = self.real.docker(&["version", "--format", "{{.Server.Version}}"]).expect("it answers");
        assert_eq!(facts.version.as_deref(), Some(version.trim()));
        assert!(facts.id.is_some_and(|id| !id.is_empty()));
        assert!(facts.api_version.is_some_and(|version| version.starts_with("1.")));
    }

    /// Both vectors, one after the other: the second moves the tags of the first.
    fn vectors_are_shown(&self) {
        for (archive, images) in vectors() {
            let expected = expected(&archive, EngineStore::Layout);
            let missing = Presence::Missing(images.iter().map(|(tag, _)| tag.clone()).collect());
            assert_eq!(run(self.engine.present(&expected)).expect("it answers"), missing);
            assert_eq!(self.confirm(&expected).expect_err("not there yet").code(), Code::EngineMismatch);
            self.load(&archive).expect("it loads");
            self.confirm(&expected).expect("it is there");
            assert_eq!(run(self.engine.present(&expected)).expect("it answers"), Presence::AllShown);
            for (tag, layers) in images {
                assert_eq!(self.layers(&tag), layers, "{tag}");
            }
        }
    }

    fn packed_and_untagged_are_shown(&self, kind: Kind) {
        for layout in [Layout::Classic, Layout::Oci] {
            for whole in [Packed::Plain, Packed::Gzip, Packed::Zstd] {
                let text = format!("{layout:?} {whole:?}");
                let packed = if kind == Kind::Docker20 { Packed::Gzip } else { Packed::Zstd };
                let images = [
                    image(&["test/packed:1", "test/packed:latest"], &[("base", Packed::Plain), (&text, packed)]),
                    image(&[], &[("base", Packed::Plain), ("untagged", Packed::Plain), (&text, Packed::Plain)]),
                ];
                let made = made(&pack(&archive(layout, &images), whole));
                assert!(self.confirm(&made.expected).is_err(), "{text}");
                self.load(&made.archive).unwrap_or_else(|error| panic!("{text}: {error:?}"));
                self.confirm(&made.expected).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            }
        }
    }

    /// The second image's layer has the right digest and is no tar: only the engine can find out, after it has taken
    /// the first image in. It says so inside HTTP 200.
    fn an_error_inside_200_leaves_the_list_as_it_was(&self, kind: Kind) {
        let mut good = image(&["test/half:1"], &[("good", Packed::Plain)]);
        if kind != Kind::Docker26Containerd {
            // A tag that is there already moves; the containerd store forgets what it meant.
            good.tags.push("azaion/annotations:1.0");
        }
        let untagged = image(&[], &[("untagged half", Packed::Plain)]);
        let bad = Image { tags: vec!["test/half:2"], layers: vec![(b"no tar".repeat(200), Packed::Plain)] };
        let mut half = vec![good, bad];
        if kind != Kind::Docker26Containerd {
            half.insert(0, untagged);
        }
        let before = self.list();
        for layout in [Layout::Classic, Layout::Oci] {
            let error = self.load(&made(&archive(layout, &half)).archive).expect_err("the engine refuses it");
            let LoadError::Engine(EngineError::LoadFailed { message }) = &error else { panic!("{error:?}") };
            assert!(message.len() > 5, "the engine's own words: {message}");
            assert_eq!(error.code(), Code::EngineFailed);
            assert_eq!(self.list(), before);
        }
    }

    /// A flipped bit in a layer: the agent finds out while the bytes pass, and the engine gets no end of the tar.
    fn unverified_bytes_leave_nothing(&self) {
        let content = b"content that a bit is flipped in";
        let good = image(&["test/flipped:1"], &[("good", Packed::Plain)]);
        let text = std::str::from_utf8(content).expect("text");
        for layout in [Layout::Classic, Layout::Oci] {
            let mut tar = archive(layout, &[good.clone(), image(&["test/flipped:2"], &[(text, Packed::Plain)])]);
            let at = tar.windows(content.len()).position(|window| window == content).expect("it is in there");
            tar[at] ^= 1;
            let before = self.list();
            let error = self.load(&made(&tar).archive).expect_err("the digest is another");
            assert!(matches!(error, LoadError::Archive(ArchiveError::Digest { .. })), "{error:?}");
            assert_eq!(self.list(), before);
        }
    }

    /// One image has its end marker and is being taken in when the next one turns out to be damaged: the load fails when
    /// the engine has ended with both, or the first would show up behind its clean-up.
    fn what_is_being_taken_in_is_waited_for_and_taken_back(&self) {
        let slow = layer(&[("noise", &noise(64 << 20))]);
        let (mut damaged, last) = (noise(1 << 20), b"the last words of a layer");
        damaged.extend_from_slice(last);
        let images = [
            Image { tags: vec!["test/slow:1"], layers: vec![(slow, Packed::Plain)] },
            Image { tags: vec!["test/damaged:1"], layers: vec![(layer(&[("noise", &damaged)]), Packed::Plain)] },
        ];
        let mut tar = archive(Layout::Oci, &images);
        let at = tar.windows(last.len()).position(|window| window == last).expect("it is in there");
        tar[at] ^= 1;
        let (before, began) = (self.list(), self.now());
        // One at a time: the large one first, the other one when its end marker is out.
        let loaded = run(load_by(&self.engine, &made(&tar).archive, &Counts::default(), 1));
        let error = loaded.expect_err("the digest is another");
        let ended = self.now();
        assert!(matches!(error, LoadError::Archive(ArchiveError::Digest { .. })), "{error:?}");
        assert_eq!(self.list(), before);
        let events = ["events", "--since", &began, "--until", &ended, "--format", "{{.Type}} {{.Action}}"];
        let events = self.real.docker(&events).expect("docker events answers");
        let acts: Vec<&str> = events.lines().collect();
        assert_eq!(acts, ["image load", "image delete"], "the slow image went in, and out again");
    }

    /// The engine's clock.
    fn now(&self) -> String {
        self.real.docker(&["info", "--format", "{{.SystemTime}}"]).expect("docker info answers").trim().to_owned()
    }

    fn an_engine_killed_in_mid_load_is_waited_for(&self) {
        let layers = vec![(layer(&[("noise", &noise(48 << 20))]), Packed::Plain)];
        let made = made(&archive(Layout::Classic, &[Image { tags: vec!["test/killed:1"], layers }]));
        let gauge = Counts::default();
        let done = &gauge.done;
        let killed = async {
            while done.get() < made.archive.tar_len() / 2 {
                yield_now().await;
            }
            // On the one thread: not a byte is sent while the engine dies.
            self.real.kill();
            let at = done.get();
            let real = Arc::clone(&self.real);
            smol::unblock(move || real.restart()).await;
            at
        };
        let (loaded, at) = run(zip(load(&self.engine, &made.archive, &gauge), killed));
        assert!(at < made.archive.tar_len(), "it died in the middle");
        loaded.expect("the load is repeated");
        self.confirm(&made.expected).expect("it is there");
        assert_eq!(
            self.layers("test/killed:1"),
            [format!("sha256:{}", digest(&layer(&[("noise", &noise(48 << 20))])))]
        );
    }

    fn a_killed_engine_is_unreachable(&self) {
        self.real.kill();
        let (archive, _) = vectors().pop().expect("there are vectors");
        let error = self.load(&archive).expect_err("nobody is there");
        assert_eq!(error.code(), Code::EngineUnreachable, "{error:?}");
        self.real.restart();
        self.load(&archive).expect("it is back, and a connection kept from before is no hindrance");
    }
}

fn on_a_real_engine(kind: Kind) {
    let real = match support::engine::Engine::start(kind) {
        Ok(real) => Arc::new(real),
        Err(reason) => return support::skip(&reason),
    };
    let engine = engine_at(&EngineAddress::Docker(real.socket()));
    let case = Case { real, engine };
    case.told_by_survey(kind);
    case.vectors_are_shown();
    case.packed_and_untagged_are_shown(kind);
    case.an_error_inside_200_leaves_the_list_as_it_was(kind);
    case.unverified_bytes_leave_nothing();
    case.what_is_being_taken_in_is_waited_for_and_taken_back();
    case.an_engine_killed_in_mid_load_is_waited_for();
    case.a_killed_engine_is_unreachable();
}

#[test]
fn docker_20() {
    on_a_real_engine(Kind::Docker20);
}

#[test]
fn docker_26_classic_store() {
    on_a_real_engine(Kind::Docker26);
}

#[test]
fn docker_26_containerd_store() {
    on_a_real_engine(Kind::Docker26Containerd);
}

#[test]
fn an_absent_socket_is_unreachable_at_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let engine = engine_at(&EngineAddress::Docker(dir.path().join("docker.sock")));
    let (archive, _) = vectors().pop().expect("there are vectors");
    let error = run(load(&engine, &archive, &Counts::default())).expect_err("nobody is there");
    assert!(matches!(error, LoadError::Engine(EngineError::Unreachable { .. })), "{error:?}");
    let error = run(engine.survey()).expect_err("nobody is there");
    assert_eq!(error.code(), Code::EngineUnreachable);
    assert!(!azaion_loader::error::chain(&error).contains("docker.sock"), "no path is told");
}

fn skopeo(args: &[&str]) -> Value {
    let output = Command::new("skopeo").arg("--insecure-policy").args(args).output().expect("skopeo runs");
    assert!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn a_directory_is_read_back_by_skopeo() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        return support::skip("skopeo is missing: apt-get install skopeo");
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = dir.path().join("images");
    let engine = engine_at(&EngineAddress::Directory(root.clone()));
    for (number, (archive, images)) in vectors().into_iter().enumerate() {
        let expected = expected(&archive, EngineStore::Layout);
        assert!(matches!(run(engine.present(&expected)), Ok(Presence::Missing(_))));
        run(load(&engine, &archive, &Counts::default())).expect("it loads");
        run(engine.confirm(&expected, |_| {})).expect("it is there");
        for (tag, layers) in images {
            let place = format!("oci:{}:{tag}", root.display());
            let config = skopeo(&["inspect", "--config", &place]);
            assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(layers), "{tag}");
            let copy = dir.path().join(format!("{number}-{}", tag.replace(['/', ':'], "-")));
            skopeo(&["copy", &place, &format!("dir:{}", copy.display())]);
            for layer in layers {
                let hex = layer.strip_prefix("sha256:").expect("a digest");
                assert_eq!(digest(&std::fs::read(copy.join(hex)).expect("the layer is copied")), hex);
            }
        }
    }
    // The second archive has taken the place of the first: three layers, two configs, two manifests.
    let blobs = std::fs::read_dir(root.join("blobs/sha256")).expect("readable").count();
    assert_eq!(blobs, 7);
}
