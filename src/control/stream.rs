//! A streamed answer: piece after piece as the desk hands them out, in constant memory, of any size.
//!
//! What fails before the first piece is an answer like any other; what fails later cuts the connection. A body that is
//! not whole must never end cleanly, and no byte beyond its length is ever sent.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::time::Duration;

use heapless::String as Text;
use smol::future::yield_now;
use smol::lock::SemaphoreGuard;

use super::answer::{Extent, Media, head};
use super::desk::Outgoing;
use super::refusal::Refusal;
use super::wire::Wire;
use crate::error::Report;
use crate::metrics;

/// A model that is about to be sent, and its place among those that are.
pub(super) struct Streamed<'p, M> {
    pub(super) model: M,
    pub(super) _turn: SemaphoreGuard<'p>,
}

impl<M: Outgoing> Outgoing for Streamed<'_, M> {
    fn length(&self) -> Option<u64> {
        self.model.length()
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Report> {
        self.model.next().await
    }
}

/// Why a stream was not sent to its end.
#[derive(Debug)]
pub(super) enum Cut {
    /// Nothing was sent: the client is told.
    Refused(Refusal),
    /// The client is gone, or sees a cut connection.
    Lost,
}

/// Sends `model` to its end. `old` is for a client of HTTP/1.0, `closing` tells that nothing follows.
///
/// # Errors
/// [`Cut`]; after [`Cut::Lost`] the connection is of no more use.
pub(super) async fn send<M: Outgoing>(
    wire: &mut Wire,
    mut model: Box<M>,
    media: Media,
    old: bool,
    closing: bool,
    patience: Duration,
) -> Result<(), Cut> {
    let length = model.length();
    if old && length.is_none() {
        // Its end would be the connection's end, and that a cut looks like.
        return Err(Cut::Refused(Refusal::Version));
    }
    let first = wire.unless_gone(model.next()).await.ok_or(Cut::Lost)?;
    let mut piece = first.map_err(|report| Cut::Refused(Refusal::Desk(report)))?;
    let head = head(200, media, length.map_or(Extent::Chunked, Extent::Length), None, closing);
    let mut head = head.as_bytes();
    let mut left = length;
    loop {
        let bytes = piece.unwrap_or_default();
        let is_last = piece.is_none();
        left = match left.map(|left| left.checked_sub(bytes.len() as u64)) {
            Some(Some(left)) if is_last && left > 0 => return Err(cut(wire, &format!("{left} bytes are missing"))),
            Some(None) => return Err(cut(wire, "there are more bytes than were told")),
            Some(left) => left,
            None => None,
        };
        let mut line = Text::<18>::new();
        let mut end: &[u8] = b"";
        // An empty chunk would be the last one.
        if length.is_none() && (is_last || !bytes.is_empty()) {
            write!(line, "{:x}\r\n", bytes.len()).expect("16 digits fit");
            end = b"\r\n";
        }
        let mut parts = [head, line.as_bytes(), bytes, end].map(IoSlice::new);
        if wire.stream(&mut parts, patience).await.is_err() {
            wire.cut();
            return Err(Cut::Lost);
        }
        if media == Media::Bytes {
            metrics::MODELS.sent.add(bytes.len() as u64);
        }
        if is_last {
            return Ok(());
        }
        head = b"";
        // A client that takes without pause must not hold the loop.
        yield_now().await;
        piece = match wire.unless_gone(model.next()).await {
            Some(Ok(piece)) => piece,
            Some(Err(report)) => return Err(cut(wire, &said(&report))),
            None => return Err(Cut::Lost),
        };
    }
}

fn said(report: &Report) -> String {
    format!("{} ({})", report.message, report.code)
}

/// Cuts an answer that has begun: the log is the only place left to say why.
fn cut(wire: &Wire, why: &str) -> Cut {
    log::warn!("a model was cut while it was sent: {why}");
    wire.cut();
    Cut::Lost
}
