//! Sealed archives on a board: what is believed, what is refused, and what reached the engine by then.
//!
//! Archives are sealed by the command that publishers use, signatures are the ordinary `minisign`'s.

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../e2e/harness.rs"]
mod harness;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../e2e/samples.rs"]
mod samples;
#[path = "../support/mod.rs"]
mod support;

mod clean_up;
mod policy;
mod proxy;
mod publisher;
mod tamper;
mod tampered;
