//! Small parts that wait on flash: for the same user offline, or with an upload that is not published yet.
//!
//! ```text
//!   box  =  1 or 2 │ IV (16) │ AES-256-CBC(small part), PKCS#7 │ HMAC-SHA-256 (32)
//!   tag over  label ‖ folder length (1) ‖ folder ‖ name length (1) ‖ name ‖ everything of the box before it
//!   cipher key, tag key  =  HMAC-SHA-256(root, label of each)
//!   root  =  argon2id(e-mail ‖ 0 ‖ password, salt of the board)
//! ```
//!
//! As the API sends it, a small part would be a fast password oracle for whoever holds the flash; in a box each guess
//! costs an argon2id. The tag is checked before anything is decrypted, and it names the resource, so that a box cannot
//! stand in for another, and whether the resource is sealed (2) or not (1): without its seal, which lies beside, the
//! small part of a sealed one is of no use. The salt is drawn once per board. This module must never keep a password.

use std::fmt;
use std::io;
use std::path::Path;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize as _, Zeroizing};

use crate::crypto::{AesKey, BLOCK, HmacSha256, Sealer, unseal};
use crate::flash;
use crate::limits::{BOX_BYTES, VAULT_MEMORY_KIB, VAULT_PASSES};
use crate::name::{Folder, ResourceName};
use crate::net::lend;
use crate::secret::{Credentials, SecretArray, SecretBytes};

/// The first byte of a box with the small part of a resource that has no seal.
const UNSEALED: u8 = 1;

/// The first byte of a box with the small part of a resource that has one.
const SEALED: u8 = 2;

/// Bytes of the tag.
const TAG: usize = 32;

/// Bytes of the board's salt; OWASP and RFC 9106 section 4 want 16.
const SALT: usize = 16;

/// The salt's file in the state directory.
const SALT_FILE: &str = "vault.salt";

/// Why a box does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultRefused {
    /// Not a box of this format, or of an impossible length.
    Form,
    /// Another user, another password, another resource, or damage.
    Tag,
}

impl fmt::Display for VaultRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "not a kept small part",
            Self::Tag => "the kept small part is of another user, password or resource, or damaged",
        })
    }
}

impl std::error::Error for VaultRefused {}

/// What was in a box.
pub(super) struct Unboxed {
    pub(super) small: SecretBytes,
    /// Whether the resource has a seal.
    pub(super) is_sealed: bool,
}

/// What a user's boxes are locked with.
pub(super) struct VaultKey {
    cipher: AesKey,
    tag: SecretArray<32>,
}

impl VaultKey {
    /// Derives the key of `credentials` on this board, off the loop: about a tenth of a second on a desktop, half a
    /// second on a Raspberry Pi 4.
    pub(super) async fn derive(credentials: &Credentials, salt: [u8; SALT]) -> io::Result<Self> {
        let (email, password) = (credentials.email().as_bytes(), credentials.password().expose().as_bytes());
        let mut input = Zeroizing::new(Vec::with_capacity(email.len() + 1 + password.len()));
        input.extend_from_slice(email);
        input.push(0);
        input.extend_from_slice(password);
        let root = lend(move || stretch(&input, salt)).await?;
        Ok(Self::of_root(&root))
    }

    fn of_root(root: &SecretArray<32>) -> Self {
        let labelled = |label: &[u8]| {
            SecretArray::fill(|key: &mut [u8; 32]| {
                let mut mac = HmacSha256::new(root.expose());
                mac.update(label);
                let mut derived = mac.finish();
                key.copy_from_slice(&derived);
                derived.zeroize();
            })
        };
        Self { cipher: AesKey::new(labelled(b"azaion vault v1 cipher")), tag: labelled(b"azaion vault v1 tag") }
    }

    /// Puts the small part of a resource, which has a seal or has none, into a box.
    pub(super) fn seal(
        &self,
        folder: &Folder,
        name: &ResourceName,
        small: &[u8],
        is_sealed: bool,
    ) -> Result<Vec<u8>, getrandom::Error> {
        let mut iv = [0; BLOCK];
        getrandom::fill(&mut iv)?;
        let mut boxed = vec![if is_sealed { SEALED } else { UNSEALED }];
        let mut sealer = Sealer::new(&self.cipher, iv);
        sealer.push(small, &mut boxed);
        sealer.finish(&mut boxed);
        let tag = self.mac(folder, name, &boxed).finish();
        boxed.extend_from_slice(&tag);
        Ok(boxed)
    }

    /// Takes the small part of a resource out of its box.
    pub(super) fn open(&self, folder: &Folder, name: &ResourceName, boxed: &[u8]) -> Result<Unboxed, VaultRefused> {
        let (body, tag) = boxed.split_last_chunk::<TAG>().ok_or(VaultRefused::Form)?;
        let (&format @ (UNSEALED | SEALED), sealed) = body.split_first().ok_or(VaultRefused::Form)? else {
            return Err(VaultRefused::Form);
        };
        if boxed.len() > BOX_BYTES {
            return Err(VaultRefused::Form);
        }
        self.mac(folder, name, body).verify(tag).map_err(|_| VaultRefused::Tag)?;
        let small = unseal(&self.cipher, sealed.to_vec()).map_err(|_| VaultRefused::Form)?;
        Ok(Unboxed { small, is_sealed: format == SEALED })
    }

    fn mac(&self, folder: &Folder, name: &ResourceName, body: &[u8]) -> HmacSha256 {
        let mut mac = HmacSha256::new(self.tag.expose());
        mac.update(b"azaion small part v1");
        for text in [folder.as_str(), name.as_str()] {
            // Names and folders have at most 255 bytes: one byte of length keeps the two apart.
            mac.update(&[u8::try_from(text.len()).unwrap_or(u8::MAX)]);
            mac.update(text.as_bytes());
        }
        mac.update(body);
        mac
    }
}

impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultKey(…)")
    }
}

/// argon2id (RFC 9106) in one lane, with little memory and many passes: see [`VAULT_MEMORY_KIB`].
fn stretch(input: &[u8], salt: [u8; SALT]) -> io::Result<SecretArray<32>> {
    let params = Params::new(VAULT_MEMORY_KIB, VAULT_PASSES, 1, Some(32)).map_err(io::Error::other)?;
    let mut memory = Vec::new();
    memory.try_reserve_exact(params.block_count()).map_err(io::Error::other)?;
    memory.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut result = Ok(());
    let root = SecretArray::fill(|root: &mut [u8; 32]| {
        result = argon2.hash_password_into_with_memory(input, &salt, root, &mut memory[..]);
    });
    memory.iter_mut().for_each(zeroize::Zeroize::zeroize);
    result.map(|()| root).map_err(io::Error::other)
}

/// The salt of this board: read, or drawn and written the first time.
///
/// A file that is not a salt is replaced: what it locked cannot be opened any more in either case.
pub(super) async fn salt(state_dir: &Path) -> io::Result<[u8; SALT]> {
    let path = state_dir.join(SALT_FILE);
    let kept = lend({
        let path = path.clone();
        move || read_salt(&path)
    })
    .await?;
    if let Some(salt) = kept {
        return Ok(salt);
    }
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(io::Error::other)?;
    lend(move || flash::replace(&path, &salt)).await?;
    Ok(salt)
}

fn read_salt(path: &Path) -> io::Result<Option<[u8; SALT]>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(SALT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes.try_into().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::SecretText;

    fn vault(byte: u8) -> VaultKey {
        VaultKey::of_root(&SecretArray::fill(|root| root.fill(byte)))
    }

    fn named(folder: &str, name: &str) -> (Folder, ResourceName) {
        (Folder::new(folder).expect("a folder"), ResourceName::new(name).expect("a name"))
    }

    fn derive(email: &str, password: &str, salt: u8) -> VaultKey {
        let who = Credentials::new(email.into(), SecretText::new(password.into())).expect("short");
        smol::block_on(VaultKey::derive(&who, [salt; SALT])).expect("two MiB")
    }

    #[test]
    fn argon2id_is_the_one_of_the_parameters() {
        // argon2-cffi 25.1: hash_secret_raw(secret, salt, time_cost=96, memory_cost=2048, parallelism=1,
        // hash_len=32, type=ID).
        let expected = "cb9ca828c030262d3875f561ff17c34d064f31cc408a214f689fdee97f0c2fef";
        let root = stretch(b"a@b\0secret", *b"0123456789abcdef").expect("two MiB");
        let number = |byte: u8| u8::from_str_radix(&expected[2 * usize::from(byte)..][..2], 16).expect("hex");
        assert_eq!(*root.expose(), std::array::from_fn(|at| number(u8::try_from(at).expect("32 bytes"))));
        assert_ne!(root.expose(), stretch(b"a@b\0secre", *b"0123456789abcdef").expect("two MiB").expose());
    }

    #[test]
    fn only_the_same_user_password_and_board_opens() {
        let (folder, name) = named("models", "m.onnx");
        let boxed = derive("a@b", "secret", 1).seal(&folder, &name, b"small", true).expect("randomness");
        let open = |key: VaultKey| key.open(&folder, &name, &boxed).map(|unboxed| unboxed.small.expose().to_vec());
        assert_eq!(open(derive("a@b", "secret", 1)), Ok(b"small".to_vec()));
        for other in [derive("a@c", "secret", 1), derive("a@b", "Secret", 1), derive("a@b", "secret", 2)] {
            assert_eq!(open(other), Err(VaultRefused::Tag));
        }
    }

    #[test]
    fn a_box_is_of_one_resource() {
        let (folder, name) = named("ab", "c");
        let boxed = vault(1).seal(&folder, &name, &[7; 3072], false).expect("randomness");
        assert!(boxed.len() <= BOX_BYTES, "{}", boxed.len());
        assert!(vault(1).open(&folder, &name, &boxed).is_ok_and(|unboxed| unboxed.small.matches(&[7; 3072])));
        for (folder, name) in [named("a", "bc"), named("abc", "c"), named("", "abc"), named("ab", "C")] {
            assert_eq!(vault(1).open(&folder, &name, &boxed).err(), Some(VaultRefused::Tag));
        }
    }

    #[test]
    fn every_byte_of_a_box_counts() {
        let (folder, name) = named("", "c");
        let boxed = |is_sealed| vault(1).seal(&folder, &name, b"the small part", is_sealed).expect("randomness");
        for is_sealed in [false, true] {
            let boxed = boxed(is_sealed);
            assert!(vault(1).open(&folder, &name, &boxed).is_ok_and(|unboxed| unboxed.is_sealed == is_sealed));
            // 3 makes the one kind of box the other.
            for (at, flip) in (0..boxed.len()).flat_map(|at| [(at, 1), (at, 3)]) {
                let mut changed = boxed.clone();
                changed[at] ^= flip;
                assert!(vault(1).open(&folder, &name, &changed).is_err(), "{at}");
                assert!(vault(1).open(&folder, &name, &boxed[..at]).is_err(), "cut at {at}");
            }
        }
        assert_ne!(boxed(true), boxed(true), "a fresh IV each");
    }

    #[test]
    fn a_board_draws_its_salt_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = smol::block_on(salt(dir.path())).expect("drawn");
        assert_eq!(smol::block_on(salt(dir.path())).expect("read"), first);
        for broken in [&b""[..], b"short", &[0; SALT + 1]] {
            std::fs::write(dir.path().join(SALT_FILE), broken).expect("written");
            let anew = smol::block_on(salt(dir.path())).expect("drawn anew");
            assert_ne!(anew, first);
            assert_eq!(smol::block_on(salt(dir.path())).expect("read"), anew);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(boxed in prop::collection::vec(any::<u8>(), 0..200)) {
            let (folder, name) = named("", "c");
            prop_assert!(vault(1).open(&folder, &name, &boxed).is_err());
        }
    }
}
