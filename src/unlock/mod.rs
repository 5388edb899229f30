//! The typestate unlock machine: from nothing to a container engine that holds the suite.
//!
//! ```text
//!   Idle ─authenticate→ Authenticated ─fetch_key→ KeyHeld ─open→ Opened ─load→ Loaded ─confirm→ Ready
//!     │                                                                                          ▲
//!     └────────────────── already_ready (state on flash agrees with the engine) ────────────────┘
//!
//!   from every stage: lock → Idle
//! ```
//!
//! What a stage owns lives in the stage: only [`KeyHeld`] holds a bare key, [`Opened`] holds it inside the opened
//! archive, and leaving a stage drops, and so wipes, what it held. A step that does not exist does not compile
//! (`edges.rs` proves each one). A step that fails gives the machine back with the cause: [`Step`].
//!
//! This room must never open a socket or a file: it names the [traits](parts) that it needs, the agent brings them in.

#[cfg(doctest)]
mod edges;
mod meter;
pub mod parts;
mod remedy;
mod stages;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::rc::Rc;

pub use meter::Meter;
pub use parts::{Archives, Cause, Cloud, Engine, Key, Ledger, Parts, Recalled, Session, Standing, Suite, Ticket};
pub use remedy::{Remedy, remedy};
pub use stages::{Authenticated, Idle, KeyHeld, Loaded, NotReady, Opened, Ready};
pub use status::{Progress, State};

/// The machine in stage `S`, working with the parts `P`.
pub struct Unlock<P: Parts, S: Stage> {
    ctx: Ctx<P>,
    stage: S,
}

/// What goes along through all stages.
struct Ctx<P> {
    parts: Rc<P>,
    meter: Rc<Meter>,
}

mod sealed {
    pub trait Sealed {}
}

/// A stage of the machine; only this module's stages are.
pub trait Stage: sealed::Sealed {
    /// The stage's name, for the log.
    const NAME: &'static str;
    /// What an observer sees while the work that leads out of this stage is under way.
    const WORK: State;
}

/// The result of a step from stage `A` to stage `B`: the machine one stage further, or back with the cause.
pub type Step<P, A, B> = Result<Unlock<P, B>, Stuck<P, A>>;

/// A machine that could not make its step. It is still in stage `S`, with everything it held.
pub struct Stuck<P: Parts, S: Stage> {
    /// The machine, unchanged: the step can be tried again.
    pub machine: Unlock<P, S>,
    /// Why the step failed; [`remedy()`] tells what helps.
    pub cause: Cause,
}

impl<P: Parts, S: Stage> fmt::Debug for Unlock<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unlock({})", S::NAME)
    }
}

impl<P: Parts, S: Stage> fmt::Debug for Stuck<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stuck({}, {:?})", S::NAME, self.cause)
    }
}

impl<P: Parts, S: Stage> Unlock<P, S> {
    /// What an observer sees while the next step is under way.
    pub fn state(&self) -> State {
        S::WORK
    }

    /// Gives everything up that was gained, wiping it, and starts again.
    #[must_use]
    pub fn lock(self) -> Unlock<P, Idle> {
        self.enter(Idle)
    }

    /// Moves to the next stage; what the old one held is dropped, and so wiped.
    fn enter<T: Stage>(self, stage: T) -> Unlock<P, T> {
        self.pass_on(|_dropped| stage)
    }

    /// Moves to the next stage, made of the old one. The one place that logs a transition and hands the context on.
    fn pass_on<T: Stage>(self, make: impl FnOnce(S) -> T) -> Unlock<P, T> {
        log::debug!("unlock: {} → {}", S::NAME, T::NAME);
        Unlock { ctx: self.ctx, stage: make(self.stage) }
    }

    /// Stays, with the cause.
    fn stuck(self, cause: Cause) -> Stuck<P, S> {
        log::debug!("unlock: stuck in {}: {}", S::NAME, cause.code());
        Stuck { machine: self, cause }
    }
}
