//! The container engine: takes the images in and is asked what it shows.
//!
//! Two kinds: a Docker engine behind its unix socket ([`docker`]), and a directory in the layout of the OCI image
//! specification ([`directory`]) for boards whose own engine reads one. Both claim success only for what they have
//! verified or heard from the engine itself. This room must never write plaintext to flash, but for the directory,
//! which by its nature is images in the clear; and it must never reach an engine over the network.

mod address;
mod answers;
mod chain;
pub mod directory;
pub mod docker;
mod error;
#[cfg(test)]
#[path = "../../tests/support/archive.rs"]
mod made;
mod plan;
mod preview;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

pub use address::{AddressRefused, EngineAddress};
pub use error::{Call, Difference, Duty, EngineError, Fault, LoadError, Place};
pub use plan::Way;
pub use preview::{Preview, PreviewImage};

use crate::archive::{Archive, Image};
use crate::crypto::Digest;
use crate::net::{Client, Endpoint};
use directory::{BoardFlash, Directory};
use docker::Docker;

/// The board's container engine.
pub enum Engine {
    /// A Docker engine behind a unix socket.
    Docker(Docker),
    /// An OCI image layout on this board's flash.
    Directory(Directory<BoardFlash>),
}

/// What kind of engine this is; nothing of it is needed to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// The engine's version; a directory has none.
    pub version: Option<String>,
    /// The newest API it speaks; a directory has none.
    pub api_version: Option<String>,
    /// Its storage driver; a directory has none.
    pub driver: Option<String>,
    /// How it keeps images, and so what an inspect proves.
    pub store: EngineStore,
    /// Where it keeps them.
    pub root_dir: PathBuf,
    /// Tells this engine from another one, or from itself wiped; a directory has one from its first load on.
    pub id: Option<String>,
}

/// How an engine keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineStore {
    /// Docker's own: an image appears when it is whole.
    Classic,
    /// containerd's: an image appears before it has its layers.
    Containerd,
    /// An OCI directory written by the agent: the index names only what is whole.
    Layout,
}

impl EngineStore {
    /// Whether an image that is shown with the right layers is there whole. Where not, only a load that ended without
    /// an error proves it, and whoever remembers such loads decides.
    pub const fn shows_only_what_is_whole(self) -> bool {
        match self {
            Self::Classic | Self::Layout => true,
            Self::Containerd => false,
        }
    }
}

/// What must be known of an image to look for it in the engine, without the archive it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Its tags, as the archive spells them; none for an untagged image.
    pub tags: Vec<String>,
    /// Digest of its configuration.
    pub config: Digest,
    /// Digests of its unpacked layers, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// The engine's own name of the image, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Digests of its layers as they lay in the archive, where they are known and differ from `diff_ids`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packed: Vec<Digest>,
}

/// An image that the agent brought into the engine, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// What was brought in.
    pub image: Expected,
    /// Whether its load ended without an error.
    pub is_whole: bool,
}

/// How images are to be brought in.
#[derive(Debug)]
pub struct Order<'a> {
    /// How the engine keeps images.
    pub store: EngineStore,
    /// Where it keeps them.
    pub root: &'a Path,
    /// What the agent brought in before.
    pub brought: &'a [Brought],
    /// Images side by side, at most.
    pub at_once: usize,
}

/// What follows a load.
pub trait Gauge {
    /// Bytes of layers, or of the whole tar, that are on their way.
    fn done(&self) -> &Cell<u64>;
    /// How many there will be.
    fn expect_bytes(&self, bytes: u64);
    /// Images that are in.
    fn images(&self, done: u32);
}

impl Expected {
    /// What `image` must look like in an engine with this store.
    pub fn of(image: &Image, store: EngineStore) -> Self {
        let id = docker::image_id(image, store).map(|id| id.to_string()).filter(|_| store != EngineStore::Layout);
        let packed = chain::links(image, EngineStore::Containerd).filter(|links| *links != image.diff_ids);
        let (tags, diff_ids) = (image.tags.clone(), image.diff_ids.clone());
        Self { tags, config: image.config, diff_ids, id, packed: packed.unwrap_or_default() }
    }

    /// Digests of the layers as the containerd store keeps them.
    fn blobs(&self) -> &[Digest] {
        if self.packed.is_empty() { &self.diff_ids } else { &self.packed }
    }

    /// The image in words: its first tag, else its config digest.
    pub fn name(&self) -> String {
        self.tags.first().cloned().unwrap_or_else(|| self.config.to_string())
    }

    fn has_layers(&self, shown: &[String]) -> bool {
        self.diff_ids.iter().map(Digest::to_string).eq(shown.iter().cloned())
    }
}

/// What of a suite an engine shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Every image, under each of its tags, with the right layers.
    AllShown,
    /// These are not shown so, by [`Expected::name`].
    Missing(Vec<String>),
}

impl Engine {
    /// The engine at `address`; nothing is asked yet.
    pub fn at(address: &EngineAddress, client: Rc<Client>) -> Self {
        match address {
            EngineAddress::Docker(socket) => Self::Docker(Docker::new(client, Endpoint::Unix(socket.clone()))),
            EngineAddress::Directory(path) => Self::Directory(Directory::new(path.clone(), BoardFlash)),
        }
    }

    /// What kind of engine it is.
    pub async fn survey(&self) -> Result<EngineFacts, EngineError> {
        match self {
            Self::Docker(docker) => docker.survey().await,
            Self::Directory(directory) => directory.survey().await,
        }
    }

    /// Brings the archive's images in, `expected` in its order, as far as they are not there.
    ///
    /// `Ok` means: the engine's own answers held no error, in this call. [`Engine::switch`] and [`Engine::confirm`] come
    /// after it.
    pub async fn load(
        &self,
        archive: &Archive,
        expected: &[Expected],
        order: &Order<'_>,
        gauge: &dyn Gauge,
    ) -> Result<(), LoadError> {
        match self {
            Self::Docker(docker) => docker.load(archive, expected, order, gauge).await,
            Self::Directory(directory) => {
                gauge.expect_bytes(archive.tar_len());
                directory.load(archive, gauge.done()).await
            }
        }
    }

    /// What [`Engine::load`] would do. `None` for a directory, whose one step is writing what is not there.
    pub async fn preview(
        &self,
        archive: &Archive,
        expected: &[Expected],
        order: &Order<'_>,
    ) -> Result<Option<Preview>, EngineError> {
        match self {
            Self::Docker(docker) => {
                let (held, plan, room) = docker.plan(archive, expected, order).await?;
                Ok(Some(Preview::of(archive, expected, order, &held, plan.as_ref(), room)))
            }
            Self::Directory(_) => Ok(None),
        }
    }

    /// Fills in the names that the engine gave images whose names were not known before their load.
    pub async fn identify(&self, images: &mut [Expected]) -> Result<(), EngineError> {
        match self {
            Self::Docker(docker) => docker.identify(images).await,
            Self::Directory(_) => Ok(()),
        }
    }

    /// Lets every tag mean its image; it can be repeated. A directory switched when it was loaded.
    pub async fn switch(&self, images: &[Expected]) -> Result<(), EngineError> {
        match self {
            Self::Docker(docker) => docker.switch(images).await,
            Self::Directory(_) => Ok(()),
        }
    }

    /// Removes `images`, which a load brought that the board did not survive, but for those that are `kept` too, and the
    /// layers of `archive` that it may have left. A directory is flushed before it shows anything.
    ///
    /// # Errors
    /// Some of them may still be there.
    pub async fn discard(
        &self,
        archive: &Archive,
        store: EngineStore,
        images: &[Expected],
        kept: &[Expected],
    ) -> Result<(), LoadError> {
        match self {
            Self::Docker(docker) => docker.discard(archive, store, images, kept).await,
            Self::Directory(_) => Ok(()),
        }
    }

    /// Removes an image of an earlier archive, unless a container uses it; returns whether it is done with.
    pub async fn remove_old(&self, image: &Expected, present: &[Expected]) -> Result<bool, EngineError> {
        match self {
            Self::Docker(docker) => docker.remove_old(image, present).await,
            // It removes what nothing uses by itself.
            Self::Directory(_) => Ok(true),
        }
    }

    /// Asks for every image under each of its tags and compares the layers; `shown` hears how many have been seen.
    ///
    /// # Errors
    /// [`EngineError::Mismatch`] names the first image that is missing or different.
    pub async fn confirm(&self, images: &[Expected], mut shown: impl FnMut(u32)) -> Result<(), EngineError> {
        for (image, number) in images.iter().zip(1..) {
            self.find(image).await?.map_err(|difference| EngineError::Mismatch { image: image.name(), difference })?;
            shown(number);
        }
        Ok(())
    }

    /// What of `images` the engine shows. Whether that suffices is told by [`EngineStore::shows_only_what_is_whole`].
    pub async fn present(&self, images: &[Expected]) -> Result<Presence, EngineError> {
        let mut missing = Vec::new();
        for image in images {
            if self.find(image).await?.is_err() {
                missing.push(image.name());
            }
        }
        Ok(if missing.is_empty() { Presence::AllShown } else { Presence::Missing(missing) })
    }

    /// Whether nothing needs to be done: every image is there, whole and with this very config, and every tag means it. An
    /// engine that cannot tell says no.
    pub async fn holds(
        &self,
        images: &[Expected],
        brought: &[Brought],
        store: EngineStore,
    ) -> Result<bool, EngineError> {
        for image in images {
            let is_held = match self {
                Self::Docker(docker) => docker.holds(image, brought, store).await?,
                Self::Directory(directory) => !image.tags.is_empty() && directory.find(image).await?.is_ok(),
            };
            if !is_held {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn find(&self, image: &Expected) -> Result<Result<(), Difference>, EngineError> {
        match self {
            Self::Docker(docker) => docker.find(image).await,
            Self::Directory(directory) => directory.find(image).await,
        }
    }
}
