//! The calls of CONTRACT section 6 and the rules below its table.

use super::*;
use crate::secret::SecretText;

#[test]
fn health_is_answered_with_safe_headers_and_no_banner() {
    with_default_port(async |port| {
        let reply = port.call("GET", "/health", "").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"status":"healthy"}"#));
        assert_eq!(
            reply.head,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff"
        );
    });
}

#[test]
fn status_shows_the_agent() {
    with_default_port(async |port| {
        let reply = port.call("GET", "/status", "").await;
        assert_eq!(
            reply.body,
            concat!(
                r#"{"version":"0.1.0","board":"generic-arm64","user":null,"unlock":{"state":"idle"},"seal":"unsealed","#,
                r#""engine":null,"cache":null,"audit":null,"last_error":null,"notes":["unsealed archive"]}"#
            )
        );
    });
}

#[test]
fn login_tells_right_from_wrong() {
    with_default_port(async |port| {
        let reply = port.call("POST", "/login", LOGIN).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"status":"success"}"#));
        let reply = port.call("POST", "/login", r#"{"email":"a@b","password":"пароль\u0021","x":1}"#).await;
        assert_eq!((reply.status, reply.code().as_str()), (401, "credentials_wrong"));
        let seen = [("a@b", "right"), ("a@b", "пароль!")].map(|(email, password)| (email.into(), password.into()));
        assert_eq!(*port.desk.seen.borrow(), seen);
        assert_eq!(port.call("POST", "/login", "").await.code(), "request_invalid");
    });
}

#[test]
fn unlock_starts_runs_or_is_done() {
    with_default_port(async |port| {
        for (answer, status, body) in [
            (UnlockAnswer::Started(State::Authenticating), 202, r#"{"state":"authenticating"}"#),
            (UnlockAnswer::Running(State::LoadingImages), 202, r#"{"state":"loading_images"}"#),
            (UnlockAnswer::Ready, 200, r#"{"state":"ready"}"#),
        ] {
            port.desk.unlock.set(answer);
            let reply = port.call("POST", "/unlock", " \r\n").await;
            assert_eq!((reply.status, reply.body.as_str()), (status, body));
        }
        port.call("POST", "/unlock", LOGIN).await;
        assert_eq!(port.desk.seen.borrow().first(), Some(&Default::default()));
        assert_eq!(port.desk.seen.borrow().last(), Some(&("a@b".into(), "right".into())));
        let reply = port.call("POST", "/unlock", "{}").await;
        assert_eq!((reply.status, reply.code().as_str()), (422, "request_invalid"));
        assert!(reply.body.contains("email is missing"), "{}", reply.body);
    });
}

#[test]
fn heads_come_without_bodies_and_methods_are_told() {
    with_default_port(async |port| {
        let answer = port.talk(request("HEAD", "/health", "")).await;
        assert!(answer.contains("Content-Length: 20\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        for (method, path, allow) in
            [("OPTIONS", "/health", "GET, HEAD"), ("POST", "/status", "GET, HEAD"), ("GET", "/unlock", "POST")]
        {
            let reply = port.call(method, path, "").await;
            assert_eq!((reply.status, reply.code().as_str()), (405, "method_not_allowed"));
            assert!(reply.head.ends_with(&format!("\r\nAllow: {allow}")) && !reply.head.contains("Access-Control"));
        }
        assert_eq!(port.call("GET", "//health", "").await.code(), "route_unknown");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    with_default_port(async |port| {
        let all = [
            request("GET", "/health", ""),
            request("POST", "/nowhere", "body"),
            request("POST", "/login", LOGIN),
            "POST /unlock HTTP/1.1\r\nHost: a.localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n\r\n"
                .into(),
            request("GET", "/health", "unasked"),
            "GET /unlock/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(),
            request("GET", "/health", ""),
        ];
        let replies = Reply::all(&port.talk(all.concat()).await);
        let seen: Vec<_> = replies.iter().map(|reply| (reply.status, reply.closes())).collect();
        assert_eq!(
            seen,
            [(200, false), (404, false), (200, false), (202, false), (200, false), (200, true)],
            "the request behind the close is not served"
        );
    });
}

#[test]
fn what_leaves_the_framing_in_doubt_ends_the_connection() {
    with_default_port(async |port| {
        let next = request("GET", "/health", "");
        for (status, first) in [
            (400, "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (400, "POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
            (400, "GET /health HTTP/1.1\nHost: localhost\n\n"),
            (400, "GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
            (413, "GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16385\r\n\r\n"),
            (404, "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            (404, "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n"),
            (413, "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n"),
            (501, "POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
            (505, "GET /health HTTP/3.0\r\nHost: localhost\r\n\r\n"),
            (200, "GET /health HTTP/1.0\r\n\r\n"),
        ] {
            let replies = Reply::all(&port.talk(format!("{first}{next}")).await);
            assert_eq!(replies.len(), 1, "{first:?}");
            assert_eq!((replies[0].status, replies[0].closes()), (status, true), "{first:?}");
        }
        assert!(port.desk.seen.borrow().is_empty());
    });
}

#[test]
fn a_client_that_waits_is_told_to_go_on_only_if_its_request_is_wanted() {
    let guard = Guard { token: Some(SecretText::new("token".into())), ..Guard::default() };
    with_port(guard, Patience::default(), async |port| {
        let head = |fields: &str, length: usize| {
            format!(
                "POST /login HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{fields}Content-Length: {length}\r\n\r\n"
            )
        };
        let token = "Authorization: Bearer token\r\n";
        let mut stream = port.connect().await;
        stream.write_all(head(token, LOGIN.len()).as_bytes()).await.expect("taken");
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.expect("told");
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(LOGIN.as_bytes()).await.expect("taken");
        stream.shutdown(Shutdown::Write).expect("open");
        assert_eq!(statuses(&rest(&mut stream).await), [200]);

        let browser = format!("{token}Origin: http://localhost\r\n");
        for (status, fields, length) in [(401, "", LOGIN.len()), (413, token, 1 << 20), (415, browser.as_str(), 2)] {
            assert_eq!(statuses(&port.talk(head(fields, length)).await), [status]);
        }
    });
}

#[test]
fn strangers_learn_nothing() {
    let guard = Guard { token: Some(SecretText::new("token".into())), ..Guard::default() };
    with_port(guard, Patience::default(), async |port| {
        assert_eq!(port.call("GET", "/health", "").await.status, 200);
        for (method, path) in [("GET", "/status"), ("GET", "/nowhere"), ("POST", "/status"), ("POST", "/login")] {
            let reply = port.call(method, path, LOGIN).await;
            assert_eq!((reply.status, reply.code().as_str()), (401, "token_required"), "{path}");
            assert!(reply.head.contains("\r\nWWW-Authenticate: Bearer"));
        }
        // What needs no token is known to be there: it says how it is called.
        assert_eq!(port.call("POST", "/health", LOGIN).await.status, 405);
        let rebound = port.talk("GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
        assert_eq!(Reply::all(&rebound)[0].code(), "origin_refused");
        assert!(port.desk.seen.borrow().is_empty());
    });
}

#[test]
fn browsers_must_call_json_json() {
    with_default_port(async |port| {
        let send = |fields: &str| {
            let length = LOGIN.len();
            port.talk(format!(
                "POST /login HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{LOGIN}"
            ))
        };
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        assert_eq!(statuses(&send(form).await), [200]);
        for browser in ["Origin: http://localhost\r\n", "Sec-Fetch-Site: same-origin\r\n"] {
            assert_eq!(statuses(&send(&format!("{browser}{form}")).await), [415]);
            assert_eq!(statuses(&send(browser).await), [415]);
            let json = "Content-Type: Application/JSON; charset=utf-8\r\n";
            assert_eq!(statuses(&send(&format!("{browser}{json}")).await), [200]);
        }
        let empty = "POST /unlock HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n";
        assert_eq!(statuses(&port.talk(empty).await), [202]);
    });
}

#[test]
fn errors_are_text_for_who_asks() {
    with_default_port(async |port| {
        let answer = port.talk("GET /x HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n").await;
        assert!(answer.contains("Content-Type: text/plain; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("\nnext: call /health, ") && answer.ends_with(" or /upload/{name}\n"), "{answer}");
    });
}

#[test]
fn guesses_are_counted_over_all_clients() {
    with_default_port(async |port| {
        for _ in 0..crate::limits::LOGIN_BURST / 2 {
            assert_eq!(port.call("POST", "/login", LOGIN).await.status, 200);
            assert_eq!(port.call("POST", "/unlock", LOGIN).await.status, 202);
        }
        for path in ["/login", "/unlock"] {
            let reply = port.call("POST", path, LOGIN).await;
            assert_eq!((reply.status, reply.code().as_str()), (429, "too_many"));
            assert!(reply.head.contains("\r\nRetry-After: 6"), "{}", reply.head);
        }
        // Neither asking without credentials nor asking what runs already is a guess.
        assert_eq!(port.call("POST", "/unlock", "").await.status, 202);
        port.desk.state.set(State::Authenticating);
        assert_eq!(port.call("POST", "/unlock", LOGIN).await.status, 202);
        port.clock.advance(crate::limits::LOGIN_REFILL);
        assert_eq!(port.call("POST", "/login", LOGIN).await.status, 200);
        assert_eq!(port.call("POST", "/login", LOGIN).await.status, 429);
    });
}

#[test]
fn the_unix_socket_answers_and_goes_with_the_port() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("port.sock");
    with_default_port(async |port| {
        let executor = Rc::new(LocalExecutor::new());
        let listener = Listener::bind(&Listen::Unix(path.clone())).await.expect("free");
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let served = serve(
            vec![listener],
            Rc::clone(&port.desk),
            Guard::default(),
            Rc::clone(&executor),
            Clock::manual(),
            async move {
                let _closed = stopped.recv().await;
            },
        );
        let client = async {
            let mut stream = smol::net::unix::UnixStream::connect(&path).await.expect("it listens");
            stream.write_all(request("GET", "/status", "").as_bytes()).await.expect("taken");
            stream.shutdown(Shutdown::Write).expect("open");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("an end");
            assert_eq!(statuses(&text), [200]);
            drop(stop);
        };
        executor.run(smol::future::zip(served, client)).await;
    });
    assert!(!path.exists());
}
