//! An archive that is cut, empty, damaged in its header region, missing, a directory, or under another key is refused
//! at the opening, before an engine is touched, and said to be what it is.

#[path = "../src/archive/samples.rs"]
mod samples;

use std::cell::Cell;
use std::fs;
use std::path::Path;

use azaion_loader::archive::{Archive, ArchiveError, Packing};
use azaion_loader::crypto::{AesKey, Sealer};
use azaion_loader::error::{Code, Explain, Report};
use azaion_loader::net::turn;
use azaion_loader::secret::SecretArray;
use samples::Layers;
use smol::LocalExecutor;

fn key(byte: u8) -> AesKey {
    AesKey::new(SecretArray::fill(|key| key.fill(byte)))
}

fn seal(plain: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::new(&key(1), [9; 16]);
    let mut out = Vec::new();
    sealer.push(plain, &mut out);
    sealer.finish(&mut out);
    out
}

fn open_at(path: &Path, key: AesKey) -> Result<Archive, ArchiveError> {
    turn::block_on(&LocalExecutor::new(), Archive::open(path, key, &Cell::new(0)))
}

fn open(sealed: &[u8], key: AesKey) -> Result<Archive, ArchiveError> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("images.enc");
    fs::write(&path, sealed).expect("space for an archive");
    open_at(&path, key)
}

fn refused(sealed: &[u8]) -> ArchiveError {
    open(sealed, key(1)).expect_err("not a good archive")
}

/// Sealed archives of every layout, plain and packed as a whole.
fn archives() -> Vec<(&'static str, Packing, Vec<u8>)> {
    let layouts = [
        ("classic", samples::classic()),
        ("oci", samples::oci(Layers::Plain, true)),
        ("oci with gzip layers", samples::oci(Layers::Gzip, true)),
        ("oci with zstd layers", samples::oci(Layers::Zstd, false)),
    ];
    let mut archives = Vec::new();
    for (name, tar) in layouts {
        archives.push((name, Packing::Gzip, seal(&samples::gzip(&tar))));
        archives.push((name, Packing::Zstd, seal(&samples::zstd(&tar))));
        archives.push((name, Packing::Plain, seal(&tar)));
    }
    archives
}

#[test]
fn the_archives_are_good_before_they_are_cut() {
    for (name, packing, sealed) in archives() {
        let archive = open(&sealed, key(1)).expect(name);
        assert_eq!(archive.packing(), packing);
        let tags: Vec<String> = archive.images().iter().flat_map(|image| image.tags.clone()).collect();
        let expected: Vec<String> = samples::expected().into_iter().flat_map(|(tags, ..)| tags).collect();
        assert_eq!(tags, expected);
    }
}

#[test]
fn cut_at_twenty_places() {
    for (name, packing, sealed) in archives() {
        let blocks = sealed.len() / 16;
        // Twenty places over the whole length, at blocks and between them, and the places where something begins or
        // ends: IV, first block, first header, last block.
        let even = (1..=20).map(|i| sealed.len() * i / 21);
        let at_blocks = (1..=20).map(|i| blocks * i / 21 * 16);
        let special = [1, 15, 16, 17, 31, 32, 48, 16 + 496, 16 + 512, sealed.len() - 16, sealed.len() - 1];
        for len in even.chain(at_blocks).chain(special) {
            let error = refused(&sealed[..len]);
            let packed_to_noise = packing != Packing::Plain && len < 48;
            assert!(
                matches!(error, ArchiveError::Truncated(_)) && error.code() == Code::ArchiveCut
                    // What is left of a compressed stream is too short to be anything.
                    || packed_to_noise,
                "{name} {packing:?} cut to {len}: {error:?}"
            );
        }
    }
}

#[test]
fn cut_where_chance_makes_good_padding() {
    // A plain block that ends in 0x01 right before the cut: the padding is good, the structure is not.
    let mut tar = samples::classic();
    let archive = open(&seal(&tar), key(1)).expect("good");
    let layer = &archive.images()[0].layers[1];
    let at = usize::try_from(layer.offset + layer.size / 2).expect("fits") / 16 * 16;
    tar[at + 15] = 1;
    let cut = &seal(&tar)[..16 + at + 16];
    let error = refused(cut);
    assert!(matches!(error, ArchiveError::Truncated(_)), "{error:?}");
}

#[test]
fn zero_length_is_said_so() {
    let error = refused(&[]);
    assert!(matches!(error, ArchiveError::Empty));
    assert_eq!(error.code(), Code::ArchiveCut);
    assert_eq!(Report::of(&error).message, "the image archive is empty");
}

#[test]
fn a_wrong_key_is_said_so() {
    for (name, packing, sealed) in archives() {
        for byte in 2..=50 {
            let error = open(&sealed, key(byte)).expect_err("another key");
            assert!(matches!(error, ArchiveError::WrongKey), "{name} {packing:?} key {byte}: {error:?}");
            assert_eq!(error.code(), Code::WrongKeyOrDamaged);
        }
    }
}

#[test]
fn a_flipped_bit_in_any_block_of_a_header_is_refused() {
    for (name, packing, sealed) in archives() {
        if packing != Packing::Plain {
            continue;
        }
        let archive = open(&sealed, key(1)).expect("good");
        let mut headers: Vec<u64> = archive.members().iter().map(|member| member.offset - 512).collect();
        // The end marker's first block is where a header would stand.
        let last = archive.members().last().expect("members");
        headers.push((last.offset + last.size).next_multiple_of(512));
        for header in headers {
            // The first is the IV or the block before: a bit flipped there makes that block noise, which may be the
            // end of another header, and flips one bit of this header.
            for block in 0..=32 {
                for bit in [0, 77, 127] {
                    let at = usize::try_from(header).expect("fits") + block * 16 + bit / 8;
                    let mut bad = sealed.clone();
                    bad[at] ^= 1 << (bit % 8);
                    let Err(error) = open(&bad, key(1)) else { panic!("{name}: {header} {block} {bit} passed") };
                    assert_eq!(error.code(), Code::WrongKeyOrDamaged, "{name} {header} {block} {bit}: {error:?}");
                    match error {
                        ArchiveError::Damaged { offset, .. } => assert!(
                            (header.saturating_sub(512)..=header + 512).contains(&offset),
                            "{name}: flipped at header {header}, said at {offset}"
                        ),
                        // Or the end of a document.
                        other => assert_eq!(block, 0, "{name} {header}: {other:?}"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_the_first_blocks_of_a_compressed_archive_is_refused_or_harmless() {
    for (name, packing, sealed) in archives() {
        if packing == Packing::Plain {
            continue;
        }
        for at in (0..sealed.len().min(600)).step_by(16).chain([3]) {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            match open(&bad, key(1)) {
                Err(error) => assert_ne!(error.code(), Code::Internal, "{name} {at}: {error:?}"),
                // gzip's own header holds a time that nothing depends on.
                Ok(archive) => assert_eq!(archive.images().len(), 2, "{name} {at}"),
            }
        }
    }
}

#[test]
fn missing_and_directory_are_told_apart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let missing = open_at(&dir.path().join("images.enc"), key(1)).expect_err("nothing there");
    assert!(matches!(missing, ArchiveError::Missing));
    assert_eq!(missing.code(), Code::ArchiveMissing);
    let directory = open_at(dir.path(), key(1)).expect_err("a directory");
    assert!(matches!(directory, ArchiveError::NotAFile { kind: "directory" }));
    assert_eq!(directory.code(), Code::ArchiveUnreadable);
    for error in [missing, directory] {
        let report = Report::of(&error);
        let shown = format!("{} {}", report.message, report.next);
        assert!(!shown.contains(&*dir.path().to_string_lossy()), "no path goes outside: {shown}");
    }
}
