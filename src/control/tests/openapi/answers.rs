//! Real answers of the port, held against what `openapi.json` says of their status.

use serde_json::Value;

use super::super::*;
use super::schema::Document;
use super::{methods, path};
use crate::control::routes::Call;
use crate::limits::{LOGIN_BURST, REQUEST_HEADERS, REQUEST_LINE_BYTES};
use crate::secret::SecretText;

/// Where a request goes that means this call.
fn target(call: Call) -> String {
    path(call).replace("{name}", "x.onnx")
}

impl Document {
    /// Holds an answer against what is said of its status, and returns the status.
    fn admits(&self, call: Call, method: &str, reply: &Reply) -> u16 {
        let what = format!("{method} {} {reply:?}", path(call));
        let responses = &self.at("/paths")[path(call)][method.to_lowercase()]["responses"];
        let response = self.resolve(responses.get(reply.status.to_string()).unwrap_or_else(|| panic!("{what}")));
        let field = |name: &str| {
            let mut lines = reply.head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        for (name, header) in response["headers"].as_object().expect("headers") {
            let header = self.resolve(header);
            match field(name) {
                Some(value) => {
                    let value = value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from);
                    self.validate(&header["schema"], &value).unwrap_or_else(|fault| panic!("{name}: {fault}; {what}"));
                }
                None => assert_ne!(header["required"], true, "{name} is missing: {what}"),
            }
        }
        let media = field("Content-Type").expect("a content type").split(';').next().expect("an essence");
        let schema = &response["content"].get(media).unwrap_or_else(|| panic!("{what}"))["schema"];
        if media == "application/json" {
            let body = serde_json::from_str(&reply.body).expect("JSON");
            self.validate(schema, &body).unwrap_or_else(|fault| panic!("{fault}; {what}"));
            // The document's own schema names what it must have; all else is free.
            let unnamed = if call == Call::OpenApi { Vec::new() } else { self.unnamed(schema, &body) };
            assert!(unnamed.is_empty(), "{unnamed:?} are not described: {what}");
        } else if media == "text/plain" && reply.status >= 400 {
            let lines: Vec<_> = reply.body.lines().collect();
            let [first, next] = lines[..] else { panic!("{what}") };
            let code = first.split_once(": ").and_then(|(code, _)| code.parse::<Code>().ok());
            assert!(code.is_some() && next.starts_with("next: "), "{what}");
        }
        reply.status
    }
}

#[test]
fn a_status_with_all_that_there_can_be_is_described() {
    let document = Document::new();
    let report = || Report { code: Code::NoSpace, message: "full".into(), next: "free some".into() };
    let mut view = StatusView {
        version: env!("CARGO_PKG_VERSION"),
        board: "raspberry-pi-5".into(),
        user: Some(UserView { email: "a@b".into(), role: "Operator" }),
        unlock: State::Ready,
        seal: Some("signed"),
        engine: Some(EngineView {
            kind: "docker",
            version: "28".into(),
            api_version: "1.51".into(),
            store: "containerd".into(),
        }),
        cache: Some(CacheView {
            entries: 1,
            bytes: u64::MAX,
            max_bytes: Some(1),
            bytes_written: 0,
            uploads_waiting: 0,
            usable: true,
        }),
        audit: Some(AuditView { count: 7, hash: "0123456789abcdef".repeat(4) }),
        last_error: Some(report()),
        notes: vec!["a note".into(); 9],
    };
    let schema = document.at("/components/schemas/Status");
    for seal in ["unsealed", "sealed", "signed"] {
        view.seal = Some(seal);
        let status: Value = serde_json::from_slice(&Answer::status(&view).body).expect("JSON");
        assert_eq!(document.validate(schema, &status), Ok(()));
        assert!(document.unnamed(schema, &status).is_empty(), "{status}");
    }
    let progress = Progress {
        stage: Some(State::LoadingImages.as_str()),
        images_done: Some(1),
        images_total: Some(2),
        bytes_done: Some(3),
        bytes_total: Some(4),
        bytes_per_second: Some(5),
        seconds_left: Some(6),
    };
    let answer = Answer::unlock(&UnlockView { state: State::Error, error: Some(report()), progress });
    let (schema, body) =
        (document.at("/components/schemas/Unlock"), serde_json::from_slice(&answer.body).expect("JSON"));
    assert_eq!((document.validate(schema, &body), document.unnamed(schema, &body)), (Ok(()), Vec::new()));
}

/// Each call with each of its methods that has a body in its answer.
fn each() -> Vec<(Call, String)> {
    let each = Call::ALL
        .into_iter()
        .flat_map(|call| methods(call).into_iter().map(move |method| (call, method.to_uppercase())));
    each.filter(|(_, method)| method != "HEAD").collect()
}

#[test]
fn what_the_port_refuses_of_any_call_is_described() {
    let document = Document::new();
    let long = format!("?{}", "x".repeat(REQUEST_LINE_BYTES));
    let many = "X: y\r\n".repeat(REQUEST_HEADERS);
    let guard = || Guard { token: Some(SecretText::new("word".into())), ..Guard::default() };
    with_port(guard(), Patience::default(), async |port| {
        for (call, method) in each() {
            let token = "Authorization: Bearer word\r\nHost: localhost\r\n";
            for accept in ["", "Accept: text/plain\r\n"] {
                let ask = async |query: &str, version: &str, fields: &str| {
                    let target = target(call);
                    let text = format!("{method} {target}{query} HTTP/{version}\r\n{fields}{accept}\r\n");
                    let reply = Reply::all(&port.talk(text).await).pop().expect("one answer");
                    let refused_in_text = reply.head.contains("text/plain") && reply.status >= 400;
                    // Before the head was read nobody knows what is accepted.
                    let early = [400, 414, 417, 431, 501, 505].contains(&reply.status);
                    assert!(reply.status < 400 || refused_in_text == (!accept.is_empty() && !early), "{reply:?}");
                    document.admits(call, &method, &reply)
                };
                assert_eq!(ask("", "1.1", &format!("{token}Content-Length: x\r\n")).await, 400);
                assert_eq!(ask("", "1.1", "Host: elsewhere.example\r\n").await, 403);
                assert_eq!(ask(&long, "1.1", token).await, 414);
                assert_eq!(ask("", "1.1", &format!("{token}Expect: more\r\n")).await, 417);
                assert_eq!(ask("", "1.1", &format!("{token}{many}")).await, 431);
                assert_eq!(ask("", "1.1", &format!("{token}Transfer-Encoding: gzip, chunked\r\n")).await, 501);
                assert_eq!(ask("", "1.2", token).await, 505);
                if !call.is_open() {
                    assert_eq!(ask("", "1.1", "Host: localhost\r\n").await, 401);
                }
                // Which methods there are is no secret where the call is none.
                let other = format!("DELETE {} HTTP/1.1\r\nHost: localhost\r\n\r\n", target(call));
                let other = port.talk(other).await;
                let allow = format!("\r\nAllow: {}\r\n", call.methods());
                assert_eq!(
                    (other.contains(" 405 "), other.contains(&allow)),
                    (call.is_open(), call.is_open()),
                    "{other}"
                );
                if call != Call::Upload {
                    assert_eq!(ask("", "1.1", &format!("{token}Content-Length: 16385\r\n")).await, 413);
                }
            }
        }
    });
}

#[test]
fn a_request_that_does_not_come_is_described() {
    let document = Document::new();
    let patience = Patience { head: Duration::from_millis(20), ..Patience::default() };
    with_port(Guard::default(), patience, async |port| {
        for (call, method) in each() {
            let mut stream = port.connect().await;
            let half = format!("{method} {} HTTP/1.1\r\n", target(call));
            stream.write_all(half.as_bytes()).await.expect("taken");
            let reply = Reply::all(&rest(&mut stream).await).pop().expect("one answer");
            assert_eq!(document.admits(call, &method, &reply), 408);
        }
    });
}

#[test]
fn what_a_call_answers_is_described() {
    let document = Document::new();
    with_default_port(async |port| {
        port.desk.shelf.holds(&[b"abc"], Some(3));
        let call = async |call: Call, method: &str, query: &str, body: &str| {
            let reply = port.call(method, &format!("{}{query}", target(call)), body).await;
            document.admits(call, method, &reply)
        };
        for other in
            [Call::Health, Call::Status, Call::UnlockStatus, Call::Check, Call::Metrics, Call::OpenApi, Call::Docs]
        {
            assert_eq!(call(other, "GET", "", "").await, 200, "{other:?}");
        }
        let plain = "GET /check HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n";
        let reply = Reply::all(&port.talk(plain).await).pop().expect("one answer");
        assert_eq!((document.admits(Call::Check, "GET", &reply), reply.head.contains("text/plain")), (200, true));

        for (answer, status) in [(UnlockAnswer::Ready, 200), (UnlockAnswer::Running(State::Decrypting), 202)] {
            port.desk.unlock.set(answer);
            assert_eq!(call(Call::Unlock, "POST", "", "").await, status);
        }
        assert_eq!(call(Call::Unlock, "POST", "", "{}").await, 422);
        assert_eq!(call(Call::Unlock, "POST", "", "{").await, 400);
        assert_eq!(call(Call::UnlockStatus, "GET", "?wait=61", "").await, 422);
        assert_eq!(call(Call::UnlockStatus, "GET", "?wait=%", "").await, 400);
        assert_eq!(call(Call::Events, "GET", "?since=x", "").await, 422);

        assert_eq!(call(Call::Load, "POST", "", r#"{"folder":"m"}"#).await, 200);
        assert_eq!(call(Call::Load, "POST", "", r#"{"folder":"m/n"}"#).await, 400);
        assert_eq!(call(Call::Load, "POST", "", r#"{"folder":1}"#).await, 422);
        for method in ["POST", "PUT"] {
            assert_eq!(call(Call::Upload, method, "?folder=m", "abc").await, 200);
            assert_eq!(call(Call::Upload, method, "?folder=..", "abc").await, 400);
            port.desk.inbox.accepts.set(true);
            assert_eq!(call(Call::Upload, method, "", "abc").await, 202);
            port.desk.inbox.accepts.set(false);
            let bare = format!("{method} /upload/x.onnx HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let reply = Reply::all(&port.talk(bare).await).pop().expect("one answer");
            assert_eq!(document.admits(Call::Upload, method, &reply), 422);
        }
        for other in [Call::Login, Call::Unlock, Call::Load] {
            let target = target(other);
            let page = "Origin: http://localhost\r\nContent-Type: text/plain\r\nContent-Length: 2";
            let text = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{page}\r\n\r\n{{}}");
            let reply = Reply::all(&port.talk(text).await).pop().expect("one answer");
            assert_eq!(document.admits(other, "POST", &reply), 415);
        }

        assert_eq!(call(Call::Login, "POST", "", LOGIN).await, 200);
        assert_eq!(call(Call::Login, "POST", "", r#"{"email":"a@b","password":"wrong"}"#).await, 401);
        assert_eq!(call(Call::Login, "POST", "", r#"{"email":"a@b"}"#).await, 422);
        for _ in 2..LOGIN_BURST {
            assert_eq!(call(Call::Login, "POST", "", LOGIN).await, 200);
        }
        assert_eq!(call(Call::Login, "POST", "", LOGIN).await, 429);
    });
}

#[test]
fn what_the_desk_refuses_of_a_model_is_described() {
    let document = Document::new();
    with_default_port(async |port| {
        let either =
            |code: Code| {
                let name = code.as_str();
                let of_a_model = ["api_", "cdn_", "resource_"].iter().any(|part| name.starts_with(part));
                let other = [Code::NotLoggedIn, Code::CredentialsWrong, Code::CacheUnavailable, Code::StateUnavailable];
                (of_a_model || other.contains(&code) || [Code::NoSpace, Code::Internal].contains(&code))
                    .then(|| Report { code, message: "no".into(), next: "ask".into() })
            };
        for report in Code::ALL.iter().filter_map(|&code| either(code)) {
            let status = report.code.http_status();
            port.desk.shelf.refuses(report.clone());
            let reply = port.call("POST", "/load/x.onnx", "").await;
            assert_eq!(document.admits(Call::Load, "POST", &reply), status);
            if report.code == Code::ResourceUnknown {
                continue;
            }
            port.desk.inbox.refuses(report);
            let reply = port.call("PUT", "/upload/x.onnx", "abc").await;
            assert_eq!(document.admits(Call::Upload, "PUT", &reply), status);
        }
        port.desk.inbox.refuses(Report { code: Code::RoleTooLow, message: "no".into(), next: "ask".into() });
        let reply = port.call("POST", "/upload/x.onnx", "abc").await;
        assert_eq!(document.admits(Call::Upload, "POST", &reply), 403);
    });
}

#[test]
fn an_event_is_as_described() {
    let document = Document::new();
    with_default_port(async |port| {
        port.desk.feed.unlock(Topic::State, &port.desk.unlock_status());
        port.desk.feed.error(&Report { code: Code::NoSpace, message: "full".into(), next: "free some".into() });
        let mut stream = port.connect().await;
        stream.write_all(request("GET", "/events", "").as_bytes()).await.expect("taken");
        let (mut text, mut piece) = (String::new(), [0; 1024]);
        while text.matches("\ndata: ").count() < 2 || !text.ends_with("\n\n\r\n") {
            let read = stream.read(&mut piece).await.expect("open");
            assert_ne!(read, 0, "{text}");
            text.push_str(str::from_utf8(&piece[..read]).expect("text"));
        }
        let schema = document.at("/paths/~1events/get/responses/200/content/text~1event-stream/schema");
        let blocks = text.split("\n\n").filter(|block| block.contains("\ndata: "));
        let events = blocks.map(|block| {
            let fields = block.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| !name.is_empty());
            let known = fields.filter(|(name, _)| ["id", "event", "data"].contains(name));
            known.map(|(name, value)| (name.to_owned(), Value::from(value))).collect::<Value>()
        });
        let faults: Vec<_> = events.map(|event| document.validate(schema, &event)).collect();
        assert_eq!(faults, [Ok(()), Ok(())], "{text}");
    });
}
