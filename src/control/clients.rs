//! The seats of one listener: how many clients there are, what each is at, and who leaves when one more comes.
//!
//! The one who has waited longest for its own client leaves first, idle connections before half heads before half
//! bodies, so that a thousand slow clients never keep a quick one out. A head has a moment to arrive in before its
//! connection counts as slow: else, where all others are half bodies, each newcomer would take the seat of the one just
//! before it. Who is inside a handler never leaves.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use smol::channel::{Receiver, Sender};
use smol::{LocalExecutor, Task};

use crate::limits::HEAD_MOMENT;

/// What a connection is at, in the order in which connections are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Answered for the last time; what still arrives is read over.
    Draining,
    /// Between two requests.
    Idle,
    /// A head is on its way.
    Head,
    /// A body is on its way.
    Body,
    /// The answer is on its way.
    Writing,
    /// Inside a handler.
    Handling,
}

/// All connections of one listener.
#[derive(Debug)]
pub(super) struct Clients {
    taken: RefCell<Vec<(Rc<Place>, Task<()>)>>,
    most: usize,
    /// Every seat holds a sender: when the last is gone, the channel closes.
    presence: RefCell<Option<Sender<()>>>,
    gone: Receiver<()>,
}

#[derive(Debug)]
struct Place {
    phase: Cell<Phase>,
    since: Cell<Instant>,
}

/// The seat of one connection; dropped with it.
#[derive(Debug)]
pub(super) struct Seat {
    place: Rc<Place>,
    clients: Rc<Clients>,
    _presence: Sender<()>,
}

/// Every seat is taken by a request that runs, or the port is closing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Clients {
    /// Room for `most` connections.
    pub(super) fn new(most: usize) -> Rc<Self> {
        let (presence, gone) = smol::channel::bounded(1);
        Rc::new(Self { taken: RefCell::new(Vec::new()), most, presence: RefCell::new(Some(presence)), gone })
    }

    /// A seat for one more connection, if need be that of another one.
    pub(super) fn seat(self: &Rc<Self>) -> Result<Seat, Full> {
        let Some(presence) = self.presence.borrow().clone() else { return Err(Full) };
        if self.taken.borrow().len() >= self.most {
            self.give_up(Phase::Handling, 1)?;
        }
        let place = Rc::new(Place { phase: Cell::new(Phase::Head), since: Cell::new(Instant::now()) });
        Ok(Seat { place, clients: Rc::clone(self), _presence: presence })
    }

    /// Starts `connection` on its seat.
    pub(super) fn start<F: Future<Output = ()> + 'static>(
        &self,
        executor: &LocalExecutor<'static>,
        seat: Seat,
        connection: impl FnOnce(Seat) -> F,
    ) {
        let place = Rc::clone(&seat.place);
        self.taken.borrow_mut().push((place, executor.spawn(connection(seat))));
    }

    /// Ends up to `most` connections that have not reached `phase`, those first that matter least.
    fn give_up(&self, phase: Phase, most: usize) -> Result<(), Full> {
        let mut given_up = Vec::new();
        let now = Instant::now();
        {
            let mut taken = self.taken.borrow_mut();
            while given_up.len() < most {
                let least = taken
                    .iter()
                    .enumerate()
                    .filter(|(_, (place, _))| place.phase.get() < phase)
                    .min_by_key(|(_, (place, _))| place.standing(now))
                    .map(|(index, _)| index);
                let Some(index) = least else { break };
                given_up.push(taken.swap_remove(index));
            }
        }
        // The tasks end here, outside the borrow: a seat that is dropped looks for itself.
        if given_up.is_empty() { Err(Full) } else { Ok(()) }
    }

    /// Takes nobody in any more and ends whoever has no request under way.
    pub(super) fn close(&self) {
        self.presence.take();
        let _nobody_waited = self.give_up(Phase::Body, usize::MAX);
    }

    /// Whether the port is closing.
    pub(super) fn is_closing(&self) -> bool {
        self.presence.borrow().is_none()
    }

    /// Waits, after [`close`](Self::close), until the last connection is over.
    pub(super) async fn all_gone(&self) {
        let _closed = self.gone.recv().await;
    }

    /// Ends every connection.
    pub(super) fn end_all(&self) {
        drop(self.taken.take());
    }
}

impl Place {
    /// The least goes first.
    fn standing(&self, now: Instant) -> (bool, Phase, Instant) {
        let (phase, since) = (self.phase.get(), self.since.get());
        (phase == Phase::Head && now.saturating_duration_since(since) < HEAD_MOMENT, phase, since)
    }
}

impl Seat {
    /// Notes what the connection is at now.
    pub(super) fn now_at(&self, phase: Phase) {
        self.place.phase.set(phase);
        self.place.since.set(Instant::now());
    }

    /// Whether no further request is to be taken.
    pub(super) fn is_closing(&self) -> bool {
        self.clients.is_closing()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let own = {
            let mut taken = self.clients.taken.borrow_mut();
            taken.iter().position(|(place, _)| Rc::ptr_eq(place, &self.place)).map(|index| taken.swap_remove(index))
        };
        drop(own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::turn;

    /// Admits a connection that stands at `phase` and lasts; returns a receiver that closes when it ends.
    fn admit(clients: &Rc<Clients>, executor: &LocalExecutor<'static>, phase: Phase) -> Result<Receiver<()>, Full> {
        let (alive, ended) = smol::channel::bounded::<()>(1);
        clients.start(executor, clients.seat()?, |seat| {
            seat.now_at(phase);
            async move {
                let _held = (seat, alive);
                std::future::pending::<()>().await;
            }
        });
        Ok(ended)
    }

    #[test]
    fn who_waits_longest_makes_room_and_who_works_stays() {
        let executor = LocalExecutor::new();
        let clients = Clients::new(3);
        turn::block_on(&executor, async {
            let _busy = admit(&clients, &executor, Phase::Handling).expect("a seat");
            let older = admit(&clients, &executor, Phase::Head).expect("a seat");
            let newer = admit(&clients, &executor, Phase::Head).expect("a seat");
            let _fourth = admit(&clients, &executor, Phase::Handling).expect("the older head leaves");
            older.recv().await.expect_err("ended");
            assert!(!newer.is_closed());
            let _fifth = admit(&clients, &executor, Phase::Handling).expect("the newer head leaves");
            newer.recv().await.expect_err("ended");
            assert_eq!(admit(&clients, &executor, Phase::Head).err(), Some(Full));
        });
    }

    #[test]
    fn idle_connections_leave_before_half_requests() {
        let executor = LocalExecutor::new();
        let clients = Clients::new(2);
        turn::block_on(&executor, async {
            let head = admit(&clients, &executor, Phase::Head).expect("a seat");
            let idle = admit(&clients, &executor, Phase::Idle).expect("a seat");
            let _third = admit(&clients, &executor, Phase::Body).expect("a seat");
            idle.recv().await.expect_err("ended");
            assert!(!head.is_closed());
        });
    }

    #[test]
    fn a_head_has_a_moment_before_it_leaves_for_a_half_body() {
        let executor = LocalExecutor::new();
        let clients = Clients::new(3);
        turn::block_on(&executor, async {
            let slow = admit(&clients, &executor, Phase::Head).expect("a seat");
            let started = Instant::now().checked_sub(HEAD_MOMENT).expect("the machine runs for longer");
            clients.taken.borrow()[0].0.since.set(started);
            let body = admit(&clients, &executor, Phase::Body).expect("a seat");
            let quick = admit(&clients, &executor, Phase::Head).expect("a seat");
            let _fourth = admit(&clients, &executor, Phase::Body).expect("the slow head leaves");
            slow.recv().await.expect_err("ended");
            assert!(!body.is_closed());
            let _fifth = admit(&clients, &executor, Phase::Head).expect("the older body leaves");
            body.recv().await.expect_err("ended");
            assert!(!quick.is_closed());
        });
    }

    #[test]
    fn a_seat_is_free_again_when_its_connection_ends() {
        let executor = LocalExecutor::new();
        let clients = Clients::new(1);
        turn::block_on(&executor, async {
            for _ in 0..3 {
                let (done, ended) = smol::channel::bounded::<()>(1);
                let seat = clients.seat().expect("a seat");
                clients.start(&executor, seat, |seat| async move {
                    seat.now_at(Phase::Handling);
                    drop((seat, done));
                });
                ended.recv().await.expect_err("ended");
            }
            assert!(clients.taken.borrow().is_empty());
        });
    }

    #[test]
    fn closing_ends_who_waits_and_waits_for_who_works() {
        let executor = LocalExecutor::new();
        let clients = Clients::new(3);
        turn::block_on(&executor, async {
            let busy = admit(&clients, &executor, Phase::Handling).expect("a seat");
            let idle = admit(&clients, &executor, Phase::Idle).expect("a seat");
            clients.close();
            idle.recv().await.expect_err("ended");
            assert!(!busy.is_closed());
            assert_eq!(admit(&clients, &executor, Phase::Head).err(), Some(Full));
            clients.end_all();
            clients.all_gone().await;
            assert!(busy.is_closed());
        });
    }
}
