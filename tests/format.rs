//! `docs/FORMAT.md` holds: its worked examples are what the code makes, byte for byte, and `tests/tools/seal.py`, which was
//! written from that page alone, and the code take each other's seals and refuse the same.

#[path = "support/archive.rs"]
mod archive;
#[path = "support/sealing.rs"]
mod sealing;

use std::cell::Cell;
use std::fs;
use std::path::Path;

use archive::{Image, Layout, Packed};
use azaion_loader::archive::{Archive, File, Image as ArchiveImage, Sealed, Source};
use azaion_loader::crypto::{AesKey, Digest, Fragment, HmacSha256, Salts, Unsealer, sealed_len, small_len, unseal};
use azaion_loader::name::{Folder, ResourceName};
use azaion_loader::net::turn;
use azaion_loader::seal::{ArchiveClaim, ArchiveDraft, ResourceClaim, ResourceDraft, SealName, SealRefused};
use sealing::{Bench, CHUNK, FRAGMENT, hex, mutations, noise, said};
use smol::LocalExecutor;

fn run<T>(main: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), main)
}

/// One worked example: its rows, in order.
struct Example(Vec<(String, Vec<u8>)>);

impl Example {
    /// Reads the rows under this heading of the page.
    fn read(heading: &str) -> Self {
        let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/FORMAT.md")).expect("the page");
        let (_, after) = page.split_once(&format!("\n### {heading}\n")).expect("the heading");
        let section = after.split("\n### ").next().expect("a split has a first part");
        let mut rows: Vec<(String, Vec<u8>)> = Vec::new();
        for line in section.lines() {
            // Four columns of indent, twenty-four of name, then bytes.
            let Some(row) = line.strip_prefix("    ").filter(|row| row.len() > 24) else { continue };
            let (name, bytes) = row.split_at(24);
            let digits = |byte: &str| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2);
            let Some(bytes) = bytes.split(' ').map(digits).collect::<Option<Vec<u8>>>() else { continue };
            match (name.trim(), rows.last_mut()) {
                ("", Some((_, last))) => last.extend(bytes),
                (name, _) => rows.push((name.to_owned(), bytes)),
            }
        }
        Self(rows)
    }

    fn get(&self, name: &str) -> &[u8] {
        let (_, bytes) = self.0.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no row {name:?}"));
        bytes
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.get(name).try_into().unwrap_or_else(|_| panic!("{name} has another length"))
    }

    fn text(&self, name: &str) -> &str {
        std::str::from_utf8(self.get(name)).expect("UTF-8")
    }

    /// The bytes of the seal: all rows from its magic on.
    fn seal(&self) -> Vec<u8> {
        self.0.iter().skip_while(|(name, _)| name != "magic").flat_map(|(_, bytes)| bytes).copied().collect()
    }
}

fn images(archive: &[u8], key: AesKey) -> Vec<azaion_loader::seal::SealedImage> {
    let done = Cell::new(0);
    let archive = run(Archive::open_source(archive.to_vec(), key, &done)).expect("an archive that boards take");
    archive.images().iter().map(ArchiveImage::as_sealed).collect()
}

#[test]
fn the_worked_example_of_an_archive() {
    let example = Example::read("An archive");
    let fragment = || Fragment::new(example.get("key fragment").to_vec()).expect("short");
    let key = || fragment().archive_key();
    assert_eq!(example.get("key fragment"), FRAGMENT);
    assert!(key().matches(example.get("archive key")));
    let id = example.array("id");
    let mac_key = key().expand(&id, b"azaion-seal/1 archive mac");
    assert_eq!(hex(mac_key.expose()), hex(example.get("MAC key")));
    let content_key = key().expand(&id, b"azaion-seal/1 archive content");
    assert_eq!(hex(content_key.expose()), hex(example.get("content key")));

    let archive = example.get("images.enc");
    let content = example.get("content");
    let name: SealName = example.text("name").parse().expect("a name");
    let draft = ArchiveDraft {
        id,
        name: &name,
        version: u64::from_be_bytes(example.array("version")),
        length: archive.len() as u64,
        images: images(archive, key()),
        chunks: &[Digest::of(archive)],
        iv: content[..16].try_into().expect("longer than an IV"),
    };
    let seal = run(draft.seal(&key())).expect("within the bounds");
    assert_eq!(hex(&seal), hex(&example.seal()));

    // The tag is over what stands before it, under the key that the page shows.
    let (covered, tag) = seal.split_at(seal.len() - 32);
    let mut mac = HmacSha256::new(example.get("MAC key"));
    mac.update(covered);
    assert_eq!(mac.verify(tag), Ok(()));
    // And the text on the page is what is encrypted.
    let text = unseal(&AesKey::new(content_key), content.to_vec()).expect("it decrypts");
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/FORMAT.md")).expect("the page");
    assert!(page.contains(std::str::from_utf8(text.expose()).expect("JSON")));
}

#[test]
fn the_worked_example_of_a_resource() {
    let example = Example::read("A resource");
    let salts = Salts {
        hardware: String::new(),
        api: String::new(),
        resource: example.text("resource_salt").to_owned(),
        separator: String::new(),
    };
    let key = AesKey::from_text(&salts.resource_key());
    assert!(key.matches(example.get("resource key")));
    let id = example.array("id");
    assert_eq!(hex(key.expand(&id, b"azaion-seal/1 resource mac").expose()), hex(example.get("MAC key")));
    let (small, big) = (example.get("small"), example.get("big"));
    let sealed = [small, big].concat();
    assert_eq!(sealed.len() as u64, sealed_len(example.get("plain").len() as u64));
    assert_eq!(small.len() as u64, small_len(sealed.len() as u64));
    let (mut unsealer, mut plain) = (Unsealer::new(&key), Vec::new());
    unsealer.push(&sealed, &mut plain);
    unsealer.finish(&mut plain).expect("it decrypts");
    assert_eq!(plain, example.get("plain"));

    let folder = Folder::new(example.text("folder")).expect("a folder");
    let name = ResourceName::new(example.text("name")).expect("a name");
    let draft = ResourceDraft {
        id,
        version: u64::from_be_bytes(example.array("version")),
        folder: &folder,
        name: &name,
        small,
        big: big.len() as u64,
        chunks: &[Digest::of(big)],
    };
    assert_eq!(hex(&run(draft.seal(&key)).expect("within the bounds")), hex(&example.seal()));
}

/// Tars of both layouts, small, and one that has several chunks.
fn tars() -> Vec<(&'static str, Vec<u8>)> {
    let layer = |seed, len| archive::layer(&[("etc/tool", &noise(seed, len))]);
    let two = |how| {
        vec![
            Image { tags: vec!["azaion/one:1", "azaion/one:latest"], layers: vec![(layer(1, 9000), how)] },
            Image { tags: vec![], layers: vec![(layer(1, 9000), how), (layer(2, 100), how)] },
        ]
    };
    let large = vec![Image { tags: vec!["azaion/large:1"], layers: vec![(layer(3, 5 * CHUNK), Packed::Plain)] }];
    vec![
        ("classic", archive::archive(Layout::Classic, &two(Packed::Plain))),
        ("oci with gzip", archive::archive(Layout::Oci, &two(Packed::Gzip))),
        ("oci with zstd", archive::archive(Layout::Oci, &two(Packed::Zstd))),
        ("large", archive::archive(Layout::Classic, &large)),
    ]
}

fn opened(bench: &Bench, archive: &str) -> Result<Archive, String> {
    let fragment = || Fragment::new(FRAGMENT.to_vec()).expect("short");
    let seal = bench.read(&format!("{archive}.seal"));
    run(async {
        let claim = ArchiveClaim::parse(seal).map_err(|refused| refused.to_string())?;
        let seal = claim.authenticate(&fragment().archive_key()).await.map_err(|refused| refused.to_string())?;
        let file = File::open(&bench.path(archive)).await.map_err(|error| error.to_string())?;
        let sealed = Sealed::new(file, seal).map_err(|error| error.to_string())?;
        let source = Source::Sealed(Box::new(sealed));
        let opened = Archive::open_source(source, fragment().archive_key(), &Cell::new(0)).await;
        opened.map_err(|error| error.to_string())
    })
}

/// Opens a sealed archive as a board does and reads all of it.
fn board_takes(bench: &Bench, archive: &str) -> Result<(), String> {
    let archive = opened(bench, archive)?;
    let mut tar = archive.tar();
    run(async {
        while tar.next().await.map_err(|error| error.to_string())?.is_some() {}
        Ok(())
    })
}

#[test]
fn what_seal_py_makes_the_code_takes() {
    for (name, tar) in tars() {
        let bench = Bench::new();
        bench.write("tar", &tar);
        let made =
            ["seal", "--key-fragment", "key", "--name", "images", "--version", "7", "--tar", "tar", "--out", "a"];
        let made = bench.seal_py(&made);
        assert!(made.status.success(), "{name}: {}", said(&made));
        board_takes(&bench, "a").unwrap_or_else(|refused| panic!("{name}: {refused}"));
        let verified = bench.verify("a");
        assert!(verified.status.success(), "{name}: {}", said(&verified));
    }
}

#[test]
fn what_the_code_makes_seal_py_takes() {
    for (name, tar) in tars() {
        let bench = Bench::new();
        bench.write("tar", &tar);
        bench.seal("tar", "a");
        let taken = bench.seal_py(&["verify", "--key-fragment", "key", "a"]);
        assert!(taken.status.success(), "{name}: {}", said(&taken));
        if name == "classic" {
            assert!(said(&taken).contains(r#""version": 7"#) && said(&taken).contains("azaion/one:latest"));
        }
        board_takes(&bench, "a").unwrap_or_else(|refused| panic!("{name}: {refused}"));
    }
}

#[test]
fn both_refuse_every_mutation() {
    let bench = Bench::new();
    let mut tars = tars().into_iter();
    let (_, other) = tars.next().expect("several");
    let (_, large) = tars.next_back().expect("several");
    for (name, tar) in [("other", other), ("a", large)] {
        bench.write("tar", &tar);
        bench.seal("tar", name);
    }
    let all = mutations(&bench.read("a"), &bench.read("a.seal"), &bench.read("other.seal"));
    println!("{} mutations", all.len());
    for (name, archive, seal) in all {
        bench.write("a", &archive);
        bench.write("a.seal", &seal);
        assert!(board_takes(&bench, "a").is_err(), "the code takes {name}");
        let peer = bench.seal_py(&["verify", "--key-fragment", "key", "a"]);
        assert!(!peer.status.success(), "seal.py takes {name}");
        assert!(peer.stdout.is_empty() && said(&peer).starts_with("refused: "), "{name}: {}", said(&peer));
    }
}

/// A resource as it lies at API and CDN.
struct Resource {
    salts: Salts,
    folder: Folder,
    name: ResourceName,
}

impl Resource {
    fn new() -> Self {
        let salts =
            Salts { hardware: String::new(), api: String::new(), resource: "a salt".into(), separator: String::new() };
        let folder = Folder::new("models").expect("a folder");
        Self { salts, folder, name: ResourceName::new("détecteur 1.onnx").expect("a name") }
    }

    /// Checks the three files that lie in `dir`, in the order of the page.
    fn takes(&self, dir: &Path) -> Result<(), String> {
        let read = |end: &str| fs::read(dir.join(format!("{}.{end}", self.name.as_str()))).expect("there");
        let key = AesKey::from_text(&self.salts.resource_key());
        let refused = |refused: SealRefused| refused.to_string();
        let claim = ResourceClaim::parse(read("seal")).map_err(refused)?;
        let seal = run(claim.authenticate(&key, &self.folder, &self.name)).map_err(refused)?;
        if !seal.fits_small(&read("small")) {
            return Err("small part".into());
        }
        let (big, chunks) = (read("big"), seal.big());
        if big.len() as u64 != chunks.length() {
            return Err("length".into());
        }
        let step = usize::try_from(chunks.chunk_bytes()).expect("a chunk fits");
        if !big.chunks(step).map(Digest::of).eq(chunks.iter()) {
            return Err("chunks".into());
        }
        Ok(())
    }

    fn peer(&self, bench: &Bench, command: &str, more: &[&str]) -> std::process::Output {
        let fixed =
            [command, "--resource-salt", "a salt", "--folder", self.folder.as_str(), "--name", self.name.as_str()];
        bench.seal_py(&[&fixed, more].concat())
    }
}

#[test]
fn resources_of_seal_py_are_taken_and_every_mutation_of_them_is_refused_by_both() {
    let (bench, resource) = (Bench::new(), Resource::new());
    for len in [0, 7, 3000, 20_000, 2 * CHUNK + 3072 - 32, 3 * CHUNK] {
        let plain = noise(5, len);
        bench.write("plain", &plain);
        let made = resource.peer(&bench, "resource-seal", &["--version", "3", "--plain", "plain", "--out", "."]);
        assert!(made.status.success(), "{len}: {}", said(&made));
        resource.takes(bench.dir()).unwrap_or_else(|refused| panic!("{len}: {refused}"));
        let back = resource.peer(&bench, "resource-verify", &["."]);
        assert!(back.status.success() && back.stdout == plain, "{len}: {}", said(&back));
    }
    let file = |end: &str| format!("{}.{end}", resource.name.as_str());
    let seal = bench.read(&file("seal"));
    let last_of_big = bench.read(&file("big")).len() - 1;
    let fields = [0, 8, 9, 10, 11, 20, 51, 59, 61, 70, 94, seal.len() - 33, seal.len() - 1];
    let in_seal = fields.into_iter().map(|at| ("seal", at));
    for (end, at) in in_seal.chain([("small", 0), ("small", 3071), ("big", 0), ("big", CHUNK), ("big", last_of_big)]) {
        let whole = bench.read(&file(end));
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        for changed in [&flipped[..], &whole[..at], &[&whole[..], b"x"].concat()] {
            bench.write(&file(end), changed);
            assert!(resource.takes(bench.dir()).is_err(), "the code takes {end} changed at {at}");
            let peer = resource.peer(&bench, "resource-verify", &["."]);
            assert!(!peer.status.success() && peer.stdout.is_empty(), "seal.py takes {end} changed at {at}");
        }
        bench.write(&file(end), &whole);
    }
    // It is the seal of this name in this folder.
    for (folder, name) in [("", "détecteur 1.onnx"), ("models", "detector"), ("model", "sdétecteur 1.onnx")] {
        let other = Resource {
            folder: Folder::new(folder).expect("one"),
            name: ResourceName::new(name).expect("one"),
            ..Resource::new()
        };
        for end in ["small", "big", "seal"] {
            bench.write(&format!("{name}.{end}"), &bench.read(&file(end)));
        }
        assert!(other.takes(bench.dir()).is_err(), "{folder} {name}");
        assert!(!other.peer(&bench, "resource-verify", &["."]).status.success(), "{folder} {name}");
    }
}

// What this file leaves out of the shared module is not dead.
const _: fn() = || {
    let _ = archive::encrypt;
};
