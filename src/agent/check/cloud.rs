//! The way to the cloud: name, connection, TLS, HTTP, log-in, CDN; and the clock, which TLS and signatures depend on.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::Request;
use jiff::Timestamp;
use smol::Timer;
use smol::future::or;

use super::{Subject, role};
use crate::cloud::{Cdn, CdnClock, CdnError, RetryPolicy, Session, date};
use crate::control::Check;
use crate::crypto::AesKey;
use crate::error::{Code, Report, SET_CLOCK, chain};
use crate::limits::{CHECK_CLOCK_APART, CHECK_STEP};
use crate::name::{Folder, ResourceName};
use crate::net::{BaseUrl, Certificate, ExchangeError, NetError, NoBody, Probe, Timeouts, TlsFault};
use crate::resource::cdn_settings;

/// An object that nobody uploads: to be told that it is not there is to be let in.
const NO_SUCH_MODEL: &str = "azaion-loader-check";

/// A certificate that ends sooner is worth a word.
const SOON: Duration = Duration::from_hours(14 * 24);

/// How far the way to the Resource API goes.
pub(super) struct Way {
    now: SystemTime,
    probe: Probe,
    /// The roots could not be used.
    roots: Option<String>,
    /// The server's time, from an answer of any kind; why there was none.
    answer: Option<Result<Option<Timestamp>, NetError>>,
}

impl Way {
    pub(super) async fn of(subject: &Subject) -> Self {
        let endpoint = subject.wires.url.endpoint();
        let timeouts = Timeouts { whole_call: Some(CHECK_STEP), ..Timeouts::default() };
        let now = SystemTime::now();
        let (probe, roots) = match Probe::to(endpoint, subject.wires.roots.as_deref(), &timeouts).await {
            Ok(probe) => (probe, None),
            Err(error) => (Probe::default(), Some(error.to_string())),
        };
        let mut way = Self { now, probe, roots, answer: None };
        if way.is_open() {
            let request = Request::get(subject.wires.url.path("/")).body(());
            let Ok(request) = request else { return way };
            way.answer = Some(match subject.wires.client.exchange(endpoint, request, NoBody, &timeouts).await {
                Ok(response) => Ok(date(&response.headers)),
                Err(ExchangeError::Net(error)) => Err(error),
                Err(ExchangeError::Source(never)) => match never {},
            });
        }
        way
    }

    fn is_open(&self) -> bool {
        let connected = self.probe.connected.as_ref().is_some_and(Result::is_ok);
        connected && self.probe.tls.as_ref().is_none_or(Result::is_ok) && self.roots.is_none()
    }

    /// Whether the API's server answered over HTTP.
    pub(super) fn answers(&self) -> bool {
        matches!(self.answer, Some(Ok(_)))
    }

    /// Name, connection, TLS.
    pub(super) fn steps(&self, url: &BaseUrl) -> [Check; 3] {
        let host = url.host();
        let name = match &self.probe.addresses {
            Some(Ok(addresses)) => {
                let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                Check::ok("name", format!("{host} is {}", shown.join(", ")))
            }
            Some(Err(error)) => Check::fail(
                "name",
                chain(error),
                "look at the network cable and at the name server (resolvectl status); is [cloud] resource_api_url right?",
            ),
            None => Check::skip("name", "not looked up"),
        };
        let connect = match &self.probe.connected {
            Some(Ok((peer, took))) => Check::ok("connect", format!("{peer} answers after {} ms", took.as_millis())),
            Some(Err(error)) => Check::fail(
                "connect",
                chain(error),
                "look at the route (ip route) and ask whether a firewall lets this board out to that address and port",
            ),
            None => Check::skip("connect", "there is no address to connect to"),
        };
        [name, connect, self.tls(&host)]
    }

    fn tls(&self, host: &str) -> Check {
        const NAME: &str = "tls";
        if let Some(roots) = &self.roots {
            return Check::fail(NAME, roots.clone(), "put PEM certificates into the file of [cloud] ca_file");
        }
        let whose = self.probe.certificate.as_ref().map(whose).unwrap_or_default();
        match &self.probe.tls {
            Some(Ok(())) => {
                let good = self.probe.certificate.as_ref().map(|certificate| certificate.good_for(self.now));
                let text = format!("{host} is who it says{whose}");
                match good {
                    Some(good) if good < SOON => {
                        let next = "tell the administrator of the suite: the server's certificate ends soon";
                        Check::warn(NAME, text, next)
                    }
                    _ => Check::ok(NAME, text),
                }
            }
            Some(Err(error)) => {
                let next = match error {
                    NetError::Tls { fault: TlsFault::NotValidYet | TlsFault::Expired, .. } => {
                        format!("compare the clock above with these dates; if the clock is wrong: {SET_CLOCK}")
                    }
                    NetError::Tls { fault: TlsFault::UnknownAuthority, .. } => {
                        "if this authority is the suite's own, name its certificate in [cloud] ca_file; if not, somebody \
                         is in between: do not log in over this network"
                            .to_owned()
                    }
                    NetError::Tls { fault: TlsFault::WrongName, .. } => {
                        "this is another server: look at [cloud] resource_api_url, or the network sends everybody to a \
                         page of its own"
                            .to_owned()
                    }
                    _ => "what answers there speaks no TLS: look at [cloud] resource_api_url".to_owned(),
                };
                Check::fail(NAME, format!("{}{whose}", chain(error)), next)
            }
            None if self.probe.connected.as_ref().is_some_and(Result::is_ok) => {
                Check::skip(NAME, "the address is http://: nothing is encrypted")
            }
            None => Check::skip(NAME, "there is no connection"),
        }
    }

    /// The board's clock beside the server's.
    pub(super) fn clock(&self) -> Check {
        const NAME: &str = "clock";
        let shown = moment(self.now);
        let theirs = self.answer.as_ref().and_then(|answer| answer.as_ref().ok()).copied().flatten();
        if let Some(NetError::Tls { fault: TlsFault::NotValidYet, .. }) =
            self.probe.tls.as_ref().and_then(|shaken| shaken.as_ref().err())
        {
            let text = format!("{shown} is before the time of the server's certificate");
            return Check::fail(NAME, text, SET_CLOCK);
        }
        if was_never_set(self.now) {
            let text = format!("{shown}: it was never set; keys and archives do not need it, TLS does");
            return Check::warn(NAME, text, SET_CLOCK);
        }
        let ours = Timestamp::try_from(self.now).unwrap_or(Timestamp::UNIX_EPOCH);
        match theirs.map(|theirs| ours.as_second() - theirs.as_second()) {
            Some(apart) if apart.unsigned_abs() > CHECK_CLOCK_APART.as_secs() => {
                let side = if apart > 0 { "ahead of" } else { "behind" };
                let text = format!("{shown} is {} {side} the server's time", long(apart.unsigned_abs()));
                Check::warn(NAME, text, SET_CLOCK)
            }
            Some(_) => Check::ok(NAME, format!("{shown}, as the server has it")),
            None => Check::ok(NAME, format!("{shown}; there is no server to compare it with")),
        }
    }
}

fn whose(shown: &Certificate) -> String {
    format!(
        ": the certificate of {} by {}, good from {} to {}",
        shown.subject,
        shown.issuer,
        moment(shown.not_before),
        moment(shown.not_after)
    )
}

/// Whether somebody can log in.
pub(super) fn login(way: &Way, session: &Result<Rc<Session>, Report>) -> Check {
    const NAME: &str = "login";
    match (session, &way.answer) {
        (Ok(session), Some(Ok(_))) => Check::ok(NAME, format!("logged in, with {}", role(session))),
        (_, Some(Err(error))) => {
            Check::fail(NAME, chain(error), "what answers there is no Resource API: look at [cloud] resource_api_url")
        }
        (_, None) => Check::skip(NAME, "the Resource API cannot be reached"),
        (Err(report), Some(Ok(_))) if report.code == Code::NotLoggedIn => {
            Check::skip(NAME, "the server answers; nobody is logged in yet: that comes with the unlock")
        }
        (Err(report), Some(Ok(_))) => Check::fail(NAME, told(report), report.next.clone()),
    }
}

/// A log-in, or that it did not end in `step`: a server that answers other calls may still hang at this one.
pub(in crate::agent) async fn in_time(
    step: Duration,
    session: impl Future<Output = Result<Rc<Session>, Report>>,
) -> Result<Rc<Session>, Report> {
    or(session, async {
        Timer::after(step).await;
        Err(Report {
            code: Code::ApiTimeout,
            message: format!("the log-in did not end in {} s", step.as_secs()),
            next: "wait a minute and look again; the server answers, and is busy".into(),
        })
    })
    .await
}

/// Whether the CDN answers, and takes the keys that the API gives.
pub(super) async fn cdn(subject: &Subject, way: &Way, session: Option<&Rc<Session>>) -> Check {
    const NAME: &str = "cdn";
    let Some(session) = session.filter(|_| way.answers()) else {
        return Check::skip(NAME, "its address and keys come with a log-in");
    };
    let look = async {
        let key = AesKey::from_text(&subject.salts.api_key(session.credentials(), &subject.hardware));
        let settings = match cdn_settings(&subject.wires.api, session, &subject.hardware, &key, &subject.over).await {
            Ok(settings) => settings,
            Err(error) => return failed(NAME, &Report::of(&error)),
        };
        let host = settings.host();
        let cdn = Cdn::new(Rc::clone(&subject.wires.client), settings, CdnClock::system());
        let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        let Ok(name) = ResourceName::new(NO_SUCH_MODEL.to_owned()) else { return Check::skip(NAME, "not looked at") };
        match cdn.with_policy(once).tail(&Folder::default(), &name, 1).await {
            Ok(_) | Err(CdnError::NotFound { .. }) => Check::ok(NAME, format!("{host} answers and takes the keys")),
            // S3 says so of what is not there to who may not list a bucket.
            Err(CdnError::Refused { code, .. }) if code == "AccessDenied" => Check::ok(
                NAME,
                format!(
                    "{host} answers and knows the keys; they may not look into the bucket of models without a folder"
                ),
            ),
            Err(error) => failed(NAME, &Report::of(&error)),
        }
    };
    or(look, async {
        Timer::after(CHECK_STEP).await;
        Check::fail(NAME, "it did not answer in time", "look at the way to the CDN: curl -v its address")
    })
    .await
}

fn failed(name: &'static str, report: &Report) -> Check {
    Check::fail(name, told(report), report.next.clone())
}

fn told(report: &Report) -> String {
    format!("{} ({})", report.message, report.code)
}

/// No board with this agent is older.
fn was_never_set(now: SystemTime) -> bool {
    /// From 1970 to 2024 there are so many days.
    const DAYS: u64 = 19_723;
    now < SystemTime::UNIX_EPOCH + Duration::from_hours(24 * DAYS)
}

/// `2026-11-26T21:24:00Z`
fn moment(time: SystemTime) -> String {
    let whole = Timestamp::try_from(time).map(Timestamp::as_second);
    whole.and_then(Timestamp::from_second).map_or_else(|_| "a time without a date".to_owned(), |time| time.to_string())
}

/// Seconds for people.
fn long(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Finding;

    fn way(now: u64, theirs: Option<i64>) -> Way {
        let answer = Ok(theirs.map(|seconds| Timestamp::from_second(seconds).expect("a time")));
        Way {
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(now),
            probe: Probe::default(),
            roots: None,
            answer: Some(answer),
        }
    }

    #[test]
    fn the_clock_is_held_beside_the_servers() {
        let (now, ours) = (1_795_727_040, 1_795_727_040_i64);
        for (theirs, found, says) in [
            (Some(ours), Finding::Ok, "as the server has it"),
            (Some(ours - 60), Finding::Ok, "as the server has it"),
            (Some(ours - 61), Finding::Warn, "61 s ahead of"),
            (Some(ours + 3 * 86_400), Finding::Warn, "3 days behind"),
            (None, Finding::Ok, "no server to compare"),
        ] {
            let check = way(now, theirs).clock();
            assert!(check.result == found && check.text.contains(says), "{check:?}");
        }
        let never = way(42, Some(ours)).clock();
        assert!(never.result == Finding::Warn && never.text.starts_with("1970-01-01T00:00:42Z"), "{never:?}");
    }

    #[test]
    fn a_certificate_of_tomorrow_is_the_clocks_fault() {
        let source = std::io::Error::other("no");
        let mut way = way(1_795_727_040, None);
        way.probe.tls = Some(Err(NetError::Tls { host: "a".into(), fault: TlsFault::NotValidYet, source }));
        assert_eq!(way.clock().result, Finding::Fail);
        let tls = way.tls("a");
        assert!(tls.next.is_some_and(|next| next.contains("timedatectl")));
    }

    #[test]
    fn a_log_in_that_hangs_is_not_waited_for() {
        let hanging = std::future::pending::<Result<Rc<Session>, Report>>();
        let refused = smol::block_on(in_time(Duration::ZERO, hanging)).err();
        assert_eq!(refused.map(|report| report.code), Some(Code::ApiTimeout));
        let answered = async { Err(Report { code: Code::NoSpace, message: String::new(), next: String::new() }) };
        assert_eq!(
            smol::block_on(in_time(Duration::MAX, answered)).err().map(|report| report.code),
            Some(Code::NoSpace)
        );
    }

    #[test]
    fn durations_for_people() {
        assert_eq!([long(90), long(3600), long(7200), long(400_000)], ["90 s", "60 min", "2 h", "4 days"]);
    }
}
