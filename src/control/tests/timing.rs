//! The token is compared in a time that does not tell how much of a guess was right.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::*;
use crate::control::guard::Peer;
use crate::control::head::Head;
use crate::control::refusal::Refusal;
use crate::secret::SecretText;

/// Far longer than a token is, so that what a comparison that ends early saves stands out of the clock's noise.
const LONG: usize = 64 * 1024;
const ROUNDS: usize = 401;
/// What noise may make of one; a comparison that ends early makes 30 (`==`, 36 ns and 1.2 µs).
const MOST: f64 = 1.5;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Lengths are compared first, and openly: how long a token is can be read in the documentation.
#[test]
fn a_guess_wrong_in_its_first_byte_takes_as_long_as_one_wrong_in_its_last() {
    let token = "t".repeat(LONG);
    let head = |guess: &str| {
        let text = format!("GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {guess}\r\n\r\n");
        Head::parse(text.as_bytes()).expect("plain")
    };
    let (first, last) = (head(&format!("x{}", &token[1..])), head(&format!("{}x", &token[1..])));
    let guard = Guard { token: Some(SecretText::new(token)), ..Guard::default() };
    let peer = Peer::Tcp { local: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let time = |head: &Head| {
        let began = Instant::now();
        let refused = guard.admit(black_box(head), peer, false);
        let took = began.elapsed();
        assert_eq!(refused, Err(Refusal::Token));
        took
    };
    // One after the other, so that whatever slows the machine slows both.
    let (firsts, lasts) = (0..ROUNDS).map(|_| (time(&first), time(&last))).unzip();
    let (first, last) = (median(firsts), median(lasts));
    let ratio = last.as_secs_f64() / first.as_secs_f64();
    assert!((1.0 / MOST..MOST).contains(&ratio), "{first:?} when the first byte is wrong, {last:?} when the last is");
}
