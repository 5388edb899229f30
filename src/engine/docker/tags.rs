//! The switch from old to new, and the clean-up behind it.

use http::Method;

use super::super::Expected;
use super::super::answers::{Container, said};
use super::super::error::{Call, EngineError};
use super::Docker;
use super::documents::PREFIX_LABEL;
use super::names::{KEPT_IN_PATHS, encoded, split};
use crate::error::chain;
use crate::limits::{ENGINE_DOCUMENT_BYTES, ENGINE_LIST_BYTES};

impl Docker {
    /// Lets every tag mean its image. It can be repeated: what is right stays.
    pub(in crate::engine) async fn switch(&self, images: &[Expected]) -> Result<(), EngineError> {
        for (tag, id) in tags(images) {
            if self.means(tag, id).await? {
                continue;
            }
            let (repository, name) = split(tag);
            let query = format!("repo={}&tag={}", encoded(repository, ""), encoded(name, ""));
            let path = format!("/images/{}/tag?{query}", encoded(id, KEPT_IN_PATHS));
            self.call(Call::Tag, Method::POST, &path).await?;
        }
        Ok(())
    }

    pub(super) async fn means(&self, tag: &str, id: &str) -> Result<bool, EngineError> {
        Ok(self.inspect(tag).await?.is_some_and(|shown| shown.id == id))
    }

    /// The ids under which the engine shows the images: those that were not known before their load, and those that it
    /// spells another way than it was asked.
    pub(in crate::engine) async fn identify(&self, images: &mut [Expected]) -> Result<(), EngineError> {
        for image in images {
            let Some(name) = image.id.as_ref().or(image.tags.first()) else { continue };
            if let Some(shown) = self.inspect(name).await? {
                image.id = Some(shown.id);
            }
        }
        Ok(())
    }

    /// Removes an image that an earlier archive brought, if nothing uses it: its tags that still mean it and that the
    /// present suite does not have, and itself when no other name is left. Returns whether it is done with; not while a
    /// container uses it.
    pub(in crate::engine) async fn remove_old(
        &self,
        image: &Expected,
        present: &[Expected],
    ) -> Result<bool, EngineError> {
        let Some(id) = &image.id else { return Ok(true) };
        if present.iter().any(|kept| kept.id.as_ref() == Some(id)) {
            return Ok(true);
        }
        let Some(shown) = self.inspect(id).await? else { return Ok(true) };
        if shown.id != *id {
            return Ok(true);
        }
        if self.is_used(id).await? {
            return Ok(false);
        }
        let has = |tag: &String| present.iter().any(|kept| kept.tags.contains(tag));
        for tag in image.tags.iter().filter(|tag| !has(tag)) {
            if self.means(tag, id).await? {
                self.remove(tag).await?;
            }
        }
        let Some(shown) = self.inspect(id).await? else { return Ok(true) };
        // A name that somebody else gave it keeps it.
        if shown.tags.unwrap_or_default().is_empty() {
            self.remove(id).await?;
        }
        Ok(true)
    }

    async fn is_used(&self, id: &str) -> Result<bool, EngineError> {
        let filters = serde_json::json!({ "ancestor": [id] }).to_string();
        let path = format!("/containers/json?all=1&filters={}", encoded(&filters, ""));
        let containers: Vec<Container> = self.document(Call::Containers, &path, ENGINE_LIST_BYTES).await?;
        Ok(!containers.is_empty())
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let path = format!("/images/{}?noprune=1", encoded(name, KEPT_IN_PATHS));
        match self.call(Call::Remove, Method::DELETE, &path).await {
            Ok(answer) => {
                // Read to its end, so that the connection can be used again.
                let _what_was_removed = answer.bytes(ENGINE_DOCUMENT_BYTES).await;
                Ok(())
            }
            Err(EngineError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes all prefixes, of this load and of interrupted ones. Best effort: what stays is found by the next load.
    pub(super) async fn remove_prefixes(&self) {
        let all = match self.list().await {
            Ok(all) => all,
            Err(error) => return log::warn!("prefixes of images may be left in the engine: {}", chain(&error)),
        };
        for prefix in all.iter().filter(|listed| listed.label(PREFIX_LABEL).is_some() && listed.is_untagged()) {
            if let Err(error) = self.remove(&prefix.id).await {
                log::warn!("a prefix of an image is left in the engine: {}", chain(&error));
            }
        }
    }

    /// After a load that failed: images that were not there before go. Best effort: the error that counts is the load's.
    pub(super) async fn take_back(&self, new: &[String]) {
        for id in new {
            let away = async {
                match self.inspect(id).await? {
                    Some(shown) if shown.tags.as_ref().is_none_or(Vec::is_empty) => self.remove(id).await,
                    Some(_) | None => Ok(()),
                }
            };
            if let Err(error) = away.await {
                log::warn!("after the failed load, {} is left in the engine: {}", said(id), chain(&error));
            }
        }
    }
}

/// Every tag with the id of its image, where that is known.
fn tags(images: &[Expected]) -> impl Iterator<Item = (&str, &str)> {
    images.iter().flat_map(|image| {
        let id = image.id.as_deref();
        image.tags.iter().filter_map(move |tag| Some((tag.as_str(), id?)))
    })
}
