//! What the outside sees of an error: a stable code, what happened, and what the person at the board can do next.
//!
//! Each room has its own error type, whose variants are the operation or the guilty party. All of them implement
//! [`Explain`], and the control port, the log and the command line show the resulting [`Report`] and nothing else.
//! A message must never contain a secret, and never a path when it goes to the control port.

mod advice;
mod code;

pub use advice::{MAKE_ROOM, SET_CLOCK, is_full, size};
pub use code::{Code, UnknownCode};

/// An error that can tell the outside what it is.
pub trait Explain: std::error::Error {
    /// The stable code.
    fn code(&self) -> Code;

    /// What the person at the board can do about it: one sentence in the imperative, lower case, no full stop.
    fn next_step(&self) -> String;
}

/// What is shown of an error: `{"code","message","next"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The stable code.
    pub code: Code,
    /// What happened, with its causes: `read answer: connection reset`.
    pub message: String,
    /// What the person at the board can do.
    pub next: String,
}

impl Report {
    /// Takes down an error with its chain of sources.
    pub fn of(error: &dyn Explain) -> Self {
        Self { code: error.code(), message: chain(error), next: error.next_step() }
    }
}

/// The message of `error` followed by those of its sources, each said once.
pub fn chain<E: std::error::Error + ?Sized>(error: &E) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}
