//! The S3 server seen by `curl`, which signs requests by itself.

use std::fmt::Write as _;
use std::time::Duration;

use azaion_cloud::{Cloud, Fault, Options, S3Keys, S3Route};
use sha2::{Digest, Sha256};

use crate::{Curl, Got};

fn cloud() -> Cloud {
    Cloud::start(Options { s3: true, ..Options::default() })
}

/// `curl` with these keys.
struct Signed {
    curl: Curl,
    user: String,
}

impl Signed {
    fn with(cloud: &Cloud, keys: &S3Keys) -> Self {
        let curl = Curl::trusting(cloud.ca_pem(), cloud.s3().url());
        Self { curl, user: format!("{}:{}", keys.access, keys.secret) }
    }

    /// curl 7.88 neither sends the hash of a body nor hashes a file, but takes the hash it is told.
    fn send(&self, body: &[u8], arguments: &[&str]) -> Got {
        let mut hash = String::from("x-amz-content-sha256: ");
        for byte in Sha256::digest(body) {
            write!(hash, "{byte:02x}").expect("a string takes everything");
        }
        let signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &self.user, "--header", &hash];
        self.curl.run(&[&signed, arguments].concat())
    }

    fn run(&self, arguments: &[&str]) -> Got {
        self.send(b"", arguments)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Got {
        std::fs::write(self.curl.file("body"), bytes).expect("the body is written");
        self.send(bytes, &["--upload-file", "body", path])
    }
}

fn text(got: &Got) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

#[test]
fn only_the_uploader_writes_and_both_read() {
    let cloud = cloud();
    let s3 = cloud.s3();
    let (up, down) = (Signed::with(&cloud, s3.uploader()), Signed::with(&cloud, s3.downloader()));
    assert_eq!(up.put("/Models_2/a.big", b"nowhere").status, 404, "no bucket yet");
    s3.make_bucket("Models_2");
    assert_eq!(up.put("/Models_2/a.big", b"some bytes").status, 200);
    assert_eq!(s3.object("Models_2", "a.big").as_deref(), Some(b"some bytes".as_slice()));
    assert_eq!(s3.objects("Models_2"), [("a.big".to_owned(), 10)]);

    let refused = down.put("/Models_2/a.big", b"other");
    assert_eq!((refused.status, text(&refused).contains("AccessDenied")), (403, true), "{refused:?}");
    for keys in [&up, &down] {
        let got = keys.run(&["/Models_2/a.big"]);
        assert_eq!((got.status, got.body.as_slice()), (200, b"some bytes".as_slice()), "{got:?}");
    }
    let unknown = down.run(&["/Models_2/b.big"]);
    assert_eq!((unknown.status, text(&unknown).contains("NoSuchKey")), (404, true));
    assert_eq!(down.curl.run(&["/Models_2/a.big"]).status, 403, "unsigned");
}

#[test]
fn signatures_are_checked() {
    let cloud = cloud();
    cloud.s3().put_object("m", "a", b"bytes");
    let wrong = S3Keys { secret: "wrong".into(), ..cloud.s3().downloader().clone() };
    let got = Signed::with(&cloud, &wrong).run(&["/m/a"]);
    assert_eq!((got.status, text(&got).contains("SignatureDoesNotMatch")), (403, true), "{got:?}");
    let unknown = S3Keys { access: "NOBODY".into(), ..wrong };
    let got = Signed::with(&cloud, &unknown).run(&["/m/a"]);
    assert_eq!((got.status, text(&got).contains("InvalidAccessKeyId")), (403, true), "{got:?}");
}

#[test]
fn ranges_conditions_and_the_record() {
    let cloud = cloud();
    let s3 = cloud.s3();
    s3.put_object("m", "a.big", b"0123456789");
    let etag = s3.object_etag("m", "a.big").expect("it is there");
    let down = Signed::with(&cloud, s3.downloader());

    let got = down.run(&["--range", "2-4", "/m/a.big"]);
    assert_eq!((got.status, got.body.as_slice()), (206, b"234".as_slice()));
    assert!(got.head.to_lowercase().contains("content-range: bytes 2-4/10\r\n"), "{}", got.head);
    assert!(got.head.to_lowercase().contains(&format!("etag: {etag}\r\n")), "{}", got.head);
    let got = down.run(&["--range", "-3", "/m/a.big"]);
    assert_eq!((got.status, got.body.as_slice()), (206, b"789".as_slice()));
    assert_eq!(down.run(&["--range", "10-", "/m/a.big"]).status, 416);
    let same = format!("if-range: {etag}");
    assert_eq!(down.run(&["--header", &same, "--range", "2-4", "/m/a.big"]).status, 206);
    let got = down.run(&["--header", "if-range: \"other\"", "--range", "2-4", "/m/a.big"]);
    assert_eq!((got.status, got.body.len()), (200, 10));
    assert_eq!(down.run(&["--header", "if-match: \"other\"", "/m/a.big"]).status, 412);
    assert_eq!(down.run(&["--head", "/m/a.big"]).status, 200);

    let calls = s3.calls();
    assert_eq!(calls.len(), 7);
    assert_eq!((calls[0].range.as_deref(), calls[0].bytes_out, calls[0].status), (Some("bytes=2-4"), 3, Some(206)));
    assert_eq!(calls[0].access_key.as_ref(), Some(&s3.downloader().access));
    assert_eq!(calls[6].route, S3Route::Head);
    assert_eq!(s3.bytes_out(), 3 + 3 + 3 + 10);
}

#[test]
fn parts_become_an_object() {
    let cloud = cloud();
    let s3 = cloud.s3();
    s3.make_bucket("m");
    let up = Signed::with(&cloud, s3.uploader());
    let begin = || {
        let got = up.run(&["--request", "POST", "/m/long.big?uploads="]);
        let body = text(&got);
        let id = body.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next());
        id.unwrap_or_else(|| panic!("{got:?}")).to_owned()
    };
    let id = begin();
    assert_eq!(s3.uploads(), std::slice::from_ref(&id));
    let first = vec![7; 5 << 20];
    let mut tags = Vec::new();
    for (number, bytes) in [(1, first.as_slice()), (2, b"the rest")] {
        let got = up.put(&format!("/m/long.big?partNumber={number}&uploadId={id}"), bytes);
        assert_eq!(got.status, 200, "{got:?}");
        let tag = got.head.lines().find_map(|line| line.to_lowercase().strip_prefix("etag: ").map(str::to_owned));
        tags.push(tag.expect("a part has an ETag"));
    }
    let complete = |tags: &[String]| {
        let parts = tags
            .iter()
            .enumerate()
            .map(|(index, tag)| format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>", index + 1));
        let parts: String = parts.collect();
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        up.send(
            body.as_bytes(),
            &["--header", "content-type: application/xml", "--data-raw", &body, &format!("/m/long.big?uploadId={id}")],
        )
    };
    s3.fail_next(S3Route::Complete, Fault::s3(200, "InternalError"));
    let inside = complete(&tags);
    assert_eq!((inside.status, text(&inside).contains("<Error>")), (200, true), "{inside:?}");
    assert_eq!(s3.object("m", "long.big"), None);
    let wrong = complete(&[tags[1].clone(), tags[0].clone()]);
    assert_eq!((wrong.status, text(&wrong).contains("InvalidPart")), (400, true), "{wrong:?}");
    let done = complete(&tags);
    assert_eq!((done.status, text(&done).contains("-2")), (200, true), "{done:?}");
    assert_eq!(s3.object("m", "long.big"), Some([first.as_slice(), b"the rest"].concat()));
    assert_eq!((s3.uploads().len(), s3.bytes_in()), (0, (5 << 20) + 8));
    assert_eq!(complete(&tags).status, 404, "it is over");

    let id = begin();
    s3.forget_uploads();
    let got = up.put(&format!("/m/long.big?partNumber=1&uploadId={id}"), b"late");
    assert_eq!((got.status, text(&got).contains("NoSuchUpload")), (404, true), "{got:?}");
}

#[test]
fn faults_of_objects() {
    let cloud = cloud();
    let s3 = cloud.s3();
    let long: Vec<u8> = (0..1 << 20).map(|number: u32| number.to_le_bytes()[1]).collect();
    s3.put_object("m", "a", &long);
    let down = Signed::with(&cloud, s3.downloader());
    let up = Signed::with(&cloud, s3.uploader());
    let get = || down.run(&["/m/a"]);

    s3.fail_next(S3Route::Get, Fault::CutAfter(300_000));
    let cut = get();
    assert_eq!((cut.exit, cut.body.as_slice()), (18, &long[..300_000]), "curl calls it a partial file");
    assert_eq!(get().body, long);

    s3.fail_next(S3Route::Get, Fault::IgnoreRange);
    let whole = down.run(&["--range", "2-4", "/m/a"]);
    assert_eq!((whole.status, whole.body.len()), (200, long.len()));

    s3.fail_next(S3Route::Get, Fault::NONE);
    s3.fail_next(S3Route::Get, Fault::ReplaceObject(b"short".to_vec()));
    assert_eq!(down.run(&["--range", "0-1", "/m/a"]).body, &long[..2]);
    assert_eq!(get().body, b"short");

    s3.fail_next(S3Route::Get, Fault::s3(503, "SlowDown"));
    let slow = get();
    assert_eq!((slow.status, text(&slow).contains("<Code>SlowDown</Code>")), (503, true));

    s3.fail_next(S3Route::Put, Fault::CutRequestAfter(65_536));
    let cut = up.put("/m/b", &long);
    assert_ne!(cut.exit, 0, "{cut:?}");
    s3.fail_next(S3Route::Put, Fault::AnswerEarly(403, "no".into()));
    let early = up.put("/m/b", &vec![0; 8 << 20]);
    assert_eq!((early.status, text(&early).as_str()), (403, "no"), "{early:?}");
    assert_eq!(s3.object("m", "b"), None);

    s3.set_away(true);
    assert!(get().exit != 0 && get().status == 0);
    s3.set_away(false);
    assert_eq!(get().body, b"short");
}

#[test]
fn a_clock_ahead_refuses_with_its_own_date() {
    let cloud = cloud();
    cloud.s3().put_object("m", "a", b"bytes");
    let down = Signed::with(&cloud, cloud.s3().downloader());
    cloud.s3().set_clock_ahead(Duration::from_hours(24 * 400));
    let got = down.run(&["/m/a"]);
    assert_eq!((got.status, text(&got).contains("RequestTimeTooSkewed")), (403, true), "{got:?}");
    let year = |got: &Got| {
        let date = got.head.lines().find_map(|line| line.to_lowercase().strip_prefix("date: ").map(str::to_owned));
        date.and_then(|date| date.split(' ').nth(3)?.parse::<u32>().ok()).expect("every answer has a date")
    };
    let then = year(&got);
    cloud.s3().set_clock_ahead(Duration::ZERO);
    let got = down.run(&["/m/a"]);
    assert_eq!(got.status, 200);
    assert!(then > year(&got));
}

/// Other scripts are `boto3`'s to try: curl 7.88 signs escaped paths wrongly.
#[test]
fn names_of_any_length() {
    let cloud = cloud();
    let s3 = cloud.s3();
    let key = format!("{}.big", "n".repeat(255));
    s3.put_object("m", &key, b"bytes");
    let got = Signed::with(&cloud, s3.downloader()).run(&[&format!("/m/{key}")]);
    assert_eq!((got.status, got.body.as_slice()), (200, b"bytes".as_slice()), "{got:?}");
}
