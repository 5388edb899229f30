//! Power cuts for the agent: killed at random points of a download and of an upload that was accepted, the next run goes
//! on where it was, transfers at most a tenth again, and the result is the same to the byte.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use azaion_cloud::{Cloud, S3Call, S3Route};
use azaion_loader::crypto::{AesKey, Salts, Sealer, small_len, unseal};

#[path = "support/dice.rs"]
mod dice;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "e2e/harness.rs"]
mod harness;

use dice::{Dice, seed};
use harness::{Agent, Board, EMAIL, PATIENCE, cloud_with_models, noise};

const SIZE: usize = 200 << 20;

/// Fewer where the processor is emulated.
fn cuts() -> u64 {
    std::env::var("TEST_CUTS").map_or(50, |cuts| cuts.parse().expect("TEST_CUTS is a number"))
}

fn resource_key() -> AesKey {
    let text = String::from;
    let salts = Salts { hardware: text("hw"), api: text("api"), resource: text("res"), separator: text("") };
    AesKey::from_text(&salts.resource_key())
}

/// The CDN in the clear on loopback: what is tested is not TLS.
fn cloud() -> Cloud {
    let cloud = cloud_with_models();
    let yaml = cloud.s3().cdn_yaml(&cloud.s3().plain_url());
    cloud.put_resource("", "cdn.yaml", yaml.into_bytes());
    cloud
}

fn sum(calls: &[S3Call], routes: &[S3Route], count: impl Fn(&S3Call) -> u64) -> u64 {
    calls.iter().filter(|call| routes.contains(&call.route)).map(count).sum()
}

fn curl(agent: &Agent, path: &str, args: &[&str]) -> Child {
    Command::new("curl")
        .args(["-sS", "--noproxy", "*", &format!("{}{path}", agent.base)])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("curl runs")
}

fn empty(dir: &Path) {
    std::fs::remove_dir_all(dir).expect("it was there");
    std::fs::create_dir(dir).expect("made");
}

#[test]
fn a_download_cut_anywhere_goes_on_where_it_was() {
    let plain = noise(1, SIZE);
    let mut sealed = Vec::with_capacity(SIZE + 32);
    let mut machine = Sealer::new(&resource_key(), [7; 16]);
    machine.push(&plain, &mut sealed);
    machine.finish(&mut sealed);
    let small = usize::try_from(small_len(sealed.len() as u64)).expect("small");
    let cloud = cloud();
    cloud.put_resource("models", "m.small", sealed[..small].to_vec());
    cloud.s3().put_object("models", "m.big", &sealed[small..]);
    let big = (sealed.len() - small) as u64;
    drop(sealed);
    let came = |calls: &[S3Call]| sum(calls, &[S3Route::Get], |call| call.bytes_out);

    let mut dice = Dice::new(seed());
    let mut worst = 0;
    for cut in 0..cuts() {
        let board = Board::new(&cloud);
        let mut agent = board.start();
        agent.log_in(EMAIL);
        let before = came(&cloud.s3().calls());
        let at = dice.below(big);
        let to = board.path("loaded");
        let out = to.to_str().expect("UTF-8");
        let mut client = curl(&agent, "/load/m", &["-d", r#"{"folder":"models"}"#, "-o", out]);
        cloud.s3().wait_for(|calls| came(calls) >= before + at);
        agent.kill();
        let _ = client.wait().expect("ours");
        drop(agent);

        let mut agent = board.start();
        agent.log_in(EMAIL);
        assert!(agent.load_whole("m", "models") == plain, "cut {cut} at {at}: other bytes\n{}", agent.log());
        let again = (came(&cloud.s3().calls()) - before).saturating_sub(big);
        worst = worst.max(again);
        assert!(again <= big / 10, "cut {cut} at {at}: {again} of {big} bytes came twice\n{}", agent.log());
    }
    println!("{} cuts of a download of {big} bytes; at most {worst} bytes came twice", cuts());
}

#[test]
fn an_accepted_upload_cut_anywhere_is_finished_by_the_next_run() {
    let plain = noise(2, SIZE);
    let cloud = cloud();
    let board = Board::new(&cloud);
    let file = board.path("to-upload");
    std::fs::write(&file, &plain).expect("written");
    let file = file.to_str().expect("UTF-8");
    let sent = |calls: &[S3Call]| sum(calls, &[S3Route::Put, S3Route::Part], |call| call.bytes_in);

    let mut dice = Dice::new(seed() + 1);
    let mut worst = 0;
    for cut in 0..cuts() {
        let name = format!("m{cut}");
        let mut agent = board.start();
        agent.log_in(EMAIL);
        let before = sent(&cloud.s3().calls());
        let begun = cloud.s3().calls().len();
        let at = dice.below(SIZE as u64);
        let mut client = curl(&agent, &format!("/upload/{name}?folder=models"), &["-T", file]);
        // Before the first call to the CDN it is not accepted yet.
        cloud.s3().wait_for(|calls| calls.len() > begun && sent(calls) >= before + at);
        agent.kill();
        let _ = client.wait().expect("ours");
        drop(agent);

        let mut agent = board.start();
        agent.log_in(EMAIL);
        let deadline = Instant::now() + PATIENCE;
        while agent.curl("/status", &[]).1["cache"]["uploads_waiting"] != 0 {
            assert!(Instant::now() < deadline, "cut {cut} at {at}\n{}", agent.log());
        }
        let mut sealed = cloud.resource("models", &format!("{name}.small")).expect("it is published");
        sealed.extend(cloud.s3().object("models", &format!("{name}.big")).expect("it is confirmed"));
        let big = sealed.len() as u64;
        assert!(unseal(&resource_key(), sealed).expect("whole").expose() == plain, "cut {cut} at {at}: other bytes");
        let again = (sent(&cloud.s3().calls()) - before).saturating_sub(big);
        worst = worst.max(again);
        assert!(again <= big / 10, "cut {cut} at {at}: {again} of {big} bytes went twice\n{}", agent.log());
        drop(agent);
        cloud.s3().remove_object("models", &format!("{name}.big"));
        empty(&board.path("cache"));
    }
    assert!(cloud.s3().uploads().is_empty(), "no upload is left half-way");
    println!("{} cuts of an upload of {SIZE} bytes; at most {worst} bytes went twice", cuts());
}
