//! `POST /load/{name}`: which model is wanted, asked of the desk once there is room for one more.

use serde_json::Value;

use super::body::{Body, Broken};
use super::clients::{Phase, Seat};
use super::connection::Port;
use super::desk::{Desk, Wanted};
use super::head::Head;
use super::refusal::{Refusal, Shape};
use super::routes::media_type_is_fine;
use super::stream::Streamed;
use super::target::Target;
use crate::json::{self, JsonRefused};
use crate::limits::JSON_BODY_BYTES;
use crate::name::{Folder, NameRefused, ResourceName};

/// Opens the model that the request names. The client's leaving ends it.
///
/// # Errors
/// What is wrong with the request, or what the desk answers.
pub(super) async fn open<'p, D: Desk>(
    port: &'p Port<D>,
    head: &Head,
    body: &mut Body<'_>,
    seat: &Seat,
) -> Result<Box<Streamed<'p, D::Model>>, Broken> {
    let name = name(&head.target)?;
    if !body.is_over() && !media_type_is_fine(head) {
        return Err(Refusal::MediaType.into());
    }
    let folder = folder(&body.bytes(JSON_BODY_BYTES).await?)?;
    let opening = async {
        let turn = port.turn().await?;
        seat.now_at(Phase::Handling);
        let model = port.desk.load(Wanted { folder, name }).await.map_err(Refusal::Desk)?;
        Ok(Box::new(Streamed { model, _turn: turn }))
    };
    body.wire().unless_gone(opening).await.unwrap_or(Err(Broken::Gone))
}

/// The name behind the first segment of the path.
///
/// # Errors
/// [`Refusal::Name`].
pub(super) fn name(target: &Target) -> Result<ResourceName, Refusal> {
    match target.segments.as_slice() {
        [_, name] if !target.is_deeper => ResourceName::new(name.as_str()).map_err(Refusal::Name),
        _ => Err(Refusal::Name(NameRefused::Separator)),
    }
}

/// The folder in a JSON body; an empty one names none.
fn folder(body: &[u8]) -> Result<Folder, Refusal> {
    let field = |what: &str| Refusal::Field(Shape::Folder, what.into());
    if body.trim_ascii().is_empty() {
        return Ok(Folder::default());
    }
    let value = json::from_slice::<Value>(body, JSON_BODY_BYTES).map_err(|refused| match refused {
        JsonRefused::TooLarge { .. } => Refusal::BodyTooLong,
        _ => Refusal::NotJson(Shape::Folder, refused.to_string()),
    })?;
    match value.as_object().ok_or_else(|| field("a json object is needed"))?.get("folder") {
        None | Some(Value::Null) => Ok(Folder::default()),
        Some(Value::String(folder)) => Folder::new(folder.as_str()).map_err(Refusal::Name),
        Some(_) => Err(field("folder must be a text")),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_name_is_one_segment_decoded_once() {
        let name = |path: &str| {
            let target = Target::parse(&Method::POST, format!("/load{path}").as_bytes()).expect("a path");
            name(&target).map(|name| name.as_str().to_owned())
        };
        for (path, named) in
            [("/a%20b", "a b"), ("/a+b", "a+b"), ("/%2541", "%41"), ("/модель", "модель"), ("/%F0%9F%9A%80?x", "🚀")]
        {
            assert_eq!(name(path).as_deref(), Ok(named), "{path}");
        }
        for (path, refused) in [
            ("/", NameRefused::Length { bytes: 0 }),
            ("/a/b", NameRefused::Separator),
            ("/a/", NameRefused::Separator),
            ("/1/2/3/4/5/6", NameRefused::Separator),
            ("/a%2Fb", NameRefused::Separator),
            ("/a%5cb", NameRefused::Separator),
            ("/..%2fx", NameRefused::Separator),
            ("/..", NameRefused::Dots),
            ("/%2e", NameRefused::Dots),
        ] {
            assert_eq!(name(path), Err(Refusal::Name(refused)), "{path}");
        }
        let long = format!("/{}", "%d1%8f".repeat(128));
        assert_eq!(name(&long), Err(Refusal::Name(NameRefused::Length { bytes: 256 })));
    }

    #[test]
    fn a_folder_is_text_or_nothing() {
        for (body, named) in [
            ("", ""),
            (" \r\n", ""),
            ("{}", ""),
            (r#"{"folder":null,"x":[1]}"#, ""),
            (r#"{"folder":""}"#, ""),
            (r#"{"folder":"m\u002e1"}"#, "m.1"),
        ] {
            assert_eq!(
                folder(body.as_bytes()).map(|folder| folder.as_str().to_owned()).as_deref(),
                Ok(named),
                "{body}"
            );
        }
        for (body, status) in [
            ("folder=m", 400),
            (r#"{"folder":"m""#, 400),
            (r#"{"folder":"m","folder":"m"}"#, 400),
            (r#"{"folder":"a/b"}"#, 400),
            (r#"{"folder":".."}"#, 400),
            (r#"{"folder":5}"#, 422),
            (r#"["m"]"#, 422),
            (r#""m""#, 422),
        ] {
            assert_eq!(folder(body.as_bytes()).expect_err(body).status(), status, "{body}");
        }
    }
}
