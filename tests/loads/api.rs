//! An engine asked over its socket, without a client between: quick enough to ask every few milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::PATIENCE;
use crate::support::engine::Engine;

/// An answer: status and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// The engine behind a socket.
#[derive(Clone)]
pub(crate) struct Api {
    socket: PathBuf,
}

impl Api {
    pub(crate) fn of(engine: &Engine) -> Self {
        Self { socket: engine.socket() }
    }

    /// One call of HTTP/1.0, so that an answer is never chunked and ends with the connection.
    pub(crate) fn call(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket)?;
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: engine\r\n")?;
        write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(body)?;
        let mut whole = Vec::new();
        stream.read_to_end(&mut whole)?;
        let end = whole.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&whole[..end]);
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Answer { status, body: whole.split_off(end + 4) })
    }

    /// A `GET` that must succeed.
    pub(crate) fn ask(&self, path: &str) -> Value {
        let answer = self.call("GET", path, b"").expect("the engine answers");
        assert!(answer.is_good(), "GET {path}: {} {}", answer.status, answer.json());
        answer.json()
    }

    /// Every image that it lists, untagged and intermediate ones too. Engines refuse a list of which an image is
    /// removed meanwhile: it is asked for again.
    pub(crate) fn images(&self) -> Vec<Value> {
        let path = "/images/json?all=true";
        let mut answers = (0..10).map(|_| self.call("GET", path, b"").expect("the engine answers"));
        list(answers.find(Answer::is_good).map_or_else(|| self.ask(path), |answer| answer.json()))
    }

    /// Untagged images of the agent that are a large image's beginning.
    pub(crate) fn prefixes(&self) -> Vec<Value> {
        list(self.ask("/images/json?all=true&filters=%7B%22label%22%3A%5B%22com.azaion.loader.prefix%22%5D%7D"))
    }

    /// What each tag stands for.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let of = |image: &Value| -> Vec<_> { tags(image).into_iter().map(|tag| (tag, id(image))).collect() };
        self.images().iter().flat_map(of).collect()
    }

    /// The ids of all images.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.images().iter().map(id).collect()
    }

    /// The `diff_ids` of an image, `None` where there is none of that name.
    pub(crate) fn layers(&self, image: &str) -> Option<Vec<String>> {
        let answer = self.call("GET", &format!("/images/{image}/json"), b"").expect("the engine answers");
        answer.is_good().then(|| {
            list(answer.json()["RootFS"]["Layers"].clone())
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
    }

    /// Makes a container that is never started; its id.
    pub(crate) fn create(&self, image: &str) -> Result<String, String> {
        let body = json!({"Image": image, "Cmd": ["/x"], "NetworkDisabled": true}).to_string();
        let answer = self.call("POST", "/containers/create", body.as_bytes()).expect("the engine answers");
        if answer.is_good() {
            Ok(answer.json()["Id"].as_str().expect("an id").to_owned())
        } else {
            Err(format!("{} {}", answer.status, answer.json()["message"]))
        }
    }

    /// Removes a container, running or not.
    pub(crate) fn remove(&self, container: &str) {
        let answer = self.call("DELETE", &format!("/containers/{container}?force=true"), b"").expect("it answers");
        assert!(answer.is_good(), "container {container} stays: {} {}", answer.status, answer.json());
    }

    /// Removes every container and every image.
    pub(crate) fn wipe(&self) {
        for container in list(self.ask("/containers/json?all=true")) {
            self.remove(&id(&container));
        }
        // An image that others are built from goes after them.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.ids();
            if left.is_empty() {
                return;
            }
            let mut said = Value::Null;
            for image in left {
                let answer = self.call("DELETE", &format!("/images/{image}?force=true"), b"").expect("it answers");
                said = answer.json();
            }
            assert!(Instant::now() < deadline, "images stay: {said}");
        }
    }
}

/// The `Id` of an image or a container.
pub(crate) fn id(of: &Value) -> String {
    of["Id"].as_str().expect("everything has an id").to_owned()
}

/// The tags of an image in a list, without the sign for "none".
pub(crate) fn tags(image: &Value) -> BTreeSet<String> {
    let tags = list(image["RepoTags"].clone());
    tags.iter().filter_map(Value::as_str).filter(|tag| *tag != "<none>:<none>").map(str::to_owned).collect()
}

/// A list, empty where the engine says `null`.
pub(crate) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// `Ok` where it holds, else why not.
pub(crate) fn holds(it: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if it { Ok(()) } else { Err(why()) }
}

/// Asks until it holds. What an engine does after it has answered (it clears its temporary directory) shows by itself.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(why) = holds() {
        assert!(Instant::now() < deadline, "{what}: {why}");
        std::thread::yield_now();
    }
}
