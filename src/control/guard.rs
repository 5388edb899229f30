//! Who may use the port: the host it was called by, the page it was called from, the token, the user at the socket.
//!
//! The port answers no cross-origin question (no CORS header, ever). A rebound name is stopped by the `Host`, another
//! site's page by `Origin` and `Sec-Fetch-Site`, guessing by a bucket of attempts. Nothing here may tell a stranger
//! which paths exist, and no comparison with the token may end early.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use subtle::ConstantTimeEq;

use super::authority::{Authority, Host};
use super::head::Head;
use super::refusal::Refusal;
use crate::limits::{LOGIN_BURST, LOGIN_REFILL};
use crate::secret::SecretText;

/// What the configuration allows beyond the defaults.
#[derive(Debug, Default)]
pub struct Guard {
    /// Names and addresses, besides loopback and the address that listens, by which the port may be called over TCP.
    pub allow_hosts: Vec<String>,
    /// Users, besides root and the agent's own, who may use the unix socket.
    pub allow_uids: Vec<u32>,
    /// The bearer token that every call over TCP needs but `/health` and `/docs`, which hold no data. On the unix socket the user is the proof.
    pub token: Option<SecretText>,
}

/// The other end of a connection, as far as it can be known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    /// Came in over this address of ours; the wildcard address never stands here.
    Tcp { local: IpAddr },
    /// A user of this machine; `None` where the kernel did not tell.
    Unix { uid: Option<u32> },
}

impl Guard {
    /// Lets a request in, or tells why not. `open` is for the one call that needs no proof.
    ///
    /// # Errors
    /// [`Refusal::Host`], [`Refusal::CrossSite`], [`Refusal::Token`], [`Refusal::Peer`].
    pub(super) fn admit(&self, head: &Head, peer: Peer, open: bool) -> Result<(), Refusal> {
        if let (Peer::Tcp { local }, Some(host)) = (peer, &head.host)
            && !self.knows(&host.host, local)
        {
            return Err(Refusal::Host);
        }
        if is_cross_site(head) {
            return Err(Refusal::CrossSite);
        }
        if open {
            return Ok(());
        }
        match (peer, &self.token) {
            (Peer::Unix { uid }, _) if self.lets_in(uid) => Ok(()),
            (Peer::Unix { .. }, _) => Err(Refusal::Peer),
            (Peer::Tcp { .. }, None) => Ok(()),
            (Peer::Tcp { .. }, Some(token)) if bears(head, token) => Ok(()),
            (Peer::Tcp { .. }, Some(_)) => Err(Refusal::Token),
        }
    }

    fn knows(&self, host: &Host, local: IpAddr) -> bool {
        host.is_loopback()
            || *host == Host::Address(local.to_canonical())
            || self.allow_hosts.iter().any(|allowed| Host::parse(allowed).as_ref() == Some(host))
    }

    fn lets_in(&self, uid: Option<u32>) -> bool {
        uid.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw() || self.allow_uids.contains(&uid))
    }
}

/// Whether a browser says that another site's page is behind the request. Who sends neither header is no browser.
fn is_cross_site(head: &Head) -> bool {
    let other_site = head.fetch_site.as_deref().is_some_and(|site| site != "same-origin" && site != "none");
    let other_origin = head.origin.as_deref().is_some_and(|origin| {
        let (scheme, place) = origin.split_once("://").unwrap_or_default();
        let default = match scheme {
            "http" => 80,
            // Behind a proxy that speaks TLS.
            "https" => 443,
            _ => return true,
        };
        match (Authority::parse(place), &head.host) {
            (Some(place), Some(host)) => !place.same_place(host, default),
            (Some(_) | None, _) => true,
        }
    });
    other_site || other_origin
}

fn bears(head: &Head, token: &SecretText) -> bool {
    head.authorization.as_ref().and_then(|value| value.expose().split_once(' ')).is_some_and(|(scheme, sent)| {
        scheme.eq_ignore_ascii_case("Bearer")
            && bool::from(sent.trim_ascii().as_bytes().ct_eq(token.expose().as_bytes()))
    })
}

/// The log-in attempts that are left, for all clients together.
#[derive(Debug)]
pub(super) struct Attempts {
    left: Cell<u32>,
    /// Up to when the refill has been counted.
    counted: Cell<Duration>,
}

impl Attempts {
    pub(super) fn new(now: Duration) -> Self {
        Self { left: Cell::new(LOGIN_BURST), counted: Cell::new(now) }
    }

    /// Takes one attempt.
    ///
    /// # Errors
    /// [`Refusal::Attempts`] with the seconds until there is one.
    pub(super) fn take(&self, now: Duration) -> Result<(), Refusal> {
        let passed = now.saturating_sub(self.counted.get());
        let earned = u32::try_from(passed.as_nanos() / LOGIN_REFILL.as_nanos()).unwrap_or(u32::MAX);
        let left = self.left.get().saturating_add(earned);
        if left >= LOGIN_BURST {
            self.left.set(LOGIN_BURST - 1);
            self.counted.set(now);
            return Ok(());
        }
        self.counted.set(self.counted.get() + LOGIN_REFILL * earned);
        if let Some(rest) = left.checked_sub(1) {
            self.left.set(rest);
            return Ok(());
        }
        let wait = (self.counted.get() + LOGIN_REFILL).saturating_sub(now);
        Err(Refusal::Attempts { retry_after: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Peer = Peer::Tcp { local: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7)) };

    fn head(host: &str, fields: &str) -> Head {
        Head::parse(format!("POST /login HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").as_bytes()).expect("plain")
    }

    fn guard() -> Guard {
        Guard { allow_hosts: vec!["Board.lan".into(), "192.168.1.5".into(), "fd00::1".into()], ..Guard::default() }
    }

    #[test]
    fn only_known_hosts_are_answered() {
        for host in ["localhost:1", "127.0.0.1", "[::1]:80", "10.0.0.7:8080", "board.LAN:8", "192.168.1.5", "[fd00::1]"]
        {
            assert_eq!(guard().admit(&head(host, ""), LOCAL, false), Ok(()), "{host}");
        }
        for host in ["evil.example", "10.0.0.8", "board.lan.evil.example", "0.0.0.0"] {
            for open in [false, true] {
                assert_eq!(guard().admit(&head(host, ""), LOCAL, open), Err(Refusal::Host), "{host}");
            }
        }
        assert_eq!(guard().admit(&head("anything", ""), Peer::Unix { uid: Some(0) }, false), Ok(()));
    }

    #[test]
    fn other_sites_are_refused() {
        let admit = |host: &str, fields: &str| guard().admit(&head(host, fields), LOCAL, false);
        for (host, fields) in [
            ("localhost:8080", "Origin: http://localhost:8080\r\n"),
            ("localhost", "Origin: http://LOCALHOST:80\r\nSec-Fetch-Site: same-origin\r\n"),
            ("localhost:443", "Origin: https://localhost\r\n"),
            ("localhost", "Sec-Fetch-Site: none\r\n"),
        ] {
            assert_eq!(admit(host, fields), Ok(()), "{fields}");
        }
        for fields in [
            "Origin: null\r\n",
            "Origin:\r\n",
            "Origin: http://evil.example\r\n",
            "Origin: http://localhost:81\r\n",
            "Origin: http://localhost.evil.example\r\n",
            "Origin: http://localhost/\r\n",
            "Origin: file://localhost\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "Sec-Fetch-Site: Same-Origin, none\r\n",
            "Origin: http://localhost\r\nSec-Fetch-Site: cross-site\r\n",
        ] {
            assert_eq!(admit("localhost", fields), Err(Refusal::CrossSite), "{fields}");
        }
    }

    #[test]
    fn the_token_is_asked_for_over_tcp() {
        let guard = Guard { token: Some(SecretText::new("s3cret".into())), ..Guard::default() };
        let admit = |fields: &str, open| guard.admit(&head("localhost", fields), LOCAL, open);
        for fields in ["Authorization: Bearer s3cret\r\n", "Authorization: bearer  s3cret\r\n"] {
            assert_eq!(admit(fields, false), Ok(()), "{fields}");
        }
        for fields in [
            "",
            "Authorization: s3cret\r\n",
            "Authorization: Bearer\r\n",
            "Authorization: Basic s3cret\r\n",
            "Authorization: Bearer s3cre\r\n",
            "Authorization: Bearer s3cretx\r\n",
            "Authorization: Bearer S3cret\r\n",
        ] {
            assert_eq!(admit(fields, false), Err(Refusal::Token), "{fields}");
            assert_eq!(admit(fields, true), Ok(()), "{fields}");
        }
        assert_eq!(guard.admit(&head("localhost", ""), Peer::Unix { uid: Some(0) }, false), Ok(()));
    }

    #[test]
    fn the_user_decides_at_the_socket() {
        let own = rustix::process::geteuid().as_raw();
        let guard = Guard { allow_uids: vec![own + 7], ..Guard::default() };
        let admit = |uid| guard.admit(&head("localhost", ""), Peer::Unix { uid }, false);
        for uid in [0, own, own + 7] {
            assert_eq!(admit(Some(uid)), Ok(()), "{uid}");
        }
        for uid in [None, Some(own + 8)] {
            assert_eq!(admit(uid), Err(Refusal::Peer), "{uid:?}");
        }
    }

    #[test]
    fn attempts_hold_at_their_bound_and_come_back() {
        let start = Duration::from_secs(1000);
        let attempts = Attempts::new(start);
        for _ in 0..LOGIN_BURST {
            assert_eq!(attempts.take(start), Ok(()));
        }
        let refused = Err(Refusal::Attempts { retry_after: LOGIN_REFILL.as_secs() });
        assert_eq!(attempts.take(start), refused);
        let almost = LOGIN_REFILL.saturating_sub(Duration::from_millis(1));
        assert_eq!(attempts.take(start + almost), Err(Refusal::Attempts { retry_after: 1 }));
        assert_eq!(attempts.take(start + LOGIN_REFILL), Ok(()));
        assert_eq!(attempts.take(start + LOGIN_REFILL), refused);
        // A long pause fills the bucket, and no more than that.
        let later = start + LOGIN_REFILL * 1000;
        for _ in 0..LOGIN_BURST {
            assert_eq!(attempts.take(later), Ok(()));
        }
        assert_eq!(attempts.take(later), refused);
    }
}
