//! What a Docker engine answers: documents, and the messages that a load answers with while it goes on.
//!
//! The format is the Docker Engine API's (docs.docker.com/reference/api/engine); only fields that every engine since
//! 20.10 sends are asked for. An answer is never trusted in its length, depth or text: what an engine says is cut and
//! stripped before anyone sees it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::json::{self, JsonRefused};
use crate::limits::{ENGINE_LOAD_ANSWER_BYTES, ENGINE_LOAD_MESSAGE_BYTES, ENGINE_SAID_BYTES};

/// `GET /version`.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the API's own names")]
pub(super) struct Version {
    /// Of the engine: `26.1.5+dfsg1`.
    #[serde(rename = "Version")]
    pub(super) version: String,
    /// The newest API it speaks: `1.45`.
    #[serde(rename = "ApiVersion")]
    pub(super) api_version: String,
    /// Absent in old engines.
    #[serde(rename = "Components", default)]
    components: Option<Vec<Component>>,
}

#[derive(Debug, Deserialize)]
struct Component {
    #[serde(rename = "Name", default)]
    name: String,
}

impl Version {
    /// Whether this is podman behind Docker's API: it tells another id in each answer, which so tells nothing.
    pub(super) fn is_podman(&self) -> bool {
        self.components.iter().flatten().any(|component| component.name.starts_with("Podman"))
    }
}

/// `GET /info`.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "Driver")]
    pub(super) driver: String,
    #[serde(rename = "DriverStatus")]
    driver_status: Option<Vec<Vec<String>>>,
    #[serde(rename = "DockerRootDir")]
    pub(super) root_dir: String,
}

impl Info {
    /// Whether images lie in containerd's content store and not in the engine's own.
    pub(super) fn is_containerd_store(&self) -> bool {
        let told = ["driver-type", "io.containerd.snapshotter.v1"];
        self.driver_status.iter().flatten().any(|pair| pair.iter().eq(told))
    }
}

/// `GET /images/{name}/json`, of which only this is compared: the image id is a manifest digest since Docker 29.
#[derive(Debug, Deserialize)]
pub(super) struct Inspected {
    #[serde(rename = "Id")]
    pub(super) id: String,
    /// Its tags, as the engine spells them.
    #[serde(rename = "RepoTags", default)]
    pub(super) tags: Option<Vec<String>>,
    #[serde(rename = "RootFS", default)]
    root: Root,
}

#[derive(Debug, Default, Deserialize)]
struct Root {
    #[serde(rename = "Layers", default)]
    layers: Option<Vec<String>>,
}

impl Inspected {
    /// `RootFS.Layers`: the `diff_ids` of the layers, the lowest first.
    pub(super) fn layers(&self) -> &[String] {
        self.root.layers.as_deref().unwrap_or_default()
    }
}

/// One of `GET /images/json`.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "Id")]
    pub(super) id: String,
    #[serde(rename = "RepoTags", default)]
    pub(super) tags: Option<Vec<String>>,
    #[serde(rename = "Labels", default)]
    labels: Option<BTreeMap<String, String>>,
}

/// One of `GET /containers/json`; that there is one is all that counts.
#[derive(Debug, Deserialize)]
pub(super) struct Container {}

impl Listed {
    /// The value of a label of its config.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// Docker up to 24 lists the name `<none>:<none>` where there is none.
    pub(super) fn is_untagged(&self) -> bool {
        self.tags.iter().flatten().all(|tag| tag == "<none>:<none>")
    }
}

/// The body of a refusal: `{"message":"…"}`.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) message: String,
}

/// One message of a load's answer.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(rename = "errorDetail", default)]
    detail: Option<Detail>,
}

#[derive(Debug, Deserialize)]
struct Detail {
    #[serde(default)]
    message: Option<String>,
}

/// The answer to a load, read as it comes: one JSON object a line.
#[derive(Debug, Default)]
pub(super) struct LoadAnswer {
    line: Vec<u8>,
    bytes: usize,
    loaded: Vec<String>,
    failure: Option<String>,
}

/// Why the answer to a load cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LoadAnswerRefused {
    /// All messages together are more than [`ENGINE_LOAD_ANSWER_BYTES`].
    TooLong,
    /// A message is longer than [`ENGINE_LOAD_MESSAGE_BYTES`] or not the JSON it must be.
    Message(JsonRefused),
}

impl LoadAnswer {
    /// Takes in what has come, cut anywhere.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), LoadAnswerRefused> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > ENGINE_LOAD_ANSWER_BYTES {
            return Err(LoadAnswerRefused::TooLong);
        }
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.message()?;
        }
        self.line.extend_from_slice(bytes);
        // A line without end must not grow to the whole answer's bound.
        if self.line.len() > ENGINE_LOAD_MESSAGE_BYTES {
            let (len, limit) = (self.line.len(), ENGINE_LOAD_MESSAGE_BYTES);
            return Err(LoadAnswerRefused::Message(JsonRefused::TooLarge { len, limit }));
        }
        Ok(())
    }

    /// The answer has ended well: the names the engine says it loaded, or its first error.
    pub(super) fn finish(mut self) -> Result<Result<Vec<String>, String>, LoadAnswerRefused> {
        self.message()?;
        Ok(self.failure.map_or(Ok(self.loaded), Err))
    }

    fn message(&mut self) -> Result<(), LoadAnswerRefused> {
        let line = std::mem::take(&mut self.line);
        let text = line.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        // A list would be taken for the fields in their order.
        if !text.starts_with(b"{") {
            return Err(LoadAnswerRefused::Message(JsonRefused::Shape { line: 1, column: 1 }));
        }
        let message: Message = json::from_slice(text, ENGINE_LOAD_MESSAGE_BYTES).map_err(LoadAnswerRefused::Message)?;
        let detail = message.detail.map(|detail| detail.message.unwrap_or_default());
        if let Some(error) = detail.into_iter().chain(message.error).max_by_key(String::len) {
            self.failure.get_or_insert_with(|| said(&error));
        }
        for line in message.stream.iter().flat_map(|text| text.lines()) {
            let name = line.strip_prefix("Loaded image: ").or_else(|| line.strip_prefix("Loaded image ID: "));
            self.loaded.extend(name.map(said));
        }
        Ok(())
    }
}

/// What an engine said, fit to be shown: one line of at most [`ENGINE_SAID_BYTES`] bytes without control characters.
pub(super) fn said(text: &str) -> String {
    let mut shown = String::new();
    for character in text.trim().chars() {
        // Terminals act on control characters; bidirectional marks turn what stands around them.
        let character = match character {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => continue,
            _ if character.is_control() => ' ',
            _ => character,
        };
        if shown.len() + character.len_utf8() > ENGINE_SAID_BYTES {
            break;
        }
        shown.push(character);
    }
    if shown.is_empty() { "no reason given".to_owned() } else { shown }
}

/// Whether an engine's message tells that its flash is full (`ENOSPC`, `EDQUOT` in the words of Go's `syscall`).
pub(super) fn is_no_space(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["no space left on device", "disk quota exceeded", "enospc"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &[u8], piece: usize) -> Result<Result<Vec<String>, String>, LoadAnswerRefused> {
        let mut messages = LoadAnswer::default();
        for bytes in answer.chunks(piece) {
            messages.push(bytes)?;
        }
        messages.finish()
    }

    #[test]
    fn an_error_among_the_messages_is_an_error_however_it_is_cut() {
        let answer = concat!(
            "{\"stream\":\"Loaded image: a:1\\n\"}\r\n",
            "{\"status\":\"Loading layer\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"x\"}\r\n",
            "{\"errorDetail\":{\"code\":1,\"message\":\"invalid diffID\"},\"error\":\"invalid diffID\"}\r\n",
            "{\"stream\":\"Loaded image: b:1\\n\"}\r\n",
        );
        for piece in 1..=answer.len() {
            assert_eq!(read(answer.as_bytes(), piece), Ok(Err("invalid diffID".to_owned())), "pieces of {piece}");
        }
    }

    #[test]
    fn either_form_of_an_error_suffices_even_an_empty_one() {
        for (answer, expected) in [
            (r#"{"error":"x"}"#, "x"),
            (r#"{"errorDetail":{"message":"x"}}"#, "x"),
            (r#"{"error":""}"#, "no reason given"),
            (r#"{"errorDetail":{}}"#, "no reason given"),
        ] {
            assert_eq!(read(answer.as_bytes(), 5), Ok(Err(expected.to_owned())), "{answer}");
        }
    }

    #[test]
    fn loaded_names_are_collected() {
        let answer = "{\"stream\":\"Loaded image: a:1\\nLoaded image ID: sha256:ab\\n\"}\n\n{\"stream\":\"other\"}";
        assert_eq!(read(answer.as_bytes(), 7), Ok(Ok(vec!["a:1".to_owned(), "sha256:ab".to_owned()])));
        assert_eq!(read(b"", 1), Ok(Ok(vec![])));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for answer in ["<html>", "{\"stream\":1}", "[]", "{\"error\":\"a\",\"error\":\"b\"}", "{\"stream\":\"cut"] {
            assert!(matches!(read(answer.as_bytes(), 3), Err(LoadAnswerRefused::Message(_))), "{answer}");
        }
    }

    #[test]
    fn messages_and_the_answer_hold_at_their_bounds() {
        let message = |bytes: usize| format!("{{\"stream\":\"{}\"}}", "x".repeat(bytes - 13));
        assert_eq!(message(100).len(), 100);
        let widest = message(ENGINE_LOAD_MESSAGE_BYTES);
        assert_eq!(read(widest.as_bytes(), 1000), Ok(Ok(vec![])));
        let wider = message(ENGINE_LOAD_MESSAGE_BYTES + 1);
        assert!(matches!(read(wider.as_bytes(), 1000), Err(LoadAnswerRefused::Message(_))));
        assert!(matches!(read(format!("{wider}\n").as_bytes(), 100_000), Err(LoadAnswerRefused::Message(_))));
        let full = [b"{}\r\n".repeat(ENGINE_LOAD_ANSWER_BYTES / 4), b"\n".to_vec()].concat();
        assert_eq!(read(&full[..ENGINE_LOAD_ANSWER_BYTES], 60_000), Ok(Ok(vec![])));
        assert_eq!(read(&full, 60_000), Err(LoadAnswerRefused::TooLong));
    }

    #[test]
    fn what_the_engine_says_is_one_bounded_line() {
        assert_eq!(said(" a\nb\x1b[31m\u{202e}c \r\n"), "a b [31mc");
        assert_eq!(said(&"ä".repeat(ENGINE_SAID_BYTES)).len(), ENGINE_SAID_BYTES);
        assert_eq!(said(&"x".repeat(ENGINE_SAID_BYTES + 1)).len(), ENGINE_SAID_BYTES);
    }

    #[test]
    fn a_full_flash_is_known_by_its_words() {
        assert!(is_no_space("write /var/lib/docker/tmp/x: no space left on device"));
        assert!(is_no_space("Disk quota exceeded"));
        assert!(!is_no_space("invalid diffID"));
    }

    #[test]
    fn the_store_is_told_from_the_driver_status() {
        let info = |status: &str| {
            let text = format!(r#"{{"ID":"i","Driver":"overlayfs","DriverStatus":{status},"DockerRootDir":"/d"}}"#);
            json::from_slice::<Info>(text.as_bytes(), 1000).expect("an info").is_containerd_store()
        };
        assert!(info(r#"[["driver-type","io.containerd.snapshotter.v1"]]"#));
        assert!(!info(r#"[["Backing Filesystem","extfs"],["driver-type"]]"#));
        assert!(!info("null"));
    }
}
