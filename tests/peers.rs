//! The tools of the CDN tests work: what one of them puts, the others have. The agent's own tests stand on this.

mod support;

use std::fs;
use std::io;

use azaion_cloud::keys::Salts;
use azaion_cloud::{Cloud, Options, User};

use support::peer::Peer;
use support::seaweed::Seaweed;
use support::skip;
use support::slow_flash::SlowFlash;

const NAMES: [&str; 3] = ["plain.onnx", "with + space & \"quotes\"", "Модель ü 🔑"];

fn cloud() -> Cloud {
    let users = vec![User::new("peer@example.com", "пароль", "ResourceUploader")];
    Cloud::start(Options { users, s3: true, ..Options::default() })
}

#[test]
fn boto3_and_the_s3_server_in_process() {
    let cloud = cloud();
    let peer = match Peer::new(&cloud, "peer@example.com", "пароль", &Salts::default()) {
        Ok(peer) => peer,
        Err(reason) => return skip(&reason),
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    for (name, bytes) in NAMES.into_iter().zip([0, 10_000, 20 << 20]) {
        fs::write(file.path(), vec![5; bytes]).expect("the file is written");
        cloud.s3().make_bucket("Models_2");
        peer.put("Models_2", name, file.path()).expect("it is put");
        peer.get("Models_2", name, file.path()).expect("it is the same");
        assert!(cloud.resource("Models_2", &format!("{name}.small")).is_some(), "{name}");
        assert!(cloud.s3().object("Models_2", &format!("{name}.big")).is_some(), "{name}");
    }
    fs::write(file.path(), b"other").expect("the file is written");
    assert!(peer.get("Models_2", NAMES[0], file.path()).is_err(), "a difference is told");
}

#[test]
fn boto3_and_seaweedfs() {
    let cloud = cloud();
    let seaweed = match Seaweed::start() {
        Ok(seaweed) => seaweed,
        Err(reason) => return skip(&reason),
    };
    let peer = match Peer::new(&cloud, "peer@example.com", "пароль", &Salts::default()) {
        Ok(peer) => peer.with_cdn(&seaweed.cdn_yaml(), &seaweed.ca_pem()),
        Err(reason) => return skip(&reason),
    };
    seaweed.make_bucket("models");
    let file = tempfile::NamedTempFile::new().expect("a file");
    for (name, bytes) in NAMES.into_iter().zip([0, 10_000, 20 << 20]) {
        fs::write(file.path(), vec![5; bytes]).expect("the file is written");
        peer.put("models", name, file.path()).expect("it is put");
        peer.get("models", name, file.path()).expect("it is the same");
    }
    assert!(cloud.s3().calls().is_empty(), "the other server had it all");
}

#[test]
fn flash_is_full_broken_and_well_again() {
    let flash = match SlowFlash::mount(None) {
        Ok(flash) => flash,
        Err(reason) => return skip(&reason),
    };
    let file = flash.path().join("file");
    fs::write(&file, b"bytes").expect("it is well");
    assert_eq!(fs::read(flash.behind().join("file")).expect("it is behind"), b"bytes");
    flash.switch("enospc");
    assert_eq!(fs::write(flash.path().join("new"), b"x").map_err(|e| e.kind()), Err(io::ErrorKind::StorageFull));
    flash.switch("erofs");
    assert_eq!(fs::remove_file(&file).map_err(|e| e.kind()), Err(io::ErrorKind::ReadOnlyFilesystem));
    flash.switch("eio");
    assert!(fs::read(&file).is_err());
    flash.switch("");
    assert_eq!(fs::read(&file).expect("it is well"), b"bytes");
}
