//! Taking back what a load brought that the board did not survive.
//!
//! An engine flushes what it knows of an image and of each layer, and leaves the layers' files to the kernel, which writes
//! them within half a minute. After a power cut in that time it shows images, and takes layers for present, whose files are
//! empty; nothing of the kind is ever looked at again. So what may be damaged is removed: the images, what stands for parts
//! of images, and layers that no image has yet, which only an image that is removed takes with it.

use std::cell::Cell;

use super::super::error::{EngineError, LoadError};
use super::super::plan::{Leaves, Plan, Step, Way};
use super::super::{EngineStore, Expected, chain};
use super::Docker;
use super::documents::PREFIX_LABEL;
use super::thin::{Stage, ThinTar, Track};
use crate::archive::Archive;

impl Docker {
    /// Removes `images`, but for those that are `kept` too, and all layers of `archive` that only they or nobody had.
    pub(in crate::engine) async fn discard(
        &self,
        archive: &Archive,
        store: EngineStore,
        images: &[Expected],
        kept: &[Expected],
    ) -> Result<(), LoadError> {
        self.discard_images(images, kept).await?;
        if store == EngineStore::Classic {
            self.name_layers(archive).await?;
        }
        Ok(self.discard_prefixes().await?)
    }

    /// By their ids in the list of all: where its files are damaged the engine cannot even inspect an image.
    async fn discard_images(&self, images: &[Expected], kept: &[Expected]) -> Result<(), EngineError> {
        let all = self.list().await?;
        let listed = |id: &String| all.iter().find(|listed| listed.id == *id);
        for image in images.iter().rev() {
            let is_kept = |id: &&String| kept.iter().any(|kept| kept.id.as_ref() == Some(id));
            let Some(listed) = image.id.as_ref().filter(|id| !is_kept(id)).and_then(listed) else { continue };
            if listed.is_untagged() {
                self.remove(&listed.id).await?;
            }
            // The plain way sets tags before all is in; the last one takes the image with it.
            for tag in listed.tags.iter().flatten().filter(|tag| image.tags.contains(tag)) {
                self.remove(tag).await?;
            }
        }
        Ok(())
    }

    async fn discard_prefixes(&self) -> Result<(), EngineError> {
        let all = self.list().await?;
        for prefix in all.iter().filter(|listed| listed.label(PREFIX_LABEL).is_some() && listed.is_untagged()) {
            self.remove(&prefix.id).await?;
        }
        Ok(())
    }

    /// Gives every stack of layers that the classic store has an image, a prefix without a single byte of a layer: it
    /// refuses the first one that it does not have.
    async fn name_layers(&self, archive: &Archive) -> Result<(), LoadError> {
        for (at, image) in archive.images().iter().enumerate() {
            let Some(links) = chain::links(image, EngineStore::Classic) else { continue };
            for (key, upto) in chain::keys(&links).into_iter().zip(1..) {
                let step = Step {
                    image: at,
                    upto,
                    sends: Vec::new(),
                    after: Vec::new(),
                    leaves: Leaves::Prefix(key),
                    named: Vec::new(),
                    bytes: 0,
                    unpacked: 0,
                };
                let plan = Plan { way: Way::Thin, steps: vec![step], brought_by: Vec::new() };
                let nothing = Cell::new(0);
                let track = Track::new(1, &nothing);
                let tar = ThinTar::of(archive, &plan, 0, EngineStore::Classic, &track).await?;
                let Some(tar) = tar else { break };
                match self.post_load(tar, || track.stage(0) >= Stage::Applying).await {
                    Ok(_) => {}
                    Err(LoadError::Engine(EngineError::LoadFailed { .. })) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
