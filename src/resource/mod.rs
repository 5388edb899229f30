//! Models: loaded from their two parts and uploaded as two.
#![expect(dead_code, reason = "under construction")]

mod join;
#[cfg(test)]
mod samples;
mod splitter;
mod vault;
