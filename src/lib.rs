//! The agent that turns an encrypted image archive into running software on an edge board.
//!
//! In scope: log in to the Resource API, fetch the key fragment, read the archive as a random-access file, feed its images
//! into the container engine, prove that they are there, remember it across power cuts, and tell a person with `curl` how
//! it goes; models split in two, with their big parts cached on flash; seals, by which archives and models prove themselves.
//!
//! Out of scope: running containers, networks and volumes (the engine's), building images (the publisher's), and hiding
//! anything from whoever has root on the board.
//!
//! ```text
//!                    ┌──────────── one thread, one executor ────────────┐
//!   curl ── control ─┤  agent ── unlock ─┬─ cloud ──── net ── TLS ──────┼── Resource API
//!   systemd ─────────┤                   ├─ archive ── crypto ── flash  │
//!                    │                   └─ engine ──── net ── socket ──┼── Docker
//!                    └──────────────────────────────────────────────────┘
//! ```
//!
//! `ARCHITECTURE.md` has the rooms, the rule that imports never point up, and the whys; `docs/CONTRACT.md` is what the
//! outside fixes. The sections that documentation here cites are that contract's.

pub mod agent;
pub mod archive;
pub mod audit;
pub mod board;
pub mod cache;
pub mod cli;
pub mod cloud;
pub mod config;
pub mod control;
pub mod crypto;
pub mod engine;
pub mod error;
mod flash;
pub mod json;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod name;
pub mod net;
pub mod resource;
pub mod seal;
pub mod secret;
pub mod unlock;
