//! Seals: what stands beside `images.enc` and beside a split resource, so that nothing unauthenticated is used.
//!
//! `docs/FORMAT.md` has every byte. A seal lists the SHA-256 of every chunk of *ciphertext*, so that a chunk can be checked
//! without a key, and ends in an HMAC-SHA-256 over everything before it. The key of that MAC is expanded from the archive's
//! or the resources' key; it is never the key that encrypts.
//!
//! A seal goes through two types, and a third does not exist: [`ArchiveClaim`] and [`ResourceClaim`] say what a file
//! *claims*, read without a key and believed by nobody; [`ArchiveSeal`] and [`ResourceSeal`] come out of a claim by
//! its MAC alone. Nothing here does I/O, draws random numbers or knows what a policy is.
//!
//! What a MAC proves: made by somebody who holds the key. Every board of a fleet does. `docs/SECURITY.md` says what follows.

mod archive;
mod error;
#[cfg(test)]
pub(crate) mod forgery;
mod head;
mod resource;
mod signature;
#[cfg(test)]
mod tests;

pub use archive::{ArchiveClaim, ArchiveDraft, ArchiveSeal, SealedImage};
pub use error::SealRefused;
pub use head::{Chunks, SealName, SealNameRefused};
pub use resource::{ResourceClaim, ResourceDraft, ResourceSeal};
pub use signature::{PublisherKey, PublisherKeyRefused};
