//! Request bodies: pieces that come one after the other, in constant memory.

use std::convert::Infallible;

/// Where the bytes of a request body come from.
///
/// The pieces are borrowed from the source, so that a body of any length costs one buffer. A source that fails makes
/// the connection drop at once: the body is never ended cleanly behind a failure.
#[expect(async_fn_in_trait, reason = "everything runs on one thread, no future needs to be `Send`")]
pub trait BodySource {
    /// What can go wrong while the bytes are made.
    type Error: std::error::Error + 'static;

    /// How many bytes will come; `None` sends the body chunked.
    fn length(&self) -> Option<u64>;

    /// The next piece, never empty; `None` at the end.
    async fn next(&mut self) -> Result<Option<&[u8]>, Self::Error>;

    /// Goes back to the first byte, where that is possible: only then can a request be repeated.
    fn rewind(&mut self) -> bool {
        false
    }
}

/// A source that is lent, so that the same one can be sent again.
impl<B: BodySource> BodySource for &mut B {
    type Error = B::Error;

    fn length(&self) -> Option<u64> {
        (**self).length()
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Self::Error> {
        (**self).next().await
    }

    fn rewind(&mut self) -> bool {
        (**self).rewind()
    }
}

/// A request without a body.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBody;

impl BodySource for NoBody {
    type Error = Infallible;

    fn length(&self) -> Option<u64> {
        Some(0)
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Infallible> {
        Ok(None)
    }

    fn rewind(&mut self) -> bool {
        true
    }
}

/// A body that lies in memory: `Bytes::new(&[u8])`, `Bytes::new(Vec<u8>)`.
pub struct Bytes<T> {
    bytes: T,
    given: bool,
}

impl<T: AsRef<[u8]>> Bytes<T> {
    /// The bytes are borrowed or taken over, never copied.
    pub const fn new(bytes: T) -> Self {
        Self { bytes, given: false }
    }
}

impl<T: AsRef<[u8]>> BodySource for Bytes<T> {
    type Error = Infallible;

    fn length(&self) -> Option<u64> {
        Some(self.bytes.as_ref().len() as u64)
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Infallible> {
        let piece = self.bytes.as_ref();
        if self.given || piece.is_empty() {
            return Ok(None);
        }
        self.given = true;
        Ok(Some(piece))
    }

    fn rewind(&mut self) -> bool {
        self.given = false;
        true
    }
}
