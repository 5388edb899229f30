//! Archives for the boards: the contract's vectors, and archives of any size made from this machine's files.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use azaion_cloud::archive::{self, Image, Layer, Layout, Made};
use serde_json::Value;

use crate::harness::FRAGMENT;

/// One of the contract's archives: its file, its key fragment, and the images in it.
pub(crate) struct Vector {
    pub(crate) path: PathBuf,
    pub(crate) fragment: Vec<u8>,
    pub(crate) images: Vec<Made>,
}

/// The contract's archives, classic and OCI.
pub(crate) fn vectors() -> Vec<Vector> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors");
    let list = std::fs::read(dir.join("archives.json")).expect("the fixture is there");
    let list: Vec<Value> = serde_json::from_slice(&list).expect("it is JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    list.iter()
        .map(|case| Vector {
            path: dir.join(text(&case["file"])),
            fragment: unhex(&text(&case["key_fragment_hex"])),
            images: case["images"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|image| Made {
                    tags: vec![text(&image["tag"])],
                    config: text(&image["config_digest"]),
                    diff_ids: image["diff_ids"].as_array().expect("a list").iter().map(text).collect(),
                })
                .collect(),
        })
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

/// What every sample's files hold, so that plaintext can be searched for.
pub(crate) const MARKER: &[u8] = b"plaintext-marker-7d1f3c9a-do-not-write-me-to-flash";

/// Two small images that share a layer; `salt` makes archives differ.
pub(crate) fn small(layout: Layout, salt: &str) -> Vec<Image> {
    let file = |path: &str, text: String| (path.to_owned(), 0o644, text.into_bytes());
    let marker = std::str::from_utf8(MARKER).expect("it is text");
    let base = Layer::Files(vec![file("etc/os-release", format!("NAME=sample\n{marker}\n{salt}\n"))]);
    let image = |name: &str| Image {
        tags: vec![format!("azaion/{name}:1.0")],
        layers: vec![
            base.clone(),
            Layer::Files(vec![file("srv/app", format!("{layout:?} {name} {salt}\n").repeat(900))]),
        ],
        command: vec!["/srv/app".into()],
    };
    vec![image("annotations"), image("detections")]
}

/// Writes an encrypted archive of `images` to `path` under [`FRAGMENT`].
pub(crate) fn write(path: &Path, layout: Layout, images: &[Image]) -> Vec<Made> {
    write_packed(path, layout, images, |plain, packed| {
        std::fs::rename(plain, packed).expect("renamed");
    })
}

/// The same, with the whole tar packed first.
pub(crate) fn write_packed(path: &Path, layout: Layout, images: &[Image], pack: impl Fn(&Path, &Path)) -> Vec<Made> {
    let scratch = tempfile::tempdir_in(path.parent().expect("in a directory")).expect("a temporary directory");
    let tar = scratch.path().join("plain.tar");
    let out = BufWriter::new(File::create(&tar).expect("created"));
    let made = archive::write(layout, images, scratch.path(), out).expect("written");
    let packed = scratch.path().join("packed");
    pack(&tar, &packed);
    let plain = BufReader::new(File::open(&packed).expect("just written"));
    archive::encrypt(FRAGMENT, plain, BufWriter::new(File::create(path).expect("created"))).expect("encrypted");
    made
}

/// One image whose bytes do not compress, `size` of them in four layers, so that a load takes its time.
pub(crate) fn large(size: usize) -> Vec<Image> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = |len: usize| {
        let mut bytes = Vec::with_capacity(len + 8);
        bytes.extend_from_slice(MARKER);
        while bytes.len() < len {
            // xorshift64*: noise, not secrecy.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        bytes
    };
    let layers = (0..4).map(|i| Layer::Files(vec![(format!("srv/noise-{i}"), 0o644, noise(size / 4))])).collect();
    vec![Image { tags: vec!["azaion/large:1.0".into()], layers, command: vec!["/srv/app".into()] }]
}
