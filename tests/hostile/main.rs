//! Misuse of the control port: other people's malformed requests, other people's JSON, strangers, guesses, floods of bytes.
//!
//! One test binary, one file per kind of misuse, each against the agent's own binary and what it really sends.

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../e2e/harness.rs"]
mod harness;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/mod.rs"]
mod support;

mod cases;
mod guesses;
mod gunicorn;
mod json_corpus;
mod paths;
mod strangers;

use harness::Agent;

/// Where the agent's port listens: `127.0.0.1:PORT`.
fn address(agent: &Agent) -> String {
    agent.base.trim_start_matches("http://").to_owned()
}

/// The agent's resident memory in bytes, from the kernel.
fn resident(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel says it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// The agent is there and answers.
fn is_alive(address: &str) -> bool {
    let reply = raw::call(address, "GET", "/health", "", b"");
    (reply.status, reply.body.as_str()) == (200, r#"{"status":"healthy"}"#)
}
