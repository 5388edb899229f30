//! `openapi.json` against the port: the table of calls, the codes, the bounds, and real answers to each status that a
//! client can bring about.

mod answers;
mod schema;

use std::collections::BTreeSet;

use serde_json::json;

use self::schema::Document;
use super::*;
use crate::control::checkup::Finding;
use crate::control::routes::{Call, ROUTES};
use crate::limits::{
    CLIENT_HEAD_BYTES, CREDENTIAL_BYTES, EVENT_TEXT_BYTES, EVENTS_KEPT, FOLDER_BYTES, FORM_PARTS, JSON_BODY_BYTES,
    LONG_POLL_SECONDS, NAME_BYTES, REQUEST_HEADERS, REQUEST_LINE_BYTES, SHOWN_MESSAGE_BYTES, SHOWN_NEXT_BYTES,
    SHOWN_NOTES,
};

/// Where the document describes a call.
fn path(call: Call) -> String {
    let fixed = ROUTES.iter().find(|(_, routed)| *routed == call);
    match (fixed, call) {
        (Some((segments, _)), _) => format!("/{}", segments.join("/")),
        (None, Call::Load) => "/load/{name}".into(),
        (None, Call::Upload) => "/upload/{name}".into(),
        (None, call) => panic!("{call:?} has no path"),
    }
}

fn methods(call: Call) -> BTreeSet<String> {
    call.methods().split(", ").map(str::to_lowercase).collect()
}

#[test]
fn the_calls_are_those_of_the_table() {
    let document = Document::new();
    let paths = document.at("/paths").as_object().expect("paths");
    let described: BTreeSet<_> = paths.keys().cloned().collect();
    assert_eq!(described, Call::ALL.iter().map(|&call| path(call)).collect());
    let prose = document.text("/info/description");
    for call in Call::ALL {
        let (path, mut methods) = (path(call), methods(call));
        let item = paths[&path].as_object().expect("a path item");
        let described: BTreeSet<_> = item.keys().filter(|key| *key != "parameters").cloned().collect();
        // The prose says it of all at once, and names where it is not so.
        let has_head = methods.remove("head");
        assert_eq!(methods.contains("get") && !has_head, prose.contains(&format!("`{path}`")), "HEAD {path}");
        assert_eq!(described, methods, "{path}");
        for method in methods {
            let security = item[&method].get("security");
            assert_eq!(security, call.is_open().then_some(&json!([])), "{method} {path}");
        }
    }
    assert_eq!(*document.at("/security"), json!([{}, {"token": []}]));
}

#[test]
fn every_operation_has_a_name_of_its_own_and_a_summary() {
    let document = Document::new();
    let operations = document.operations();
    let names: BTreeSet<_> = operations.iter().map(|(_, _, operation)| operation["operationId"].as_str()).collect();
    assert_eq!(names.len(), operations.len());
    for (path, method, operation) in operations {
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 3), "{method} {path}");
    }
}

#[test]
fn the_codes_are_those_of_the_catalogue_each_under_its_status() {
    let document = Document::new();
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(*document.at("/components/schemas/Code/enum"), json!(codes));

    let mut told: BTreeSet<String> = BTreeSet::new();
    for (path, method, operation) in document.operations() {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let text = document.resolve(response)["description"].as_str().expect("a description");
            for code in text.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.parse::<Code>().ok()) {
                told.insert(code.to_string());
                // Two statuses share their code with 501.
                let shared = code == Code::NotImplemented && ["417", "505"].contains(&status.as_str());
                assert!(shared || *status == code.http_status().to_string(), "{method} {path} {status}: {code}");
            }
            let is_good = status.starts_with('2');
            assert!(is_good || text.contains('`'), "{method} {path} {status} names no code");
        }
    }
    let prose = document.text("/info/description");
    for code in Code::ALL {
        let everywhere = prose.contains(&format!("`{code}`"));
        assert!(everywhere || told.contains(code.as_str()), "{code} is said nowhere");
    }
}

#[test]
fn the_bounds_are_those_of_the_limits() {
    let document = Document::new();
    for (place, bound) in [
        ("/paths/~1unlock~1status/get/parameters/0/schema/maximum", LONG_POLL_SECONDS),
        ("/paths/~1events/get/parameters/0/schema/maximum", u64::MAX),
        ("/paths/~1login/post/requestBody/x-max-bytes", JSON_BODY_BYTES as u64),
        ("/paths/~1unlock/post/requestBody/x-max-bytes", JSON_BODY_BYTES as u64),
        ("/paths/~1load~1{name}/post/requestBody/x-max-bytes", JSON_BODY_BYTES as u64),
        ("/components/schemas/Credentials/properties/email/maxLength", CREDENTIAL_BYTES as u64),
        ("/components/schemas/Credentials/properties/password/maxLength", CREDENTIAL_BYTES as u64),
        ("/components/schemas/Name/maxLength", NAME_BYTES as u64),
        ("/components/schemas/Folder/maxLength", FOLDER_BYTES as u64),
        ("/components/schemas/Report/properties/message/maxLength", SHOWN_MESSAGE_BYTES as u64),
        ("/components/schemas/Report/properties/next/maxLength", SHOWN_NEXT_BYTES as u64),
        ("/components/schemas/Status/properties/notes/maxItems", SHOWN_NOTES as u64),
        ("/components/schemas/EventData/properties/text/maxLength", EVENT_TEXT_BYTES as u64),
        ("/components/schemas/EventData/properties/next/maxLength", EVENT_TEXT_BYTES as u64),
    ] {
        assert_eq!(document.at(place).as_u64(), Some(bound), "{place}");
    }
    for (place, bound) in [
        ("/components/responses/BodyTooLarge/description", JSON_BODY_BYTES),
        ("/components/responses/UriTooLong/description", REQUEST_LINE_BYTES),
        ("/components/responses/HeadTooLarge/description", CLIENT_HEAD_BYTES),
        ("/components/responses/HeadTooLarge/description", REQUEST_HEADERS),
        ("/components/schemas/Credentials/description", CREDENTIAL_BYTES),
        ("/components/schemas/Name/description", NAME_BYTES),
        ("/components/schemas/UploadForm/description", FORM_PARTS),
        ("/paths/~1events/get/description", EVENTS_KEPT),
    ] {
        let text = document.text(place);
        let numbers: Vec<_> = text.split(|c: char| !c.is_ascii_digit()).collect();
        assert!(numbers.contains(&bound.to_string().as_str()), "{place}: {bound} in {text}");
    }
    assert_eq!(document.text("/info/version"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_words_are_those_of_the_code() {
    let document = Document::new();
    let states = State::ALL.map(State::as_str);
    assert_eq!(*document.at("/components/schemas/State/enum"), json!(states));
    let running: Vec<_> = State::ALL.into_iter().filter(|state| state.is_running()).map(State::as_str).collect();
    let started = "/paths/~1unlock/post/responses/202/content/application~1json/schema/properties/state/enum";
    assert_eq!(*document.at(started), json!(running));
    let topics = [Topic::State, Topic::Progress, Topic::Error, Topic::Note].map(Topic::as_str);
    assert_eq!(*document.at("/components/schemas/Event/properties/event/enum"), json!(topics));
    let found = [Finding::Ok, Finding::Warn, Finding::Fail, Finding::Skip].map(Finding::as_str);
    let check = "/components/schemas/Checkup/properties/checks/items/properties/result/enum";
    assert_eq!(*document.at(check), json!(found));
    assert_eq!(*document.at("/components/schemas/Checkup/properties/result/enum"), json!(found[..3]));
}

#[test]
fn every_reference_leads_somewhere_and_every_example_is_valid() {
    let document = Document::new();
    assert!(document.check_references() > 100);
    assert!(document.check_examples() > 15);
}
