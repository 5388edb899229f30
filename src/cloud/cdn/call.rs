//! One call, from its signature to the head of its answer, and the one place that repeats it.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use jiff::Timestamp;
use rusty_s3::{Bucket, Credentials};
use smol::Timer;

use super::super::retry::{Budget, RetryPolicy};
use super::answer::judge;
use super::clock::CdnClock;
use super::error::{CdnError, CdnFault, CdnOperation, PutError};
use super::settings::{CdnSettings, Signer};
use crate::error::{Explain as _, Report};
use crate::metrics::{self, Peer};
use crate::name::{Folder, ResourceName};
use crate::net::{BodySource, Client, Clock, ExchangeError, NetError, Repeatable, Response, Timeouts};

/// What this program calls itself to the CDN.
const USER_AGENT: &str = concat!("azaion-loader/", env!("CARGO_PKG_VERSION"));

/// A call that will be made again, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdnRetry {
    /// The call.
    pub operation: CdnOperation,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// Why it failed.
    pub cause: Report,
    /// How long until the next one.
    pub pause: Duration,
}

/// Whoever is told of repeated attempts.
type Observer = Box<dyn Fn(&CdnRetry)>;

/// The CDN of one log-in.
pub struct Cdn {
    pub(super) shared: Rc<Shared>,
}

/// What a call needs; a read that resumes by itself keeps it.
pub(super) struct Shared {
    client: Rc<Client>,
    pub(super) settings: CdnSettings,
    clock: CdnClock,
    boot: Clock,
    policy: RetryPolicy,
    pub(super) timeouts: Timeouts,
    observer: Option<Observer>,
}

/// An object at the CDN.
pub(super) struct Object {
    pub(super) bucket: Bucket,
    pub(super) key: String,
}

/// How a call signs itself: with these keys, at this time. The URL comes as text, its query is the signature.
pub(super) type Sign<'a> = dyn Fn(&Credentials, &Timestamp) -> Signed + 'a;

/// A signed URL, taken apart.
pub(super) struct Signed {
    path_and_query: String,
    /// The `Host` that was signed.
    host: String,
}

/// Takes a signed URL apart. A macro because the type of a URL is not this crate's to name.
macro_rules! signed {
    ($action:expr, $time:expr) => {{
        let url = rusty_s3::S3Action::sign_with_time(&$action, $crate::limits::CDN_SIGNATURE_LIFE, $time);
        $crate::cloud::cdn::call::Signed::new(url.path(), url.query(), url.host_str(), url.port())
    }};
}
pub(super) use signed;

impl Signed {
    pub(super) fn new(path: &str, query: Option<&str>, host: Option<&str>, port: Option<u16>) -> Self {
        let host = host.unwrap_or_default();
        Self {
            path_and_query: format!("{path}?{}", query.unwrap_or_default()),
            host: port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
        }
    }
}

/// One call.
pub(super) struct Ask<'a> {
    pub(super) operation: CdnOperation,
    pub(super) method: Method,
    pub(super) signer: Signer,
    pub(super) sign: &'a Sign<'a>,
    pub(super) headers: &'a [(HeaderName, HeaderValue)],
    pub(super) timeouts: Timeouts,
}

impl Cdn {
    /// The CDN as `settings` describe it.
    pub fn new(client: Rc<Client>, settings: CdnSettings, clock: CdnClock) -> Self {
        let shared = Shared {
            client,
            settings,
            clock,
            boot: Clock::boot(),
            policy: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            observer: None,
        };
        Self { shared: Rc::new(shared) }
    }

    /// The same with other rules of repeating. To be called before the first call.
    #[must_use]
    pub fn with_policy(self, policy: RetryPolicy) -> Self {
        self.adjusted(|shared| shared.policy = policy)
    }

    /// The same with other time-outs for each attempt. To be called before the first call.
    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        self.adjusted(|shared| shared.timeouts = timeouts)
    }

    /// The same with `observer` told of every attempt that failed and will be repeated, before the pause. To be called
    /// before the first call.
    #[must_use]
    pub fn with_observer(self, observer: impl Fn(&CdnRetry) + 'static) -> Self {
        self.adjusted(|shared| shared.observer = Some(Box::new(observer)))
    }

    /// Where it is and with which keys it is called.
    pub fn settings(&self) -> &CdnSettings {
        &self.shared.settings
    }

    fn adjusted(mut self, adjust: impl FnOnce(&mut Shared)) -> Self {
        if let Some(shared) = Rc::get_mut(&mut self.shared) {
            adjust(shared);
        }
        self
    }
}

impl Shared {
    pub(super) fn object(&self, folder: &Folder, name: &ResourceName) -> Result<Object, CdnError> {
        let bucket = self.settings.bucket(folder).map_err(CdnError::Settings)?;
        Ok(Object { bucket, key: name.big() })
    }

    pub(super) fn budget(&self) -> Budget {
        Budget::begin(&self.policy, &self.boot)
    }

    /// Makes the call until `take` has what it wants, it fails for good, or the budget is used up.
    ///
    /// `take` sees the head of a success, and may read the body: a body that is cut is asked for again.
    pub(super) async fn call<B: BodySource, T>(
        &self,
        budget: &Budget,
        ask: &Ask<'_>,
        body: &mut B,
        take: impl AsyncFn(Response) -> Result<T, CdnError>,
    ) -> Result<T, PutError<B::Error>> {
        let mut corrected = false;
        loop {
            let error = match self.once(ask, body, &mut corrected).await {
                Ok(Attempt::Answered(response)) => match take(response).await {
                    Ok(taken) => return Ok(taken),
                    Err(error) => error,
                },
                Ok(Attempt::Corrected(_)) if body.rewind() => continue,
                Ok(Attempt::Corrected(error)) | Err(PutError::Cdn(error)) => error,
                Err(source) => return Err(source),
            };
            // What cannot be sent again ends with what became of it the first time.
            if error.may_pass() && !body.rewind() {
                return Err(error.into());
            }
            self.pause(budget, ask.operation, error).await?;
        }
    }

    /// Waits before the next attempt; gives `error` back when there is none.
    pub(super) async fn pause(
        &self,
        budget: &Budget,
        operation: CdnOperation,
        error: CdnError,
    ) -> Result<(), CdnError> {
        let Some(pause) = budget.pause(error.again()) else {
            return Err(error);
        };
        metrics::RETRIES.count(error.code());
        if let Some(observer) = &self.observer {
            observer(&CdnRetry { operation, attempt: budget.failed(), cause: Report::of(&error), pause });
        }
        Timer::after(pause).await;
        Ok(())
    }

    async fn once<B: BodySource>(
        &self,
        ask: &Ask<'_>,
        body: &mut B,
        corrected: &mut bool,
    ) -> Result<Attempt, PutError<B::Error>> {
        let keys = self.settings.signer(ask.signer).map_err(CdnError::Settings)?;
        let request = self.request(ask, keys)?;
        let exchanged = self.client.exchange(self.settings.base().endpoint(), request, body, &ask.timeouts).await;
        let response = match exchanged {
            Ok(response) => response,
            Err(ExchangeError::Source(error)) => return Err(PutError::Source(error)),
            Err(ExchangeError::Net(source)) => return Err(self.net(ask.operation, source).into()),
        };
        let refused = matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        // Once for each call: a server that refuses by its own time as well means something else.
        let learnt = refused && !*corrected && self.clock.learn(&response.headers);
        *corrected |= learnt;
        let early = response.is_early();
        match judge(response, ask.operation, &self.settings.host(), |text| self.settings.scrub(text)).await {
            Ok(_) if early => Err(self.protocol(ask.operation, CdnFault::Early).into()),
            Ok(response) => Ok(Attempt::Answered(response)),
            Err(error) if learnt => Ok(Attempt::Corrected(error)),
            Err(error) => Err(error.into()),
        }
    }

    fn request(&self, ask: &Ask<'_>, keys: &Credentials) -> Result<Request<()>, CdnError> {
        let signed = (ask.sign)(keys, &self.clock.now());
        let mut builder = Request::builder()
            .method(ask.method.clone())
            .uri(signed.path_and_query)
            .header(header::HOST, signed.host)
            .header(header::USER_AGENT, USER_AGENT)
            // All of them read, or put the same in the same place; beginning twice leaves an upload that ends by age.
            .extension(Repeatable)
            .extension(Peer::Cdn);
        for (name, value) in ask.headers {
            builder = builder.header(name, value);
        }
        builder.body(()).map_err(|error| {
            let source = NetError::Request { source: ureq_proto::Error::BadHeader(error.to_string()) };
            self.net(ask.operation, source)
        })
    }

    pub(super) fn net(&self, operation: CdnOperation, source: NetError) -> CdnError {
        CdnError::Net { operation, host: self.settings.host(), source }
    }

    pub(super) fn protocol(&self, operation: CdnOperation, fault: CdnFault) -> CdnError {
        CdnError::Protocol { operation, host: self.settings.host(), fault }
    }

    /// A call whose body is none or lies in memory.
    pub(super) async fn call_simple<B: BodySource<Error = Infallible>, T>(
        &self,
        ask: &Ask<'_>,
        mut body: B,
        take: impl AsyncFn(Response) -> Result<T, CdnError>,
    ) -> Result<T, CdnError> {
        self.call(&self.budget(), ask, &mut body, take).await.map_err(CdnError::from)
    }
}

/// How an attempt ended that did not fail for good.
enum Attempt {
    Answered(Response),
    /// It was refused because the clock was wrong, which it is not any more.
    Corrected(CdnError),
}
