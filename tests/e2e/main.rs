//! Whole boards: the agent's binary, a real TLS cloud, real archives, `curl`, and real engines where they run.
//!
//! One test binary, one file per property.

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod board;
mod broken_archive;
mod broken_engine;
mod canary;
mod checkup;
mod client;
mod cloud_failures;
mod control_rules;
mod harness;
mod models;
mod restart;
mod samples;
mod shown;
mod unlock;
