//! TLS and the life of the port.

use std::net::TcpStream;

use azaion_cloud::Leaf;

use crate::{Curl, EMAIL, PASSWORD, cloud};

/// "The peer's certificate was not OK" (man curl, EXIT CODES).
const CERTIFICATE_REFUSED: i32 = 60;

#[test]
fn only_its_own_authority_vouches_for_it() {
    let (cloud, other) = (cloud(|_| ()), cloud(|_| ()));
    let stranger = Curl::trusting(other.ca_pem(), cloud.url());
    assert_eq!(stranger.login(EMAIL, PASSWORD).exit, CERTIFICATE_REFUSED);
    assert_eq!((cloud.connections(), cloud.calls().len()), (0, 0));
    assert_eq!(Curl::of(&cloud).login(EMAIL, PASSWORD).status, 200);
    let by_address = Curl::trusting(cloud.ca_pem(), format!("https://{}", cloud.addr()));
    assert_eq!(by_address.login(EMAIL, PASSWORD).status, 200);
}

#[test]
fn a_wrong_name_and_an_expired_certificate_are_refused() {
    for leaf in [Leaf::WrongName, Leaf::Expired] {
        let cloud = cloud(|options| options.leaf = leaf);
        assert_eq!(Curl::of(&cloud).login(EMAIL, PASSWORD).exit, CERTIFICATE_REFUSED, "{leaf:?}");
        assert!(cloud.calls().is_empty());
    }
}

#[test]
fn dropping_it_closes_the_port() {
    let cloud = cloud(|_| ());
    let addr = cloud.addr();
    let mut open = TcpStream::connect(addr).expect("it listens");
    drop(cloud);
    assert!(TcpStream::connect(addr).is_err());
    // The connection that was open is closed, too: end of stream, or a reset.
    assert!(matches!(std::io::Read::read(&mut open, &mut [0]), Ok(0) | Err(_)));
}

#[test]
fn calls_run_side_by_side() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    cloud.fail_next(azaion_cloud::Route::Login, azaion_cloud::Fault::Silence);
    let mut silent = curl.spawn(&["--data-raw", "x", "/login"]);
    cloud.wait_for_calls(1);
    assert_eq!(curl.login(EMAIL, PASSWORD).status, 200);
    silent.kill().expect("curl can be stopped");
    silent.wait().expect("curl has ended");
}
