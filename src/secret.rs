//! Values that wipe themselves when dropped and that no formatter prints.
//!
//! None of these types is `Clone`, `Serialize` or comparable with `==` by accident: a copy is asked for by name
//! ([`SecretText::duplicate`]), a comparison is constant-time ([`SecretBytes::matches`]). This module must never write
//! a secret anywhere.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::limits::CREDENTIAL_BYTES;

/// Text that must not be seen: a password, a token, a key in its textual form.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// Takes the text over; the caller's copy is gone.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that must hash or send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A second copy, asked for by name because each copy is one more place to wipe.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Bytes that must not be seen: a key fragment, a body with a password in it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes over; the caller's copy is gone.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, for the one place that must hash or parse them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `other` is the same, in a time that depends on the lengths alone.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_slice().ct_eq(other).into()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

/// `N` bytes that must not be seen, on the heap so that moving them leaves no copy behind.
pub struct SecretArray<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Zeroize for SecretArray<N> {
    fn zeroize(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl<const N: usize> SecretArray<N> {
    /// Fills the array in place: the bytes never stand anywhere else.
    pub fn fill(write: impl FnOnce(&mut [u8; N])) -> Self {
        let mut array = Self(Box::new([0; N]));
        write(&mut array.0);
        array
    }

    /// The bytes themselves, for the cipher.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// A second copy, asked for by name.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::fill(|bytes| bytes.copy_from_slice(self.expose()))
    }
}

impl<const N: usize> Drop for SecretArray<N> {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl<const N: usize> fmt::Debug for SecretArray<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretArray({N} bytes)")
    }
}

/// Who logs in: an e-mail address and a password, 1 to [`CREDENTIAL_BYTES`] bytes each.
pub struct Credentials {
    email: String,
    password: SecretText,
}

/// Credentials that cannot be right: one of them is empty or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsRefused {
    /// The e-mail address is empty or longer than [`CREDENTIAL_BYTES`].
    Email,
    /// The password is empty or longer than [`CREDENTIAL_BYTES`].
    Password,
}

impl fmt::Display for CredentialsRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = match self {
            Self::Email => "email",
            Self::Password => "password",
        };
        write!(f, "{which} must have 1 to {CREDENTIAL_BYTES} bytes")
    }
}

impl std::error::Error for CredentialsRefused {}

impl Credentials {
    /// Checks the lengths, nothing else: what an address or a password looks like is the server's business.
    ///
    /// # Errors
    /// [`CredentialsRefused`] names the one that is empty or too long.
    pub fn new(email: String, password: SecretText) -> Result<Self, CredentialsRefused> {
        let fits = |text: &str| (1..=CREDENTIAL_BYTES).contains(&text.len());
        if !fits(&email) {
            return Err(CredentialsRefused::Email);
        }
        if !fits(password.expose()) {
            return Err(CredentialsRefused::Password);
        }
        Ok(Self { email, password })
    }

    /// The e-mail address; not a secret, but personal: it is not logged.
    pub fn email(&self) -> &str {
        &self.email
    }

    /// The password.
    pub fn password(&self) -> &SecretText {
        &self.password
    }

    /// A second copy, asked for by name.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { email: self.email.clone(), password: self.password.duplicate() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_formatter_prints_a_secret() {
        let credentials = Credentials::new("a@b".into(), SecretText::new("canary".into())).expect("lengths fit");
        let shown = format!(
            "{credentials:?} {:?} {:?} {:?}",
            credentials.password(),
            SecretBytes::new(b"canary".to_vec()),
            SecretArray::<6>::fill(|b| b.copy_from_slice(b"canary")),
        );
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!shown.contains("99"), "the bytes in decimal: {shown}");
    }

    #[test]
    fn credentials_hold_at_their_bounds() {
        let text = |n: usize| "x".repeat(n);
        let make = |e: usize, p: usize| Credentials::new(text(e), SecretText::new(text(p))).err();
        assert_eq!(make(1, 1), None);
        assert_eq!(make(CREDENTIAL_BYTES, CREDENTIAL_BYTES), None);
        assert_eq!(make(0, 1), Some(CredentialsRefused::Email));
        assert_eq!(make(CREDENTIAL_BYTES + 1, 1), Some(CredentialsRefused::Email));
        assert_eq!(make(1, 0), Some(CredentialsRefused::Password));
        assert_eq!(make(1, CREDENTIAL_BYTES + 1), Some(CredentialsRefused::Password));
    }

    #[test]
    fn equality_is_by_content() {
        let secret = SecretBytes::new(b"abc".to_vec());
        assert!(secret.matches(b"abc"));
        assert!(!secret.matches(b"abd"));
        assert!(!secret.matches(b"ab"));
    }
}
