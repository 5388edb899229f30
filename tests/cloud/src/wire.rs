//! Faults that no HTTP library would write: answers that are cut, never end, or are none at all.
//!
//! They are written past hyper, onto the stream itself, after hyper has read the request.

use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::CONTENT_LENGTH;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::connection::Answer;

/// What goes onto the wire instead of hyper's answer.
pub(crate) enum Wire {
    Garbage,
    Close,
    Endless,
    /// Cut after so many bytes of the body.
    Cut(Answer, usize),
    /// Written in full, then closed although keep-alive was promised.
    ThenClose(Answer),
}

/// Not HTTP, and nothing an HTTP parser may wait for more of.
pub(crate) const GARBAGE: &[u8] = b"220 mail.example.com ESMTP ready\r\n\0\xff\xfe\r\n\r\n";

/// Writes it. An error means that the client has gone, which is its right.
pub(crate) async fn write<S: AsyncWrite + Unpin>(stream: &mut S, wire: Wire) -> std::io::Result<()> {
    match wire {
        Wire::Garbage => stream.write_all(GARBAGE).await?,
        Wire::Close => {}
        Wire::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        Wire::Cut(answer, after) => {
            let after = u64::try_from(after).unwrap_or(u64::MAX);
            plain(stream, answer, |length| after.min(length.saturating_sub(1))).await?;
            // No shutdown: the stream is dropped by the caller, without TLS's close_notify.
            return stream.flush().await;
        }
        Wire::ThenClose(answer) => plain(stream, answer, |length| length).await?,
    }
    stream.flush().await?;
    stream.shutdown().await
}

/// Writes an answer's head with the full length of its body, and as much of the body as `part` makes of that length.
async fn plain<S: AsyncWrite + Unpin>(
    stream: &mut S,
    answer: Answer,
    part: impl FnOnce(u64) -> u64,
) -> std::io::Result<()> {
    let (parts, mut body) = answer.into_parts();
    let told = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let length = told.or_else(|| body.size_hint().exact()).unwrap_or_default();
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_str()).into_bytes();
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(format!("{CONTENT_LENGTH}: {length}\r\n\r\n").into_bytes());
    stream.write_all(&head).await?;
    let mut left = part(length);
    while left > 0
        && let Some(frame) = body.frame().await
    {
        let Ok(bytes) = frame.map_err(std::io::Error::other)?.into_data() else { continue };
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        stream.write_all(&bytes[..now]).await?;
        left -= now as u64;
    }
    Ok(())
}
