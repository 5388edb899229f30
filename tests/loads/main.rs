//! How the suite gets into real engines: what the agent loads is what `docker load` loads, whatever is cut, whenever.
//!
//! The agent is its binary and the engine its socket: nothing here names a part of the agent. One file per property.

#[path = "../support/dice.rs"]
mod dice;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../e2e/harness.rs"]
mod harness;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../e2e/samples.rs"]
mod samples;
#[path = "../support/mod.rs"]
mod support;

mod api;
mod bench;
mod compare;
mod cuts;
mod odd;
mod odd_tars;
mod packs;
mod plan;
mod podman;
mod record;
mod runs;
mod switch;
