//! Wires the rooms together once and runs the loop until somebody ends it.
//!
//! ```text
//!   configuration → lock → parts → listeners → systemd READY ─┬─ control port
//!                                                             ├─ boot: ready already? else unlock by [boot]
//!                                                             ├─ watchdog, light, log files
//!                                                             └─ SIGTERM, SIGINT → listeners closed → end
//! ```
//!
//! Everything that can be wrong with the configuration is told before the port listens. A missing archive, engine,
//! network or clock stops nothing here.

mod check;
mod desk;
mod herald;
mod ledger;
mod light;
mod lock;
mod models;
mod parts;
mod preview;
mod setup;
mod systemd;
#[cfg(test)]
mod tests;
mod trust;
mod unlocker;
mod watch;

use std::cell::RefCell;
use std::rc::Rc;

use async_signal::{Signal, Signals};
use smol::LocalExecutor;
use smol::stream::StreamExt as _;

use crate::audit::{Audit, Event, Place};
use crate::cache::Cache;
use crate::cloud::{CdnClock, RetryPolicy};
use crate::config::{Config, Listen, UnlockMode};
use crate::control::{self, Listener};
use crate::error::chain;
use crate::logging;
use crate::net::turn::block_on;
use crate::resource::{ModelParts, Models};
use crate::secret::Credentials;
use crate::unlock::Meter;

use check::Checker;
use desk::Desk;
use models::{ModelDesk, Voices};
use setup::{Setup, StartRefused};
use unlocker::Unlocker;

pub use check::{CheckRefused, check_alone};
pub use preview::{PreviewRefused, preview};
pub use trust::{Seen, TrustError, TrustFile};

/// How the agent ended, for the shell and for systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to end.
    Asked,
    /// The configuration cannot be right.
    Configuration,
    /// Another agent holds the state directory.
    AnotherAgent,
    /// The port or the state directory cannot be had.
    Unavailable,
}

/// Runs the agent until it is asked to end. Why it did not start is said in one line on standard error.
pub fn run(config: Config) -> Ending {
    let daily = logging::start(&config.log);
    let (log_dir, retention_days) = (config.log.dir.clone(), config.log.retention_days);
    let setup = match Setup::of(config) {
        Ok(setup) => setup,
        Err(refused) => return refuse(&refused),
    };
    let place = Place { state_dir: setup.models.state_dir.clone(), dir: log_dir, retention_days };
    let audit = Rc::new(Audit::open(place));
    let executor = Rc::new(LocalExecutor::new());
    block_on(&executor, async {
        let files = daily.clone().map(|daily| executor.spawn(async move { daily.run().await }));
        let ending = serve(setup, audit, Rc::clone(&executor)).await;
        if let (Some(daily), Some(files)) = (daily, files) {
            daily.close();
            files.await;
        }
        ending
    })
}

fn refuse(refused: &StartRefused) -> Ending {
    let ending = match refused {
        StartRefused::Config(_) | StartRefused::Board(_) => Ending::Configuration,
        StartRefused::AnotherAgent(_) => Ending::AnotherAgent,
        StartRefused::State { .. } | StartRefused::Bind(_) | StartRefused::Signals(_) => Ending::Unavailable,
    };
    eprintln!("azaion-loader: {}", chain(refused));
    ending
}

async fn serve(setup: Setup, audit: Rc<Audit>, executor: Rc<LocalExecutor<'static>>) -> Ending {
    let Setup {
        lock,
        board,
        watch,
        light,
        archive,
        trust,
        parts,
        listen,
        guard,
        credentials,
        unlock,
        clock,
        models,
        subject,
        feed,
    } = setup;
    let started = async {
        let mut listeners = Vec::new();
        for address in &listen {
            listeners.push(Listener::bind(address).await.map_err(StartRefused::Bind)?);
        }
        let signals = Signals::new([Signal::Term, Signal::Int]).map_err(StartRefused::Signals)?;
        Ok((listeners, signals))
    };
    let (listeners, mut signals) = match started.await {
        Ok(started) => started,
        Err(refused) => return refuse(&refused),
    };
    for listener in &listeners {
        match listener.local_addr() {
            Ok(Listen::Tcp(address)) => log::info!("the control port listens on http://{address}"),
            Ok(Listen::Unix(path)) => log::info!("the control port listens on unix:{}", path.display()),
            Err(error) => log::warn!("the control port listens, but not where it can be told: {error}"),
        }
    }
    systemd::ready();
    let taken_down = executor.spawn({
        let audit = Rc::clone(&audit);
        async move { audit.run().await }
    });
    audit.note(Event::AgentStarted, None, None);
    watch.audit(&audit);
    let witness = (Rc::clone(&watch), Rc::clone(&executor), Rc::clone(&audit));
    models.api.tell_of_hardware(move || witness.0.accepted(&witness.1, &witness.2));

    watch.notes().iter().for_each(|note| feed.note(note));
    let cache = Cache::open(models.cache).await;
    let evicted = Rc::clone(&audit);
    cache.tell_of_evictions(move |count| evicted.note_times(Event::CacheEvicted, count));
    let models = Models::new(ModelParts {
        api: models.api,
        client: models.client,
        cache: Rc::new(cache),
        salts: models.salts,
        hardware: models.hardware,
        over: models.over,
        offline: models.offline,
        upload_role: models.upload_role,
        trust,
        state_dir: models.state_dir,
        executor: Rc::clone(&executor),
        clock: clock.clone(),
        cdn_clock: CdnClock::system(),
        retry: RetryPolicy::default(),
    });
    let own = credentials.as_ref().map(Credentials::duplicate);
    let voices = Voices { watch: Rc::clone(&watch), audit: Rc::clone(&audit), feed: Rc::clone(&feed) };
    let models = Rc::new(ModelDesk::new(models, Rc::clone(&parts), own, voices, clock.clone()));

    let meter = Rc::new(Meter::new(clock.clone()));
    let unlocker = Rc::new(Unlocker::new(Rc::clone(&parts), Rc::clone(&meter), Rc::clone(&watch), Rc::clone(&audit)));
    let by_itself = credentials.as_ref().filter(|_| unlock == UnlockMode::Auto).map(Credentials::duplicate);
    let desk = Rc::new(Desk {
        board,
        watch,
        archive,
        credentials,
        parts,
        unlocker: Rc::clone(&unlocker),
        audit: Rc::clone(&audit),
        executor: Rc::clone(&executor),
        running: RefCell::default(),
        models: Rc::clone(&models),
        feed: Rc::clone(&feed),
        checker: Checker::new(subject, clock.clone()),
        began: clock.now(),
        clock: clock.clone(),
    });
    let told = executor.spawn(herald::tell(Rc::clone(&desk.unlocker), feed));
    let boot = executor.spawn(async move { unlocker.boot(by_itself).await });
    let uploads = executor.spawn(async move { models.finish_uploads().await });
    let watchdog = executor.spawn(systemd::watchdog());
    let shown = executor.spawn(light::show(light, meter));

    let asked_to_end = async {
        let signal = signals.next().await;
        log::info!("ending: {}", if matches!(signal, Some(Ok(Signal::Int))) { "SIGINT" } else { "SIGTERM" });
        systemd::stopping();
    };
    control::serve(listeners, Rc::clone(&desk), guard, Rc::clone(&executor), clock, asked_to_end).await;

    // Before the lock is given up: nothing of ours may write the state beside another agent.
    desk.stop().await;
    boot.cancel().await;
    uploads.cancel().await;
    watchdog.cancel().await;
    shown.cancel().await;
    told.cancel().await;
    audit.note(Event::AgentStopped, None, None);
    audit.close();
    taken_down.await;
    drop(lock);
    Ending::Asked
}
