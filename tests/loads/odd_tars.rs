//! Tars that are odd, the archive's own and the layers': long names, links in place of layers, files with holes.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::bench::{Bench, Findings};
use crate::packs::{Entry, Member, classic, gnu_tar, members, place};
use crate::support;
use crate::support::archive::{digest, layer};
use crate::support::engine::Kind;

fn utf8(path: &Path) -> &str {
    path.to_str().expect("a temporary directory has a name in UTF-8")
}

/// Files whose names need more than a header's 100 bytes, more than its 255, and other scripts.
fn long_names(dir: &Path) {
    let deep = format!("{}/{}/{}", "d".repeat(120), "э".repeat(100), "f".repeat(90));
    for name in ["x".repeat(101), "y".repeat(255), "ж".repeat(127), "имя с пробелом".into(), format!("{deep}/файл")]
    {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("in a directory")).expect("made");
        fs::write(path, b"under a long name").expect("written");
    }
    let target = format!("{deep}/файл");
    std::os::unix::fs::symlink(target, dir.join("l".repeat(150))).expect("linked");
    fs::hard_link(dir.join(format!("{deep}/файл")), dir.join("h".repeat(200))).expect("linked");
}

fn long_names_in_a_layer(bench: &Bench, findings: &mut Findings) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    long_names(dir.path());
    for format in ["gnu", "posix"] {
        let tar = gnu_tar(&[&format!("--format={format}"), "-C", utf8(dir.path()), "."]);
        let whole = classic(&[Entry::of(&["azaion/names:1"], &[&tar])], members(&[&tar]));
        findings.same(&format!("long names in a layer, {format}"), bench.compare(&whole, &whole, &|_| ()));
    }
}

/// The same archive as GNU tar writes it, with directories as members and the long names of this format.
fn written_again(tar: &[u8], format: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    tar::Archive::new(tar).unpack(dir.path()).expect("unpacked");
    let mut names: Vec<_> = fs::read_dir(dir.path()).expect("readable").flatten().map(|e| e.file_name()).collect();
    names.sort();
    let names: Vec<_> = names.iter().map(|name| name.to_str().expect("UTF-8")).collect();
    gnu_tar(&[&[&format!("--format={format}"), "-C", utf8(dir.path()), "--"], names.as_slice()].concat())
}

fn long_names_of_layers(bench: &Bench, findings: &mut Findings) {
    let tar = layer(&[("file", b"in a layer with a long name")]);
    let (some, many) = ("d".repeat(110), format!("{}/{}/{}", "e".repeat(120), "о".repeat(100), "f".repeat(99)));
    for dir in [some, many, "слой".into()] {
        let mut entry = Entry::of(&["azaion/far:1"], &[&tar]);
        entry.layers = vec![format!("{dir}/layer.tar")];
        let member = Member::File(entry.layers[0].clone(), tar.clone());
        let whole = classic(&[entry], vec![member]);
        let what = format!("a layer's name of {} bytes", dir.len());
        findings.same(&what, bench.compare(&whole, &whole, &|_| ()));
        for format in ["gnu", "posix"] {
            let whole = written_again(&whole, format);
            findings.same(&format!("{what}, {format}"), bench.compare(&whole, &whole, &|_| ()));
        }
    }
}

/// As `docker save` wrote a layer that two images have under different parents, from 1.10 to 20.10.
fn linked_layers(bench: &Bench, findings: &mut Findings) {
    let [a, b, c] = ["a", "b", "c"].map(|name| layer(&[(name, format!("linked {name}").as_bytes())]));
    let other = format!("{}/layer.tar", digest(b"the second place of b"));
    let first = || Entry::of(&["azaion/first:1"], &[&a, &b]);
    let second = || Entry { layers: vec![place(&c), other.clone()], ..Entry::of(&["azaion/second:1"], &[&c, &b]) };
    let link = || Member::Link { name: other.clone(), to: format!("../{}", place(&b)) };
    let after = classic(&[first(), second()], members(&[&a, &b, &c]).into_iter().chain([link()]).collect());
    findings.same("a link after its layer", bench.compare(&after, &after, &|_| ()));
    let before = classic(&[second(), first()], [link()].into_iter().chain(members(&[&c, &b, &a])).collect());
    findings.same("a link before its layer", bench.compare(&before, &before, &|_| ()));
    let alone = classic(&[second()], members(&[&b, &c]).into_iter().chain([link()]).collect());
    findings.same("a link to a layer that no image names", bench.compare(&alone, &alone, &|_| ()));
    let known = classic(&[first()], members(&[&a, &b]));
    let compared = bench.compare(&after, &after, &|bench| bench.plainly(&known).expect("docker load takes it"));
    findings.same("a link to a layer that is known", compared);
    let broken = classic(&[second()], members(&[&c]).into_iter().chain([link()]).collect());
    findings.same_end("a link to nothing", bench.compare(&broken, &broken, &|_| ()));
    let outside = Member::Link { name: other.clone(), to: "../../../../../etc/passwd".into() };
    let outside = classic(&[second()], members(&[&c]).into_iter().chain([outside]).collect());
    findings.same_end("a link out of the archive", bench.compare(&outside, &outside, &|_| ()));
}

/// A file `hole` that begins with a hole of this size.
fn with_hole(dir: &Path, size: u64) {
    let mut file = File::create(dir.join("hole")).expect("created");
    file.seek(SeekFrom::Start(size)).expect("sparse files are files");
    file.write_all(END).expect("written");
}

/// A layer with that file, whose hole GNU tar leaves out in the manner of this format.
fn sparse(format: &str, dir: &Path) -> Vec<u8> {
    let tar = gnu_tar(&["--sparse", &format!("--format={format}"), "-C", utf8(dir), "hole"]);
    assert!(tar.len() < 1 << 20, "tar keeps the hole: {} bytes", tar.len());
    tar
}

fn files_with_holes(bench: &Bench, findings: &mut Findings) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    with_hole(dir.path(), 2 << 20);
    for format in ["gnu", "posix"] {
        let tar = sparse(format, dir.path());
        let whole = classic(&[Entry::of(&["azaion/hole:1"], &[&tar])], members(&[&tar]));
        // Every engine refuses GNU's own header of such a file (type S).
        findings.same_end(&format!("a file with a hole, {format}"), bench.compare(&whole, &whole, &|_| ()));
    }
}

const CASES: [fn(&Bench, &mut Findings); 4] =
    [long_names_in_a_layer, long_names_of_layers, linked_layers, files_with_holes];

fn on(kind: Kind) {
    let Some(bench) = Bench::start(kind) else { return };
    let mut findings = Findings::default();
    println!("{kind:?}");
    for case in CASES {
        case(&bench, &mut findings);
    }
    findings.none();
}

#[test]
fn odd_tars_into_docker_20() {
    on(Kind::Docker20);
}

#[test]
fn odd_tars_into_docker_26() {
    on(Kind::Docker26);
}

#[test]
fn odd_tars_into_docker_26_with_the_containerd_store() {
    on(Kind::Docker26Containerd);
}

/// More than the 33 bits of an octal size field, and a little.
const HOLE: u64 = (8 << 30) + 12_345;
const END: &[u8] = b"the end of a long hole";
/// The engine writes holes out: one file at a time, and room for the machine's other work.
const FREE: u64 = 30 << 30;

#[test]
fn a_file_over_eight_gib_with_a_hole() {
    let free = rustix::fs::statvfs(std::env::temp_dir()).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    if free < FREE {
        return support::skip(&format!(
            "{} GiB are free, a file with a hole of 8 GiB wants {}",
            free >> 30,
            FREE >> 30
        ));
    }
    let Some(bench) = Bench::start(Kind::Docker26) else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    with_hole(dir.path(), HOLE);
    let tar = sparse("posix", dir.path());
    let whole = classic(&[Entry::of(&["azaion/hole:1"], &[&tar])], members(&[&tar]));
    bench.by_agent(&whole).expect("it loads");
    let shown = bench.api.ask("/images/azaion/hole:1/json");
    let upper = shown["GraphDriver"]["Data"]["UpperDir"].as_str().expect("the storage driver tells it");
    let mut big = File::open(Path::new(upper).join("hole")).expect("the file is there");
    assert_eq!(big.metadata().expect("readable").len(), HOLE + END.len() as u64);
    let mut end = Vec::new();
    big.seek(SeekFrom::Start(HOLE)).expect("in the file");
    big.read_to_end(&mut end).expect("readable");
    assert_eq!(end, END);
}
