//! Both seals: what is written is read, and nothing else is.

use proptest::prelude::*;
use smol::LocalExecutor;

use super::forgery::changes;
use super::*;
use crate::crypto::{AesKey, BLOCK, Digest, MacMismatch};
use crate::limits::{SEAL_CHUNK_BYTES, SEAL_LENGTH_BYTES, SEAL_NAME_BYTES, SMALL_BYTES};
use crate::name::{Folder, ResourceName};
use crate::net::turn;
use crate::secret::SecretArray;

fn run<T>(main: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), main)
}

fn key(byte: u8) -> AesKey {
    AesKey::new(SecretArray::fill(|key| key.fill(byte)))
}

fn hashes(count: usize) -> Vec<Digest> {
    (0..count).map(|chunk| Digest::of(&chunk.to_be_bytes())).collect()
}

fn images() -> Vec<SealedImage> {
    let layers = vec![Digest::of(b"below"), Digest::of(b"above")];
    vec![SealedImage { tags: vec!["azaion/a:1".into()], config: Digest::of(b"config"), layers }]
}

fn archive_seal(length: u64) -> Vec<u8> {
    let name: SealName = "images".parse().expect("a name");
    let chunks = hashes(usize::try_from(length.div_ceil(SEAL_CHUNK_BYTES)).expect("few"));
    let draft = ArchiveDraft {
        id: [7; 32],
        name: &name,
        version: 1_790_000_000,
        length,
        images: images(),
        chunks: &chunks,
        iv: [9; BLOCK],
    };
    run(draft.seal(&key(1))).expect("within the bounds")
}

fn folder() -> Folder {
    Folder::new("models").expect("a folder")
}

fn name() -> ResourceName {
    ResourceName::new("détecteur 1.onnx").expect("a name")
}

fn resource_seal(big: u64) -> Vec<u8> {
    let (folder, name) = (folder(), name());
    let chunks = hashes(usize::try_from(big.div_ceil(SEAL_CHUNK_BYTES)).expect("few"));
    let small = [5; SMALL_BYTES];
    let draft =
        ResourceDraft { id: [8; 32], version: 3, folder: &folder, name: &name, small: &small, big, chunks: &chunks };
    run(draft.seal(&key(1))).expect("within the bounds")
}

fn open_archive(bytes: Vec<u8>) -> Result<ArchiveSeal, SealRefused> {
    run(ArchiveClaim::parse(bytes)?.authenticate(&key(1)))
}

fn open_resource(bytes: Vec<u8>) -> Result<ResourceSeal, SealRefused> {
    run(ResourceClaim::parse(bytes)?.authenticate(&key(1), &folder(), &name()))
}

#[test]
fn an_archive_s_seal_says_what_was_sealed() {
    for length in [32, SEAL_CHUNK_BYTES, SEAL_CHUNK_BYTES + 16, 5 * SEAL_CHUNK_BYTES - 16] {
        let seal = open_archive(archive_seal(length)).expect("it is ours");
        assert_eq!((seal.version(), seal.name().as_ref()), (1_790_000_000, "images"));
        assert_eq!(seal.images(), images());
        let chunks = seal.chunks();
        assert_eq!((chunks.length(), chunks.chunk_bytes()), (length, SEAL_CHUNK_BYTES));
        let wanted = hashes(usize::try_from(chunks.count()).expect("few"));
        assert_eq!(chunks.iter().collect::<Vec<_>>(), wanted);
        assert_eq!(chunks.hash(chunks.count()), None);
        let last = chunks.count() - 1;
        assert_eq!(chunks.range(last), last * SEAL_CHUNK_BYTES..length);
        assert!(chunks.range(last + 1).is_empty());
    }
}

#[test]
fn a_resource_s_seal_says_what_was_sealed() {
    let seal = open_resource(resource_seal(SEAL_CHUNK_BYTES + 1)).expect("it is ours");
    assert_eq!(seal.version(), 3);
    assert!(seal.fits_small(&[5; SMALL_BYTES]));
    assert!(!seal.fits_small(&[5; SMALL_BYTES - 1]));
    assert!(!seal.fits_small(&[6; SMALL_BYTES]));
    assert_eq!((seal.big().count(), seal.big().length()), (2, SEAL_CHUNK_BYTES + 1));
}

#[test]
fn another_key_or_kind_is_refused() {
    let claim = ArchiveClaim::parse(archive_seal(64)).expect("a seal");
    assert_eq!(run(claim.authenticate(&key(2))).err(), Some(SealRefused::Mac(MacMismatch)));
    let claim = || ResourceClaim::parse(resource_seal(64)).expect("a seal");
    let other = ResourceName::new("detector").expect("a name");
    for (key, folder, name) in
        [(key(2), folder(), name()), (key(1), Folder::default(), name()), (key(1), folder(), other)]
    {
        let refused = run(claim().authenticate(&key, &folder, &name)).err();
        assert_eq!(refused, Some(SealRefused::Mac(MacMismatch)));
    }
    assert_eq!(open_archive(resource_seal(64)).err(), Some(SealRefused::Kind { found: 2 }));
    assert_eq!(open_resource(archive_seal(64)).err(), Some(SealRefused::Kind { found: 1 }));
}

#[test]
fn each_field_is_held_at_its_bounds() {
    let seal = archive_seal(64);
    let with = |at: usize, bytes: &[u8]| {
        let mut other = seal.clone();
        other[at..at + bytes.len()].copy_from_slice(bytes);
        ArchiveClaim::parse(other).err()
    };
    let field = |field| Some(SealRefused::Field { field });
    assert_eq!(with(0, b"azseal"), Some(SealRefused::NotASeal));
    assert_eq!(with(6, b"\n\n"), Some(SealRefused::NotASeal));
    assert_eq!(with(8, &[2]), Some(SealRefused::FormatVersion { found: 2 }));
    assert_eq!(with(9, &[3]), Some(SealRefused::Kind { found: 3 }));
    assert_eq!(with(10, &[19]), field("chunk length"));
    assert_eq!(with(11, &[1]), field("zero byte"));
    for length in [0, 16, 33, SEAL_LENGTH_BYTES + 16, u64::MAX - 15] {
        assert_eq!(with(52, &length.to_be_bytes()), field("length"), "{length}");
    }
    let longer = SEAL_CHUNK_BYTES + 16;
    assert_eq!(with(52, &longer.to_be_bytes()), Some(SealRefused::Ends { field: "authentication tag" }));
    assert_eq!(with(61, b"I"), field("name"));
    assert_eq!(with(67, &[0, 0, 0, 16]), field("content"));
    assert_eq!(with(67, &[0, 0, 0, 33]), field("content"));
    assert_eq!(with(67, &[0, 16, 0, 16]), field("content"));
    let mut longer = seal.clone();
    longer.push(0);
    assert_eq!(ArchiveClaim::parse(longer).err(), Some(SealRefused::Follows { bytes: 1 }));
    let most = usize::try_from(crate::limits::SEAL_BYTES).expect("fits");
    let refused = ArchiveClaim::parse(vec![0; most + 1]).err();
    assert!(matches!(refused, Some(SealRefused::TooLarge { .. })), "{refused:?}");

    let seal = resource_seal(64);
    let with = |at: usize, bytes: &[u8]| {
        let mut other = seal.clone();
        other[at..at + bytes.len()].copy_from_slice(bytes);
        ResourceClaim::parse(other).err()
    };
    assert_eq!(with(52, &0_u64.to_be_bytes()), field("big part's length"));
    for small in [8, 3073_u16] {
        assert_eq!(with(60, &small.to_be_bytes()), field("small part's length"));
    }
}

#[test]
fn a_name_is_a_name_at_its_bounds() {
    for name in ["a", "0", "images", "a.b_c-d", &"x".repeat(SEAL_NAME_BYTES)] {
        assert!(name.parse::<SealName>().is_ok(), "{name}");
    }
    for name in ["", ".a", "-a", "A", "a b", "a/b", "é", &"x".repeat(SEAL_NAME_BYTES + 1)] {
        assert_eq!(name.parse::<SealName>(), Err(SealNameRefused), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_changed_seal_is_refused(changes in changes(32), chunks in 1..20_u64) {
        let length = chunks * SEAL_CHUNK_BYTES;
        let refused_archive = |bytes: Vec<u8>| open_archive(bytes).is_err();
        let refused_resource = |bytes: Vec<u8>| open_resource(bytes).is_err();
        for (seal, is_refused) in [
            (archive_seal(length), &refused_archive as &dyn Fn(Vec<u8>) -> bool),
            (resource_seal(length), &refused_resource),
        ] {
            let mut changed = seal.clone();
            for change in &changes {
                change.apply(&mut changed);
            }
            prop_assert!(changed == seal || is_refused(changed));
        }
    }

    #[test]
    fn nothing_makes_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 1..3_u8) {
        let mut begun = b"AZSEAL\r\n\x01".to_vec();
        begun.extend_from_slice(&[kind, 18, 0]);
        begun.extend_from_slice(&bytes);
        for bytes in [bytes, begun] {
            prop_assert!(open_archive(bytes.clone()).is_err());
            prop_assert!(open_resource(bytes).is_err());
        }
    }
}
