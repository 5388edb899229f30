//! What an engine has of an archive: whole images, stacks of layers, and prefixes that an interrupted load has left.
//!
//! The classic store shows only what is whole, so that every image it shows proves its layers. The containerd store shows
//! an image before it has its layers, and never shows the digests of their blobs: there only images that the agent itself
//! brought in count, known by their ids, and the engine checks them once more when it takes the rest in.

use std::collections::BTreeMap;

use super::super::answers::{Inspected, Listed};
use super::super::chain::{self, ChainKey};
use super::super::error::{Call, EngineError};
use super::super::plan::Held;
use super::super::{Brought, EngineStore, Expected};
use super::Docker;
use super::documents::PREFIX_LABEL;
use crate::archive::Image;
use crate::crypto::Digest;
use crate::limits::{ENGINE_LIST_BYTES, ENGINE_LIST_IMAGES};

impl Docker {
    /// Looks for `images`, whose ids are told by `expected`, one for one.
    pub(super) async fn held(
        &self,
        images: &[Image],
        expected: &[Expected],
        brought: &[Brought],
        store: EngineStore,
    ) -> Result<Held, EngineError> {
        let mut held = Held::default();
        for image in expected {
            if self.is_whole(image, brought, store).await? {
                held.whole.insert(image.config);
            }
        }
        if expected.iter().all(|image| held.whole.contains(&image.config)) {
            return Ok(held);
        }
        held.named = self.named(expected, store).await?;
        let all = self.list().await?;
        // The label tells the key; whether it means anything here, the plan sees by comparing.
        let keys: Vec<Vec<ChainKey>> =
            images.iter().filter_map(|image| Some(chain::keys(&chain::links(image, store)?))).collect();
        for key in keys.iter().flatten() {
            let text = key.to_string();
            if all.iter().any(|listed| listed.label(PREFIX_LABEL) == Some(&text)) {
                held.chains.insert(*key);
            }
        }
        match store {
            EngineStore::Classic => {
                for listed in all.iter().take(ENGINE_LIST_IMAGES) {
                    let shown = self.inspect(&listed.id).await?;
                    let layers: Result<Vec<Digest>, _> =
                        shown.iter().flat_map(Inspected::layers).map(|layer| layer.parse()).collect();
                    held.chains.extend(chain::keys(&layers.unwrap_or_default()));
                }
            }
            EngineStore::Containerd | EngineStore::Layout => {
                // The engine lists only what has all its blobs.
                let is_listed = |image: &Expected| all.iter().any(|listed| image.id.as_ref() == Some(&listed.id));
                for image in brought.iter().map(|brought| &brought.image).chain(expected) {
                    if is_listed(image) {
                        held.chains.extend(chain::keys(image.blobs()));
                    }
                }
            }
        }
        // Below a stack that is there, all others are: a label tells only its own.
        for keys in keys {
            if let Some(highest) = keys.iter().rposition(|key| held.chains.contains(key)) {
                held.chains.extend(&keys[..=highest]);
            }
        }
        Ok(held)
    }

    /// Whether the image is there, whole, and under each of its tags.
    pub(in crate::engine) async fn holds(
        &self,
        image: &Expected,
        brought: &[Brought],
        store: EngineStore,
    ) -> Result<bool, EngineError> {
        let Some(id) = image.id.as_ref().filter(|id| is_proved(id, brought, store)) else { return Ok(false) };
        if image.tags.is_empty() {
            return self.is_whole(image, brought, store).await;
        }
        for tag in &image.tags {
            let shown = self.inspect(tag).await?;
            if !shown.is_some_and(|shown| shown.id == *id && image.has_layers(shown.layers())) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the image is there, whole, under its id.
    pub(super) async fn is_whole(
        &self,
        image: &Expected,
        brought: &[Brought],
        store: EngineStore,
    ) -> Result<bool, EngineError> {
        let Some(id) = image.id.as_ref().filter(|id| is_proved(id, brought, store)) else { return Ok(false) };
        Ok(self.inspect(id).await?.is_some_and(|shown| image.has_layers(shown.layers())))
    }

    /// Of each image the tags that mean it already, as far as it matters.
    pub(super) async fn named(
        &self,
        expected: &[Expected],
        store: EngineStore,
    ) -> Result<BTreeMap<Digest, Vec<String>>, EngineError> {
        let mut named: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        if store != EngineStore::Containerd {
            return Ok(named);
        }
        for image in expected {
            let Some(id) = &image.id else { continue };
            for tag in &image.tags {
                if self.means(tag, id).await? {
                    named.entry(image.config).or_default().push(tag.clone());
                }
            }
        }
        Ok(named)
    }

    /// All images, those without a name too.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, EngineError> {
        self.document(Call::List, "/images/json?all=1", ENGINE_LIST_BYTES).await
    }
}

/// Whether an image that the engine shows under this id has all its layers.
fn is_proved(id: &String, brought: &[Brought], store: EngineStore) -> bool {
    let is_whole = |brought: &Brought| brought.is_whole && brought.image.id.as_ref() == Some(id);
    store.shows_only_what_is_whole() || brought.iter().any(is_whole)
}
