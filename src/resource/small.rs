//! The small part: asked of the API, or taken out of its box when the API cannot be reached.
//!
//! The version of a resource is the SHA-256 of its small part: every upload draws a fresh IV, which stands in it. With the
//! small part comes its seal, if it has one; a small part whose seal does not fit must never leave here.

use std::rc::Rc;
use std::time::Duration;

use smol::Timer;
use smol::future::or;

use super::Models;
use super::error::{Damage, NotKept, ResourceError, is_unreachable};
use super::login::{Guest, Login};
use super::sealed::Forged;
use crate::cache::Version;
use crate::cloud::CloudError;
use crate::crypto::{Digest, unseal};
use crate::limits::{OFFLINE_REST, OFFLINE_TRY, SEAL_TRIES, SMALL_BYTES, SMALL_SEALED_BYTES};
use crate::name::{Folder, ResourceName};
use crate::seal::ResourceSeal;

/// A small part.
pub(super) struct Small {
    pub(super) bytes: Vec<u8>,
    pub(super) version: Version,
    /// What proves it and the big part; its tag is right, and it is of this small part.
    pub(super) seal: Option<Rc<ResourceSeal>>,
}

/// Where a small part comes from.
pub(super) enum Found {
    /// From the API just now.
    Fresh(Small),
    /// From its box: the API cannot be reached, for the reason that it gave if it was asked.
    Kept(Small, Option<ResourceError>),
    /// The API does not know one.
    Unknown,
}

impl Small {
    /// Takes the bytes over.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, ResourceError> {
        if !(1..=SMALL_BYTES).contains(&bytes.len()) {
            return Err(ResourceError::Damaged(Damage::SmallLength { bytes: bytes.len() }));
        }
        let version = Version(*Digest::of(&bytes).as_bytes());
        Ok(Self { bytes, version, seal: None })
    }

    /// The same with its seal.
    pub(super) fn sealed(self, seal: Rc<ResourceSeal>) -> Self {
        Self { seal: Some(seal), ..self }
    }

    fn seal_bytes(&self) -> Option<&[u8]> {
        self.seal.as_ref().map(|seal| seal.bytes())
    }
}

impl Models {
    /// Finds the small part of a resource.
    pub(super) async fn small(
        &self,
        guest: &Guest,
        folder: &Folder,
        name: &ResourceName,
    ) -> Result<Found, ResourceError> {
        let kept = self.kept(guest, folder, name).await?;
        let Guest::Login(login) = guest else {
            return match kept {
                Ok(kept) => Ok(Found::Kept(kept, None)),
                Err(why) => Err(ResourceError::Offline { cause: None, why }),
            };
        };
        let is_enough = match &kept {
            Ok(small) => self.is_whole(folder, name, small).await,
            Err(_) => false,
        };
        let kept = match kept {
            Ok(small) if is_enough && self.rests() => return Ok(Found::Kept(small, None)),
            kept => kept,
        };
        // What can be served without the API does not wait long for it.
        let patience = is_enough.then_some(OFFLINE_TRY);
        let asked = within(patience, Box::pin(self.fetch(login, folder, name))).await;
        let cause = match asked {
            Some(Ok(found)) => {
                self.away_since.set(None);
                return Ok(found.map_or(Found::Unknown, Found::Fresh));
            }
            Some(Err(ResourceError::Cloud(error))) if is_unreachable(&error) => Some(ResourceError::Cloud(error)),
            Some(Err(error)) => return Err(error),
            None => None,
        };
        self.away_since.set(Some(self.parts.clock.now()));
        match kept {
            Ok(kept) => Ok(Found::Kept(kept, cause)),
            Err(why) => Err(ResourceError::Offline { cause: cause.map(Box::new), why }),
        }
    }

    /// Asks the API for a small part and its seal; `None` when it has no small part of this name.
    ///
    /// A seal that does not fit may be of an upload that passed in between: then both are asked for once more.
    async fn fetch(&self, login: &Login, folder: &Folder, name: &ResourceName) -> Result<Option<Small>, ResourceError> {
        for _ in 0..SEAL_TRIES {
            let Some(small) = self.fetch_small(login, folder, name).await? else { return Ok(None) };
            match self.fetch_seal(login, folder, name).await? {
                None => return Ok(Some(small)),
                Some(seal) if seal.fits_small(&small.bytes) => return Ok(Some(small.sealed(seal))),
                Some(_) => {}
            }
        }
        Err(Forged::Small.refuse())
    }

    /// Asks the API; `None` when it has none of this name.
    async fn fetch_small(
        &self,
        login: &Login,
        folder: &Folder,
        name: &ResourceName,
    ) -> Result<Option<Small>, ResourceError> {
        let (api, hardware) = (&self.parts.api, &self.parts.hardware);
        let file = name.small();
        match api.small_resource(&login.session, hardware, folder, &file, SMALL_SEALED_BYTES).await {
            Ok(sealed) => {
                let small = unseal(&login.api_key, sealed);
                let small = small.map_err(|error| ResourceError::Damaged(Damage::ApiKey(error)))?;
                Small::new(small.expose().to_vec()).map(Some)
            }
            Err(CloudError::Unknown { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What is kept of it for this user, or why nothing is.
    async fn kept(
        &self,
        guest: &Guest,
        folder: &Folder,
        name: &ResourceName,
    ) -> Result<Result<Small, NotKept>, ResourceError> {
        if !self.parts.offline {
            return Ok(Err(NotKept::Off));
        }
        let Some(boxed) = self.parts.cache.kept_small(folder, name).await else {
            return Ok(Err(NotKept::NeverLoaded));
        };
        let vault = match self.vault(guest).await {
            Ok(vault) => vault,
            // Without a key nothing opens; with the API all goes on.
            Err(error) if guest.login().is_none() => return Err(error),
            Err(_) => return Ok(Err(NotKept::NeverLoaded)),
        };
        let Ok(unboxed) = vault.open(folder, name, &boxed) else { return Ok(Err(NotKept::NeverLoaded)) };
        let Ok(small) = Small::new(unboxed.small.expose().to_vec()) else { return Ok(Err(NotKept::NeverLoaded)) };
        if !unboxed.is_sealed {
            return Ok(Ok(small));
        }
        let Some(seal) = self.kept_seal(folder, name, &small.bytes).await else {
            log::warn!("the seal of a small part that is kept is gone or not its own: it counts as not kept");
            return Ok(Err(NotKept::NeverLoaded));
        };
        Ok(Ok(small.sealed(seal)))
    }

    /// Keeps a small part and its seal for this user, when that is wanted and it is not kept yet.
    ///
    /// Failures are logged: the model is served all the same.
    pub(super) async fn keep(&self, guest: &Guest, folder: &Folder, name: &ResourceName, small: &Small) {
        if !self.parts.offline {
            return;
        }
        if let Ok(Ok(kept)) = self.kept(guest, folder, name).await
            && kept.version == small.version
            && kept.seal_bytes() == small.seal_bytes()
        {
            return;
        }
        let kept = async {
            let vault = self.vault(guest).await?;
            let boxed = vault.seal(folder, name, &small.bytes, small.seal.is_some());
            let boxed = boxed.map_err(|error| ResourceError::Board(std::io::Error::other(error)))?;
            self.parts.cache.keep_small(folder, name, &boxed, small.seal_bytes()).await?;
            Ok::<_, ResourceError>(())
        };
        if let Err(error) = kept.await {
            log::warn!("a small part is not kept for offline use: {}", crate::error::chain(&error));
        }
    }

    async fn is_whole(&self, folder: &Folder, name: &ResourceName, small: &Small) -> bool {
        // A look, which drops nothing: the version that is kept is the one that the API is about to confirm or not.
        let entry = self.parts.cache.entry(folder, name, &small.version).await;
        entry.is_some_and(|entry| entry.is_whole() && small.binds(&entry))
    }

    /// Whether the API was found unreachable a moment ago.
    fn rests(&self) -> bool {
        self.away_since.get().is_some_and(|since| self.parts.clock.now().saturating_sub(since) < OFFLINE_REST)
    }
}

/// `asked`, or nothing when it takes longer than `patience`.
async fn within<T>(patience: Option<Duration>, asked: impl Future<Output = T>) -> Option<T> {
    match patience {
        None => Some(asked.await),
        Some(patience) => {
            or(async { Some(asked.await) }, async {
                Timer::after(patience).await;
                None
            })
            .await
        }
    }
}

/// The two names of a resource and its version: what a download is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) folder: Folder,
    pub(super) name: ResourceName,
    pub(super) version: Version,
}

impl Target {
    pub(super) fn of(folder: &Folder, name: &ResourceName, small: &Small) -> Rc<Self> {
        Rc::new(Self { folder: folder.clone(), name: name.clone(), version: small.version })
    }
}
