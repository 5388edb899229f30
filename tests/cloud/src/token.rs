//! Tokens as the API issues them (CONTRACT section 1): JSON Web Tokens in the compact form of RFC 7515.
//!
//! The cloud never parses a token: it knows the ones it issued, as text.

use std::fmt::Display;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::options::User;

/// The RS256 key, the same for everyone who reads this repository: ring cannot make RSA keys.
const RS256_KEY_PEM: &str = include_str!("../keys/token-rs256.pem");

/// How tokens are signed. For all but the first, [`crate::Cloud::token_public_key_pem`] gives the key to check with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signing {
    /// HMAC-SHA-256 under a secret of the cloud: nobody else can check it.
    #[default]
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// The key that signs.
enum Signer {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Issues tokens.
pub(crate) struct Issuer {
    signer: Signer,
    public_key_pem: Option<String>,
    random: SystemRandom,
}

#[derive(Serialize)]
struct Claims<'a> {
    nameid: String,
    unique_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    nbf: u64,
    exp: u64,
    iat: u64,
    iss: &'static str,
    aud: &'static str,
}

impl Issuer {
    pub(crate) fn new(signing: Signing) -> io::Result<Self> {
        let random = SystemRandom::new();
        let (signer, public_key_pem) = match signing {
            Signing::Hs256 => {
                let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(ring_refused)?;
                (Signer::Hmac(key), None)
            }
            Signing::Rs256 => {
                let pair = KeyPair::from_pem(RS256_KEY_PEM).map_err(io::Error::other)?;
                let signer = RsaKeyPair::from_pkcs8(pair.serialized_der()).map_err(ring_refused)?;
                (Signer::Rsa(signer), Some(pair.public_key_pem()))
            }
            Signing::Es256 => {
                let pair = fresh(&PKCS_ECDSA_P256_SHA256)?;
                let curve = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let signer = EcdsaKeyPair::from_pkcs8(curve, pair.serialized_der(), &random).map_err(ring_refused)?;
                (Signer::Ecdsa(signer), Some(pair.public_key_pem()))
            }
            Signing::EdDsa => {
                let pair = fresh(&PKCS_ED25519)?;
                let signer = Ed25519KeyPair::from_pkcs8(pair.serialized_der()).map_err(ring_refused)?;
                (Signer::Ed25519(signer), Some(pair.public_key_pem()))
            }
        };
        Ok(Self { signer, public_key_pem, random })
    }

    pub(crate) fn public_key_pem(&self) -> Option<&str> {
        self.public_key_pem.as_deref()
    }

    /// A token for `user`, valid from `now` until `expires` (seconds since 1970).
    pub(crate) fn issue(&self, user: &User, now: u64, expires: u64) -> io::Result<String> {
        let algorithm = match &self.signer {
            Signer::Hmac(_) => "HS256",
            Signer::Rsa(_) => "RS256",
            Signer::Ecdsa(_) => "ES256",
            Signer::Ed25519(_) => "EdDSA",
        };
        let claims = Claims {
            nameid: user_id(&user.email),
            unique_name: &user.email,
            role: user.role.as_deref(),
            nbf: now,
            exp: expires,
            iat: now,
            iss: "AzaionApi",
            aud: "Annotators/OrangePi/Admins",
        };
        let header = serde_json::json!({ "alg": algorithm, "typ": "JWT" }).to_string();
        let claims = serde_json::to_string(&claims).map_err(io::Error::other)?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        match &self.signer {
            Signer::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Signer::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &self.random, message, &mut signature).map_err(ring_refused)?;
                Ok(signature)
            }
            Signer::Ecdsa(key) => {
                key.sign(&self.random, message).map(|made| made.as_ref().to_vec()).map_err(ring_refused)
            }
            Signer::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}

fn fresh(algorithm: &'static SignatureAlgorithm) -> io::Result<KeyPair> {
    KeyPair::generate_for(algorithm).map_err(io::Error::other)
}

/// ring's errors are no `std::error::Error` without its feature `std`.
fn ring_refused(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// A UUID that is always the same for an e-mail address, so that tests can tell users apart.
fn user_id(email: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(email).into();
    let number = digest[..16].iter().fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
    let hex = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn decode(part: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(part).expect("a token's part is base64url")
    }

    fn token(signing: Signing, user: &User) -> (Issuer, String) {
        let issuer = Issuer::new(signing).expect("the issuer starts");
        let token = issuer.issue(user, 1_767_225_600, 1_767_240_000).expect("the token is issued");
        (issuer, token)
    }

    #[test]
    fn the_claims_are_the_contracts() {
        let user = User::new("tech@example.com", "secret", "Operator");
        let (_, text) = token(Signing::Hs256, &user);
        let parts: Vec<&str> = text.split('.').collect();
        let header: serde_json::Value = serde_json::from_slice(&decode(parts[0])).expect("the header is JSON");
        assert_eq!(header["alg"], "HS256");
        let claims: serde_json::Value = serde_json::from_slice(&decode(parts[1])).expect("the claims are JSON");
        assert_eq!(claims["unique_name"], "tech@example.com");
        assert_eq!(claims["role"], "Operator");
        assert_eq!(claims["iat"], 1_767_225_600);
        assert_eq!(claims["exp"], 1_767_240_000);
        assert_eq!(claims["nameid"].as_str().map(str::len), Some(36));

        let (_, text) = token(Signing::Hs256, &user.without_role());
        let claims = text.split('.').nth(1).expect("a token has three parts").to_owned();
        let claims: serde_json::Value = serde_json::from_slice(&decode(&claims)).expect("the claims are JSON");
        assert!(claims.get("role").is_none());
    }

    /// Has `openssl` check a signature: another hand than ring's.
    fn openssl_accepts(dir: &Path, arguments: &[&str]) -> bool {
        let output = Command::new("openssl").current_dir(dir).args(arguments).output().expect("openssl runs");
        output.status.success()
    }

    #[test]
    fn openssl_accepts_every_signature_under_the_public_key() {
        let user = User::new("tech@example.com", "secret", "Operator");
        for signing in [Signing::Rs256, Signing::Es256, Signing::EdDsa] {
            let (issuer, text) = token(signing, &user);
            let (signed, signature) = text.rsplit_once('.').expect("a token has three parts");
            let mut signature = decode(signature);
            if signing == Signing::Es256 {
                signature = der_of_fixed(&signature);
            }
            let dir = tempfile::tempdir().expect("a directory for the files");
            let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("a file");
            write("key.pem", issuer.public_key_pem().expect("this signing has a public key").as_bytes());
            write("signature", &signature);
            for (message, accepted) in [(signed.to_owned(), true), (format!("{signed}x"), false)] {
                write("message", message.as_bytes());
                let common = ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-sigfile", "signature"];
                let rest: &[&str] = match signing {
                    Signing::EdDsa => &["-rawin", "-in", "message"],
                    Signing::Hs256 | Signing::Rs256 | Signing::Es256 => {
                        &["-rawin", "-digest", "sha256", "-in", "message"]
                    }
                };
                assert_eq!(openssl_accepts(dir.path(), &[&common[..], rest].concat()), accepted, "{signing:?}");
            }
        }
    }

    /// The ASN.1 form (RFC 3279) of the fixed form of RFC 7518: two unsigned integers of 32 bytes.
    fn der_of_fixed(fixed: &[u8]) -> Vec<u8> {
        let mut integers = Vec::new();
        for half in fixed.chunks(32) {
            let start = half.iter().position(|byte| *byte != 0).expect("the number is not zero");
            let mut digits = half[start..].to_vec();
            if digits[0] >= 0x80 {
                digits.insert(0, 0);
            }
            integers.extend([2, u8::try_from(digits.len()).expect("at most 33")]);
            integers.extend(digits);
        }
        let mut der = vec![0x30, u8::try_from(integers.len()).expect("at most 70")];
        der.extend(integers);
        der
    }
}
