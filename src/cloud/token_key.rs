//! The public key that tokens are checked with, where `[cloud] token_public_key` names one.
//!
//! PEM, `PUBLIC KEY` (RFC 5280 `SubjectPublicKeyInfo`): RSA for RS256, P-256 for ES256, Ed25519 for
//! `EdDSA` (RFC 7518, RFC 8037). The kind of the key alone decides the algorithm, never the token.

use std::{error, fmt};

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use spki::SubjectPublicKeyInfoOwned;
use spki::der::asn1::{ObjectIdentifier, UintRef};
use spki::der::{self, Decode, DecodePem, Reader, SliceReader};

/// RFC 3279 section 2.3.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 5480 section 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// RFC 5480 section 2.1.1.1.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// RFC 8410 section 3.
const ED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Modulus of an RSA key, as `RSA_PKCS1_2048_8192_SHA256` takes it.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A public key and the algorithm it is for.
pub struct TokenKey {
    algorithm: &'static str,
    key: UnparsedPublicKey<Vec<u8>>,
}

/// Why a text is not a key for tokens.
#[derive(Debug)]
pub enum KeyError {
    /// Not PEM, or not a `PUBLIC KEY`.
    Pem(der::Error),
    /// A kind of key that no accepted algorithm uses.
    Kind,
    /// An RSA key shorter than 2048 bits or longer than 8192, or a malformed point.
    Value,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pem(_) => "not a PEM file with one PUBLIC KEY",
            Self::Kind => "a key of another kind than RSA, P-256 or Ed25519",
            Self::Value => "not a usable key; an RSA key has 2048 to 8192 bits",
        })
    }
}

impl error::Error for KeyError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Pem(source) => Some(source),
            Self::Kind | Self::Value => None,
        }
    }
}

impl TokenKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyError`] says what is allowed.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoOwned::from_pem(pem).map_err(KeyError::Pem)?;
        let bytes = info.subject_public_key.as_bytes().ok_or(KeyError::Value)?;
        let (algorithm, verification): (_, &'static dyn VerificationAlgorithm) = match info.algorithm.oid {
            RSA => {
                if !RSA_BYTES.contains(&modulus_bytes(bytes).map_err(|_| KeyError::Value)?) {
                    return Err(KeyError::Value);
                }
                ("RS256", &RSA_PKCS1_2048_8192_SHA256)
            }
            EC => {
                let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as().ok());
                if curve != Some(P256) {
                    return Err(KeyError::Kind);
                }
                // An uncompressed point (SEC 1 section 2.3.3), the only form ring takes.
                if bytes.len() != 65 || bytes[0] != 4 {
                    return Err(KeyError::Value);
                }
                ("ES256", &ECDSA_P256_SHA256_FIXED)
            }
            ED => {
                if bytes.len() != 32 {
                    return Err(KeyError::Value);
                }
                ("EdDSA", &ED25519)
            }
            _ => return Err(KeyError::Kind),
        };
        Ok(Self { algorithm, key: UnparsedPublicKey::new(verification, bytes.to_vec()) })
    }

    /// The `alg` a token must name.
    pub const fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.key.verify(signed, signature).is_ok()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.algorithm)
    }
}

/// Length of the modulus of an `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn modulus_bytes(key: &[u8]) -> Result<usize, der::Error> {
    let mut reader = SliceReader::new(key)?;
    let length = reader.sequence(|inner| {
        let modulus = UintRef::decode(inner)?;
        UintRef::decode(inner)?;
        Ok::<_, der::Error>(modulus.as_bytes().len())
    })?;
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{Token, TokenError};
    use crate::secret::SecretText;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../tests/fixtures/token/", $name))
        };
    }

    const SIGNED: [(&str, &str, &str); 3] = [
        ("RS256", fixture!("rs256.pem"), fixture!("rs256.jwt")),
        ("ES256", fixture!("es256.pem"), fixture!("es256.jwt")),
        ("EdDSA", fixture!("eddsa.pem"), fixture!("eddsa.jwt")),
    ];

    fn key(pem: &str) -> TokenKey {
        TokenKey::from_pem(pem.as_bytes()).expect("a key")
    }

    fn parse(token: &str, key: &TokenKey) -> Result<Token, TokenError> {
        Token::parse(SecretText::new(token.to_owned()), Some(key))
    }

    #[test]
    fn each_kind_of_key_verifies_its_own_algorithm_and_no_other() {
        for (algorithm, pem, _) in SIGNED {
            let key = key(pem);
            assert_eq!(key.algorithm(), algorithm);
            for (named, _, token) in SIGNED {
                let parsed = parse(token, &key);
                if named == algorithm {
                    assert_eq!(parsed.expect("signed with this key").user().email, "tech@example.com");
                } else {
                    assert_eq!(parsed.err(), Some(TokenError::Algorithm { wanted: algorithm }));
                }
            }
        }
    }

    #[test]
    fn a_changed_claim_or_signature_is_refused() {
        for (_, pem, token) in SIGNED {
            let key = key(pem);
            let (signed, signature) = token.rsplit_once('.').expect("three segments");
            let (header, payload) = signed.split_once('.').expect("two segments");
            // `eyJ` is `{"`: the character after it belongs to the first claim's name.
            let other = payload.replacen("eyJu", "eyJv", 1);
            assert_ne!(other, payload);
            assert_eq!(parse(&format!("{header}.{other}.{signature}"), &key).err(), Some(TokenError::Signature));
            let mut flipped = signature.to_owned().into_bytes();
            flipped[10] = if flipped[10] == b'A' { b'B' } else { b'A' };
            let flipped = String::from_utf8(flipped).expect("still base64");
            assert_eq!(parse(&format!("{signed}.{flipped}"), &key).err(), Some(TokenError::Signature));
        }
    }

    #[test]
    fn a_symmetric_signature_by_the_public_key_is_refused() {
        // The classic confusion: HS256 over the public key's own text. The key alone decides the algorithm.
        let (_, pem, token) = SIGNED[0];
        let rest = token.split_once('.').expect("three segments").1;
        let hs256 = format!("eyJhbGciOiJIUzI1NiJ9.{rest}");
        assert_eq!(parse(&hs256, &key(pem)).err(), Some(TokenError::Algorithm { wanted: "RS256" }));
    }

    #[test]
    fn keys_of_another_kind_or_size_are_refused() {
        let refused = |pem: &str| TokenKey::from_pem(pem.as_bytes()).expect_err("not usable");
        assert!(matches!(refused(fixture!("rsa1024.pem")), KeyError::Value));
        assert!(matches!(refused(fixture!("p384.pem")), KeyError::Kind));
        assert!(matches!(refused(""), KeyError::Pem(_)));
        assert!(matches!(refused(&fixture!("rs256.pem").replace("PUBLIC KEY", "CERTIFICATE")), KeyError::Pem(_)));
        assert!(matches!(refused(&fixture!("eddsa.pem")[..60]), KeyError::Pem(_)));
    }
}
