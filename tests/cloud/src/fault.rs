//! What can go wrong on request, and the script that says when.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio::sync::Semaphore;

/// A call of the contract; faults and records are kept by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// The TLS handshake, before any call. Only [`Fault::Delay`], [`Fault::Hold`], [`Fault::Silence`], [`Fault::Garbage`] and
    /// [`Fault::CloseBeforeAnswer`] can befall it; it is never recorded as a call.
    Handshake,
    /// `POST /login`.
    Login,
    /// `GET /binary-split/key-fragment`.
    KeyFragment,
    /// `POST /resources/get[/{folder}]`.
    ResourceGet,
    /// `POST /resources[/{folder}]`.
    ResourcePut,
    /// Everything the contract does not know; answered 404 or 405.
    Unknown,
}

impl Route {
    /// Every route that is a call, for loops over all of them.
    pub const CALLS: [Self; 5] = [Self::Login, Self::KeyFragment, Self::ResourceGet, Self::ResourcePut, Self::Unknown];

    /// Which call it is, and the folder of those that have one (empty: none).
    pub(crate) fn of<'a>(method: &Method, path: &'a str) -> (Self, &'a str) {
        let segments: Vec<&str> = path.split('/').collect();
        match (method, segments.as_slice()) {
            (&Method::POST, ["", "login"]) => (Self::Login, ""),
            (&Method::GET, ["", "binary-split", "key-fragment"]) => (Self::KeyFragment, ""),
            (&Method::POST, ["", "resources", "get"]) => (Self::ResourceGet, ""),
            (&Method::POST, ["", "resources", "get", folder]) if is_folder(folder) => (Self::ResourceGet, folder),
            (&Method::POST, ["", "resources"]) => (Self::ResourcePut, ""),
            (&Method::POST, ["", "resources", folder]) if is_folder(folder) => (Self::ResourcePut, folder),
            _ => (Self::Unknown, ""),
        }
    }
}

/// A folder's name as CONTRACT section 5 has it.
fn is_folder(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=63).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != ".."
}

/// What faults are kept by: the calls of the API or those of S3.
pub(crate) trait Place: Copy + Eq + Hash + Debug {
    /// The place that is no call.
    const HANDSHAKE: Self;
    /// Whether calls here are of S3.
    const OBJECTS: bool;
    /// How far into a body a thrown cut may come: beyond the body's usual size all cuts would be at its end.
    const CUT_WITHIN: u64;
}

impl Place for Route {
    const HANDSHAKE: Self = Self::Handshake;
    const OBJECTS: bool = false;
    const CUT_WITHIN: u64 = 64;
}

/// Keeps an answer back until it is let go, so that a test decides what happens before.
#[derive(Debug, Clone)]
pub struct Hold(Arc<Semaphore>);

impl Default for Hold {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Hold {
    /// Lets go of it, for good.
    pub fn release(&self) {
        self.0.close();
    }

    pub(crate) async fn released(&self) {
        let _closed = self.0.acquire().await;
    }
}

impl PartialEq for Hold {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Hold {}

/// What befalls one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This answer instead of the right one.
    Status {
        /// The status code.
        code: u16,
        /// The body; as JSON when it begins with a brace, else as plain text.
        body: String,
        /// The value of `Retry-After`: seconds or a date, whatever stands here.
        retry_after: Option<String>,
    },
    /// 200 and these bytes, text or not, as JSON.
    Json(Vec<u8>),
    /// Nothing for this long, then the right answer.
    Delay(Duration),
    /// Nothing until it is let go, then the right answer.
    Hold(Hold),
    /// The request is taken and never answered; the connection stays open until the client closes it.
    Silence,
    /// The right answer with its full `Content-Length`, cut after this many bytes of its body (at the latest before its
    /// last). The connection ends without TLS's own farewell, as in a power cut.
    CutAfter(usize),
    /// 200 and a body that never ends.
    EndlessBody,
    /// Bytes that are not HTTP, then the end.
    Garbage,
    /// The connection is closed in good order without an answer.
    CloseBeforeAnswer,
    /// The right answer that promises keep-alive, then the connection is closed: the client's pool holds a dead one.
    CloseAfterAnswer,
    /// 307 to this address: method and body would be repeated there, credentials with them.
    Redirect(String),
    /// An answer of this status and body before a byte of the request's body is read, then the end of the connection.
    /// The call is recorded although its body never came.
    AnswerEarly(u16, String),
    /// S3 only: the connection ends after this many bytes of the request's body; nothing is stored.
    CutRequestAfter(u64),
    /// S3 only: the right answer to the request without its `Range` and `If-Range`: 200 and all of the object.
    IgnoreRange,
    /// S3 only: the call's object is replaced by these bytes, then the right answer.
    ReplaceObject(Vec<u8>),
    /// S3 only: the right answer with one bit of the byte at this place of its body turned round.
    FlipBit(usize),
}

impl Fault {
    /// No fault: keeps the place of a call in the queue.
    pub const NONE: Self = Self::Delay(Duration::ZERO);

    /// An answer of this status without more.
    pub fn status(code: u16) -> Self {
        Self::Status { code, body: String::new(), retry_after: None }
    }

    /// An answer of this status with the API's error body.
    pub fn error(code: u16, error_code: i64, message: &str) -> Self {
        let body = serde_json::json!({ "ErrorCode": error_code, "Message": message }).to_string();
        Self::Status { code, body, retry_after: None }
    }

    /// An answer of this status (429, 503) with `Retry-After` in seconds.
    pub fn try_later(code: u16, seconds: u32) -> Self {
        Self::Status { code, body: String::new(), retry_after: Some(seconds.to_string()) }
    }

    /// An answer of S3 with an error in XML: `Fault::s3(503, "SlowDown")`, `Fault::s3(404, "NoSuchUpload")`. With code
    /// 200 it is the error inside a good answer that `CompleteMultipartUpload` may give; nothing is completed then.
    pub fn s3(code: u16, error: &str) -> Self {
        Self::Status { code, body: s3_error(error, "a fault that a test asked for"), retry_after: None }
    }

    fn can_befall<P: Place>(&self, place: P) -> bool {
        match self {
            Self::Delay(_) | Self::Hold(_) | Self::Silence | Self::Garbage | Self::CloseBeforeAnswer => true,
            Self::Status { code, .. } | Self::AnswerEarly(code, _) => {
                place != P::HANDSHAKE && (200..600).contains(code)
            }
            Self::Json(_) | Self::CutAfter(_) | Self::EndlessBody | Self::CloseAfterAnswer | Self::Redirect(_) => {
                place != P::HANDSHAKE
            }
            Self::CutRequestAfter(_) | Self::IgnoreRange | Self::ReplaceObject(_) | Self::FlipBit(_) => {
                P::OBJECTS && place != P::HANDSHAKE
            }
        }
    }
}

/// S3's error document.
pub(crate) fn s3_error(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
}

/// Which fault comes when.
pub(crate) struct Script<P> {
    next: HashMap<P, VecDeque<Fault>>,
    always: HashMap<P, Fault>,
    random: Option<Dice>,
}

impl<P> Default for Script<P> {
    fn default() -> Self {
        Self { next: HashMap::new(), always: HashMap::new(), random: None }
    }
}

impl<P: Place> Script<P> {
    pub(crate) fn push(&mut self, route: P, fault: Fault) {
        assert!(fault.can_befall(route), "{fault:?} cannot befall {route:?}");
        self.next.entry(route).or_default().push_back(fault);
    }

    pub(crate) fn always(&mut self, route: P, fault: Fault) {
        assert!(fault.can_befall(route), "{fault:?} cannot befall {route:?}");
        self.always.insert(route, fault);
    }

    pub(crate) fn random(&mut self, seed: u64, per_mille: u16) {
        self.random = Some(Dice { state: seed, per_mille });
    }

    /// The fault of this call: queued, else standing, else thrown.
    pub(crate) fn take(&mut self, route: P) -> Option<Fault> {
        if let Some(fault) = self.next.get_mut(&route).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        if let Some(fault) = self.always.get(&route) {
            return Some(fault.clone());
        }
        self.random.as_mut().filter(|_| route != P::HANDSHAKE).and_then(|dice| dice.throw(P::CUT_WITHIN))
    }

    /// The fault of this call if it is one that comes before the body is read; others stay for [`Script::take`].
    pub(crate) fn take_early(&mut self, route: P) -> Option<Fault> {
        let early = |fault: &Fault| matches!(fault, Fault::AnswerEarly(..));
        match self.next.get_mut(&route).filter(|queued| !queued.is_empty()) {
            Some(queued) => queued.pop_front_if(|fault| early(fault)),
            None => self.always.get(&route).filter(|fault| early(fault)).cloned(),
        }
    }
}

/// A seeded source of the faults that a client is meant to survive by repeating the call.
struct Dice {
    state: u64,
    per_mille: u16,
}

impl Dice {
    fn throw(&mut self, cut_within: u64) -> Option<Fault> {
        if self.below(1000) >= u64::from(self.per_mille) {
            return None;
        }
        Some(match self.below(6) {
            0 => Fault::try_later(503, 0),
            1 => Fault::try_later(429, 0),
            2 => Fault::Delay(Duration::from_millis(self.below(50))),
            3 => Fault::CutAfter(usize::try_from(self.below(cut_within)).unwrap_or(0)),
            4 => Fault::CloseBeforeAnswer,
            _ => Fault::CloseAfterAnswer,
        })
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014): small, seeded, good enough to spread faults.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_the_contract() {
        let post = |path| Route::of(&Method::POST, path);
        assert_eq!(post("/login"), (Route::Login, ""));
        assert_eq!(post("/resources/get"), (Route::ResourceGet, ""));
        assert_eq!(post("/resources/get/models.v2"), (Route::ResourceGet, "models.v2"));
        assert_eq!(post("/resources"), (Route::ResourcePut, ""));
        assert_eq!(post("/resources/models"), (Route::ResourcePut, "models"));
        for path in ["/login/", "/Login", "/resources/get/", "/resources/", "/resources/..", "/resources/a%20b", "/"] {
            assert_eq!(post(path).0, Route::Unknown, "{path}");
        }
        assert_eq!(Route::of(&Method::GET, "/binary-split/key-fragment").0, Route::KeyFragment);
        assert_eq!(Route::of(&Method::GET, "/login").0, Route::Unknown);
    }

    #[test]
    fn queued_faults_come_first_and_in_order() {
        let mut script = Script::default();
        script.always(Route::Login, Fault::Silence);
        script.push(Route::Login, Fault::status(500));
        script.push(Route::Login, Fault::Garbage);
        assert_eq!(script.take(Route::KeyFragment), None);
        assert_eq!(script.take(Route::Login), Some(Fault::status(500)));
        assert_eq!(script.take(Route::Login), Some(Fault::Garbage));
        assert_eq!(script.take(Route::Login), Some(Fault::Silence));
        assert_eq!(script.take(Route::Login), Some(Fault::Silence));
    }

    #[test]
    fn a_seed_gives_the_same_faults_again_at_about_its_rate() {
        let throws = |seed| {
            let mut script = Script::default();
            script.random(seed, 250);
            (0..4000).map(|_| script.take(Route::Login)).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        let befallen = throws(7).iter().flatten().count();
        assert!((800..1200).contains(&befallen), "{befallen}");
    }

    #[test]
    #[should_panic(expected = "cannot befall Handshake")]
    fn a_handshake_has_no_status() {
        Script::default().push(Route::Handshake, Fault::status(500));
    }
}
