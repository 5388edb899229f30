//! One connection: requests in the order in which they came, each answered before the next is looked at.
//!
//! After a refusal that leaves the framing in doubt the connection ends; it is never guessed where a next request
//! might start.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use smol::Timer;
use smol::future::{or, yield_now};
use smol::lock::{Semaphore, SemaphoreGuard};

use super::answer::{Answer, Media};
use super::body::{Body, Broken};
use super::clients::{Phase, Seat};
use super::desk::Desk;
use super::guard::{Attempts, Guard, Peer};
use super::head::{Head, Scan};
use super::metrics::Requests;
use super::refusal::Refusal;
use super::routes::{Call, Outcome};
use super::stream::{self, Cut};
use super::wire::{Patience, Stream, Wire, within};
use crate::error::Explain as _;
use crate::limits::{CLIENT_HEAD_BYTES, REQUESTS_PER_CONNECTION};
use crate::metrics::{self, Counted};
use crate::net::clock::Clock;

/// What all connections of the port share.
pub(super) struct Port<D> {
    pub(super) desk: Rc<D>,
    pub(super) guard: Guard,
    pub(super) attempts: Attempts,
    pub(super) clock: Clock,
    pub(super) patience: Patience,
    /// Models that may be sent or received at one time.
    pub(super) streams: Semaphore,
    /// Connections that each listener holds.
    pub(super) seats: usize,
    /// How requests were answered.
    pub(super) requests: Requests,
    /// Connections that are open.
    pub(super) open: Cell<u64>,
}

impl<D> Port<D> {
    /// A port to `desk` that nobody has called yet.
    pub(super) fn new(
        desk: Rc<D>,
        guard: Guard,
        clock: Clock,
        patience: Patience,
        streams: usize,
        seats: usize,
    ) -> Self {
        Self {
            desk,
            guard,
            attempts: Attempts::new(clock.now()),
            clock,
            patience,
            streams: Semaphore::new(streams),
            seats,
            requests: Requests::default(),
            open: Cell::new(0),
        }
    }

    /// Waits for the turn of one more model.
    ///
    /// # Errors
    /// [`Refusal::Crowded`] when it does not come.
    pub(super) async fn turn(&self) -> Result<SemaphoreGuard<'_>, Refusal> {
        or(async { Ok(self.streams.acquire().await) }, async {
            Timer::after(self.patience.turn).await;
            Err(Refusal::Crowded)
        })
        .await
    }
}

/// What follows a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another one may.
    Request,
    /// Nothing; the client may still send and must be able to read its answer.
    Drain,
    /// Nothing; there is nobody to wait for.
    Close,
}

/// Serves one connection to its end.
pub(super) async fn run<D: Desk>(port: Rc<Port<D>>, stream: Stream, peer: Peer, seat: Seat) {
    let _counted = Counted::of(&port.open);
    let mut wire = Wire::new(stream);
    for count in 1..=REQUESTS_PER_CONNECTION {
        match request(&port, &mut wire, peer, &seat, count).await {
            Next::Request => wire.shrink(),
            Next::Drain => {
                seat.now_at(Phase::Draining);
                return wire.drain(port.patience.drain).await;
            }
            Next::Close => return,
        }
        // A client that sends without pause must not hold the loop.
        yield_now().await;
    }
}

async fn request<D: Desk>(port: &Port<D>, wire: &mut Wire, peer: Peer, seat: &Seat, count: usize) -> Next {
    let head = match next_head(port, wire, seat, count == 1).await {
        Ok(head) => head,
        Err(Broken::Gone) => return Next::Close,
        Err(Broken::Refused(refusal)) => {
            seat.now_at(Phase::Writing);
            let answer = refuse(port, None, &refusal, Media::Json).to_wire(true, false);
            return if wire.send(&answer, port.patience.write).await.is_ok() { Next::Drain } else { Next::Close };
        }
    };
    let mut body = Body::new(wire, head.framing, head.expects_continue, port.patience);
    let call = Call::find(&head);
    let known = call.as_ref().ok().copied();
    let outcome = match answer(port, call, &head, &mut body, peer, seat).await {
        Ok(Outcome::Whole(answer)) => Ok(answer),
        Ok(outcome @ (Outcome::Model(_) | Outcome::Events(_))) => {
            let closing = head.closing || count == REQUESTS_PER_CONNECTION || seat.is_closing();
            let (wire, old, patience) = (body.wire(), head.old, port.patience.write);
            let streamed = match outcome {
                Outcome::Model(model) => {
                    Box::pin(stream::send(wire, model, Media::Bytes, old, closing, patience)).await
                }
                Outcome::Events(events) => {
                    // Who follows waits most of the time: the seat is the first that is given to somebody else.
                    seat.now_at(Phase::Idle);
                    Box::pin(stream::send(wire, events, Media::Events, old, closing, patience)).await
                }
                Outcome::Whole(_) => Ok(()),
            };
            if !matches!(streamed, Err(Cut::Refused(_))) {
                port.requests.count(known, 200);
            }
            match streamed {
                Ok(()) if closing || seat.is_closing() => return Next::Drain,
                Ok(()) => return Next::Request,
                Err(Cut::Refused(refusal)) => Err(refusal.into()),
                Err(Cut::Lost) => return Next::Close,
            }
        }
        Err(broken) => Err(broken),
    };
    let (answer, ends) = match outcome {
        Ok(answer) => {
            port.requests.count(known, answer.status);
            (answer, false)
        }
        Err(Broken::Refused(refusal)) => {
            let media = Media::preferred(head.accept.as_deref());
            (refuse(port, known, &refusal, media), refusal.ends_connection())
        }
        Err(Broken::Gone) => return Next::Close,
    };
    let closing =
        ends || head.closing || !body.can_be_skipped() || count == REQUESTS_PER_CONNECTION || seat.is_closing();
    seat.now_at(Phase::Writing);
    let head_only = head.method == http::Method::HEAD;
    if body.send(&answer.to_wire(closing, head_only)).await.is_err() {
        return Next::Close;
    }
    if closing {
        return Next::Drain;
    }
    seat.now_at(Phase::Body);
    if body.skip().await.is_ok() { Next::Request } else { Next::Close }
}

/// The answer to a refused request, counted.
fn refuse<D>(port: &Port<D>, call: Option<Call>, refusal: &Refusal, media: Media) -> Answer {
    let answer = Answer::refusal(refusal, media);
    port.requests.count(call, answer.status);
    metrics::ERRORS.count(refusal.code());
    answer
}

/// Waits for a head. A client that goes, or stays idle, between two requests is simply gone.
async fn next_head<D>(port: &Port<D>, wire: &mut Wire, seat: &Seat, first: bool) -> Result<Head, Broken> {
    if wire.arrived().is_empty() {
        let patience = if first { port.patience.head } else { port.patience.idle };
        seat.now_at(if first { Phase::Head } else { Phase::Idle });
        match within(Timer::after(patience), wire.more(CLIENT_HEAD_BYTES)).await {
            Ok(0) | Err(_) => return Err(Broken::Gone),
            Ok(_) => {}
        }
    }
    seat.now_at(Phase::Head);
    let over = Instant::now() + port.patience.head;
    let mut scan = Scan::default();
    loop {
        if let Some(head) = scan.advance(wire.arrived())? {
            let head = Head::parse(head)?;
            wire.consume(scan.seen());
            return Ok(head);
        }
        match within(Timer::at(over), wire.more(CLIENT_HEAD_BYTES)).await {
            Ok(0) => return Err(Broken::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(Refusal::TooSlow("the request's head").into());
            }
            Err(_) => return Err(Broken::Gone),
        }
    }
}

async fn answer<'p, D: Desk>(
    port: &'p Port<D>,
    call: Result<Call, Refusal>,
    head: &Head,
    body: &mut Body<'_>,
    peer: Peer,
    seat: &Seat,
) -> Result<Outcome<'p, D::Model>, Broken> {
    // Before the route is told: a stranger must not learn which there are.
    port.guard.admit(head, peer, Call::at(&head.target).is_some_and(Call::is_open)).inspect_err(|refusal| {
        port.desk.turned_away(refusal.report().code);
    })?;
    seat.now_at(Phase::Body);
    call?.answer(port, head, body, seat).await
}
