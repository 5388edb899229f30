//! The plain way: the archive as it is, in one request, as `docker load` sends it.
//!
//! It is taken for archives that are compressed as a whole, and by engines that refuse the thin way. Tags are set by the
//! engine while it loads; after a failure they get back what they meant before.

use std::cell::Cell;

use http::Method;

use super::super::answers::said;
use super::super::error::{Call, EngineError, LoadError};
use super::Docker;
use super::names::{KEPT_IN_PATHS, encoded, split};
use crate::archive::{Archive, ArchiveError, TarStream};
use crate::error::chain;
use crate::limits::{ENGINE_LOAD_ATTEMPTS, ENGINE_RETURN_WAIT};
use crate::net::BodySource;

/// What an engine showed of an archive before its load.
#[derive(Default)]
struct Before {
    /// Each tag, and the id of the image it meant.
    tags: Vec<(String, Option<String>)>,
    /// Ids (config digests: only the classic store has them) that meant nothing.
    unknown: Vec<String>,
}

impl Docker {
    /// Sends the whole archive, decrypted and unpacked, and returns the names that the engine says it loaded.
    ///
    /// The plain way: tags are set by the engine itself. `done` counts the bytes of the tar that are on their way. An engine that dies meanwhile is waited for, and
    /// everything is sent again.
    ///
    /// # Errors
    /// The engine's tags are what they were before, as far as the engine still answers.
    pub(super) async fn load_plain(&self, archive: &Archive, done: &Cell<u64>) -> Result<Vec<String>, LoadError> {
        let before = self.look(archive).await?;
        let mut attempt = 1;
        loop {
            done.set(0);
            match self.send(archive, done).await {
                Ok(loaded) => return Ok(loaded),
                Err(LoadError::Engine(error)) if error.is_away() && attempt < ENGINE_LOAD_ATTEMPTS => {
                    log::warn!("the engine went away in mid-load; attempt {attempt} of {ENGINE_LOAD_ATTEMPTS}");
                    if !self.is_back_within(ENGINE_RETURN_WAIT).await {
                        return Err(error.into());
                    }
                    attempt += 1;
                }
                Err(error) => {
                    // An engine that died keeps what it had taken in: it is waited for, to take that back.
                    let is_away = matches!(&error, LoadError::Engine(error) if error.is_away());
                    if !is_away || self.is_back_within(ENGINE_RETURN_WAIT).await {
                        self.restore(before).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// One load, from the first byte to the engine's answer.
    async fn send(&self, archive: &Archive, done: &Cell<u64>) -> Result<Vec<String>, LoadError> {
        let given = Cell::new(0);
        let tar = archive.tar();
        let end_marker = tar.end_marker();
        let body = Counted { tar, given: &given, done };
        let loaded = self.post_load(body, || given.get() > end_marker).await?;
        done.set(archive.tar_len());
        Ok(loaded)
    }

    /// What the archive's tags and ids mean to the engine now.
    async fn look(&self, archive: &Archive) -> Result<Before, EngineError> {
        let mut before = Before::default();
        for image in archive.images() {
            for tag in &image.tags {
                before.tags.push((tag.clone(), self.inspect(tag).await?.map(|shown| shown.id)));
            }
            let id = image.config.to_string();
            if self.inspect(&id).await?.is_none() {
                before.unknown.push(id);
            }
        }
        Ok(before)
    }

    /// After a load that failed: tags get back what they meant before, and what was not there before is removed. An
    /// engine that fails half-way through an archive keeps its first images, and the containerd store shows some that
    /// have no layers. Best effort: the error that counts is the load's own, and the containerd store forgets an image
    /// when its tag moves, so there a moved tag stays where it is.
    async fn restore(&self, before: Before) {
        let (moved, new): (Vec<_>, Vec<_>) = before.tags.into_iter().partition(|(_, id)| id.is_some());
        // Tags go home first: the last name of an image takes the image with it.
        for (tag, id) in moved.into_iter().filter_map(|(tag, id)| Some((tag, id?))) {
            let back = async {
                if self.inspect(&tag).await?.is_some_and(|shown| shown.id == id) {
                    return Ok(());
                }
                let (repository, name) = split(&tag);
                let query = format!("repo={}&tag={}", encoded(repository, ""), encoded(name, ""));
                let path = format!("/images/{}/tag?{query}", encoded(&id, KEPT_IN_PATHS));
                self.call(Call::Tag, Method::POST, &path).await.map(|_answer| ())
            };
            warn(&tag, back.await);
        }
        for name in new.into_iter().map(|(tag, _)| tag).chain(before.unknown) {
            let away = async {
                if self.inspect(&name).await?.is_none() {
                    return Ok(());
                }
                let path = format!("/images/{}", encoded(&name, KEPT_IN_PATHS));
                self.call(Call::Remove, Method::DELETE, &path).await.map(|_answer| ())
            };
            warn(&name, away.await);
        }
    }
}

fn warn(name: &str, restored: Result<(), EngineError>) {
    if let Err(error) = restored {
        log::warn!("after the failed load, {} is not as it was: {}", said(name), chain(&error));
    }
}

/// The archive's tar as a body, counting what has gone out.
struct Counted<'a> {
    tar: TarStream<'a>,
    /// Bytes given out, the piece that is being sent included.
    given: &'a Cell<u64>,
    /// Bytes that are sent.
    done: &'a Cell<u64>,
}

impl BodySource for Counted<'_> {
    type Error = ArchiveError;

    fn length(&self) -> Option<u64> {
        Some(self.tar.length())
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, ArchiveError> {
        self.done.set(self.given.get());
        let piece = self.tar.next().await?;
        self.given.set(self.given.get() + piece.map_or(0, |piece| piece.len() as u64));
        Ok(piece)
    }
}
