//! The board: whether it is the one its keys were made for, its cache, and how its flash is.

use std::path::Path;

use super::Says;
use crate::board::wear;
use crate::cache::CacheFacts;
use crate::control::{Check, Finding};
use crate::error::size;
use crate::net::lend;

/// Whether the board is the one its keys were made for.
pub(super) fn fingerprint(says: &Says, changes: &[String]) -> Check {
    const NAME: &str = "fingerprint";
    if !changes.is_empty() {
        let next =
            "put the old part back, or have this board registered anew; azaion-loader fingerprint shows all facts";
        return Check::warn(NAME, changes.join("; "), next);
    }
    if !says.missing.is_empty() {
        let text = format!("{}; unchanged, but {}", says.profile, says.missing.join("; "));
        let next = "azaion-loader fingerprint shows each fact and where it is read; the keys are weaker without it";
        return Check::warn(NAME, text, next);
    }
    Check::ok(NAME, format!("{}, unchanged", says.profile))
}

/// The cache of models.
pub(super) fn cache(facts: Option<&CacheFacts>) -> Check {
    const NAME: &str = "cache";
    let Some(facts) = facts else {
        return Check::skip(NAME, "azaion-loader cache verify looks at it while no agent runs");
    };
    if let Some(report) = &facts.unusable {
        return Check::warn(
            NAME,
            format!("{} ({}); models are loaded without it", report.message, report.code),
            &*report.next,
        );
    }
    let text = format!(
        "{} models and {} parts, {} of {}; {} uploads wait; {} written to flash",
        facts.entries,
        facts.parts,
        size(facts.bytes),
        size(facts.max_bytes),
        facts.uploads,
        size(facts.bytes_written)
    );
    Check::ok(NAME, text)
}

/// What the kernel tells of the flash.
pub(super) async fn flash(root: &Path) -> Check {
    const NAME: &str = "flash";
    let root = root.to_owned();
    let told = lend(move || wear(&root)).await;
    if told.is_empty() {
        return Check::skip(NAME, "the kernel tells nothing of it");
    }
    let worn = told.iter().any(|wear| wear.is_worn());
    let broken = told.iter().any(|wear| wear.is_failing());
    let text = told.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match (broken, worn) {
        (true, _) => Check {
            name: NAME,
            result: Finding::Fail,
            text,
            next: Some(
                "copy what is needed and change the card or the board: it will fail; dmesg has the kernel's words"
                    .into(),
            ),
        },
        (false, true) => Check::warn(NAME, text, "plan to change the card or the board: its flash is worn"),
        (false, false) => Check::ok(NAME, text),
    }
}
