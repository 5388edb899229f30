//! The load plan as a person reads it: `azaion-loader plan`.

use serde::Serialize;

use super::docker::Room;
use super::plan::{Held, Plan};
use super::{Expected, Order};
use crate::archive::Archive;

/// What a load of this archive into this engine would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The images in the archive's order.
    pub images: Vec<PreviewImage>,
    /// Whether images go in one by one without the layers that are there; else the archive goes in as it is.
    pub thin: bool,
    /// Requests to the engine.
    pub requests: usize,
    /// Images side by side, at most.
    pub at_once: usize,
    /// Bytes that go to the engine.
    pub bytes: u64,
    /// Bytes of the archive's tar.
    pub archive_bytes: u64,
    /// Bytes that stay on the engine's flash, at least.
    pub lasting_bytes: u64,
    /// Bytes that lie there for a while on top.
    pub passing_bytes: u64,
    /// Bytes that are free there; `None` where that cannot be seen.
    pub free_bytes: Option<u64>,
}

/// One image of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewImage {
    /// Its tags; none for an untagged image.
    pub tags: Vec<String>,
    /// The digest of its config.
    pub config: String,
    /// Whether it is in the engine whole.
    pub present: bool,
    /// Its layers.
    pub layers: usize,
    /// Layers that go out for it.
    pub layers_sent: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Requests that bring it: more than one when it goes in by growing prefixes.
    pub requests: usize,
    /// The image whose layers it builds on, where those go in first.
    pub builds_on: Option<String>,
}

impl Preview {
    pub(super) fn of(
        archive: &Archive,
        expected: &[Expected],
        order: &Order<'_>,
        held: &Held,
        plan: Option<&Plan>,
        room: Room,
    ) -> Self {
        let images = archive.images().iter().zip(expected).enumerate();
        let images: Vec<_> = images
            .map(|(at, (image, expected))| {
                let steps = || plan.iter().flat_map(|plan| &plan.steps).filter(|step| step.image == at);
                let below =
                    steps().flat_map(|step| &step.after).filter_map(|&below| plan.map(|plan| &plan.steps[below]));
                let builds_on =
                    below.filter(|below| below.image != at).map(|below| expected_name(archive, below.image)).next();
                let present = held.whole.contains(&image.config);
                PreviewImage {
                    tags: image.tags.clone(),
                    config: expected.config.to_string(),
                    present,
                    layers: image.layers.len(),
                    layers_sent: match plan {
                        Some(_) => steps().map(|step| step.sends.len()).sum(),
                        None => {
                            if present {
                                0
                            } else {
                                image.layers.len()
                            }
                        }
                    },
                    bytes: match plan {
                        Some(_) => steps().map(|step| step.bytes).sum(),
                        None => {
                            if present {
                                0
                            } else {
                                image.layers.iter().map(|layer| layer.size).sum()
                            }
                        }
                    },
                    requests: steps().count(),
                    builds_on,
                }
            })
            .collect();
        let all_present = images.iter().all(|image| image.present);
        let whole = if all_present { 0 } else { archive.tar_len() };
        Self {
            thin: plan.is_some(),
            requests: plan.map_or(usize::from(!all_present), |plan| plan.steps.len()),
            at_once: order.at_once,
            bytes: plan.map_or(whole, Plan::bytes),
            archive_bytes: archive.tar_len(),
            lasting_bytes: room.lasting,
            passing_bytes: room.passing,
            free_bytes: room.free,
            images,
        }
    }
}

fn expected_name(archive: &Archive, at: usize) -> String {
    let image = &archive.images()[at];
    image.tags.first().cloned().unwrap_or_else(|| image.config.to_string())
}
