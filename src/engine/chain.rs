//! What an engine knows layers by: never one alone, always with all layers below it.
//!
//! Docker's classic store files a layer under the chain of the `diff_id`s up to it (OCI image specification, config.md,
//! "Layer `ChainID`"); the containerd store has the blobs by their own digests, and the unpacked layers by the same chain.
//! A [`ChainKey`] is made in that form of whichever digests count.

use std::fmt;

use super::EngineStore;
use crate::archive::{Image, Layer};
use crate::crypto::Digest;

/// A stack of layers, from the lowest up to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChainKey(Digest);

impl fmt::Display for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

/// The keys of all stacks that `links` form, the one with the lowest layer alone first.
pub(super) fn keys(links: &[Digest]) -> Vec<ChainKey> {
    let mut keys: Vec<ChainKey> = Vec::with_capacity(links.len());
    for link in links {
        let key = match keys.last() {
            Some(below) => Digest::of(format!("{} {link}", below.0).as_bytes()),
            None => *link,
        };
        keys.push(ChainKey(key));
    }
    keys
}

/// What a layer counts as in this store; `None` when the archive does not tell it.
pub(super) fn link(layer: &Layer, store: EngineStore) -> Option<Digest> {
    match store {
        EngineStore::Classic => Some(layer.diff_id),
        EngineStore::Containerd | EngineStore::Layout => layer.stored_digest(),
    }
}

/// The links of all layers; `None` when one is not told.
pub(super) fn links(image: &Image, store: EngineStore) -> Option<Vec<Digest>> {
    image.layers.iter().map(|layer| link(layer, store)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_chain_ids() {
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        assert_eq!(keys(&[]), []);
        let chain = keys(&[a, b]);
        assert_eq!(chain[0].0, a);
        // OCI image specification: ChainID(L0|L1) = Digest(ChainID(L0) + " " + DiffID(L1)).
        assert_eq!(chain[1].0, Digest::of(format!("{a} {b}").as_bytes()));
        assert_ne!(keys(&[b, a])[1], chain[1]);
    }
}
