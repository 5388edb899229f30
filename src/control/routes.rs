//! The table of calls, and what each does with the desk behind the port (CONTRACT section 6).

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use smol::Timer;
use smol::future::or;
use zeroize::Zeroize;

use super::answer::{Answer, Media};
use super::body::{Body, Broken};
use super::clients::{Phase, Seat};
use super::connection::Port;
use super::desk::{Desk, Gauges, UnlockAnswer};
use super::feed::Follower;
use super::head::Head;
use super::refusal::{Refusal, Shape};
use super::stream::Streamed;
use super::target::Target;
use super::{load, metrics, pages, upload};
use crate::json::{self, JsonRefused};
use crate::limits::{JSON_BODY_BYTES, LONG_POLL_SECONDS};
use crate::secret::{Credentials, SecretText};
use crate::unlock::State;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Health,
    Status,
    Login,
    Unlock,
    UnlockStatus,
    Events,
    Check,
    Metrics,
    OpenApi,
    Docs,
    Load,
    Upload,
}

/// What a call comes to.
pub(super) enum Outcome<'p, M> {
    /// A bounded answer.
    Whole(Answer),
    /// A model, to be sent piece after piece.
    Model(Box<Streamed<'p, M>>),
    /// What happens, for as long as the client follows.
    Events(Box<Follower>),
}

/// The calls with a fixed path.
pub(super) const ROUTES: [(&[&str], Call); 10] = [
    (&["health"], Call::Health),
    (&["status"], Call::Status),
    (&["login"], Call::Login),
    (&["unlock"], Call::Unlock),
    (&["unlock", "status"], Call::UnlockStatus),
    (&["events"], Call::Events),
    (&["check"], Call::Check),
    (&["metrics"], Call::Metrics),
    (&["openapi.json"], Call::OpenApi),
    (&["docs"], Call::Docs),
];

impl Call {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 12] = [
        Self::Health,
        Self::Status,
        Self::Login,
        Self::Unlock,
        Self::UnlockStatus,
        Self::Events,
        Self::Check,
        Self::Metrics,
        Self::OpenApi,
        Self::Docs,
        Self::Load,
        Self::Upload,
    ];

    const fn takes_no_body(self) -> bool {
        match self {
            Self::Health
            | Self::Status
            | Self::UnlockStatus
            | Self::Events
            | Self::Check
            | Self::Metrics
            | Self::OpenApi
            | Self::Docs => true,
            Self::Login | Self::Unlock | Self::Load | Self::Upload => false,
        }
    }

    /// Whether a stranger may make it: it tells that there is a port, and nothing else.
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::Health | Self::Docs)
    }

    /// Its methods, as `Allow` lists them.
    pub(super) const fn methods(self) -> &'static str {
        match self {
            // RFC 9110 section 9.3.2: HEAD goes wherever GET goes.
            Self::Health | Self::Status | Self::UnlockStatus | Self::Metrics | Self::OpenApi | Self::Docs => {
                "GET, HEAD"
            }
            // Their heads alone would have to be waited for, one of them without an end.
            Self::Events | Self::Check => "GET",
            Self::Login | Self::Unlock | Self::Load => "POST",
            Self::Upload => "POST, PUT",
        }
    }

    /// Its name in the metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Status => "status",
            Self::Login => "login",
            Self::Unlock => "unlock",
            Self::UnlockStatus => "unlock_status",
            Self::Events => "events",
            Self::Check => "check",
            Self::Metrics => "metrics",
            Self::OpenApi => "openapi",
            Self::Docs => "docs",
            Self::Load => "load",
            Self::Upload => "upload",
        }
    }

    /// The call that a path means, by whatever method.
    pub(super) fn at(target: &Target) -> Option<Self> {
        let found = ROUTES.iter().find(|(path, _)| !target.is_deeper && target.segments.iter().eq(path.iter()));
        match (found, target.segments.first().map(String::as_str)) {
            (Some(&(_, call)), _) => Some(call),
            // Whatever follows is meant as a name. What it lacks to be one is told by the call.
            (None, Some("load")) if target.segments.len() > 1 => Some(Self::Load),
            (None, Some("upload")) if target.segments.len() > 1 => Some(Self::Upload),
            (None, _) => None,
        }
    }

    /// Finds the call of a request.
    ///
    /// # Errors
    /// [`Refusal::Route`] or [`Refusal::Method`].
    pub(super) fn find(head: &Head) -> Result<Self, Refusal> {
        let call = Self::at(&head.target).ok_or(Refusal::Route)?;
        let allow = call.methods();
        let allowed = allow.split(", ").any(|method| method == head.method.as_str());
        if allowed { Ok(call) } else { Err(Refusal::Method { allow }) }
    }

    /// Does what was asked for.
    pub(super) async fn answer<'p, D: Desk>(
        self,
        port: &'p Port<D>,
        head: &Head,
        body: &mut Body<'_>,
        seat: &Seat,
    ) -> Result<Outcome<'p, D::Model>, Broken> {
        if self.takes_no_body() {
            body.skip().await?;
        }
        // The desk's futures are boxed: they hold whole TLS sessions, and an idle connection must stay small.
        let answer = match self {
            Self::Health => Answer::healthy(),
            Self::Status => Answer::status(&port.desk.status()),
            Self::UnlockStatus => {
                if let Some(wait) = seconds(head)? {
                    seat.now_at(Phase::Idle);
                    settled_within(port, body, wait).await?;
                }
                Answer::unlock(&port.desk.unlock_status())
            }
            Self::Events => {
                let seen = number(head, "since")?.or(head.last_event).unwrap_or_default();
                return Ok(Outcome::Events(Box::new(Follower::new(port.desk.feed(), seen, port.patience.heartbeat))));
            }
            Self::Check => {
                seat.now_at(Phase::Handling);
                let checkup = Box::pin(port.desk.check()).await;
                Answer::checkup(&checkup, Media::preferred(head.accept.as_deref()))
            }
            Self::Metrics => {
                let gauges = Gauges { clients: port.open.get(), ..Box::pin(port.desk.gauges()).await };
                Answer::page(Media::Metrics, &metrics::exposition(&gauges, &port.requests))
            }
            Self::OpenApi => Answer::page(Media::Json, pages::OPENAPI),
            Self::Docs => Answer::page(Media::Html, pages::DOCS),
            Self::Load => return Ok(Outcome::Model(Box::pin(load::open(port, head, body, seat)).await?)),
            Self::Upload => Box::pin(upload::take(port, head, body, seat)).await?,
            Self::Login => {
                let credentials = credentials(head, body).await?.ok_or_else(|| missing("email"))?;
                port.attempts.take(port.clock.now())?;
                seat.now_at(Phase::Handling);
                Box::pin(port.desk.login(credentials)).await.map_err(Refusal::Desk)?;
                Answer::success()
            }
            Self::Unlock => {
                let credentials = credentials(head, body).await?;
                if credentials.is_some() && will_try_them(port.desk.unlock_status().state) {
                    port.attempts.take(port.clock.now())?;
                }
                seat.now_at(Phase::Handling);
                match Box::pin(port.desk.unlock(credentials)).await.map_err(Refusal::Desk)? {
                    UnlockAnswer::Started(state) | UnlockAnswer::Running(state) => Answer::state(202, state),
                    UnlockAnswer::Ready => Answer::state(200, State::Ready),
                }
            }
        };
        Ok(Outcome::Whole(answer))
    }
}

/// A whole number in the query.
fn number(head: &Head, name: &'static str) -> Result<Option<u64>, Refusal> {
    let text = head.target.parameter(name).map_err(Refusal::Malformed)?;
    let parsed = text.map(|text| text.parse().map_err(|_| Refusal::Query(name)));
    parsed.transpose()
}

/// How long `GET /unlock/status` may wait.
fn seconds(head: &Head) -> Result<Option<Duration>, Refusal> {
    match number(head, "wait")? {
        Some(seconds) if seconds > LONG_POLL_SECONDS => Err(Refusal::Query("wait")),
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// Waits, while an unlock runs, until it is in another state. The client's leaving ends it.
async fn settled_within<D: Desk>(port: &Port<D>, body: &mut Body<'_>, wait: Duration) -> Result<(), Broken> {
    if !port.desk.unlock_status().state.is_running() {
        return Ok(());
    }
    let turns = or(port.desk.unlock_turns(), async {
        Timer::after(wait).await;
    });
    body.wire().unless_gone(turns).await.ok_or(Broken::Gone)
}

/// Whether an unlock in this state tries the credentials that come with the request. Where it does not, asking again
/// and again is no guessing.
fn will_try_them(state: State) -> bool {
    !(state.is_running() || state == State::Ready)
}

/// Reads a body with credentials; `None` when it is empty.
async fn credentials(head: &Head, body: &mut Body<'_>) -> Result<Option<Credentials>, Broken> {
    if !body.is_over() && !media_type_is_fine(head) {
        return Err(Refusal::MediaType.into());
    }
    let bytes = body.bytes(JSON_BODY_BYTES).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    Ok(Some(parse(&bytes)?))
}

/// `curl -d` calls every body a form, so the name counts only where a browser may be behind the request.
pub(super) fn media_type_is_fine(head: &Head) -> bool {
    let from_browser = head.origin.is_some() || head.fetch_site.is_some();
    let essence = head.content_type.as_deref().and_then(|value| value.split(';').next()).unwrap_or_default();
    !from_browser || essence.trim().eq_ignore_ascii_case("application/json")
}

fn parse(bytes: &[u8]) -> Result<Credentials, Refusal> {
    let pair = json::from_slice::<Pair>(bytes, JSON_BODY_BYTES).map_err(|refused| match refused {
        JsonRefused::TooLarge { .. } => Refusal::BodyTooLong,
        JsonRefused::Syntax { .. } | JsonRefused::TooDeep { .. } | JsonRefused::DuplicateKey { .. } => {
            Refusal::NotJson(Shape::Credentials, refused.to_string())
        }
        JsonRefused::Missing { .. } | JsonRefused::Shape { .. } => {
            Refusal::Field(Shape::Credentials, "a json object with email and password is needed".into())
        }
    })?;
    let email = pair.email.text("email")?;
    let password = SecretText::new(pair.password.text("password")?);
    Credentials::new(email, password).map_err(|refused| Refusal::Field(Shape::Credentials, refused.to_string()))
}

fn missing(field: &str) -> Refusal {
    Refusal::Field(Shape::Credentials, format!("{field} is missing"))
}

/// The two fields as they came; others are read over.
#[derive(Default)]
struct Pair {
    email: Field,
    password: Field,
}

/// A field of any type; wiped with what it holds.
#[derive(Default)]
struct Field(Value);

impl Field {
    fn text(mut self, name: &str) -> Result<String, Refusal> {
        match &mut self.0 {
            Value::String(text) => Ok(std::mem::take(text)),
            Value::Null => Err(missing(name)),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Err(Refusal::Field(Shape::Credentials, format!("{name} must be a text")))
            }
        }
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        if let Value::String(text) = &mut self.0 {
            text.zeroize();
        }
    }
}

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairVisitor)
    }
}

/// Takes an object only: what serde derives for a struct would take an array as well.
struct PairVisitor;

impl<'de> Visitor<'de> for PairVisitor {
    type Value = Pair;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Pair, A::Error> {
        let mut pair = Pair::default();
        while let Some(key) = entries.next_key::<String>()? {
            match key.as_str() {
                "email" => pair.email = Field(entries.next_value()?),
                "password" => pair.password = Field(entries.next_value()?),
                _ => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, target: &str) -> Result<Call, Refusal> {
        Call::find(&Head::parse(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("plain"))
    }

    #[test]
    fn a_wait_is_a_number_of_seconds_within_its_bound() {
        let wait = |query: &str| {
            let head = format!("GET /unlock/status{query} HTTP/1.1\r\nHost: a\r\n\r\n");
            seconds(&Head::parse(head.as_bytes()).expect("plain"))
        };
        assert_eq!(wait(""), Ok(None));
        assert_eq!(wait("?wait=0"), Ok(Some(Duration::ZERO)));
        assert_eq!(wait("?wait=60"), Ok(Some(Duration::from_mins(1))));
        for query in ["?wait=61", "?wait=-1", "?wait=1.5", "?wait=", "?wait=9999999999999999999999"] {
            assert_eq!(wait(query), Err(Refusal::Query("wait")), "{query}");
        }
    }

    #[test]
    fn every_call_is_found_by_its_path_and_method() {
        assert_eq!(find("GET", "/health?x=1"), Ok(Call::Health));
        assert_eq!(find("HEAD", "/status"), Ok(Call::Status));
        assert_eq!(find("POST", "/login"), Ok(Call::Login));
        assert_eq!(find("POST", "/un%6cock"), Ok(Call::Unlock));
        assert_eq!(find("GET", "/unlock/status"), Ok(Call::UnlockStatus));
        assert_eq!(find("GET", "/events?since=3"), Ok(Call::Events));
        assert_eq!(find("HEAD", "/events"), Err(Refusal::Method { allow: "GET" }));
        for method in ["GET", "PUT", "HEAD", "OPTIONS", "TRACE", "post", "X"] {
            assert_eq!(find(method, "/login"), Err(Refusal::Method { allow: "POST" }), "{method}");
        }
        assert_eq!(find("OPTIONS", "/health"), Err(Refusal::Method { allow: "GET, HEAD" }));
        for target in ["/load/x", "/load/", "/load/a/b", "/load/..", "/load/1/2/3/4/5", "/%6coad/%2F?folder=x"] {
            assert_eq!(find("POST", target), Ok(Call::Load), "{target}");
            for method in ["GET", "HEAD", "PUT"] {
                assert_eq!(find(method, target), Err(Refusal::Method { allow: "POST" }), "{method}");
            }
        }
        for method in ["POST", "PUT"] {
            assert_eq!(find(method, "/upload/x"), Ok(Call::Upload));
        }
        assert_eq!(find("GET", "/upload/"), Err(Refusal::Method { allow: "POST, PUT" }));
        for path in [
            "/",
            "//health",
            "/health/",
            "/./health",
            "/x/../health",
            "/unlock%2Fstatus",
            "/Health",
            "/1/2/3/4/5",
            "/load",
            "/upload?x",
            "/load%2Fx",
            "//load/x",
            "/x/load/y",
        ] {
            assert_eq!(find("GET", path), Err(Refusal::Route), "{path}");
        }
    }

    #[test]
    fn credentials_are_read() {
        let read = parse(" {\"x\":[{}],\"password\":\"п\\u0430\\ud83d\\ude00\",\"email\":\"a@b\"}\r\n".as_bytes())
            .expect("whole");
        assert_eq!((read.email(), read.password().expose()), ("a@b", "па😀"));
    }

    #[test]
    fn what_is_missing_is_named_and_what_is_no_json_is_told_apart() {
        for (body, status, told) in [
            (r#"{"password":"canary"}"#, 422, "email is missing"),
            (r#"{"email":"a"}"#, 422, "password is missing"),
            (r#"{"email":null,"password":"canary"}"#, 422, "email is missing"),
            (r#"{"email":5,"password":"canary"}"#, 422, "email must be a text"),
            (r#"{"email":"a","password":["canary"]}"#, 422, "password must be a text"),
            (r#"{"email":"","password":"canary"}"#, 422, "email must have 1 to"),
            (r#"{"email":"a","password":""}"#, 422, "password must have 1 to"),
            (r#"["a","canary"]"#, 422, "a json object"),
            (r#""canary""#, 422, "a json object"),
            ("5", 422, "a json object"),
            (r#"{"email":"a","email":"a","password":"canary"}"#, 400, "twice"),
            (r#"{"email":"a","password":"canary""#, 400, "not json"),
            (r#"{"email":"a","password":"canary"} {}"#, 400, "not json"),
            ("email=a&password=canary", 400, "not json"),
            (r#"{"email":"a","password":"\ud800canary"}"#, 400, "not json"),
        ] {
            let refusal = parse(body.as_bytes()).expect_err(body);
            assert_eq!(refusal.status(), status, "{body}");
            let text = refusal.to_string();
            assert!(text.contains(told) && !text.contains("canary"), "{body}: {text}");
        }
    }

    #[test]
    fn asking_again_while_it_runs_is_no_guess() {
        for state in [State::Idle, State::Error] {
            assert!(will_try_them(state));
        }
        for state in
            [State::Authenticating, State::DownloadingKey, State::Decrypting, State::LoadingImages, State::Ready]
        {
            assert!(!will_try_them(state));
        }
    }
}
