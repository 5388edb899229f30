//! The stages, what each owns, and the one or two steps that lead out of each.

use std::rc::Rc;

use super::parts::{Cloud as _, Engine as _, Ledger as _};
use super::sealed::Sealed;
use super::{
    Archives, Cause, Ctx, Key, Meter, Parts, Recalled, Session, Stage, Standing, State, Step, Suite, Ticket, Unlock,
};

/// Nothing is held.
pub struct Idle;

/// Logged in.
pub struct Authenticated<P: Parts> {
    session: Session<P>,
}

/// The archive's key is held; the only stage that owns a bare key.
pub struct KeyHeld<P: Parts> {
    key: Key<P>,
}

/// The archive is open: the key fits, the index is known, nothing has reached the engine.
pub struct Opened<P: Parts> {
    archive: <P::Archives as Archives>::Archive,
}

/// The engine has taken everything in; the archive is closed and its key wiped.
pub struct Loaded<P: Parts> {
    standing: Standing<Suite<P>>,
}

/// The engine shows every image with the right layers.
pub struct Ready<P: Parts> {
    suite: Suite<P>,
}

macro_rules! stage {
    ($stage:ident $(<$p:ident>)?, $name:literal, $work:ident) => {
        impl $(<$p: Parts>)? Sealed for $stage $(<$p>)? {}
        impl $(<$p: Parts>)? Stage for $stage $(<$p>)? {
            const NAME: &'static str = $name;
            const WORK: State = State::$work;
        }
    };
}

stage!(Idle, "idle", Authenticating);
stage!(Authenticated<P>, "authenticated", DownloadingKey);
stage!(KeyHeld<P>, "key held", Decrypting);
stage!(Opened<P>, "opened", LoadingImages);
stage!(Loaded<P>, "loaded", LoadingImages);
stage!(Ready<P>, "ready", Ready);

/// Why a board is not ready without an unlock.
#[derive(Debug)]
pub enum NotReady {
    /// The state on flash does not speak of the archive that is there now.
    NotRemembered,
    /// The engine does not show what the state remembers, or could not be asked.
    NotConfirmed(Cause),
    /// The state on flash, or the archive's identity, could not be read.
    Unreadable(Cause),
}

impl<P: Parts> Unlock<P, Idle> {
    /// A new machine.
    pub fn new(parts: Rc<P>, meter: Rc<Meter>) -> Self {
        Self { ctx: Ctx { parts, meter }, stage: Idle }
    }

    /// Straight to [`Ready`] when the state on flash agrees with the engine: no network, no key, no password.
    ///
    /// # Errors
    /// The machine, still idle, and why an unlock is needed.
    pub async fn already_ready(self) -> Result<Unlock<P, Ready<P>>, (Self, NotReady)> {
        let Ctx { parts, meter } = &self.ctx;
        let (suite, is_switching) = match parts.ledger().recall().await {
            Ok(Some(Recalled::Ready(suite))) => (suite, false),
            Ok(Some(Recalled::Switching(suite))) => (suite, true),
            Ok(None) => return Err((self, NotReady::NotRemembered)),
            Err(cause) => return Err((self, NotReady::Unreadable(cause))),
        };
        let confirmed = async {
            if is_switching {
                log::info!("a switch to new images was cut: going on with it");
                parts.engine().switch(&suite).await?;
            }
            parts.engine().confirm(&suite, meter).await?;
            if is_switching {
                remember(parts, &suite).await;
            }
            Ok(())
        };
        match confirmed.await {
            Ok(()) => Ok(self.enter(Ready { suite })),
            Err(cause) => Err((self, NotReady::NotConfirmed(cause))),
        }
    }

    /// Logs in to the Resource API.
    ///
    /// # Errors
    /// [`Stuck`](super::Stuck) in [`Idle`]: wrong credentials, or the API cannot be reached.
    pub async fn authenticate(self, ticket: &Ticket<P>) -> Step<P, Idle, Authenticated<P>> {
        self.ctx.meter.begin(Idle::WORK, None);
        match self.ctx.parts.cloud().log_in(ticket).await {
            Ok(session) => Ok(self.enter(Authenticated { session })),
            Err(cause) => Err(self.stuck(cause)),
        }
    }
}

impl<P: Parts> Unlock<P, Authenticated<P>> {
    /// Fetches the key fragment; the session is given back to the cloud's keeping.
    ///
    /// # Errors
    /// [`Stuck`](super::Stuck) in [`Authenticated`].
    pub async fn fetch_key(self) -> Step<P, Authenticated<P>, KeyHeld<P>> {
        self.ctx.meter.begin(Authenticated::<P>::WORK, None);
        match self.ctx.parts.cloud().fetch_key(&self.stage.session).await {
            Ok(key) => Ok(self.enter(KeyHeld { key })),
            Err(cause) => Err(self.stuck(cause)),
        }
    }
}

impl<P: Parts> Unlock<P, KeyHeld<P>> {
    /// Opens the archive with the key: wrong key, cut or damaged archives end here, before the engine is touched.
    ///
    /// # Errors
    /// [`Stuck`](super::Stuck) in [`KeyHeld`], the key still held.
    pub async fn open(self) -> Step<P, KeyHeld<P>, Opened<P>> {
        let Ctx { parts, meter } = &self.ctx;
        meter.begin(KeyHeld::<P>::WORK, None);
        match parts.archives().open(&self.stage.key, meter).await {
            Ok(archive) => Ok(self.enter(Opened { archive })),
            Err(cause) => Err(self.stuck(cause)),
        }
    }
}

impl<P: Parts> Unlock<P, Opened<P>> {
    /// Brings into the engine what it lacks; tags still mean what they meant. That something was ready is forgotten
    /// first. Where nothing is missing, nothing is forgotten and nothing done.
    ///
    /// # Errors
    /// [`Stuck`](super::Stuck) in [`Opened`]: the archive is still open, the load can be tried again.
    pub async fn load(self) -> Step<P, Opened<P>, Loaded<P>> {
        let Ctx { parts, meter } = &self.ctx;
        meter.begin(Opened::<P>::WORK, None);
        let loaded = async {
            match parts.engine().compare(&self.stage.archive, meter).await? {
                Standing::Held(suite) => Ok(Standing::Held(suite)),
                Standing::Missing(suite) => {
                    parts.ledger().begin(&suite).await?;
                    parts.engine().load(&self.stage.archive, suite, meter).await.map(Standing::Missing)
                }
            }
        };
        match loaded.await {
            Ok(standing) => Ok(self.enter(Loaded { standing })),
            Err(cause) => Err(self.stuck(cause)),
        }
    }
}

impl<P: Parts> Unlock<P, Loaded<P>> {
    /// Sets the tags, old suite to new, asks the engine for every image, then remembers that it has them.
    ///
    /// A state that cannot be written at the end does not undo what is true: the board is ready, and the log says that
    /// the next start will need an unlock.
    ///
    /// # Errors
    /// [`Stuck`](super::Stuck) in [`Loaded`]: the engine does not show what was loaded, or cannot be asked.
    pub async fn confirm(self) -> Step<P, Loaded<P>, Ready<P>> {
        let Ctx { parts, meter } = &self.ctx;
        let confirmed = async {
            match &self.stage.standing {
                // Asked for every image it was just now.
                Standing::Held(suite) => Ok(suite),
                Standing::Missing(suite) => {
                    parts.ledger().switching(suite).await?;
                    parts.engine().switch(suite).await?;
                    parts.engine().confirm(suite, meter).await?;
                    Ok(suite)
                }
            }
        };
        match confirmed.await {
            Ok(suite) => remember(parts, suite).await,
            Err(cause) => return Err(self.stuck(cause)),
        }
        Ok(self.pass_on(|loaded| match loaded.standing {
            Standing::Held(suite) | Standing::Missing(suite) => Ready { suite },
        }))
    }
}

impl<P: Parts> Unlock<P, Ready<P>> {
    /// What the engine holds.
    pub fn suite(&self) -> &Suite<P> {
        &self.stage.suite
    }
}

/// A state that cannot be written does not undo what is true.
async fn remember<P: Parts>(parts: &Rc<P>, suite: &Suite<P>) {
    if let Err(cause) = parts.ledger().remember(suite).await {
        log::warn!("ready, but not remembered: the next start needs an unlock: {}", cause.report().message);
    }
}
