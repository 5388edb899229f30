//! The calls of the Resource API, and the one place that repeats them.
//!
//! ```text
//!   bearer ─ renew if due ─ call ──┬─ ok ─────────────────────────── done
//!                            ▲     ├─ 401, 403: log in again, once ─┐
//!                            │     │             then Refused       │
//!                            └─────┴─ unreachable, late, 429, 503: ─┴ pause, within one budget
//! ```

use std::cell::OnceCell;
use std::convert::Infallible;
use std::rc::Rc;

use http::{HeaderValue, Request, header};
use serde::Serialize;
use serde_json::{Map, Value};
use smol::Timer;
use zeroize::Zeroizing;

use super::answer;
use super::error::{ApiFault, CloudError, Operation};
use super::retry::{Budget, Retry, RetryPolicy};
use super::session::Session;
use super::token::Token;
use super::token_key::TokenKey;
use crate::crypto::Fragment;
use crate::error::{Explain as _, Report};
use crate::json;
use crate::limits::{API_WHOLE_CALL, KEY_FRAGMENT_BYTES, LOGIN_ANSWER_BYTES};
use crate::metrics;
use crate::net::{BaseUrl, BodySource, Bytes, Client, Clock, NetError, NoBody, Part, Repeatable, Response, Timeouts};
use crate::secret::{Credentials, SecretText};

/// What this program calls itself to the API.
const USER_AGENT: &str = concat!("azaion-loader/", env!("CARGO_PKG_VERSION"));

/// Whoever is told of repeated attempts.
type Observer = Box<dyn Fn(&Retry)>;

/// Whoever is told that the API has accepted this board's hardware.
type Witness = Box<dyn Fn()>;

/// The Resource API at one base address.
pub struct Api {
    client: Rc<Client>,
    url: BaseUrl,
    clock: Clock,
    token_key: Option<TokenKey>,
    policy: RetryPolicy,
    timeouts: Timeouts,
    observer: Option<Observer>,
    witness: OnceCell<Witness>,
}

impl Api {
    /// The API at `url`; tokens are checked with `token_key` where there is one.
    pub fn new(
        client: Rc<Client>,
        url: BaseUrl,
        clock: Clock,
        token_key: Option<TokenKey>,
        policy: RetryPolicy,
    ) -> Self {
        let timeouts = Timeouts { whole_call: Some(API_WHOLE_CALL), ..Timeouts::default() };
        Self { client, url, clock, token_key, policy, timeouts, observer: None, witness: OnceCell::new() }
    }

    /// The same with other time-outs for each attempt.
    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// The same with `observer` told of every attempt that failed and will be repeated, before the pause.
    #[must_use]
    pub fn with_observer(self, observer: impl Fn(&Retry) + 'static) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    /// Tells `witness` of every call that names the hardware and that the API answers with a file. The first one stays.
    pub fn tell_of_hardware(&self, witness: impl Fn() + 'static) {
        let _the_first_stays = self.witness.set(Box::new(witness));
    }

    /// The API has answered a call that named the hardware.
    pub(super) fn hardware_accepted(&self) {
        if let Some(witness) = self.witness.get() {
            witness();
        }
    }

    /// Logs in and holds credentials and token.
    ///
    /// # Errors
    /// [`CloudError::WrongCredentials`] at once; what may pass is repeated first, within the budget.
    pub async fn open_session(&self, credentials: Credentials) -> Result<Session, CloudError> {
        let token = self.login(&credentials).await?;
        Ok(Session::new(credentials, token, self.clock.now()))
    }

    /// The same in one attempt: for whoever can do without the API and must not wait for it.
    ///
    /// # Errors
    /// As [`Api::open_session`], but nothing is repeated.
    pub async fn open_session_at_once(&self, credentials: Credentials) -> Result<Session, CloudError> {
        let token = self.login_once(&credentials).await?;
        Ok(Session::new(credentials, token, self.clock.now()))
    }

    /// Logs in.
    ///
    /// # Errors
    /// As [`Api::open_session`].
    pub async fn login(&self, credentials: &Credentials) -> Result<Token, CloudError> {
        let budget = Budget::begin(&self.policy, &self.clock);
        self.login_within(&budget, credentials).await
    }

    /// Fetches the key fragment.
    ///
    /// # Errors
    /// [`CloudError::Refused`] after a second 401 or 403; what may pass is repeated first, within the budget.
    pub async fn key_fragment(&self, session: &Session) -> Result<Fragment, CloudError> {
        let operation = Operation::KeyFragment;
        self.bearer(session, operation, async |authorization| {
            let request = Request::get(self.url.path("/binary-split/key-fragment"))
                .header(header::AUTHORIZATION, authorization)
                .header(header::ACCEPT, "application/octet-stream");
            let response = self.ask(operation, request, NoBody, |text| session.scrub(text)).await?;
            let bytes = self.body(operation, response, KEY_FRAGMENT_BYTES).await?;
            Fragment::new(bytes).map_err(|fault| self.protocol(operation, ApiFault::Fragment(fault)))
        })
        .await
    }

    /// A call with a token, by the rules of CONTRACT section 1. `attempt` makes it once, from the start.
    ///
    /// # Errors
    /// Those of `attempt`, and those of a log-in that became necessary. The session keeps its token unless a log-in
    /// gave it a new one.
    pub(super) async fn bearer<T>(
        &self,
        session: &Session,
        operation: Operation,
        mut attempt: impl AsyncFnMut(&HeaderValue) -> Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        let budget = Budget::begin(&self.policy, &self.clock);
        if session.is_due(self.clock.now()) {
            self.renew_by_hint(session).await?;
        }
        let pass = session.pass();
        let first = self.retrying(&budget, operation, async || attempt(&pass.authorization).await).await;
        let Err(CloudError::Refused { .. }) = first else {
            return first;
        };
        self.log_in_again(&budget, session, pass.generation).await?;
        let pass = session.pass();
        self.retrying(&budget, operation, async || attempt(&pass.authorization).await).await
    }

    /// The token's life has passed by its own word. The word is a hint: an API that cannot be reached, or fails, leaves
    /// the old token, which is then tried.
    async fn renew_by_hint(&self, session: &Session) -> Result<(), CloudError> {
        let _alone = session.renewing().await;
        if !session.is_due(self.clock.now()) {
            return Ok(());
        }
        match self.login_once(session.credentials()).await {
            Ok(token) => session.renew(token, self.clock.now()),
            Err(error @ CloudError::WrongCredentials { .. }) => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }

    /// Logs in again, unless another call has done so since `generation`.
    async fn log_in_again(&self, budget: &Budget, session: &Session, generation: u64) -> Result<(), CloudError> {
        let _alone = session.renewing().await;
        if session.generation() == generation {
            let token = self.login_within(budget, session.credentials()).await?;
            session.renew(token, self.clock.now());
        }
        Ok(())
    }

    async fn login_within(&self, budget: &Budget, credentials: &Credentials) -> Result<Token, CloudError> {
        self.retrying(budget, Operation::LogIn, async || self.login_once(credentials).await).await
    }

    async fn login_once(&self, credentials: &Credentials) -> Result<Token, CloudError> {
        let operation = Operation::LogIn;
        let body = login_body(credentials);
        let request = Request::post(self.url.path("/login"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        let scrub = |text| answer::without(text, credentials.password().expose());
        let response = match self.ask(operation, request, Bytes::new(&*body), scrub).await {
            Ok(response) => response,
            Err(CloudError::Refused { status: 401, message, .. } | CloudError::Failed { status: 409, message, .. }) => {
                return Err(CloudError::WrongCredentials { message });
            }
            // 403 is not a word about the credentials; there is no token to renew either.
            Err(CloudError::Refused { operation, status, message }) => {
                return Err(CloudError::Failed { operation, status, error_code: None, message, retry_after: None });
            }
            Err(error) => return Err(error),
        };
        let answer = Zeroizing::new(self.body(operation, response, LOGIN_ANSWER_BYTES).await?);
        let token = token_of(&answer).map_err(|fault| self.protocol(operation, ApiFault::Json(fault)))?;
        Token::parse(token, self.token_key.as_ref()).map_err(|fault| self.protocol(operation, ApiFault::Token(fault)))
    }

    /// One attempt: sends the request and passes a success on.
    pub(super) async fn ask<B: BodySource<Error = Infallible>>(
        &self,
        operation: Operation,
        request: http::request::Builder,
        body: B,
        scrub: impl Fn(String) -> String,
    ) -> Result<Response, CloudError> {
        self.ask_within(&self.timeouts, operation, request, body, scrub).await
    }

    /// The same with other time-outs.
    pub(super) async fn ask_within<B: BodySource<Error = Infallible>>(
        &self,
        timeouts: &Timeouts,
        operation: Operation,
        request: http::request::Builder,
        body: B,
        scrub: impl Fn(String) -> String,
    ) -> Result<Response, CloudError> {
        // Every call of the contract can be made twice: it reads, or it puts the same in the same place.
        let request = request.header(header::USER_AGENT, USER_AGENT).extension(Repeatable).body(());
        let request = request.map_err(|error| {
            self.net(operation, NetError::Request { source: ureq_proto::Error::BadHeader(error.to_string()) })
        })?;
        let response = self.client.exchange(self.url.endpoint(), request, body, timeouts).await;
        let response = response.map_err(|error| self.net(operation, error.into()))?;
        answer::judge(response, operation, &self.url.host(), scrub).await
    }

    /// The body of an answer, at most `limit` bytes.
    pub(super) async fn body(
        &self,
        operation: Operation,
        response: Response,
        limit: usize,
    ) -> Result<Vec<u8>, CloudError> {
        response.bytes(limit).await.map_err(|error| match error {
            NetError::TooLarge { part: Part::Body, .. } => self.protocol(operation, ApiFault::TooLong { limit }),
            other => self.net(operation, other),
        })
    }

    /// Makes `attempt` until it succeeds, fails for good, or the budget is used up.
    async fn retrying<T>(
        &self,
        budget: &Budget,
        operation: Operation,
        mut attempt: impl AsyncFnMut() -> Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some(pause) = budget.pause(error.again()) else {
                return Err(error);
            };
            metrics::RETRIES.count(error.code());
            if let Some(observer) = &self.observer {
                observer(&Retry { operation, attempt: budget.failed(), cause: Report::of(&error), pause });
            }
            Timer::after(pause).await;
        }
    }

    pub(super) const fn url(&self) -> &BaseUrl {
        &self.url
    }

    pub(super) const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    fn net(&self, operation: Operation, source: NetError) -> CloudError {
        CloudError::Net { operation, host: self.url.host(), source }
    }

    fn protocol(&self, operation: Operation, fault: ApiFault) -> CloudError {
        CloudError::Protocol { operation, host: self.url.host(), fault }
    }
}

/// `{"email","password"}` in a buffer that never moves while it grows, so that wiping it leaves no copy.
fn login_body(credentials: &Credentials) -> Zeroizing<Vec<u8>> {
    #[derive(Serialize)]
    struct Login<'a> {
        email: &'a str,
        password: &'a str,
    }
    let login = Login { email: credentials.email(), password: credentials.password().expose() };
    // One byte becomes six at the most (`\u0001`); the names and signs around take 26.
    let most = 6 * (login.email.len() + login.password.len()) + 32;
    let mut body = Zeroizing::new(Vec::with_capacity(most));
    serde_json::to_writer(&mut *body, &login).expect("two strings, into memory");
    debug_assert!(body.len() <= most, "the buffer has moved");
    body
}

/// Takes the token out of `{"token": "…"}`; whatever stands beside it is not looked at.
fn token_of(answer: &[u8]) -> Result<SecretText, json::JsonRefused> {
    let mut object: Map<String, Value> = json::from_slice(answer, LOGIN_ANSWER_BYTES)?;
    match object.remove("token") {
        Some(Value::String(token)) => Ok(SecretText::new(token)),
        Some(_) | None => Err(json::JsonRefused::Missing { field: "token".into() }),
    }
}
