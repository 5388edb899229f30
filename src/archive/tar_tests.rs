//! Tests of the walk, over tars made by the `tar` crate.

use proptest::prelude::*;

use super::*;

fn walk(tar: &[u8]) -> Result<Index, ArchiveError> {
    let mut walk = Walk::new(Some(tar.len() as u64));
    loop {
        match walk.want()? {
            Want::Bytes { offset, len } => {
                let from = usize::try_from(offset).expect("inside");
                walk.take(&tar[from..from + len])?;
            }
            Want::Done { .. } => return Ok(walk.into_index()),
        }
    }
}

fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    builder.append_data(&mut header, name, bytes).expect("memory");
}

fn link(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, target: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    builder.append_link(&mut header, name, target).expect("memory");
}

fn make(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().expect("memory")
}

#[test]
fn members_have_their_places() {
    let long = format!("blobs/{}", "x".repeat(300));
    let tar = make(|tar| {
        file(tar, "./a", b"alpha");
        file(tar, &long, b"beta");
        tar.append_pax_extensions([("path", "c/from pax".as_bytes())]).expect("memory");
        file(tar, "short", b"gamma");
    });
    let index = walk(&tar).expect("whole");
    for (name, bytes) in [("a", "alpha"), (&long, "beta"), ("c/from pax", "gamma")] {
        let range = index.file(name).expect(name).range();
        assert_eq!(&tar[usize::try_from(range.start).expect("fits")..][..bytes.len()], bytes.as_bytes());
        assert_eq!(range.end - range.start, bytes.len() as u64);
    }
    assert!(index.file("short").is_none());
}

#[test]
fn links_lead_to_files_and_never_out_or_round() {
    let tar = make(|tar| {
        file(tar, "one/layer.tar", b"1");
        link(tar, tar::EntryType::Symlink, "two/layer.tar", "../one/layer.tar");
        link(tar, tar::EntryType::Symlink, "three/layer.tar", "../../../../one/layer.tar");
        link(tar, tar::EntryType::Link, "four", "two/layer.tar");
        link(tar, tar::EntryType::Symlink, "loop", "loop");
        link(tar, tar::EntryType::Symlink, "to nothing", "none");
        for hop in 0..=TAR_LINK_HOPS {
            let next = if hop == TAR_LINK_HOPS { "four".into() } else { format!("hop{}", hop + 1) };
            link(tar, tar::EntryType::Symlink, &format!("hop{hop}"), &next);
        }
    });
    let index = walk(&tar).expect("whole");
    for name in ["one/layer.tar", "two/layer.tar", "/two//layer.tar", "three/layer.tar", "four"] {
        assert_eq!(index.file(name).map(|member| &*member.name), Some("one/layer.tar"), "{name}");
    }
    for name in ["loop", "to nothing", "one", "none"] {
        assert!(index.file(name).is_none(), "{name}");
    }
    // From here four → two → one are two hops more.
    assert!(index.file("hop3").is_some());
    assert!(index.file("hop2").is_none());
}

#[test]
fn of_one_name_the_last_member_counts() {
    let tar = make(|tar| {
        file(tar, "a", b"old");
        file(tar, "b", b"between");
        file(tar, "a", b"newer");
    });
    let index = walk(&tar).expect("whole");
    assert_eq!(index.file("a").map(|member| member.size), Some(5));
    assert_eq!(index.members().len(), 3);
}

#[test]
fn a_cut_is_told_as_a_cut_at_every_block() {
    let tar = make(|tar| {
        file(tar, "a", &[1; 1000]);
        file(tar, "b", &[2; 10]);
    });
    assert!(walk(&tar).is_ok());
    for len in (0..tar.len()).step_by(16) {
        assert!(matches!(walk(&tar[..len]), Err(ArchiveError::Truncated(_))), "{len}: {:?}", walk(&tar[..len]));
    }
}

#[test]
fn what_follows_the_end_marker_is_not_looked_at() {
    let mut tar = make(|tar| file(tar, "a", b"1"));
    tar.extend_from_slice(&[0xff; 1000]);
    assert_eq!(walk(&tar).expect("whole").members().len(), 1);
}

#[test]
fn a_lone_zero_block_is_damage() {
    let mut tar = make(|tar| file(tar, "a", b"1"));
    let marker = tar.len() - 1024;
    tar[marker + 600] = 1;
    assert!(matches!(walk(&tar), Err(ArchiveError::Damaged { fault: Fault::EndMarker, .. })));
}

#[test]
fn large_sizes_by_base_256_and_by_pax() {
    let size = 20 << 30;
    let mut header = tar::Header::new_gnu();
    header.set_path("big").expect("fits");
    header.set_size(size);
    header.set_cksum();
    let mut walk = Walk::new(None);
    walk.take(header.as_bytes()).expect("a header");
    assert_eq!(walk.want().expect("next"), Want::Bytes { offset: UNIT + size, len: BYTES });

    let pax = make(|tar| {
        tar.append_pax_extensions([("size", size.to_string().as_bytes())]).expect("memory");
        file(tar, "big", b"");
    });
    let mut walk = Walk::new(None);
    for at in [0, BYTES, 2 * BYTES] {
        let Want::Bytes { len, .. } = walk.want().expect("next") else { panic!("not done") };
        walk.take(&pax[at..at + len]).expect("good");
    }
    assert_eq!(walk.members()[0].size, size);
}

fn limit(result: &Result<Index, ArchiveError>) -> Option<(&'static str, u64)> {
    match result {
        Err(ArchiveError::Unsupported(Feature::Limit { of, limit })) => Some((*of, *limit)),
        _ => None,
    }
}

#[test]
fn the_length_of_the_tar_holds_at_its_bound() {
    let header = |size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_path("big").expect("fits");
        header.set_size(size);
        header.set_cksum();
        Walk::new(None).take(header.as_bytes()).map(|_| Walk::new(None).into_index())
    };
    assert!(header(TAR_BYTES).is_ok());
    assert_eq!(limit(&header(TAR_BYTES + 1)), Some(("bytes of tar", TAR_BYTES)));
    assert_eq!(limit(&header(u64::MAX >> 2)), Some(("bytes of tar", TAR_BYTES)));
}

#[test]
fn names_hold_at_their_bounds() {
    let named = |len: usize| walk(&make(|tar| file(tar, &"n".repeat(len), b"")));
    assert!(named(TAR_NAME_BYTES).is_ok());
    assert_eq!(limit(&named(TAR_NAME_BYTES + 1)).map(|(_, limit)| limit), Some(TAR_NAME_BYTES as u64));

    let all =
        |count: usize| walk(&make(|tar| (0..count).for_each(|i| file(tar, &format!("{i:0TAR_NAME_BYTES$}"), b""))));
    assert!(all(TAR_NAMES_BYTES / TAR_NAME_BYTES).is_ok());
    let over = limit(&all(TAR_NAMES_BYTES / TAR_NAME_BYTES + 1));
    assert_eq!(over.map(|(_, limit)| limit), Some(TAR_NAMES_BYTES as u64));
}

#[test]
fn headers_hold_at_their_bound() {
    let many = |count: usize| walk(&make(|tar| (0..count).for_each(|i| file(tar, &i.to_string(), b""))));
    assert_eq!(many(TAR_HEADERS).expect("at the bound").members().len(), TAR_HEADERS);
    assert_eq!(limit(&many(TAR_HEADERS + 1)), Some(("tar headers", TAR_HEADERS as u64)));
}

#[test]
fn extensions_hold_at_their_bound() {
    let long = |size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_path("ext").expect("fits");
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(size);
        header.set_cksum();
        Walk::new(None).take(header.as_bytes()).map(|_| Walk::new(None).into_index())
    };
    assert!(long(TAR_EXTENSION_BYTES).is_ok());
    assert_eq!(limit(&long(TAR_EXTENSION_BYTES + 1)).map(|(_, limit)| limit), Some(TAR_EXTENSION_BYTES));
}

#[test]
fn sparse_members_and_names_that_are_no_text_are_refused() {
    let mut header = tar::Header::new_gnu();
    header.set_path("s").expect("fits");
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_cksum();
    let sparse = Walk::new(None).take(header.as_bytes());
    assert!(matches!(sparse, Err(ArchiveError::Unsupported(Feature::Sparse))));

    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[0] = 0xff;
    header.set_size(0);
    header.set_cksum();
    let name = Walk::new(None).take(header.as_bytes());
    assert!(matches!(name, Err(ArchiveError::Damaged { fault: Fault::Name, .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(tar in prop::collection::vec(any::<u8>(), 0..4096)) {
        drop(walk(&tar));
    }

    #[test]
    fn arbitrary_changes_of_a_good_tar_never_panic(
        changes in prop::collection::vec((0_usize..6000, any::<u8>(), any::<bool>()), 1..8),
    ) {
        let mut tar = make(|tar| {
            file(tar, "a", b"alpha");
            file(tar, &"long/".repeat(40), b"");
            tar.append_pax_extensions([("path", "pax".as_bytes()), ("size", b"7")]).expect("memory");
            file(tar, "b", b"1234567");
            link(tar, tar::EntryType::Symlink, "c", "b");
        });
        for (at, byte, mend) in changes {
            let at = at % tar.len();
            tar[at] = byte;
            // With the check sum mended the change gets past the first guard.
            let block = at / BYTES * BYTES;
            if mend {
                let sum: u64 = tar[block..block + BYTES].iter().enumerate()
                    .map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u64::from(b) }).sum();
                tar[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Ok(index) = walk(&tar) {
            for member in index.members() {
                prop_assert!(member.offset + member.size <= tar.len() as u64);
                prop_assert!(member.name.is_empty() || index.member(&member.name).is_some());
            }
        }
    }
}
