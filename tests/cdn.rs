//! The CDN against real S3 servers: the one in process (`s3s`, real signatures, faults on request) and `SeaweedFS`,
//! which nobody here wrote.

#[path = "support/mod.rs"]
mod support;

use std::rc::Rc;
use std::time::Duration;

use azaion_cloud::{Cloud, Fault, Options, S3Route, User};
use azaion_loader::cloud::{Api, Cdn, CdnClock, CdnError, CdnSettings, CloudError, PutError, RetryPolicy};
use azaion_loader::config;
use azaion_loader::crypto::{AesKey, Salts, unseal};
use azaion_loader::name::{Folder, ResourceName};
use azaion_loader::net::{BaseUrl, Bytes, Client, Clock, client_config, turn};
use azaion_loader::secret::{Credentials, SecretText};
use smol::LocalExecutor;
use support::seaweed::Seaweed;
use support::skip;

const MARK: &str = "5e2a";
const PART: usize = 5 << 20;

const POLICY: RetryPolicy = RetryPolicy {
    attempts: 8,
    total: Duration::from_mins(1),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(20),
};

fn client(ca_pem: &str) -> Rc<Client> {
    Rc::new(Client::new(client_config(Some(ca_pem.as_bytes())).expect("a root")))
}

fn cdn_of(yaml: &str, ca_pem: &str) -> Cdn {
    let settings = CdnSettings::from_yaml(Some(yaml.as_bytes()), &config::Cdn::default()).expect("complete");
    Cdn::new(client(ca_pem), settings, CdnClock::system()).with_policy(POLICY)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), work)
}

fn folder() -> Folder {
    Folder::new("models.v1").expect("a folder")
}

fn name(name: &str) -> ResourceName {
    ResourceName::new(name).expect("a name")
}

/// Bytes that differ everywhere, so that a piece in a wrong place shows.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// The in-process server with the bucket of [`folder`] in it.
fn in_process() -> Cloud {
    let user = User::new("up@example.com", "correct horse", "ResourceUploader");
    let cloud = Cloud::start(Options { s3: true, users: vec![user], ..Options::default() });
    cloud.s3().make_bucket("models.v1");
    cloud
}

fn cdn(cloud: &Cloud) -> Cdn {
    cdn_of(&cloud.s3().cdn_yaml(&cloud.s3().url()), cloud.ca_pem())
}

async fn read(cdn: &Cdn, name: &ResourceName, tag: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>, CdnError> {
    let mut read = cdn.read(&folder(), name, tag, range).await?;
    let (mut all, mut some) = (Vec::new(), vec![0; 100_000]);
    loop {
        match read.chunk(&mut some).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&some[..n]),
        }
    }
}

async fn put_in_parts(
    cdn: &Cdn,
    name: &ResourceName,
    whole: &[u8],
    mark: &str,
) -> (String, Vec<(u32, String)>, String) {
    let folder = folder();
    let id = cdn.begin_upload(&folder, name, mark).await.expect("begun");
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(whole.chunks(PART)) {
        let tag = cdn.put_part(&folder, name, &id, number, Bytes::new(part)).await.expect("a part");
        parts.push((number, tag));
    }
    let tag = cdn.finish_upload(&folder, name, &id, &parts, mark).await.expect("joined");
    (id, parts, tag)
}

/// What every S3 server must do for the agent.
async fn everything(cdn: &Cdn) {
    let folder = folder();
    for (text, size) in
        [("a", 5), ("с пробелом+ü 🚀%2F.onnx", 1), ("b", 23), ("x".repeat(240).as_str(), 65_536), ("c", 300_001)]
    {
        let (name, whole) = (name(text), bytes(size));
        assert_eq!(cdn.confirm(&folder, &name).await.expect("an answer"), None, "{text}");
        let tag = cdn.put(&folder, &name, Bytes::new(&*whole)).await.expect("stored");
        assert_eq!(cdn.confirm(&folder, &name).await.expect("an answer"), Some((size as u64, tag.clone())));
        let tail = cdn.tail(&folder, &name, 32).await.expect("a tail");
        assert_eq!((tail.size, &tail.etag), (size as u64, &tag));
        assert_eq!(tail.bytes, whole[size.saturating_sub(32)..]);
        assert!(read(cdn, &name, &tag, 0..size as u64).await.expect("read") == whole, "{text}");
        if size > 1000 {
            let some = read(cdn, &name, &tag, 999..size as u64 - 1).await.expect("a range");
            assert!(some == whole[999..size - 1]);
        }
        let other = cdn.put(&folder, &name, Bytes::new(b"another")).await.expect("replaced");
        assert_ne!(other, tag);
        assert!(matches!(read(cdn, &name, &tag, 0..size as u64).await, Err(CdnError::Changed)), "{text}");
    }

    let (big, whole) = (name("big"), bytes(2 * PART + 17));
    let (id, parts, tag) = put_in_parts(cdn, &big, &whole, MARK).await;
    let (size, seen) = cdn.confirm(&folder, &big).await.expect("an answer").expect("it is there");
    assert_eq!((size, &seen), (whole.len() as u64, &tag));
    assert!(read(cdn, &big, &tag, 0..size).await.expect("read") == whole);
    cdn.abort_upload(&folder, &big, &id).await.expect("gone already");

    let other = cdn.begin_upload(&folder, &big, MARK).await.expect("begun");
    cdn.abort_upload(&folder, &big, &other).await.expect("thrown away");
    let part = cdn.put_part(&folder, &big, &other, 1, Bytes::new(b"x")).await;
    assert!(matches!(part, Err(PutError::Cdn(CdnError::NoSuchUpload))), "{part:?}");
    assert_eq!(parts.len(), 3);

    let nowhere = Folder::new("no-such-bucket").expect("a folder");
    let tail = cdn.tail(&nowhere, &big, 32).await;
    assert!(matches!(tail, Err(CdnError::NotFound { .. })), "{tail:?}");
    let gone = cdn.read(&folder, &name("nothing"), &tag, 0..10).await;
    assert!(matches!(gone.err(), Some(CdnError::NotFound { .. })));
}

/// The downloader's keys in place of the uploader's.
fn downgraded(yaml: &str) -> String {
    let value = |key: &str| {
        let line = yaml.lines().find_map(|line| line.strip_prefix(key)).expect("complete");
        line.trim_start_matches(':').trim().to_owned()
    };
    let (id, secret) = (value("downloader_access_key"), value("downloader_access_secret"));
    format!(
        "host: {}\ndownloader_access_key: {id}\ndownloader_access_secret: {secret}\n\
         uploader_access_key: {id}\nuploader_access_secret: {secret}\n",
        value("host")
    )
}

async fn the_downloader_may_not_write(yaml: &str, ca_pem: &str) {
    let cdn = cdn_of(&downgraded(yaml), ca_pem);
    let put = cdn.put(&folder(), &name("mine"), Bytes::new(&*bytes(200_000))).await;
    assert!(matches!(put, Err(PutError::Cdn(CdnError::Refused { .. }))), "{put:?}");
    let wrong = cdn_of(&yaml.replace("downloader_access_secret: ", "downloader_access_secret: x"), ca_pem);
    let tail = wrong.tail(&folder(), &name("b"), 32).await;
    assert!(matches!(tail, Err(CdnError::Refused { .. })), "{tail:?}");
}

#[test]
fn everything_holds_on_the_server_in_process() {
    let cloud = in_process();
    run(everything(&cdn(&cloud)));
    let yaml = cloud.s3().cdn_yaml(&cloud.s3().url());
    run(the_downloader_may_not_write(&yaml, cloud.ca_pem()));
    let plain = cdn_of(&cloud.s3().cdn_yaml(&cloud.s3().plain_url()), cloud.ca_pem());
    run(async { plain.tail(&folder(), &name("b"), 32).await }).expect("without TLS too");
}

#[test]
fn everything_holds_on_seaweedfs() {
    let weed = match Seaweed::start() {
        Ok(weed) => weed,
        Err(reason) => return skip(&reason),
    };
    weed.make_bucket("models.v1");
    let (yaml, ca_pem) = (weed.cdn_yaml(), weed.ca_pem());
    let cdn = cdn_of(&yaml, &ca_pem);
    run(everything(&cdn));
    run(the_downloader_may_not_write(&yaml, &ca_pem));
    run(async {
        // The end is asked for again, as after a power cut between the answer and the journal.
        let (big, whole) = (name("twice"), bytes(PART + 1));
        let (id, parts, tag) = put_in_parts(&cdn, &big, &whole, MARK).await;
        let again = cdn.finish_upload(&folder(), &big, &id, &parts, MARK).await;
        assert_eq!(again.expect("known by its mark"), tag);
        let empty = name("empty");
        let tag = cdn.put(&folder(), &empty, Bytes::new(b"")).await.expect("stored");
        let tail = cdn.tail(&folder(), &empty, 32).await.expect("a tail");
        assert_eq!((tail.size, tail.etag, tail.bytes), (0, tag, Vec::new()));
    });
}

#[test]
fn a_cut_is_resumed_and_little_is_sent_twice() {
    let cloud = in_process();
    let (cdn, s3) = (cdn(&cloud), cloud.s3());
    let whole = bytes(3_000_000);
    s3.put_object("models.v1", "m.big", &whole);
    let tag = s3.object_etag("models.v1", "m.big").expect("stored");
    for cut in [0, 1, 65_536, 500_000] {
        s3.fail_next(S3Route::Get, Fault::CutAfter(cut));
    }
    let back = run(read(&cdn, &name("m"), &tag, 0..3_000_000)).expect("read");
    assert!(back == whole);
    let ranges: Vec<_> = s3.calls().into_iter().filter_map(|call| call.range).collect();
    assert_eq!(ranges.len(), 5, "{ranges:?}");
    assert_eq!(ranges[2], "bytes=1-2999999");
}

#[test]
fn an_object_that_is_replaced_in_between_is_never_joined() {
    let cloud = in_process();
    let (cdn, s3) = (cdn(&cloud), cloud.s3());
    s3.put_object("models.v1", "m.big", &bytes(1_000_000));
    let tag = s3.object_etag("models.v1", "m.big").expect("stored");
    s3.fail_next(S3Route::Get, Fault::CutAfter(300_000));
    s3.fail_next(S3Route::Get, Fault::ReplaceObject(vec![0; 1_000_000]));
    assert!(matches!(run(read(&cdn, &name("m"), &tag, 0..1_000_000)), Err(CdnError::Changed)));
}

#[test]
fn a_server_that_ignores_ranges_is_borne_for_small_objects() {
    let cloud = in_process();
    let (cdn, s3) = (cdn(&cloud), cloud.s3());
    let whole = bytes(1_000_000);
    s3.put_object("models.v1", "m.big", &whole);
    let tag = s3.object_etag("models.v1", "m.big").expect("stored");
    s3.always(S3Route::Get, Fault::IgnoreRange);
    run(async {
        assert!(read(&cdn, &name("m"), &tag, 500_000..600_000).await.expect("read") == whole[500_000..600_000]);
        assert_eq!(cdn.tail(&folder(), &name("m"), 32).await.expect("a tail").bytes, whole[999_968..]);
    });
}

#[test]
fn a_clock_that_is_hours_off_is_corrected() {
    for hours in [1, 24 * 365] {
        let cloud = in_process();
        let cdn = cdn(&cloud);
        cloud.s3().set_clock_ahead(Duration::from_hours(hours));
        let whole = bytes(200_000);
        let tag = run(cdn.put(&folder(), &name("m"), Bytes::new(&*whole))).expect("stored");
        assert!(run(read(&cdn, &name("m"), &tag, 0..200_000)).expect("read") == whole);
        let refused = cloud.s3().calls().iter().filter(|call| call.status == Some(403)).count();
        assert_eq!(refused, 1, "once for all calls");
    }
}

#[test]
fn a_refusal_before_a_part_s_end_is_read() {
    let cloud = in_process();
    let cdn = cdn(&cloud);
    let body = "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>".to_owned();
    cloud.s3().always(S3Route::Put, Fault::AnswerEarly(403, body));
    let put = run(cdn.put(&folder(), &name("m"), Bytes::new(&*bytes(20_000_000))));
    match put {
        Err(PutError::Cdn(CdnError::Refused { code, message, .. })) => {
            assert_eq!((code.as_str(), message.as_str()), ("AccessDenied", "not you"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn uploads_survive_what_passes_and_know_when_they_are_gone() {
    let cloud = in_process();
    let (cdn, s3) = (cdn(&cloud), cloud.s3());
    let whole = bytes(2 * PART + 1);
    s3.fail_next(S3Route::Begin, Fault::s3(503, "SlowDown"));
    s3.fail_next(S3Route::Part, Fault::CutRequestAfter(1_000_000));
    s3.fail_next(S3Route::Part, Fault::s3(500, "InternalError"));
    s3.fail_next(S3Route::Complete, Fault::s3(200, "InternalError"));
    let (_, parts, tag) = run(put_in_parts(&cdn, &name("m"), &whole, MARK));
    assert!(run(read(&cdn, &name("m"), &tag, 0..whole.len() as u64)).expect("read") == whole);
    run(async {
        let id = cdn.begin_upload(&folder(), &name("m"), "another").await.expect("begun");
        s3.forget_uploads();
        let part = cdn.put_part(&folder(), &name("m"), &id, 1, Bytes::new(b"x")).await;
        assert!(matches!(part, Err(PutError::Cdn(CdnError::NoSuchUpload))), "{part:?}");
        // The object that is there is another upload's: it must not be taken for this one.
        let end = cdn.finish_upload(&folder(), &name("m"), &id, &parts, "another").await;
        assert!(matches!(end, Err(CdnError::NoSuchUpload)), "{end:?}");
    });
}

#[test]
fn whatever_the_server_does_no_wrong_byte_comes() {
    let cloud = in_process();
    let (cdn, s3) = (cdn(&cloud), cloud.s3());
    let whole = bytes(2_000_000);
    s3.put_object("models.v1", "m.big", &whole);
    let tag = s3.object_etag("models.v1", "m.big").expect("stored");
    let mut whole_reads = 0;
    for seed in 0..20 {
        s3.random_faults(seed, 300);
        match run(read(&cdn, &name("m"), &tag, 0..2_000_000)) {
            Ok(back) => {
                assert!(back == whole, "seed {seed}");
                whole_reads += 1;
            }
            Err(error) => println!("seed {seed}: {error}"),
        }
    }
    assert!(whole_reads > 0, "none of them was read");
}

#[test]
fn files_go_to_the_api_and_come_back_under_its_key() {
    let salts = Salts {
        hardware: "hardware-salt".into(),
        api: "api-salt".into(),
        resource: "resource-salt".into(),
        separator: String::new(),
    };
    let cloud = in_process();
    let url = BaseUrl::parse(&cloud.url()).expect("its own address");
    let api = Api::new(client(cloud.ca_pem()), url, Clock::boot(), None, POLICY);
    let credentials =
        || Credentials::new("up@example.com".into(), SecretText::new("correct horse".into())).expect("lengths fit");
    let hardware = salts.hardware_hash("a board");
    let key = AesKey::from_text(&salts.api_key(&credentials(), &hardware));
    run(async {
        let session = api.open_session(credentials()).await.expect("logged in");
        for (folder, file) in [(Folder::default(), "plain.small"), (folder(), "с пробелом+ü 🚀%2F.small")] {
            let body = bytes(3072);
            api.put_resource(&session, &folder, file, &body).await.expect("taken");
            assert_eq!(cloud.resource(folder.as_str(), file).expect("stored"), body);
            let sealed = api.resource(&session, &hardware, &folder, file).await.expect("there");
            let sealed = sealed.bytes(4096).await.expect("whole");
            assert_eq!(unseal(&key, sealed).expect("the key fits").expose(), body);
            let unknown = api.small_resource(&session, &hardware, &folder, "nothing", 4096).await;
            assert!(matches!(unknown, Err(CloudError::Unknown { .. })), "{unknown:?}");
        }
        let sealed = api.small_resource(&session, &hardware, &Folder::default(), "cdn.yaml", 16384).await;
        let yaml = unseal(&key, sealed.expect("there")).expect("the key fits");
        let settings = CdnSettings::from_yaml(Some(yaml.expose()), &config::Cdn::default()).expect("complete");
        let cdn = Cdn::new(client(cloud.ca_pem()), settings, CdnClock::system());
        cdn.put(&folder(), &name("m"), Bytes::new(b"x")).await.expect("stored");
    });
}
