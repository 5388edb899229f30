//! The publisher's commands, with the real binary: what `seal` makes is good, appears whole or not at all, and whatever
//! becomes of it afterwards `verify` finds.

#[path = "support/archive.rs"]
mod archive;
#[path = "support/sealing.rs"]
mod sealing;

use std::fs;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use archive::{Image, Layout, Packed};
use sealing::{Bench, CHUNK, hex, mutations, noise, said};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What no one without a key may read.
const TAG: &str = "azaion/secret-suite:1";

fn images(how: Packed, len: usize) -> Vec<Image> {
    let layer = |seed, len| (archive::layer(&[("opt/suite", &noise(seed, len))]), how);
    vec![
        Image { tags: vec![TAG], layers: vec![layer(1, 7000), layer(2, len)] },
        Image { tags: vec!["azaion/other:1"], layers: vec![layer(1, 7000)] },
    ]
}

fn tar(layout: Layout, how: Packed, len: usize) -> Vec<u8> {
    archive::archive(layout, &images(how, len))
}

/// A tar whose archive has five chunks, the last one shorter.
fn large() -> Vec<u8> {
    tar(Layout::Classic, Packed::Plain, 4 * CHUNK + 5000)
}

fn json_of(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

fn with_stdin(bench: &Bench, args: &[&str], input: &[u8]) -> std::process::Output {
    let mut child = start(bench, args);
    let mut stdin = child.stdin.take().expect("it was piped");
    // One that refuses early closes its end.
    let _may_have_refused = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn start(bench: &Bench, args: &[&str]) -> Child {
    let mut command = bench.loader(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

const SEAL: [&str; 5] = ["seal", "--key-fragment", "key", "--out", "a"];

#[test]
fn a_tar_becomes_an_archive_that_verifies_by_file_and_by_pipe() {
    for (layout, how) in [
        (Layout::Classic, Packed::Plain),
        (Layout::Oci, Packed::Plain),
        (Layout::Oci, Packed::Gzip),
        (Layout::Oci, Packed::Zstd),
    ] {
        let plain = tar(layout, how, 3 * CHUNK);
        for whole in [Packed::Plain, Packed::Gzip, Packed::Zstd] {
            let bench = Bench::new();
            let packed = archive::pack(&plain, whole);
            bench.write("tar", &packed);
            let made = bench.run(&["seal", "--key-fragment", "key", "--version", "42", "--out", "a", "tar"]);
            assert!(made.status.success(), "{layout:?} {how:?} {whole:?}: {}", said(&made));
            let piped = with_stdin(&bench, &["seal", "--key-fragment", "key", "--out", "b", "-"], &packed);
            assert!(piped.status.success(), "{layout:?} {how:?} {whole:?}: {}", said(&piped));
            assert_eq!(bench.names(), ["a", "a.seal", "b", "b.seal", "tar"]);
            assert_ne!(bench.read("a")[..16], bench.read("b")[..16], "an IV is drawn for each archive");
            for archive in ["a", "b"] {
                let good = bench.run(&["verify", "--key-fragment", "key", "--json", archive]);
                assert!(good.status.success(), "{}", said(&good));
                let good = json_of(&good);
                assert_eq!(good["images"][0]["tags"], json!([TAG]));
                assert_eq!(good["images"][0]["layers"].as_array().map(Vec::len), Some(2));
                assert_eq!((&good["sealed"], &good["name"]), (&json!(true), &json!("images")));
                assert_eq!(good["tar_bytes"], plain.len());
            }
            let version = |archive| json_of(&bench.run(&["inspect", "--json", archive]))["version"].as_u64();
            assert_eq!(version("a"), Some(42));
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
            assert!(version("b").is_some_and(|version| (now - 300..=now).contains(&version)), "seconds since 1970");
        }
    }
}

#[test]
fn an_archive_that_is_there_is_sealed_as_it_is() {
    let bench = Bench::new();
    let bytes = archive::encrypt(sealing::FRAGMENT, &large());
    bench.write("a", &bytes);
    let unsealed = bench.verify("a");
    assert!(unsealed.status.success() && said(&unsealed).contains("good, unsealed"), "{}", said(&unsealed));
    let args = ["seal", "--key-fragment", "key", "--existing", "a", "--name", "suite"];
    assert!(bench.run(&args).status.success());
    assert_eq!(bench.names(), ["a", "a.seal"]);
    assert!(bench.read("a") == bytes, "not a byte of it is changed");
    assert!(said(&bench.verify("a")).contains("sealed as suite version"));
    // Only what would load is sealed, and only with the key that fits.
    let again = bench.run(&args);
    assert!(!again.status.success() && said(&again).contains("a.seal is there already"), "{}", said(&again));
    bench.write("other", b"another key");
    let wrong = bench.run(&["seal", "--key-fragment", "other", "--existing", "a", "--force"]);
    assert!(!wrong.status.success() && said(&wrong).contains("the key does not fit"), "{}", said(&wrong));
    let seal = bench.read("a.seal");
    let mut damaged = bytes.clone();
    damaged[3 * CHUNK] ^= 1;
    bench.write("a", &damaged);
    let refused = bench.run(&[&args[..], &["--force"]].concat());
    assert!(!refused.status.success() && said(&refused).contains("must have the digest"), "{}", said(&refused));
    assert_eq!(bench.read("a.seal"), seal, "the old seal stays");
}

#[test]
fn what_boards_would_not_load_is_not_sealed() {
    let plain = large();
    // Packed so that names and digests agree, and only what it unfolds to is another layer than the config names.
    let (one, other) = (archive::layer(&[("f", b"one")]), archive::layer(&[("f", b"other")]));
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", archive::digest(&one))]}});
    let config = config.to_string();
    let blob = archive::pack(&other, Packed::Gzip);
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", archive::digest(bytes));
    let names = [path(&blob), path(config.as_bytes())];
    let manifest = json!([{"Config": names[1], "Layers": [names[0]]}]).to_string();
    let files = [(&*names[0], &blob[..]), (&*names[1], config.as_bytes()), ("manifest.json", manifest.as_bytes())];
    let swapped = archive::layer(&files);
    let mut damaged = plain.clone();
    damaged[2 * CHUNK] ^= 1;
    for (what, input, why) in [
        ("nothing", Vec::new(), "the tar is not one that boards load"),
        ("text", b"no tar at all, ".repeat(5000), "the content is no tar, gzip or zstd"),
        ("a tar of something else", archive::layer(&[("f", b"x")]), "neither manifest.json nor index.json"),
        ("a cut tar", plain[..plain.len() / 2].to_vec(), "cut"),
        ("a damaged layer", damaged, "must have the digest"),
        ("a layer that unfolds to another", swapped, "must have the digest"),
        ("xz", [b"\xfd7zXZ\0", &noise(1, 5000)[..]].concat(), "compressed with xz"),
    ] {
        let bench = Bench::new();
        let refused = with_stdin(&bench, &SEAL, &input);
        assert_eq!(refused.status.code(), Some(1), "{what}: {}", said(&refused));
        assert!(said(&refused).contains(why) && said(&refused).contains("\nnext: "), "{what}: {}", said(&refused));
        assert!(bench.names().is_empty(), "{what} leaves {:?}", bench.names());
    }
}

#[test]
fn files_that_are_there_are_replaced_by_force_alone() {
    let bench = Bench::new();
    for there in ["a", "a.seal"] {
        bench.write(there, b"old");
        let refused = with_stdin(&bench, &SEAL, &large());
        let why = format!("{there} is there already");
        assert!(!refused.status.success() && said(&refused).contains(&why), "{}", said(&refused));
        assert_eq!((bench.names(), bench.read(there)), (vec![there.to_owned()], b"old".into()));
        fs::remove_file(bench.path(there)).expect("removed");
    }
    bench.write("a", b"old");
    bench.write("a.seal", b"old");
    bench.write("a.seal.minisig", b"old");
    let failed = with_stdin(&bench, &[&SEAL[..], &["--force"]].concat(), b"no tar");
    assert!(!failed.status.success());
    assert_eq!((bench.read("a"), bench.read("a.seal")), (b"old".into(), b"old".into()), "what failed changes nothing");
    let forced = with_stdin(&bench, &[&SEAL[..], &["--force"]].concat(), &large());
    assert!(forced.status.success() && said(&forced).contains("signs an earlier seal"), "{}", said(&forced));
    assert!(bench.verify("a").status.success());
}

#[test]
fn a_key_fragment_has_1_to_4096_bytes_and_is_its_owners() {
    let bench = Bench::new();
    bench.write("tar", &large());
    for (len, good) in [(0, false), (1, true), (4096, true), (4097, false)] {
        bench.write("fragment", &vec![b'x'; len]);
        let made = bench.run(&["seal", "--key-fragment", "fragment", "--force", "--out", "a", "tar"]);
        assert_eq!(made.status.success(), good, "{len}: {}", said(&made));
        assert!(said(&made).contains("warning: others can read the key fragment"), "{}", said(&made));
    }
    let quiet = bench.run(&["seal", "--key-fragment", "key", "--out", "b", "tar"]);
    assert!(quiet.stderr.is_empty(), "{}", said(&quiet));
    let missing = bench.run(&["verify", "--key-fragment", "none", "b"]);
    assert!(!missing.status.success() && said(&missing).contains("read the key fragment none"), "{}", said(&missing));
}

/// Feeds a tar into a running `seal` until it has taken more than the pipe holds.
fn fed(bench: &Bench, args: &[&str]) -> (Child, ChildStdin) {
    let mut child = start(bench, args);
    let mut stdin = child.stdin.take().expect("it was piped");
    // A pipe holds 64 KiB, so that nearly all of it was read when this returns; the tar is not at its end.
    stdin.write_all(&tar(Layout::Classic, Packed::Plain, 16 << 20)[..8 << 20]).expect("it reads");
    (child, stdin)
}

#[test]
fn an_interrupted_run_leaves_the_old_files_and_nothing_else() {
    // Not SIGINT: what a shell starts in the background inherits it ignored.
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::TERM] {
        let bench = Bench::new();
        let (mut child, stdin) = fed(&bench, &SEAL);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("it runs");
        assert!(!child.wait().expect("it ends").success());
        drop(stdin);
        assert!(bench.names().is_empty(), "{signal:?} leaves {:?}", bench.names());

        bench.write("a", b"old");
        bench.write("a.seal", b"old");
        let (mut child, stdin) = fed(&bench, &[&SEAL[..], &["--force"]].concat());
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("it runs");
        assert!(!child.wait().expect("it ends").success());
        drop(stdin);
        assert_eq!(bench.names(), ["a", "a.seal"], "{signal:?}");
        assert_eq!((bench.read("a"), bench.read("a.seal")), (b"old".into(), b"old".into()));
    }
}

#[test]
fn verify_finds_every_mutation_and_inspect_says_which_chunks() {
    let bench = Bench::new();
    bench.write("tar", &large());
    bench.seal("tar", "a");
    bench.write("tar", &tar(Layout::Oci, Packed::Zstd, 100));
    bench.seal("tar", "other");
    let (archive, seal) = (bench.read("a"), bench.read("a.seal"));
    assert!(bench.verify("a").status.success());
    let all = mutations(&archive, &seal, &bench.read("other.seal"));
    assert!(all.len() > 40, "{}", all.len());
    for (name, archive, seal) in all {
        bench.write("a", &archive);
        bench.write("a.seal", &seal);
        let found = bench.run(&["verify", "--key-fragment", "key", "--json", "a"]);
        assert_eq!(found.status.code(), Some(1), "{name}: {}", said(&found));
        let found = json_of(&found);
        assert!(found["ok"] == false && found["next"].as_str().is_some_and(|next| !next.is_empty()), "{name}: {found}");
        if name.starts_with("a bit flipped in") || name.starts_with("two chunks") {
            let chunks = found["damaged_chunks"].clone();
            let wanted = match &*name {
                "a bit flipped in the IV" | "a bit flipped in the first chunk" => json!([0]),
                "a bit flipped in a middle chunk" => json!([2]),
                "two chunks swapped" => json!([0, 1]),
                _ => json!([4]),
            };
            assert_eq!(chunks, wanted, "{name}");
            // Without a key too.
            let inspected = bench.run(&["inspect", "--chunks", "--json", "a"]);
            assert_eq!(inspected.status.code(), Some(1), "{name}");
            assert_eq!(json_of(&inspected)["archive"]["damaged_chunks"], wanted, "{name}");
        }
    }
}

#[test]
fn every_layer_of_an_unsealed_archive_is_checked() {
    for (layout, how) in [(Layout::Classic, Packed::Plain), (Layout::Oci, Packed::Gzip), (Layout::Oci, Packed::Zstd)] {
        let bench = Bench::new();
        let plain = tar(layout, how, 9000);
        let layer = archive::pack(&images(how, 9000)[0].layers[1].0, how);
        let at = plain.windows(layer.len()).position(|window| window == layer).expect("it lies there");
        for place in [at, at + layer.len() / 2, at + layer.len() - 1] {
            let mut damaged = plain.clone();
            damaged[place] ^= 1;
            bench.write("a", &archive::encrypt(sealing::FRAGMENT, &damaged));
            let found = bench.verify("a");
            assert_eq!(found.status.code(), Some(1), "{layout:?} {how:?}: {}", said(&found));
        }
    }
}

#[test]
fn a_publisher_s_signature_is_required_where_a_key_is_given() {
    let bench = Bench::new();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/FORMAT.md")).expect("the page");
    let (_, page) = page.split_once("### An archive").expect("the example");
    let (page, _) = page.split_once("### A resource").expect("the next one");
    // The bytes under a name of the worked example: what stands behind 28 columns, until the next name.
    let rows = |from: &str, to: &str| -> Vec<u8> {
        let (_, rest) = page.split_once(&format!("\n    {from:<24}")).expect(from);
        let rows = rest.split_once(to).expect(to).0;
        let bytes = rows.lines().flat_map(|line| line.get(line.len().saturating_sub(47)..).unwrap_or(line).split(' '));
        bytes.filter_map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2)).collect()
    };
    bench.write("a", &rows("images.enc", "\n\nIts seal"));
    bench.write("a.seal", &rows("magic", "\n\nThe content"));
    let fixture = |name: &str| fs::read(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).expect(name);
    bench.write("publisher.pub", &fixture("format.pub"));
    assert!(bench.verify("a").status.success(), "{} {}", said(&bench.verify("a")), hex(&bench.read("a.seal")));
    let key = String::from_utf8(fixture("format.pub")).expect("text").lines().nth(1).expect("a key").to_owned();
    let verify = |key: &str| bench.run(&["verify", "--key-fragment", "key", "--publisher-key", key, "a"]);
    let refused = verify(&key);
    assert!(!refused.status.success() && said(&refused).contains("the signature a.seal.minisig"), "{}", said(&refused));
    let signature = fixture("format.seal.minisig");
    bench.write("a.seal.minisig", &signature);
    for key in [&*key, "publisher.pub"] {
        let good = verify(key);
        assert!(good.status.success() && said(&good).contains("signed by the publisher"), "{}", said(&good));
    }
    let stranger = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    assert!(!verify(stranger).status.success());
    let both = ["verify", "--key-fragment", "key", "--publisher-key", stranger, "--publisher-key", &key, "a"];
    assert!(bench.run(&both).status.success(), "one of several is enough");
    assert_eq!(verify("no key").status.code(), Some(2));
    // Of this seal and no other: its tag is right, but it was never signed.
    assert!(bench.run(&["seal", "--key-fragment", "key", "--force", "--existing", "a"]).status.success());
    let unsigned = verify(&key);
    assert!(!unsigned.status.success() && said(&unsigned).contains("not of this seal"), "{}", said(&unsigned));
    assert!(bench.verify("a").status.success());
}

#[test]
fn inspect_without_a_key_shows_claims_and_no_image() {
    let bench = Bench::new();
    bench.write("tar", &large());
    bench.seal("tar", "a");
    for args in
        [&["inspect", "a"][..], &["inspect", "a.seal"], &["inspect", "--chunks", "a"], &["inspect", "--json", "a"]]
    {
        let shown = bench.run(args);
        assert!(shown.status.success(), "{args:?}: {}", said(&shown));
        assert!(!said(&shown).contains("secret-suite"), "{args:?}");
    }
    assert!(said(&bench.run(&["inspect", "a"])).contains("nothing of it is proved"));
    assert!(said(&bench.run(&["inspect", "--chunks", "a"])).contains("a has the chunks that are listed"));
    let proved = bench.run(&["inspect", "--key-fragment", "key", "a"]);
    assert!(proved.status.success() && said(&proved).contains(TAG), "{}", said(&proved));
    assert!(said(&proved).contains("authentic: yes"));
    bench.write("other", b"another key");
    let wrong = bench.run(&["inspect", "--key-fragment", "other", "a"]);
    assert!(wrong.status.code() == Some(1) && said(&wrong).contains("authentic: no"), "{}", said(&wrong));
    assert!(!said(&wrong).contains(TAG));
    fs::remove_file(bench.path("a")).expect("removed");
    let alone = bench.run(&["inspect", "a.seal"]);
    assert!(alone.status.success() && said(&alone).contains("a is not there"), "{}", said(&alone));
}

/// A tar with one layer of `len` bytes, written as it is made; the digests are known only at the end, where they stand.
fn stream(out: impl Write, len: u64) -> io::Result<()> {
    struct Hashed<R>(R, Sha256);
    impl<R: Read> Read for Hashed<R> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.0.read(buf)?;
            self.1.update(&buf[..n]);
            Ok(n)
        }
    }
    let mut tar = tar::Builder::new(out);
    let mut file = |name: &str, len: u64, content: &mut dyn Read| {
        let mut header = tar::Header::new_gnu();
        header.set_size(len);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content)
    };
    let mut layer = Hashed(io::repeat(b'x').take(len), Sha256::new());
    file("layer.tar", len, &mut layer)?;
    let config = json!({"rootfs": {"diff_ids": [format!("sha256:{}", hex(&layer.1.finalize()))]}}).to_string();
    file("config.json", config.len() as u64, &mut config.as_bytes())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [TAG], "Layers": ["layer.tar"]}]).to_string();
    file("manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
    tar.into_inner()?.flush()
}

/// Runs a command and says on the last line of standard error how many KiB of memory it had at most (getrusage(2)).
const MEASURED: &str = "import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)";

/// The most memory that the binary has had with these arguments, in KiB; `feed` writes to its standard input.
fn peak(bench: &Bench, args: &[&str], feed: impl FnOnce(ChildStdin) + Send + 'static) -> u64 {
    let mut command = Command::new("python3");
    command.args(["-c", MEASURED]).arg(sealing::binary()).args(args).current_dir(bench.dir());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("python3 is there");
    let stdin = child.stdin.take().expect("it was piped");
    let feeder = std::thread::spawn(move || feed(stdin));
    let ended = child.wait_with_output().expect("it ends");
    feeder.join().expect("all of it was taken");
    assert!(ended.status.success(), "{}", said(&ended));
    let said = String::from_utf8_lossy(&ended.stderr);
    said.lines().last().and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("no number: {said}"))
}

#[test]
fn half_a_gigabyte_is_sealed_and_verified_in_constant_memory() {
    let bench = Bench::new();
    let sealed = peak(&bench, &SEAL, |stdin| {
        stream(io::BufWriter::with_capacity(1 << 20, stdin), 512 << 20).expect("it reads to the end");
    });
    let verified = peak(&bench, &["verify", "--key-fragment", "key", "a"], drop);
    println!("peak: seal {sealed} KiB, verify {verified} KiB");
    assert!(sealed < 24 * 1024, "seal: {sealed} KiB");
    assert!(verified < 24 * 1024, "verify: {verified} KiB");
}
