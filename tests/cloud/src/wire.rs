//! Faults that no HTTP library would write: answers that are cut, never end, or are none at all.
//!
//! They are written past hyper, onto the TLS stream itself, after hyper has read the request.

use http_body_util::BodyExt;
use hyper::header::CONTENT_LENGTH;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::api::Answer;

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
            let (head, body) = plain(answer).await;
            let sent = after.min(body.len().saturating_sub(1));
            stream.write_all(&head).await?;
            stream.write_all(&body[..sent]).await?;
            // No shutdown: the stream is dropped by the caller, without TLS's close_notify.
            return stream.flush().await;
        }
        Wire::ThenClose(answer) => {
            let (head, body) = plain(answer).await;
            stream.write_all(&head).await?;
            stream.write_all(&body).await?;
        }
    }
    stream.flush().await?;
    stream.shutdown().await
}

/// An answer's head as bytes, with the full length of its body, and the body.
async fn plain(answer: Answer) -> (Vec<u8>, hyper::body::Bytes) {
    let (parts, body) = answer.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_str()).into_bytes();
    for (name, value) in &parts.headers {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(format!("{CONTENT_LENGTH}: {}\r\n\r\n", body.len()).into_bytes());
    (head, body)
}
