//! An answer: status, a bounded body, and the one header that some statuses need.
//!
//! The small fixed JSON messages are written by `serde-json-core` into a buffer of [`ANSWER_BYTES`]. Texts are cut and
//! freed of control characters first, so that what is written always fits and always parses. CONTRACT section 6 has
//! the shapes.

use std::fmt::{self, Write as _};

use heapless::String as Text;
use serde::Serialize;

use super::checkup::Checkup;
use super::desk::{StatusView, UnlockView, UploadAnswer};
use super::pages;
use super::refusal::Refusal;
use crate::error::{Code, Report};
use crate::limits::{
    ANSWER_BYTES, SHOWN_EMAIL_BYTES, SHOWN_MESSAGE_BYTES, SHOWN_NAME_BYTES, SHOWN_NEXT_BYTES, SHOWN_NOTES,
};
use crate::unlock::State;

/// What goes back to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) media: Media,
    pub(super) header: Option<Header>,
    pub(super) body: Vec<u8>,
}

/// The kind of body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Plain,
    Bytes,
    Events,
    Html,
    Metrics,
}

impl Media {
    /// What an `Accept` prefers: text only when it names `text/plain` and likes it better than JSON.
    pub(super) fn preferred(accept: Option<&str>) -> Self {
        // The weight of the first of these ranges that is there (RFC 9110 section 12.5.1: the more specific wins).
        let weight = |ranges: &[&str]| {
            ranges.iter().find_map(|range| {
                accept.unwrap_or_default().split(',').find_map(|item| {
                    let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
                    let weight = parameters.split(';').find_map(|one| one.trim().strip_prefix("q="));
                    name.trim().eq_ignore_ascii_case(range).then(|| weight.map_or(Some(1.0), |text| text.parse().ok()))
                })
            })
        };
        let text: f32 = weight(&["text/plain"]).flatten().unwrap_or(0.0);
        let json: f32 = weight(&["application/json", "application/*", "*/*"]).flatten().unwrap_or(0.0);
        if text > json { Self::Plain } else { Self::Json }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Plain => "text/plain; charset=utf-8",
            Self::Bytes => "application/octet-stream",
            Self::Events => "text/event-stream",
            Self::Html => "text/html; charset=utf-8",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The header that belongs to the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    Allow(&'static str),
    RetryAfter(u64),
    Authenticate,
    /// What the page may do.
    Policy,
}

impl Answer {
    fn json(status: u16, message: &impl Serialize) -> Self {
        let (status, body) = match serde_json_core::to_vec::<_, ANSWER_BYTES>(message) {
            Ok(text) => (status, text.to_vec()),
            // The bounds of the parts leave no way here; a test holds that.
            Err(_) => (500, b"{}".to_vec()),
        };
        Self { status, media: Media::Json, header: None, body }
    }

    /// `GET /health`.
    pub(super) fn healthy() -> Self {
        Self::json(200, &StatusWire { status: "healthy" })
    }

    /// A call that did what it should.
    pub(super) fn success() -> Self {
        Self::json(200, &StatusWire { status: "success" })
    }

    /// The answer to an upload.
    pub(super) fn upload(answer: UploadAnswer) -> Self {
        match answer {
            UploadAnswer::Published => Self::success(),
            UploadAnswer::Accepted => Self::json(202, &StatusWire { status: "accepted" }),
        }
    }

    /// The state after `POST /unlock`.
    pub(super) fn state(status: u16, state: State) -> Self {
        Self::json(status, &StateWire { state: state.as_str() })
    }

    /// `GET /unlock/status`.
    pub(super) fn unlock(view: &UnlockView) -> Self {
        let progress = ProgressWire {
            stage: view.progress.stage,
            images_done: view.progress.images_done,
            images_total: view.progress.images_total,
            bytes_done: view.progress.bytes_done,
            bytes_total: view.progress.bytes_total,
            bytes_per_second: view.progress.bytes_per_second,
            seconds_left: view.progress.seconds_left,
        };
        let error = view.error.as_ref().map(ReportWire::of);
        Self::json(200, &UnlockWire { state: view.state.as_str(), error, progress })
    }

    /// `GET /status`.
    pub(super) fn status(view: &StatusView) -> Self {
        Self::json(
            200,
            &AgentWire {
                version: cut(view.version),
                board: cut(&view.board),
                user: view.user.as_ref().map(|user| UserWire { email: cut(&user.email), role: cut(user.role) }),
                unlock: StateWire { state: view.unlock.as_str() },
                seal: view.seal.map(cut),
                engine: view.engine.as_ref().map(|engine| EngineWire {
                    kind: cut(engine.kind),
                    version: cut(&engine.version),
                    api_version: cut(&engine.api_version),
                    store: cut(&engine.store),
                }),
                cache: view.cache.map(|cache| CacheWire {
                    entries: cache.entries,
                    bytes: cache.bytes,
                    max_bytes: cache.max_bytes,
                    bytes_written: cache.bytes_written,
                    uploads_waiting: cache.uploads_waiting,
                    usable: cache.usable,
                }),
                audit: view.audit.as_ref().map(|audit| AuditWire { count: audit.count, hash: cut(&audit.hash) }),
                last_error: view.last_error.as_ref().map(ReportWire::of),
                notes: view.notes.iter().take(SHOWN_NOTES).map(|note| cut(note)).collect(),
            },
        )
    }

    /// `GET /check`, as JSON or, for who asks so, a line for each thing.
    pub(super) fn checkup(checkup: &Checkup, media: Media) -> Self {
        let body = match media {
            Media::Plain => format!("{checkup}\n").into_bytes(),
            _ => serde_json::to_vec(checkup).unwrap_or_default(),
        };
        Self { status: 200, media, header: None, body }
    }

    /// A document of the port's own.
    pub(super) fn page(media: Media, text: &str) -> Self {
        let header = (media == Media::Html).then_some(Header::Policy);
        Self { status: 200, media, header, body: text.as_bytes().to_vec() }
    }

    /// An error, as JSON or, for who asks so, as two lines of text.
    pub(super) fn refusal(refusal: &Refusal, media: Media) -> Self {
        let report = refusal.report();
        let mut answer = match media {
            Media::Plain => {
                let wire = ReportWire::of(&report);
                let body = format!("{}: {}\nnext: {}\n", wire.code, wire.message, wire.next).into_bytes();
                Self { status: refusal.status(), media, header: None, body }
            }
            _ => Self::json(refusal.status(), &ErrorWire { error: ReportWire::of(&report) }),
        };
        answer.header = match refusal {
            Refusal::Method { allow } => Some(Header::Allow(allow)),
            Refusal::Attempts { retry_after } => Some(Header::RetryAfter(*retry_after)),
            Refusal::Crowded => Some(Header::RetryAfter(1)),
            Refusal::Desk(report) if report.code == Code::TooMany => Some(Header::RetryAfter(1)),
            Refusal::Token => Some(Header::Authenticate),
            _ => None,
        };
        answer
    }

    /// The bytes for the wire. `head_only` answers a HEAD request: the length is told, the body is not sent.
    pub(super) fn to_wire(&self, closing: bool, head_only: bool) -> Vec<u8> {
        let head = head(self.status, self.media, Extent::Length(self.body.len() as u64), self.header, closing);
        let mut wire = head.into_bytes().to_vec();
        if !head_only {
            wire.extend_from_slice(&self.body);
        }
        wire
    }
}

/// How long a body is, as its head tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Length(u64),
    /// Unknown: the last chunk tells its end.
    Chunked,
}

/// The head of an answer, its empty line included.
pub(super) fn head(status: u16, media: Media, extent: Extent, header: Option<Header>, closing: bool) -> Text<768> {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut head = Text::new();
    // No `Date`: the board may have no clock (RFC 9110 section 6.6.1). No `Server`: no banner.
    let written = write!(
        head,
        "HTTP/1.1 {status} {}\r\nContent-Type: {}\r\n{extent}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n",
        reason.unwrap_or(""),
        media.as_str(),
    )
    .and_then(|()| match header {
        Some(Header::Allow(methods)) => write!(head, "Allow: {methods}\r\n"),
        Some(Header::RetryAfter(seconds)) => write!(head, "Retry-After: {seconds}\r\n"),
        Some(Header::Authenticate) => head.write_str("WWW-Authenticate: Bearer\r\n"),
        Some(Header::Policy) => write!(head, "Content-Security-Policy: {}\r\n", pages::policy()),
        None => Ok(()),
    })
    .and_then(|()| if closing { head.write_str("Connection: close\r\n") } else { Ok(()) })
    .and_then(|()| head.write_str("\r\n"));
    debug_assert!(written.is_ok(), "all parts of the head are short");
    head
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "Content-Length: {length}\r\n"),
            Self::Chunked => f.write_str("Transfer-Encoding: chunked\r\n"),
        }
    }
}

/// The first bytes of `text` that fit, whole characters only, control characters as spaces.
pub(super) fn cut<const N: usize>(text: &str) -> Text<N> {
    let mut kept = Text::new();
    for character in text.chars() {
        if kept.push(if character.is_control() { ' ' } else { character }).is_err() {
            break;
        }
    }
    kept
}

type Name = Text<SHOWN_NAME_BYTES>;

#[derive(Serialize)]
struct StatusWire {
    status: &'static str,
}

#[derive(Serialize)]
struct StateWire {
    state: &'static str,
}

#[derive(Serialize)]
struct ErrorWire {
    error: ReportWire,
}

#[derive(Serialize)]
struct ReportWire {
    code: &'static str,
    message: Text<SHOWN_MESSAGE_BYTES>,
    next: Text<SHOWN_NEXT_BYTES>,
}

impl ReportWire {
    fn of(report: &Report) -> Self {
        Self { code: report.code.as_str(), message: cut(&report.message), next: cut(&report.next) }
    }
}

#[derive(Serialize)]
struct UnlockWire {
    state: &'static str,
    error: Option<ReportWire>,
    progress: ProgressWire,
}

#[derive(Serialize)]
struct ProgressWire {
    stage: Option<&'static str>,
    images_done: Option<u32>,
    images_total: Option<u32>,
    bytes_done: Option<u64>,
    bytes_total: Option<u64>,
    bytes_per_second: Option<u64>,
    seconds_left: Option<u64>,
}

#[derive(Serialize)]
struct AgentWire {
    version: Name,
    board: Name,
    user: Option<UserWire>,
    unlock: StateWire,
    seal: Option<Name>,
    engine: Option<EngineWire>,
    cache: Option<CacheWire>,
    audit: Option<AuditWire>,
    last_error: Option<ReportWire>,
    notes: heapless::Vec<Name, SHOWN_NOTES>,
}

#[derive(Serialize)]
struct UserWire {
    email: Text<SHOWN_EMAIL_BYTES>,
    role: Name,
}

#[derive(Serialize)]
struct EngineWire {
    kind: Name,
    version: Name,
    api_version: Name,
    store: Name,
}

#[derive(Serialize)]
struct CacheWire {
    entries: u64,
    bytes: u64,
    max_bytes: Option<u64>,
    bytes_written: u64,
    uploads_waiting: u64,
    usable: bool,
}

#[derive(Serialize)]
struct AuditWire {
    count: u64,
    hash: Text<64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::control::desk::{AuditView, CacheView, EngineView, UserView};
    use crate::error::Code;
    use crate::unlock::Progress;

    fn report(message: &str, next: &str) -> Report {
        Report { code: Code::CredentialsWrong, message: message.into(), next: next.into() }
    }

    fn parsed(answer: &Answer) -> Value {
        serde_json::from_slice(&answer.body).expect("what is written parses")
    }

    fn full_status(text: &str) -> StatusView {
        StatusView {
            version: "0.1.0",
            board: text.into(),
            user: Some(UserView { email: text.into(), role: "CompanionPC" }),
            unlock: State::LoadingImages,
            seal: Some("unsealed"),
            engine: Some(EngineView {
                kind: "docker",
                version: text.into(),
                api_version: text.into(),
                store: text.into(),
            }),
            cache: Some(CacheView {
                entries: u64::MAX,
                bytes: u64::MAX,
                max_bytes: Some(u64::MAX),
                bytes_written: u64::MAX,
                uploads_waiting: u64::MAX,
                usable: false,
            }),
            audit: Some(AuditView { count: u64::MAX, hash: "f".repeat(64) }),
            last_error: Some(report(text, text)),
            notes: vec![text.into(); SHOWN_NOTES + 1],
        }
    }

    #[test]
    fn the_small_answers_are_those_of_the_contract() {
        assert_eq!(Answer::healthy().body, br#"{"status":"healthy"}"#);
        assert_eq!(Answer::success().body, br#"{"status":"success"}"#);
        assert_eq!(Answer::state(202, State::Authenticating).body, br#"{"state":"authenticating"}"#);
        let idle = UnlockView { state: State::Idle, error: None, progress: Progress::default() };
        assert_eq!(
            parsed(&Answer::unlock(&idle)),
            json!({"state":"idle","error":null,"progress":{"stage":null,"images_done":null,"images_total":null,
                   "bytes_done":null,"bytes_total":null,"bytes_per_second":null,"seconds_left":null}})
        );
    }

    #[test]
    fn the_largest_status_fits_and_texts_stop_at_their_bounds() {
        // Two bytes for one: the worst that is left once control characters are gone.
        let status = parsed(&Answer::status(&full_status(&"\"".repeat(5000))));
        assert_eq!(status["last_error"]["message"].as_str().map(str::len), Some(SHOWN_MESSAGE_BYTES));
        assert_eq!(status["last_error"]["next"].as_str().map(str::len), Some(SHOWN_NEXT_BYTES));
        assert_eq!(status["notes"].as_array().map(Vec::len), Some(SHOWN_NOTES));
        assert_eq!(status["user"]["email"].as_str().map(str::len), Some(SHOWN_EMAIL_BYTES));
        assert_eq!(status["unlock"], json!({"state":"loading_images"}));
        let size = Answer::status(&full_status(&"\"".repeat(5000))).body.len();
        assert!(size > ANSWER_BYTES / 2 && size <= ANSWER_BYTES, "{size}");
    }

    #[test]
    fn an_advice_is_shown_whole() {
        for advice in [crate::error::SET_CLOCK, crate::error::MAKE_ROOM] {
            assert!(advice.len() <= SHOWN_NEXT_BYTES, "{advice}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut::<5>("яяя").as_str(), "яя");
        assert_eq!(cut::<6>("яяя").as_str(), "яяя");
        assert_eq!(cut::<3>("a\r\u{7f}b").as_str(), "a  ");
    }

    #[test]
    fn plain_text_for_who_asks() {
        let refusal = Refusal::Desk(report("no", "yes"));
        assert_eq!(Answer::refusal(&refusal, Media::Plain).body, b"credentials_wrong: no\nnext: yes\n");
        assert_eq!(
            parsed(&Answer::refusal(&refusal, Media::Json)),
            json!({"error":{"code":"credentials_wrong","message":"no","next":"yes"}})
        );
    }

    #[test]
    fn who_is_one_too_many_is_told_when_to_come_back() {
        let report = Report { code: Code::TooMany, message: "no".into(), next: "yes".into() };
        for refusal in [Refusal::Desk(report), Refusal::Crowded] {
            assert_eq!(Answer::refusal(&refusal, Media::Json).header, Some(Header::RetryAfter(1)));
        }
    }

    #[test]
    fn text_must_be_preferred() {
        for (accept, media) in [
            ("text/plain", Media::Plain),
            ("TEXT/plain, */*;q=0.1", Media::Plain),
            ("application/json; q=0.2, text/plain;q=0.5", Media::Plain),
            ("*/*", Media::Json),
            ("text/plain, */*", Media::Json),
            ("text/html", Media::Json),
            ("text/plain;q=0", Media::Json),
            ("text/plain;q=x", Media::Json),
            ("", Media::Json),
        ] {
            assert_eq!(Media::preferred(Some(accept)), media, "{accept}");
        }
        assert_eq!(Media::preferred(None), Media::Json);
    }

    #[test]
    fn the_longest_head_fits() {
        let mut answer = Answer::refusal(&Refusal::Version, Media::Plain);
        answer.header = Some(Header::RetryAfter(u64::MAX));
        let wire = String::from_utf8(answer.to_wire(true, true)).expect("ascii");
        assert!(wire.ends_with("Connection: close\r\n\r\n"), "{wire}");
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_json_that_parses(text in any::<String>()) {
            let shown = cut::<SHOWN_MESSAGE_BYTES>(&text);
            let error = parsed(&Answer::refusal(&Refusal::Desk(report(&text, &text)), Media::Json));
            prop_assert_eq!(error["error"]["message"].as_str(), Some(shown.as_str()));
            prop_assert!(parsed(&Answer::status(&full_status(&text))).is_object());
        }
    }
}
