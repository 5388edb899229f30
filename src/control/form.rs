//! An upload as a form, `multipart/form-data` (RFC 7578): the part `data` is the file, the part `folder` its folder.
//!
//! `multer` reads the form and keeps what it cannot tell yet; it is fed one piece at a time, and only so many in which
//! it finds nothing. The file goes on as it comes and is never kept.

use std::convert::Infallible;

use bytes::Bytes;
use multer::{Field, Multipart};
use smol::channel::Sender;
use smol::future::{poll_once, yield_now};

use super::body::{Body, Broken};
use super::desk::Incoming;
use super::head::Head;
use super::refusal::{Refusal, Shape};
use crate::limits::{
    FOLDER_BYTES, FORM_BOUNDARY_BYTES, FORM_FRAMING_BYTES, FORM_IGNORED_BYTES, FORM_PARTS, PIECE_BYTES,
};
use crate::name::{Folder, NameRefused};

const NOT_A_FORM: Refusal = Refusal::Upload("the form is faulty or cut");

/// The boundary of a request that brings a form; `None` when it brings raw bytes.
///
/// # Errors
/// A form without a boundary.
pub(super) fn boundary(head: &Head) -> Result<Option<String>, Refusal> {
    let value = head.content_type.as_deref().unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    match multer::parse_boundary(value) {
        Ok(boundary) if (1..=FORM_BOUNDARY_BYTES).contains(&boundary.len()) => Ok(Some(boundary)),
        Ok(_) | Err(_) => Err(Refusal::Upload("the form has no boundary of 1 to 70 bytes")),
    }
}

/// Reads a form to its end: the file into `incoming`, the folder, which may stand before or behind the file or in the
/// query, as what it returns.
///
/// # Errors
/// What is wrong with the form, or what the desk answers.
pub(super) async fn read(
    body: &mut Body<'_>,
    boundary: String,
    mut folder: Option<Folder>,
    incoming: &mut impl Incoming,
) -> Result<Folder, Broken> {
    let (feed, pieces) = smol::channel::bounded(1);
    let mut form = Multipart::new(pieces, boundary);
    let mut feeder = Feeder { body, feed: Some(feed), piece: Vec::new(), in_vain: 0 };
    let (mut parts, mut ignored, mut has_data, mut has_folder) = (0, 0, false, false);
    while let Some(mut field) = feeder.next_part(&mut form).await? {
        parts += 1;
        if parts > FORM_PARTS {
            return Err(Refusal::FormTooLong.into());
        }
        match field.name() {
            Some("data") => {
                if std::mem::replace(&mut has_data, true) {
                    return Err(incomplete("data stands twice").into());
                }
                if field.content_type().is_some_and(|media| media.type_() == "multipart") {
                    return Err(incomplete("data must be one file").into());
                }
                while let Some(bytes) = feeder.next_bytes(&mut field).await? {
                    for piece in bytes.chunks(PIECE_BYTES) {
                        incoming.push(piece).await.map_err(Refusal::Desk)?;
                    }
                }
            }
            Some("folder") => {
                if std::mem::replace(&mut has_folder, true) {
                    return Err(incomplete("folder stands twice").into());
                }
                let mut text = Vec::new();
                while let Some(bytes) = feeder.next_bytes(&mut field).await? {
                    if text.len() + bytes.len() > FOLDER_BYTES {
                        return Err(Refusal::Name(NameRefused::Folder).into());
                    }
                    text.extend_from_slice(&bytes);
                }
                let text = String::from_utf8(text).map_err(|_| Refusal::Name(NameRefused::Folder))?;
                let named = Folder::new(text).map_err(Refusal::Name)?;
                if folder.as_ref().is_some_and(|asked| *asked != named) {
                    return Err(incomplete("the folder of the form is not that of the query").into());
                }
                folder = Some(named);
            }
            Some(_) | None => {
                while let Some(bytes) = feeder.next_bytes(&mut field).await? {
                    ignored += bytes.len();
                    if ignored > FORM_IGNORED_BYTES {
                        return Err(Refusal::FormTooLong.into());
                    }
                }
            }
        }
    }
    // RFC 2046 section 5.1.1: what stands behind the last boundary is read over.
    body.skip().await?;
    if has_data { Ok(folder.unwrap_or_default()) } else { Err(incomplete("data is missing").into()) }
}

fn incomplete(what: &str) -> Refusal {
    Refusal::Field(Shape::Upload, what.into())
}

/// Hands the form's bytes on, as long as something comes of them.
struct Feeder<'b, 'w> {
    body: &'b mut Body<'w>,
    /// `None` once the body is over.
    feed: Option<Sender<Result<Bytes, Infallible>>>,
    piece: Vec<u8>,
    /// Bytes since something came of them.
    in_vain: usize,
}

impl Feeder<'_, '_> {
    async fn next_part<'f>(&mut self, form: &mut Multipart<'f>) -> Result<Option<Field<'f>>, Broken> {
        loop {
            if let Some(found) = poll_once(form.next_field()).await {
                self.in_vain = 0;
                return Ok(found.map_err(|_| NOT_A_FORM)?);
            }
            self.feed().await?;
        }
    }

    /// The next bytes of a part, at least one; `None` at its end.
    async fn next_bytes(&mut self, field: &mut Field<'_>) -> Result<Option<Bytes>, Broken> {
        loop {
            match poll_once(field.chunk()).await {
                Some(Ok(Some(bytes))) if bytes.is_empty() => {}
                Some(found) => {
                    self.in_vain = 0;
                    return Ok(found.map_err(|_| NOT_A_FORM)?);
                }
                None => self.feed().await?,
            }
        }
    }

    /// Feeds one more piece; called only when the one before was taken.
    async fn feed(&mut self) -> Result<(), Broken> {
        let feed = self.feed.as_ref().ok_or(NOT_A_FORM)?;
        let count = self.body.read_piece(&mut self.piece).await?;
        self.in_vain += count;
        if self.in_vain > FORM_FRAMING_BYTES + PIECE_BYTES {
            return Err(Refusal::FormTooLong.into());
        }
        if count == 0 {
            self.feed = None;
        } else if feed.try_send(Ok(Bytes::copy_from_slice(&self.piece[..count]))).is_err() {
            return Err(NOT_A_FORM.into());
        }
        // Every piece is searched together with what was kept before it.
        yield_now().await;
        Ok(())
    }
}
