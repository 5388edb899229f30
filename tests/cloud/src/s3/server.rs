//! S3's calls: the script of faults, the clock and the record around what `s3s` answers.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{DATE, HeaderValue};
use hyper::{Request, StatusCode};
use s3s::service::S3Service;

use super::S3Keys;
use super::call::{Line, Record, S3Call, S3Route};
use super::clock;
use super::operations::WithoutRange;
use super::store::Store;
use crate::connection::{self, Answer, Broken, Calling, Desk, Gate, Over, Past, befall, typed};
use crate::fault::{Fault, Script, s3_error};
use crate::lock;
use crate::wire::Wire;

/// What all connections share.
pub(crate) struct Server {
    pub(crate) service: S3Service,
    pub(crate) store: Arc<Store>,
    pub(crate) downloader: S3Keys,
    pub(crate) uploader: S3Keys,
    pub(crate) script: Mutex<Script<S3Route>>,
    pub(crate) record: Arc<Record>,
    pub(crate) connections: AtomicUsize,
    pub(crate) gate: Gate,
    /// Seconds that the server's clock is ahead of this machine's.
    pub(crate) ahead: AtomicU64,
}

impl Desk for Server {
    fn handshake(&self) -> Option<Fault> {
        lock(&self.script).take(S3Route::Handshake)
    }

    fn connected(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn call(self: Arc<Self>, past: Past, request: Request<Incoming>) -> Calling {
        Box::pin(call(self, past, request))
    }
}

async fn call(server: Arc<Server>, past: Past, request: Request<Incoming>) -> Result<Answer, Over> {
    let (mut head, body) = request.into_parts();
    let call = S3Call::of(&head);
    let (route, bucket, key) = (call.route, call.bucket.clone(), call.key.clone());
    let line = server.record.arrived(call);
    // Unlike the API's, this body is not waited for: it may be gigabytes.
    let fault = lock(&server.script).take(route);
    let mut body = Counted { body, line: line.clone(), counts: |call: &mut S3Call, bytes| call.bytes_in += bytes };
    match &fault {
        Some(Fault::CutRequestAfter(bytes)) => {
            read(&mut body, Some(*bytes)).await?;
            return Err(Over::with(&past, Wire::Close));
        }
        Some(Fault::IgnoreRange) => {
            head.extensions.insert(WithoutRange);
        }
        Some(Fault::ReplaceObject(bytes)) => {
            if server.store.put_bytes(&bucket, &key, bytes).is_err() {
                return Err(Over);
            }
        }
        // The answer stands in for the right one, as the call's end: the request comes in whole, as with the API.
        Some(
            Fault::Status { .. }
            | Fault::Json(_)
            | Fault::Redirect(_)
            | Fault::Silence
            | Fault::EndlessBody
            | Fault::Garbage
            | Fault::CloseBeforeAnswer,
        ) => read(&mut body, None).await?,
        None
        | Some(
            Fault::Delay(_)
            | Fault::Hold(_)
            | Fault::CutAfter(_)
            | Fault::CloseAfterAnswer
            | Fault::AnswerEarly(..)
            | Fault::FlipBit(_),
        ) => {}
    }
    let mut outcome = befall(fault, right(&server, Request::from_parts(head, body))).await;
    line.change(|call| call.status = connection::status(&outcome));
    if let Ok(answer) | Err(Wire::Cut(answer, _) | Wire::ThenClose(answer)) = &mut outcome {
        let told = HeaderValue::try_from(httpdate::fmt_http_date(server.now()));
        answer.headers_mut().extend(told.ok().map(|date| (DATE, date)));
        let body = std::mem::replace(answer.body_mut(), connection::whole(Bytes::new()));
        *answer.body_mut() =
            Counted { body, line, counts: |call: &mut S3Call, bytes| call.bytes_out += bytes }.boxed_unsync();
    }
    outcome.map_err(|instead| Over::with(&past, instead))
}

impl Server {
    fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.ahead.load(Ordering::SeqCst))
    }
}

async fn right<B>(server: &Server, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Broken>,
{
    if let Err((code, message)) = clock::check(request.uri(), request.headers(), server.now()) {
        return typed(StatusCode::FORBIDDEN, "application/xml", s3_error(code, message));
    }
    let request = request.map(|body| s3s::Body::http_body_unsync(body.map_err(Into::<Broken>::into)));
    match server.service.call(request).await {
        Ok(answer) => answer.map(BodyExt::boxed_unsync),
        Err(error) => typed(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error:?}")),
    }
}

/// Reads a body up to this many bytes, or to its end. `Err`: the client broke off.
async fn read<B: Body<Data = Bytes> + Unpin>(body: &mut B, bytes: Option<u64>) -> Result<(), Over> {
    let mut left = bytes.unwrap_or(u64::MAX);
    while left > 0
        && let Some(frame) = body.frame().await
    {
        let length = frame.map_err(|_| Over)?.data_ref().map_or(0, Bytes::len);
        left = left.saturating_sub(length as u64);
    }
    Ok(())
}

/// A body whose bytes are counted in the record as they pass.
struct Counted<B, F> {
    body: B,
    line: Line,
    counts: F,
}

impl<B, F> Body for Counted<B, F>
where
    B: Body<Data = Bytes> + Unpin,
    F: Fn(&mut S3Call, u64) + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.line.change(|call| (self.counts)(call, bytes.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
