//! `/events` and the wait of `/unlock/status`: told at once, let go when somebody needs the seat, ended with the port.

use std::time::Instant;

use super::*;
use crate::control::Topic;
use crate::limits::EVENT_HEARTBEAT;

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let mut piece = [0; 1024];
    while !text.contains(wanted) {
        let read = stream.read(&mut piece).await.expect("open");
        assert_ne!(read, 0, "the port closed before {wanted}: {text}");
        text.push_str(str::from_utf8(&piece[..read]).expect("text"));
    }
    text
}

#[test]
fn who_follows_is_told_what_was_and_what_comes_and_not_what_it_has_seen() {
    with_default_port(async |port| {
        port.desk.feed.note("before");
        let mut stream = port.connect().await;
        stream.write_all(request("GET", "/events", "").as_bytes()).await.expect("taken");
        let text = read_until(&mut stream, "before").await;
        assert!(text.contains("Content-Type: text/event-stream\r\n") && text.contains("Cache-Control: no-store\r\n"));
        port.desk.feed.note("after");
        read_until(&mut stream, "after").await;

        let mut again = port.connect().await;
        again.write_all(request("GET", "/events?since=1", "").as_bytes()).await.expect("taken");
        let text = read_until(&mut again, "after").await;
        assert!(!text.contains("before"), "{text}");
        let mut again = port.connect().await;
        let back = "GET /events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 1\r\n\r\n";
        again.write_all(back.as_bytes()).await.expect("taken");
        let text = read_until(&mut again, "after").await;
        assert!(!text.contains("before"), "{text}");
        for query in ["?since=x", "?since=", "?since=-1"] {
            assert_eq!(port.call("GET", &format!("/events{query}"), "").await.status, 422, "{query}");
        }
        // Its end is the connection's end; a client of HTTP/1.0 could not tell it from a cut.
        assert!(port.talk("GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n").await.contains(" 505 "));
    });
}

#[test]
fn who_follows_hears_that_the_board_is_there_when_nothing_happens() {
    let patience = Patience { heartbeat: Duration::from_millis(20), ..Patience::default() };
    with_port(Guard::default(), patience, async |port| {
        let mut stream = port.connect().await;
        stream.write_all(request("GET", "/events", "").as_bytes()).await.expect("taken");
        let began = Instant::now();
        for _ in 0..3 {
            read_until(&mut stream, ": still here\n\n").await;
        }
        assert!(began.elapsed() < EVENT_HEARTBEAT, "three of the default were 45 s");
        port.desk.feed.note("something");
        let text = read_until(&mut stream, "something").await;
        assert!(!text.contains("following"), "{text}");
    });
}

#[test]
fn the_port_ends_without_waiting_for_who_follows() {
    with_default_port(async |port| {
        let mut stream = port.connect().await;
        stream.write_all(request("GET", "/events", "").as_bytes()).await.expect("taken");
        read_until(&mut stream, "following").await;
        port.shutdown.close();
        port.ended.await;
        let mut rest = Vec::new();
        let _cut_or_closed = stream.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n"), "a stream that is cut does not end cleanly");
    });
}

#[test]
fn who_follows_gives_its_seat_to_who_asks() {
    with_seats(1, Guard::default(), Patience::default(), async |port| {
        let mut stream = port.connect().await;
        stream.write_all(request("GET", "/events", "").as_bytes()).await.expect("taken");
        read_until(&mut stream, "following").await;
        assert_eq!(port.call("GET", "/health", "").await.status, 200);
    });
}

#[test]
fn a_wait_ends_with_the_next_state_or_with_its_time_and_is_none_at_rest() {
    with_default_port(async |port| {
        assert_eq!(port.call("GET", "/unlock/status?wait=60", "").await.status, 200, "idle: answered at once");
        port.desk.state.set(State::LoadingImages);
        let reply = port.call("GET", "/unlock/status?wait=0", "").await;
        assert!(reply.body.contains("loading_images"), "{reply:?}");

        let mut stream = port.connect().await;
        stream.write_all(request("GET", "/unlock/status?wait=60", "").as_bytes()).await.expect("taken");
        // The port is known to wait once a later client was answered and this one was not.
        assert_eq!(port.call("GET", "/health", "").await.status, 200);
        while port.desk.turned.total_listeners() == 0 {
            yield_now().await;
        }
        port.desk.state.set(State::Ready);
        port.desk.turned.notify(usize::MAX);
        let text = read_until(&mut stream, "}}").await;
        assert!(text.contains(r#""state":"ready""#), "{text}");
        assert_eq!(port.call("GET", "/unlock/status?wait=61", "").await.status, 422);
    });
}

#[test]
fn a_checkup_is_text_for_who_asks_and_the_page_may_do_no_more_than_it_does() {
    with_default_port(async |port| {
        let reply = port.call("GET", "/check", "").await;
        assert!(
            reply.status == 200 && reply.body.starts_with(r#"{"result":"fail","checks":[{"name":"clock""#),
            "{reply:?}"
        );
        let text = port.talk("GET /check HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n").await;
        assert!(text.contains(" 400 "), "{text}");
        let text = "GET /check HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\nConnection: close\r\n\r\n";
        let text = port.talk(text).await;
        assert!(text.contains("\r\n\r\nok    clock        right\nfail  engine       gone\n"), "{text}");
        let page = port.talk("GET /docs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert!(page.contains("\r\nContent-Security-Policy: default-src 'none'; script-src 'sha256-"), "{page}");
        assert!(page.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{page}");
        let metrics = port.call("GET", "/metrics", "").await;
        assert!(metrics.body.contains("azaion_loader_requests_total{call=\"check\",status=\"2xx\"} 2"), "{metrics:?}");
        assert!(metrics.body.contains("\nazaion_loader_clients 1"), "{metrics:?}");
    });
}

#[test]
fn a_stranger_may_read_the_page_and_nothing_else() {
    let guard = Guard { token: Some(crate::secret::SecretText::new("s3cret".into())), ..Guard::default() };
    with_seats(8, guard, Patience::default(), async |port| {
        for (path, status) in
            [("/health", 200), ("/docs", 200), ("/openapi.json", 401), ("/check", 401), ("/metrics", 401)]
        {
            assert_eq!(port.call("GET", path, "").await.status, status, "{path}");
        }
    });
}

#[test]
fn every_topic_is_an_event_of_its_name() {
    with_default_port(async |port| {
        let view = |state| UnlockView { state, error: None, progress: Progress::default() };
        port.desk.feed.unlock(Topic::State, &view(State::Ready));
        port.desk.feed.error(&Report { code: Code::NoSpace, message: "full".into(), next: "free some".into() });
        let mut stream = port.connect().await;
        stream.write_all(request("GET", "/events", "").as_bytes()).await.expect("taken");
        let text = read_until(&mut stream, "free some").await;
        assert!(text.contains("event: state\ndata: {"), "{text}");
        assert!(text.contains(" error: full; next: free some\n"), "{text}");
    });
}
