//! The control port: HTTP/1.1 for the technician's `curl` and for the services beside the agent (CONTRACT section 6).
//!
//! [`serve`] listens, [`Desk`] is the agent behind it, [`Guard`] says who may come in. Everything is bounded
//! (`limits.rs`), whatever is ambiguous is refused, and a slow or hostile client costs a seat and nothing else. The
//! port must never send a CORS header, a version banner, a path of the board or a secret.
//!
//! ```text
//! listen ─ stream ─► clients (a seat) ─► connection: head ─► guard ─► routes ─► desk
//!                                            ▲                  │
//!                                            └──── answer ◄─────┤
//!                                            └──── stream ◄─────┘ a model, piece after piece
//! ```

mod answer;
mod authority;
mod body;
mod checkup;
mod clients;
mod connection;
mod desk;
mod feed;
mod form;
mod guard;
mod head;
mod listen;
mod load;
mod metrics;
mod pages;
mod refusal;
mod routes;
mod stream;
mod target;
mod upload;
mod wire;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use smol::future::{or, yield_now};
use smol::{LocalExecutor, Timer};

pub use checkup::{CHECKS, Check, Checkup, Finding};
pub use desk::{
    AuditView, CacheView, Desk, EngineView, Gauges, Incoming, Outgoing, StatusView, UnlockAnswer, UnlockView,
    UploadAnswer, UserView, Wanted,
};
pub use feed::{Feed, Topic};
pub use guard::Guard;
pub use listen::{BindError, Listener};

use answer::{Answer, Media};
use clients::Clients;
use connection::Port;
use refusal::Refusal;
use wire::{Patience, Wire};

use crate::limits::{ACCEPT_PAUSE, CLIENTS_PER_LISTENER, STREAMS_AT_ONCE};
use crate::net::clock::Clock;

/// Serves `desk` on all listeners until `shutdown` resolves; then nobody is taken in any more, and requests that run
/// have [`SHUTDOWN_GRACE`](crate::limits::SHUTDOWN_GRACE) to end.
pub async fn serve<D: Desk + 'static>(
    listeners: Vec<Listener>,
    desk: Rc<D>,
    guard: Guard,
    executor: Rc<LocalExecutor<'static>>,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) {
    let port = Port::new(desk, guard, clock, Patience::default(), STREAMS_AT_ONCE, CLIENTS_PER_LISTENER);
    run(port, listeners, executor, shutdown).await;
}

async fn run<D: Desk + 'static>(
    port: Port<D>,
    listeners: Vec<Listener>,
    executor: Rc<LocalExecutor<'static>>,
    shutdown: impl Future<Output = ()>,
) {
    let port = Rc::new(port);
    let mut doors = Vec::new();
    for listener in listeners {
        let (listener, clients) = (Rc::new(listener), Clients::new(port.seats));
        let door = accept(Rc::clone(&port), Rc::clone(&listener), Rc::clone(&clients), Rc::clone(&executor));
        doors.push((executor.spawn(door), listener, clients));
    }
    shutdown.await;
    let mut inside = Vec::new();
    for (door, listener, clients) in doors {
        door.cancel().await;
        if let Some(listener) = Rc::into_inner(listener) {
            listener.close().await;
        }
        clients.close();
        inside.push(clients);
    }
    let ended = async {
        for clients in &inside {
            clients.all_gone().await;
        }
    };
    or(ended, async {
        Timer::after(port.patience.shutdown).await;
    })
    .await;
    for clients in &inside {
        clients.end_all();
        clients.all_gone().await;
    }
}

/// Takes in whoever comes, for ever.
async fn accept<D: Desk + 'static>(
    port: Rc<Port<D>>,
    listener: Rc<Listener>,
    clients: Rc<Clients>,
    executor: Rc<LocalExecutor<'static>>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Ok(seat) = clients.seat() {
                    clients.start(&executor, seat, |seat| connection::run(Rc::clone(&port), stream, peer, seat));
                } else {
                    let answer = Answer::refusal(&Refusal::Crowded, Media::Json).to_wire(true, false);
                    // The socket's own buffer takes it, or the client goes without: nobody waits here.
                    let _unheard = Wire::new(stream).send(&answer, Duration::ZERO).await;
                }
            }
            Err(error) if is_shortage(&error) => {
                log::warn!("control port cannot take in a client: {error}");
                Timer::after(ACCEPT_PAUSE).await;
            }
            // This one client is gone already (accept(2) hands its errors on).
            Err(_) => {}
        }
        yield_now().await;
    }
}

/// Whether the next accept would fail as well.
fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests;
