//! The CDN: big parts of resources in any S3-compatible store (CONTRACT section 2).
//!
//! ```text
//!   Cdn::read ── call ──┬─ 206 of this ETag ── CdnRead::chunk ─┬─ cut: call again from there
//!                ▲      │                                      └─ the range is whole
//!                │      ├─ another ETag, 412 ── Changed
//!                │      ├─ 403 and another time than ours ── its clock, once ─┐
//!                └──────┴─ 429, 5xx, time-outs, lost ── pause, in one budget ─┘
//! ```
//!
//! Requests are presigned by `rusty-s3`: a signature stands in the URL's query, so that this room must never show or
//! log a URL. It must never join bytes of two objects, never follow a redirect, never take a cut body for a whole one,
//! and never believe a 200 whose body is an error.

mod answer;
mod call;
mod clock;
mod error;
mod read;
mod settings;
mod write;
mod yaml;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_write;

pub use call::{Cdn, CdnRetry};
pub use clock::{CdnClock, date};
pub use error::{CdnError, CdnFault, CdnOperation, PutError, SettingsFault};
pub use read::{CdnRead, Tail};
pub use settings::CdnSettings;
