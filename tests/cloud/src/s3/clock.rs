//! Whether a request was signed by a clock that agrees with the server's, which a test may have moved.
//!
//! `s3s` asks the machine's clock, so this stands before it; nothing here looks at a signature.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Uri;
use hyper::header::HeaderMap;

/// How far AWS lets the clocks differ.
const SKEW: Duration = Duration::from_mins(15);

/// `Err` is the code and the message of the refusal. What cannot be read is left to `s3s` to refuse.
pub(crate) fn check(uri: &Uri, headers: &HeaderMap, now: SystemTime) -> Result<(), (&'static str, &'static str)> {
    let value = |name: &str| {
        uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(ToOwned::to_owned))
    };
    let presigned = value("X-Amz-Date").and_then(|date| time(&date));
    let header = headers.get("x-amz-date").and_then(|date| time(date.to_str().ok()?));
    let skewed =
        Err(("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."));
    if let Some(signed) = presigned {
        let lives = value("X-Amz-Expires").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        if signed > now + SKEW {
            return skewed;
        }
        if lives.is_some_and(|lives| signed + lives < now) {
            return Err(("AccessDenied", "Request has expired"));
        }
    } else if let Some(signed) = header
        && (signed > now + SKEW || signed + SKEW < now)
    {
        return skewed;
    }
    Ok(())
}

/// `20261231T235959Z`.
fn time(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<u64>().ok());
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    // Days since 1970 in the Gregorian calendar, years counted from March (Hinnant, "days_from_civil").
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let seconds = days.checked_sub(719_469)? * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in
            [("19700101T000000Z", 0), ("20260301T120000Z", 1_772_366_400), ("20240229T235959Z", 1_709_251_199)]
        {
            assert_eq!(time(text), Some(UNIX_EPOCH + Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(time("yesterday"), None);
    }
}
