//! Bodies by length and in chunks, whole, faulty, cut, slow and at their bounds.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use smol::Async;

use super::*;
use crate::control::wire::Stream;

/// Sends `bytes`, then reads a body of at most 8 bytes, then tells it and what is left for the next request.
fn read(bytes: &[u8], framing: Framing) -> Result<(Vec<u8>, Vec<u8>), Option<u16>> {
    let (near, mut far) = UnixStream::pair().expect("a socket pair");
    far.write_all(bytes).expect("room in the socket");
    drop(far);
    let mut wire = Wire::new(Stream::Unix(Async::new(near).expect("a socket")));
    smol::block_on(async {
        let body = Body::new(&mut wire, framing, false, Patience::default()).bytes(8).await;
        let body = match body {
            Ok(body) => body.to_vec(),
            Err(Broken::Refused(refusal)) => return Err(Some(refusal.status())),
            Err(Broken::Gone) => return Err(None),
        };
        while wire.more(4096).await.expect("an end") > 0 {}
        Ok((body, wire.arrived().to_vec()))
    })
}

#[test]
fn a_length_is_kept_to() {
    assert_eq!(read(b"abcdrest", Framing::Length(4)), Ok((b"abcd".to_vec(), b"rest".to_vec())));
    assert_eq!(read(b"rest", Framing::Length(0)), Ok((vec![], b"rest".to_vec())));
    assert_eq!(read(b"12345678", Framing::Length(8)), Ok((b"12345678".to_vec(), vec![])));
    assert_eq!(read(b"123456789", Framing::Length(9)), Err(Some(413)));
    assert_eq!(read(b"", Framing::Length(u64::MAX)), Err(Some(413)));
    assert_eq!(read(b"abc", Framing::Length(4)), Err(None));
}

#[test]
fn chunks_are_joined() {
    for text in [
        "4\r\nabcd\r\n0\r\n\r\nrest",
        "1\r\na\r\n3\r\nbcd\r\n0\r\n\r\nrest",
        "0004;x=\"y\"\r\nabcd\r\n0 \t; last\r\nTrailer: x\r\n\r\nrest",
    ] {
        assert_eq!(read(text.as_bytes(), Framing::Chunked), Ok((b"abcd".to_vec(), b"rest".to_vec())), "{text:?}");
    }
    assert_eq!(read(b"8\r\n12345678\r\n0\r\n\r\n", Framing::Chunked), Ok((b"12345678".to_vec(), vec![])));
    assert_eq!(read(b"A\r\n1234567890\r\n0\r\n\r\n", Framing::Chunked), Err(Some(413)));
}

#[test]
fn faulty_chunks_are_refused() {
    for text in [
        "\r\n",
        "x\r\n",
        "-1\r\na\r\n",
        "+1\r\na\r\n",
        "0x1\r\na\r\n",
        "1 \r\na\r\n",
        " 1\r\na\r\n",
        "1\na\r\n0\r\n\r\n",
        "1\ra\r\n",
        "1;\ra\r\na",
        "1;\0\r\na",
        "10000000000000000\r\na",
        "1\r\nab\r\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "0\r\nno trailer\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "0\r\nX: 1\n\r\n",
        "0\r\nContent-length: 1\r\n\r\n",
        "0\r\nA: b\r\nHost: c\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(read(text.as_bytes(), Framing::Chunked), Err(Some(400)), "{text:?}");
    }
    for text in ["", "1", "1\r\n", "1\r\na", "1\r\na\r\n", "0\r\n", "0\r\nX: 1\r\n"] {
        assert_eq!(read(text.as_bytes(), Framing::Chunked), Err(None), "{text:?}");
    }
}

#[test]
fn chunk_lines_and_trailers_hold_at_their_bounds() {
    let line = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length - 2));
    assert!(read(line(CHUNK_LINE_BYTES).as_bytes(), Framing::Chunked).is_ok());
    assert_eq!(read(line(CHUNK_LINE_BYTES + 1).as_bytes(), Framing::Chunked), Err(Some(400)));
    let trailer = |length: usize| format!("0\r\nA: b\r\nX: {}\r\n\r\n", "x".repeat(length - 6 - 3));
    assert!(read(trailer(TRAILER_BYTES).as_bytes(), Framing::Chunked).is_ok());
    assert_eq!(read(trailer(TRAILER_BYTES + 1).as_bytes(), Framing::Chunked), Err(Some(431)));
}

#[test]
fn a_client_that_sends_nothing_is_too_slow() {
    let (near, far) = UnixStream::pair().expect("a socket pair");
    let mut wire = Wire::new(Stream::Unix(Async::new(near).expect("a socket")));
    let patience = Patience { body: Duration::from_millis(5), ..Patience::default() };
    for framing in [Framing::Length(1), Framing::Chunked] {
        let outcome = smol::block_on(Body::new(&mut wire, framing, false, patience).bytes(8));
        assert!(matches!(outcome, Err(Broken::Refused(Refusal::TooSlow(_)))), "{outcome:?}");
    }
    drop(far);
}

#[test]
fn the_client_is_told_to_go_on_only_when_it_waits_and_fits() {
    for (length, sent_already, told) in [(4, false, true), (4, true, false), (9, false, false)] {
        let (near, mut far) = UnixStream::pair().expect("a socket pair");
        let mut wire = Wire::new(Stream::Unix(Async::new(near).expect("a socket")));
        if sent_already {
            far.write_all(b"abcd").expect("room in the socket");
            smol::block_on(wire.more(4096)).expect("open");
        }
        far.shutdown(std::net::Shutdown::Write).expect("open");
        let _ = smol::block_on(Body::new(&mut wire, Framing::Length(length), true, Patience::default()).bytes(8));
        drop(wire);
        let mut heard = String::new();
        far.read_to_string(&mut heard).expect("an end");
        assert_eq!(heard == "HTTP/1.1 100 Continue\r\n\r\n", told, "{heard:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_hang(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = read(&bytes, Framing::Chunked);
    }

    #[test]
    fn any_cut_into_chunks_is_the_same_body(pieces in proptest::collection::vec("[a-z]{1,3}", 0..3)) {
        let chunk = |text: String, piece: &String| text + &format!("{:x}\r\n{piece}\r\n", piece.len());
        let text = pieces.iter().fold(String::new(), chunk) + "0\r\n\r\n";
        let whole = pieces.concat();
        if whole.len() <= 8 {
            proptest::prop_assert_eq!(read(text.as_bytes(), Framing::Chunked), Ok((whole.into_bytes(), vec![])));
        }
    }
}
