//! Wycheproof's AES-CBC-PKCS5, HMAC-SHA-256 and HMAC-SHA-384 cases, under every way of cutting the input into pieces, and
//! its HKDF-SHA-384 cases.
//!
//! For inputs of up to [`ALL_CUTS_BYTES`] bytes that is every one of the 2^(n−1) compositions; for longer ones every
//! pair of cuts, and every fixed step.

use azaion_loader::crypto::{AesKey, HmacSha256, HmacSha384, Sealer, UnsealError, Unsealer, unseal};
use azaion_loader::secret::SecretArray;
use wycheproof::{TestResult, cipher, hkdf as hkdf_cases, mac};

/// Up to this length all compositions are tried: 2^15 of them. A sealed message has at least 32 bytes; of its bytes
/// the cut matters only modulo 16, so it is tried with its blocks' inner cuts in [`cuts`].
const ALL_CUTS_BYTES: usize = 16;

/// Calls `try_cut` with the positions of the cuts, ascending.
fn cuts(len: usize, mut try_cut: impl FnMut(&[usize])) -> usize {
    let mut tried = 0;
    let mut once = |positions: &[usize]| {
        try_cut(positions);
        tried += 1;
    };
    if len <= ALL_CUTS_BYTES {
        let inner = len.saturating_sub(1);
        for mask in 0_u32..1 << inner {
            let positions: Vec<usize> = (1..=inner).filter(|cut| mask & (1 << (cut - 1)) != 0).collect();
            once(&positions);
        }
    } else {
        once(&[]);
        // An empty piece is a piece too: both cuts may be the same, and at the ends.
        for first in 0..=len {
            for second in first..=len {
                once(&[first, second]);
            }
        }
        for step in 1..len {
            let positions: Vec<usize> = (step..len).step_by(step).collect();
            once(&positions);
        }
    }
    tried
}

/// The pieces between the cuts.
fn pieces<'a>(bytes: &'a [u8], positions: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let starts = [0].into_iter().chain(positions.iter().copied());
    let ends = positions.iter().copied().chain([bytes.len()]);
    starts.zip(ends).map(|(from, to)| &bytes[from..to])
}

fn unsealed(key: &AesKey, sealed: &[u8], positions: &[usize]) -> Result<Vec<u8>, UnsealError> {
    let mut unsealer = Unsealer::new(key);
    let mut plain = Vec::new();
    pieces(sealed, positions).for_each(|piece| unsealer.push(piece, &mut plain));
    unsealer.finish(&mut plain).map(|()| plain)
}

fn sealed(key: &AesKey, iv: [u8; 16], plain: &[u8], positions: &[usize]) -> Vec<u8> {
    let mut sealer = Sealer::new(key, iv);
    let mut out = Vec::new();
    pieces(plain, positions).for_each(|piece| sealer.push(piece, &mut out));
    sealer.finish(&mut out);
    out
}

#[test]
fn aes_cbc_pkcs5() {
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).expect("the crate's own data");
    let (mut valid, mut invalid, mut skipped, mut tried) = (0, 0, 0, 0);
    for group in &set.test_groups {
        for case in &group.tests {
            if group.key_size != 256 {
                skipped += 1;
                continue;
            }
            let id = case.tc_id;
            let key = AesKey::new(SecretArray::fill(|key| key.copy_from_slice(&case.key)));
            let iv: [u8; 16] = case.nonce[..].try_into().expect("CBC has IVs of 16 bytes");
            let message = [&iv[..], &case.ct[..]].concat();
            match case.result {
                TestResult::Valid => {
                    valid += 1;
                    tried += cuts(message.len(), |cut| {
                        assert_eq!(unsealed(&key, &message, cut).as_deref(), Ok(&case.pt[..]), "{id} {cut:?}");
                    });
                    tried += cuts(case.pt.len(), |cut| {
                        assert_eq!(sealed(&key, iv, &case.pt, cut), message, "{id} {cut:?}");
                    });
                    assert_eq!(unseal(&key, message).expect("valid").expose(), &case.pt[..], "{id}");
                }
                TestResult::Invalid => {
                    invalid += 1;
                    tried += cuts(message.len(), |cut| {
                        assert!(unsealed(&key, &message, cut).is_err(), "{id} {cut:?}");
                    });
                    assert!(unseal(&key, message).is_err(), "{id}");
                }
                TestResult::Acceptable => panic!("{id}: this set has no such cases"),
            }
        }
    }
    println!("AES-256-CBC-PKCS5: {valid} valid and {invalid} invalid cases hold, under {tried} cuts");
    println!("AES-CBC-PKCS5: {skipped} cases skipped: keys of 128 and 192 bits, the crate has AES-256 only");
    assert_eq!(valid + invalid + skipped, set.number_of_tests);
    assert!(valid > 0 && invalid > 0);
}

macro_rules! hmac {
    ($test:ident, $set:ident, $mac:ident, $full:literal) => {
        #[test]
        fn $test() {
            let set = mac::TestSet::load(mac::TestName::$set).expect("the crate's own data");
            let (mut valid, mut invalid, mut tried) = (0, 0, 0);
            for group in &set.test_groups {
                for case in &group.tests {
                    let id = case.tc_id;
                    let right = match case.result {
                        TestResult::Valid => true,
                        TestResult::Invalid => false,
                        TestResult::Acceptable => panic!("{id}: this set has no such cases"),
                    };
                    valid += usize::from(right);
                    invalid += usize::from(!right);
                    tried += cuts(case.msg.len(), |cut| {
                        let mut mac = $mac::new(&case.key);
                        pieces(&case.msg, cut).for_each(|piece| mac.update(piece));
                        // `verify` takes whole tags only; a truncated one is compared with the beginning of ours.
                        let whole = case.tag.len() == $full;
                        assert_eq!(mac.clone().verify(&case.tag).is_ok(), right && whole, "{id} {cut:?}");
                        assert_eq!(mac.finish().starts_with(&case.tag), right, "{id} {cut:?}");
                    });
                }
            }
            println!("{}: {valid} valid and {invalid} invalid cases hold, under {tried} cuts", stringify!($mac));
            assert_eq!(valid + invalid, set.number_of_tests);
            assert!(valid > 0 && invalid > 0);
        }
    };
}

hmac!(hmac_sha256, HmacSha256, HmacSha256, 32);
hmac!(hmac_sha384, HmacSha384, HmacSha384, 48);

/// [`AesKey::expand`] has keys of 32 bytes and gives 32 bytes. What HKDF gives begins the same however much is asked for (RFC
/// 5869 section 2.3), so all cases with such keys say what it must give. The others hold the crate behind it.
#[test]
fn hkdf_sha384() {
    let set = hkdf_cases::TestSet::load(hkdf_cases::TestName::HkdfSha384).expect("the crate's own data");
    let (mut ours, mut valid, mut invalid) = (0, 0, 0);
    for group in &set.test_groups {
        for case in &group.tests {
            let id = case.tc_id;
            let hkdf = hkdf::Hkdf::<sha2::Sha384>::new(Some(&case.salt), &case.ikm);
            let mut okm = vec![0; case.size];
            let expanded = hkdf.expand(&case.info, &mut okm);
            match case.result {
                TestResult::Valid => {
                    valid += 1;
                    assert_eq!((expanded.is_ok(), &okm[..]), (true, &case.okm[..]), "{id}");
                    if group.key_size == 256 {
                        ours += 1;
                        let key = AesKey::new(SecretArray::fill(|key| key.copy_from_slice(&case.ikm)));
                        let expanded = key.expand(&case.salt, &case.info);
                        let compared = case.size.min(32);
                        assert_eq!(expanded.expose()[..compared], case.okm[..compared], "{id}");
                    }
                }
                TestResult::Invalid => {
                    invalid += 1;
                    assert!(expanded.is_err(), "{id}: more than 255 blocks");
                }
                TestResult::Acceptable => panic!("{id}: this set has no such cases"),
            }
        }
    }
    println!("HKDF-SHA-384: {valid} valid and {invalid} invalid cases hold, {ours} of them on our own path");
    assert_eq!(valid + invalid, set.number_of_tests);
    assert!(ours > 0 && invalid > 0);
}
