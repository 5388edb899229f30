//! Reading: the end of an object, and ranges that resume by themselves.
//!
//! Every answer is held against the entity tag that was asked for, whether or not the server heeds the conditions it
//! was sent: bytes of two objects are never joined.

use std::ops::Range;
use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::super::retry::Budget;
use super::answer::{content_length, content_range, etag};
use super::call::{Ask, Cdn, Object, Shared, signed};
use super::error::{CdnError, CdnFault, CdnOperation};
use super::settings::Signer;
use super::write::MARK;
use crate::limits::{CDN_PROGRESS_BYTES, CDN_SKIPPED_BYTES, CDN_TAIL_BYTES, PIECE_BYTES};
use crate::name::{Folder, ResourceName};
use crate::net::{NetError, NoBody, Response, Step};

/// The end of an object, and with it how long it is and which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Bytes of the whole object.
    pub size: u64,
    /// Its entity tag, as it came.
    pub etag: String,
    /// Its last bytes.
    pub bytes: Vec<u8>,
    /// The mark it was uploaded with ([`Cdn::begin_upload`]); none where somebody else uploaded it.
    pub mark: Option<String>,
}

/// What `HEAD` tells of an object.
pub(super) struct Seen {
    pub(super) size: u64,
    pub(super) etag: String,
    /// What the upload was marked with.
    pub(super) mark: Option<String>,
}

impl Cdn {
    /// The last `bytes` bytes of an object, or all of it when it is shorter; at most [`CDN_TAIL_BYTES`].
    ///
    /// # Errors
    /// [`CdnError::NotFound`] when there is no such object; what may pass is repeated first, within the budget.
    pub async fn tail(&self, folder: &Folder, name: &ResourceName, bytes: u64) -> Result<Tail, CdnError> {
        let shared = &self.shared;
        let bytes = bytes.clamp(1, CDN_TAIL_BYTES);
        let object = shared.object(folder, name)?;
        let range = [(header::RANGE, value(&format!("bytes=-{bytes}")))];
        let take = async |response: Response| shared.tail_of(response, bytes).await;
        match object.get(shared, &shared.budget(), &range, take).await {
            Ok(Some(tail)) => return Ok(tail),
            // The server has no ranges from the end, or the object is empty.
            Ok(None) | Err(CdnError::Failed { status: 400 | 416 | 501, .. }) => {}
            Err(error) => return Err(error),
        }
        let seen = object.look(shared).await?;
        let mut tail = Vec::new();
        let range = seen.size.saturating_sub(bytes)..seen.size;
        let mut read = CdnRead::open(Rc::clone(shared), object, &seen.etag, range.clone()).await?;
        tail.resize(usize::try_from(range.end - range.start).unwrap_or_default(), 0);
        let mut filled = 0;
        while filled < tail.len() {
            filled += read.chunk(&mut tail[filled..]).await?;
        }
        Ok(Tail { size: seen.size, etag: seen.etag, bytes: tail, mark: seen.mark })
    }

    /// Reads `range` of the object whose entity tag is `etag`; returns when its first bytes are on their way.
    ///
    /// # Errors
    /// [`CdnError::Changed`] when it is another object by now, [`CdnError::NotFound`] when it is gone; what may pass is
    /// repeated first, within the budget.
    pub async fn read(
        &self,
        folder: &Folder,
        name: &ResourceName,
        etag: &str,
        range: Range<u64>,
    ) -> Result<CdnRead, CdnError> {
        let object = self.shared.object(folder, name)?;
        CdnRead::open(Rc::clone(&self.shared), object, etag, range).await
    }

    /// Size and entity tag of an object; `None` when there is none.
    ///
    /// # Errors
    /// What may pass is repeated first, within the budget.
    pub async fn confirm(&self, folder: &Folder, name: &ResourceName) -> Result<Option<(u64, String)>, CdnError> {
        match self.shared.object(folder, name)?.look(&self.shared).await {
            Ok(seen) => Ok(Some((seen.size, seen.etag))),
            Err(CdnError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Object {
    /// `HEAD`.
    pub(super) async fn look(&self, shared: &Shared) -> Result<Seen, CdnError> {
        let operation = CdnOperation::Look;
        let ask = Ask {
            operation,
            method: Method::HEAD,
            signer: Signer::Downloader,
            sign: &|keys, time| signed!(self.bucket.head_object(Some(keys), &self.key), time),
            headers: &[],
            timeouts: shared.timeouts,
        };
        let take = async |response: Response| {
            if response.status != StatusCode::OK {
                return Err(shared.protocol(operation, CdnFault::Status(response.status.as_u16())));
            }
            let fault = |fault| shared.protocol(operation, fault);
            let mark = mark(&response.headers);
            Ok(Seen {
                size: content_length(&response.headers).map_err(fault)?,
                etag: etag(&response.headers).map_err(fault)?,
                mark,
            })
        };
        shared.call_simple(&ask, NoBody, take).await
    }

    /// `GET` with `headers`.
    async fn get<T>(
        &self,
        shared: &Shared,
        budget: &Budget,
        headers: &[(HeaderName, HeaderValue)],
        take: impl AsyncFn(Response) -> Result<T, CdnError>,
    ) -> Result<T, CdnError> {
        let ask = Ask {
            operation: CdnOperation::Read,
            method: Method::GET,
            signer: Signer::Downloader,
            sign: &|keys, time| signed!(self.bucket.get_object(Some(keys), &self.key), time),
            headers,
            timeouts: shared.timeouts,
        };
        shared.call(budget, &ask, &mut NoBody, take).await.map_err(CdnError::from)
    }
}

impl Shared {
    /// The end of an object out of the answer to a suffix range; `None` when it is an answer to something else.
    async fn tail_of(&self, response: Response, bytes: u64) -> Result<Option<Tail>, CdnError> {
        let operation = CdnOperation::Read;
        let etag = etag(&response.headers).map_err(|fault| self.protocol(operation, fault))?;
        let (length, size) = match response.status {
            StatusCode::PARTIAL_CONTENT => {
                let (range, size) =
                    content_range(&response.headers).map_err(|fault| self.protocol(operation, fault))?;
                match size {
                    Some(size) if range == (size.saturating_sub(bytes)..size) => (range.end - range.start, size),
                    _ => return Ok(None),
                }
            }
            // A whole object that is short enough is its own end.
            StatusCode::OK => match response.length() {
                Some(size) if size <= bytes => (size, size),
                _ => return Ok(None),
            },
            other => return Err(self.protocol(operation, CdnFault::Status(other.as_u16()))),
        };
        let limit = usize::try_from(length).unwrap_or(usize::MAX);
        let mark = mark(&response.headers);
        let bytes = response.bytes(limit).await.map_err(|source| self.net(operation, source))?;
        if bytes.len() != limit {
            return Err(self.net(operation, NetError::ClosedEarly { step: Step::Body }));
        }
        Ok(Some(Tail { size, etag, bytes, mark }))
    }
}

fn mark(headers: &HeaderMap) -> Option<String> {
    headers.get(MARK).and_then(|mark| mark.to_str().ok()).map(str::to_owned)
}

/// A range of one object, on its way.
pub struct CdnRead {
    shared: Rc<Shared>,
    object: Object,
    etag: String,
    /// The next byte.
    at: u64,
    end: u64,
    flow: Option<Flow>,
    budget: Budget,
    /// Bytes since the last failure.
    since: u64,
}

/// One answer with bytes of the range.
struct Flow {
    response: Response,
    /// Bytes before the range that the server sends all the same.
    skip: u64,
    /// Whether the answer ends with the range, so that its connection can be used again.
    ends_with_range: bool,
}

impl CdnRead {
    async fn open(shared: Rc<Shared>, object: Object, etag: &str, range: Range<u64>) -> Result<Self, CdnError> {
        let budget = shared.budget();
        let (at, end) = (range.start, range.end.max(range.start));
        let mut read = Self { shared, object, etag: etag.to_owned(), at, end, flow: None, budget, since: 0 };
        if read.at < read.end {
            read.flow = Some(read.ask().await?);
        }
        Ok(read)
    }

    /// Bytes that are still to come.
    pub const fn remaining(&self) -> u64 {
        self.end - self.at
    }

    /// Reads some bytes of the range into `into`, which must not be empty; 0 is its end. An answer that is cut is asked
    /// for again from where it ended.
    ///
    /// # Errors
    /// As [`Cdn::read`]. A further call tries once more.
    pub async fn chunk(&mut self, into: &mut [u8]) -> Result<usize, CdnError> {
        while self.at < self.end {
            let mut flow = match self.flow.take() {
                Some(flow) => flow,
                None => self.ask().await?,
            };
            let room = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(into.len());
            let error = match flow.bytes(&mut into[..room]).await {
                Ok(0) => NetError::ClosedEarly { step: Step::Body },
                Ok(read) => {
                    self.at += read as u64;
                    self.since += read as u64;
                    if self.at < self.end {
                        self.flow = Some(flow);
                    } else {
                        flow.settle().await;
                    }
                    return Ok(read);
                }
                Err(error) => error,
            };
            drop(flow);
            if self.since >= CDN_PROGRESS_BYTES {
                self.budget = self.shared.budget();
            }
            self.since = 0;
            let error = self.shared.net(CdnOperation::Read, error);
            self.shared.pause(&self.budget, CdnOperation::Read, error).await?;
        }
        Ok(0)
    }

    /// Fills `into` with the next bytes of the range.
    ///
    /// # Errors
    /// As [`CdnRead::chunk`]; [`CdnError::Changed`] when the range ends before: it is longer than the object, whose tag
    /// is the same all the same.
    pub async fn fill(&mut self, into: &mut [u8]) -> Result<(), CdnError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.chunk(&mut into[filled..]).await? {
                0 => return Err(CdnError::Changed),
                bytes => filled += bytes,
            }
        }
        Ok(())
    }

    /// Asks for what is left of the range.
    async fn ask(&self) -> Result<Flow, CdnError> {
        let range = self.at..self.end;
        let mut headers = vec![(header::RANGE, value(&format!("bytes={}-{}", range.start, range.end - 1)))];
        // Conditions compare strongly (RFC 9110 section 13.1): a weak tag would never hold.
        if !self.etag.starts_with("W/") {
            let etag = HeaderValue::try_from(self.etag.as_str()).map_err(|_| self.fault(CdnFault::Etag))?;
            headers.push((header::IF_MATCH, etag.clone()));
            headers.push((header::IF_RANGE, etag));
        }
        self.object.get(&self.shared, &self.budget, &headers, async |response| self.flow_of(response, &range)).await
    }

    fn flow_of(&self, response: Response, range: &Range<u64>) -> Result<Flow, CdnError> {
        if etag(&response.headers).map_err(|fault| self.fault(fault))? != self.etag {
            return Err(CdnError::Changed);
        }
        match response.status {
            StatusCode::PARTIAL_CONTENT => {
                let (given, _) = content_range(&response.headers).map_err(|fault| self.fault(fault))?;
                // Less than was asked for is allowed (RFC 9110 section 15.3.7): the rest is asked for after it.
                if given.start != range.start || given.end > range.end {
                    return Err(self.fault(CdnFault::Range));
                }
                Ok(Flow { response, skip: 0, ends_with_range: given.end == range.end })
            }
            StatusCode::OK if range.start <= CDN_SKIPPED_BYTES => {
                let ends_with_range = response.length() == Some(range.end);
                Ok(Flow { response, skip: range.start, ends_with_range })
            }
            StatusCode::OK => Err(self.fault(CdnFault::RangesIgnored)),
            other => Err(self.fault(CdnFault::Status(other.as_u16()))),
        }
    }

    fn fault(&self, fault: CdnFault) -> CdnError {
        self.shared.protocol(CdnOperation::Read, fault)
    }
}

impl Flow {
    /// Reads some bytes of the range.
    async fn bytes(&mut self, into: &mut [u8]) -> Result<usize, NetError> {
        if self.skip > 0 {
            let mut nowhere = vec![0; PIECE_BYTES];
            while self.skip > 0 {
                let most = usize::try_from(self.skip).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
                let read = self.response.chunk(&mut nowhere[..most]).await?;
                if read == 0 {
                    return Ok(0);
                }
                self.skip -= read as u64;
            }
        }
        self.response.chunk(into).await
    }

    /// Reads over the end of the body, which gives its connection back, where that needs no waiting.
    async fn settle(mut self) {
        if self.ends_with_range && self.response.length().is_some() {
            let _ended = self.response.chunk(&mut [0]).await;
        }
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and signs")
}
