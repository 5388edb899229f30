//! `POST` and `PUT /upload/{name}`: raw bytes, or a form, on their way to the desk in constant memory.
//!
//! What can be known from the head is told before the desk is asked, and the desk is asked before the client is told to
//! go on: nobody sends gigabytes for a refusal.

use super::answer::Answer;
use super::body::{Body, Broken};
use super::clients::{Phase, Seat};
use super::connection::Port;
use super::desk::{Desk, Incoming, Wanted};
use super::form;
use super::head::Head;
use super::load::name;
use super::refusal::{Refusal, Shape};
use crate::name::Folder;

/// Takes the model that the request brings.
///
/// # Errors
/// What is wrong with the request, or what the desk answers.
pub(super) async fn take<D: Desk>(
    port: &Port<D>,
    head: &Head,
    body: &mut Body<'_>,
    seat: &Seat,
) -> Result<Answer, Broken> {
    let name = name(&head.target)?;
    let asked = head.target.parameter("folder").map_err(Refusal::Malformed)?;
    let asked = asked.map(Folder::new).transpose().map_err(Refusal::Name)?;
    let boundary = form::boundary(head)?;
    if head.is_partial {
        // RFC 9110 section 14.5: whoever took it for the whole would lose the rest.
        return Err(Refusal::Upload("only whole files are taken, no Content-Range").into());
    }
    if !head.announces_body {
        // An empty file is a file, but a call without one is a slip that would replace a model by nothing.
        return Err(Refusal::Field(Shape::Upload, "there is no file".into()).into());
    }
    // What holds whole TLS sessions or a form is boxed, and made when it is its turn: a slow upload must stay small.
    let beginning = async {
        let turn = port.turn().await?;
        seat.now_at(Phase::Handling);
        Ok::<_, Broken>((turn, Box::pin(port.desk.upload()).await.map_err(Refusal::Desk)?))
    };
    let (turn, mut incoming) = body.wire().unless_gone(beginning).await.unwrap_or(Err(Broken::Gone))?;
    body.be_patient();
    let folder = if let Some(boundary) = boundary {
        Box::pin(form::read(body, boundary, asked, &mut incoming)).await?
    } else {
        let mut piece = Vec::new();
        loop {
            match body.read_piece(&mut piece).await? {
                0 => break asked.unwrap_or_default(),
                count => incoming.push(&piece[..count]).await.map_err(Refusal::Desk)?,
            }
        }
    };
    // The bytes are all here; the cloud may take hours.
    drop(turn);
    let answer = Box::pin(incoming.finish(Wanted { folder, name })).await.map_err(Refusal::Desk)?;
    Ok(Answer::upload(answer))
}
