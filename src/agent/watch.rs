//! Watches that the board is the one its keys were made for, and names what changed when it is not.
//!
//! What the cloud accepted last is remembered as hashes (`board.json`). A difference is told in the log, in `/status` and
//! in the audit log at every start, and beside a refusal of the cloud, until the cloud has answered a call that names the
//! hardware: then the board as it is now is what is remembered.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use smol::LocalExecutor;

use crate::audit::{Audit, Event};
use crate::board::{Board, Changes, Record, RecordError, Verdict};
use crate::error::{Code, Report, chain};
use crate::net::lend;

/// What is remembered of this board, and what is different.
pub(super) struct Watch {
    state_dir: PathBuf,
    /// The board as it is now; `None` where the fingerprint is fixed.
    now: Option<Record>,
    changes: RefCell<Changes>,
}

impl Watch {
    /// Compares the board with what is remembered; remembers it where nothing is. For start-up: it blocks on flash.
    pub(super) fn of(board: &Board, state_dir: PathBuf, remembered: Result<Option<Record>, RecordError>) -> Self {
        let now = Record::of(board).unwrap_or_else(|error| {
            log::warn!("the board's facts are not remembered: {error}");
            None
        });
        let changes = match (remembered, &now) {
            (Ok(Some(record)), Some(_)) => record.compare(board),
            (Ok(Some(_)), None) => Changes::default(),
            (other, now) => {
                if let Err(error) = other {
                    log::warn!("{}: whether this board changed cannot be told", chain(&error));
                }
                if let Some(Err(error)) = now.as_ref().map(|record| record.write(&state_dir)) {
                    log::warn!("the board's facts are not remembered: {error}");
                }
                Changes::default()
            }
        };
        if !changes.is_empty() {
            log::warn!("{}: {changes}", changes.verdict().in_words());
        }
        Self { state_dir, now, changes: RefCell::new(changes) }
    }

    /// For the audit log, once it is open.
    pub(super) fn audit(&self, audit: &Audit) {
        if !self.changes.borrow().is_empty() {
            audit.note(Event::BoardChanged, None, None);
        }
    }

    /// One line for each thing that a person should know.
    pub(super) fn notes(&self) -> Vec<String> {
        let changes = self.changes.borrow();
        let verdict = Some(changes.verdict()).filter(|verdict| *verdict != Verdict::Same);
        verdict.map(|verdict| verdict.in_words().to_owned()).into_iter().chain(changes.in_words()).collect()
    }

    /// A refusal of the cloud, with what changed where that may be why.
    pub(super) fn explain(&self, report: Report) -> Report {
        let changes = self.changes.borrow();
        let may_be_why = matches!(report.code, Code::ApiRefused | Code::ApiFailed | Code::ResourceDamaged);
        if !may_be_why || !changes.touches_keys() {
            return report;
        }
        let next = format!(
            "{}: {changes}; put the old part back, or have this board registered anew; otherwise {}",
            changes.verdict().in_words(),
            report.next
        );
        Report { next, ..report }
    }

    /// The cloud has answered a call that names the hardware.
    pub(super) fn accepted(self: &Rc<Self>, executor: &Rc<LocalExecutor<'static>>, audit: &Rc<Audit>) {
        let changes = self.changes.take();
        let (false, Some(now)) = (changes.is_empty(), &self.now) else { return };
        log::info!("the cloud accepts this board as it is now: {changes}");
        audit.note(Event::BoardAccepted, None, None);
        let (now, dir) = (now.clone(), self.state_dir.clone());
        let write = async move {
            if let Err(error) = lend(move || now.write(&dir)).await {
                log::warn!("the board's facts are not remembered: {error}");
            }
        };
        executor.spawn(write).detach();
    }
}
