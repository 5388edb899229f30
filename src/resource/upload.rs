//! An upload while its client sends: sealed and split as it streams in, staged on flash as ciphertext.
//!
//! Until [`Incoming::finish`] has accepted it, it is the client's to repeat; from then on it is the agent's.

use std::rc::Rc;

use super::Models;
use super::error::ResourceError;
use super::login::{Guest, Login};
use super::splitter::Splitter;
use crate::cache::{Accepted, Staging, Version};
use crate::cloud::Session;
use crate::crypto::{BLOCK, Digest};
use crate::limits::PIECE_BYTES;
use crate::name::{Folder, ResourceName};
use crate::net::turn;

/// What became of an upload that came in whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Both parts are where they belong.
    Published,
    /// It is safe on flash; the agent goes on by itself.
    Accepted,
}

/// An upload that comes in. Dropped before its end it leaves nothing.
pub struct Incoming {
    models: Rc<Models>,
    login: Rc<Login>,
    splitter: Splitter,
    staging: Staging,
    sealed: Vec<u8>,
}

impl Models {
    /// Begins an upload.
    ///
    /// # Errors
    /// Before a byte is taken: the role, no room, no randomness.
    pub async fn upload(self: &Rc<Self>, session: Rc<Session>) -> Result<Incoming, ResourceError> {
        let (needed, held) = (self.parts.upload_role, session.user().role);
        if held < needed {
            return Err(ResourceError::RoleTooLow { needed, held });
        }
        let mut iv = [0; BLOCK];
        getrandom::fill(&mut iv).map_err(|error| ResourceError::Board(std::io::Error::other(error)))?;
        // Before anything is waited for: somebody else may log in meanwhile.
        let login = self.login_of(&session);
        let staging = self.parts.cache.stage().await?;
        Ok(Incoming {
            models: Rc::clone(self),
            login,
            splitter: Splitter::new(&self.resource_key, iv),
            staging,
            sealed: Vec::new(),
        })
    }
}

impl Incoming {
    /// Takes in the next bytes.
    ///
    /// # Errors
    /// The flash, or no room on it.
    pub async fn push(&mut self, plain: &[u8]) -> Result<(), ResourceError> {
        for piece in plain.chunks(PIECE_BYTES) {
            turn::spend(piece.len()).await;
            self.sealed.clear();
            self.splitter.push(piece, &mut self.sealed);
            if !self.sealed.is_empty() {
                self.staging.push(&self.sealed).await?;
            }
        }
        Ok(())
    }

    /// The client has sent everything: accepts the upload and publishes it.
    ///
    /// Whoever stops waiting for this stops nothing, once it is accepted.
    ///
    /// # Errors
    /// It was not accepted, or a cloud refused it for good: then nothing of it is left.
    pub async fn finish(self, folder: Folder, name: ResourceName) -> Result<Outcome, ResourceError> {
        let Self { models, login, splitter, mut staging, mut sealed } = self;
        sealed.clear();
        let small = splitter.finish(&mut sealed);
        staging.push(&sealed).await?;
        let vault = models.vault(&Guest::Login(Rc::clone(&login))).await?;
        // Whatever is uploaded here is sealed.
        let small_boxed = vault.seal(&folder, &name, &small, true);
        let small_boxed = small_boxed.map_err(|error| ResourceError::Board(std::io::Error::other(error)))?;
        let version = Version(*Digest::of(&small).as_bytes());
        let owner = login.owner;
        let upload = staging.accept(Accepted { folder, name, version, owner, small_boxed }).await?;
        let told = models.publish(&upload, Some(login));
        // Nobody tells it any more only when the agent ends: the next run goes on.
        told.recv().await.unwrap_or(Ok(Outcome::Accepted))
    }
}
