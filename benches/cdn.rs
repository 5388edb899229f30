//! A read of the CDN on loopback beside `curl` on the same bytes, plain and over TLS. The server is a thread that says
//! one buffer over and over, so that what is measured is the client.
//!
//! `cargo bench --bench cdn`; `CDN_BENCH_MIB` sets the size.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azaion_loader::cloud::{Cdn, CdnClock, CdnSettings};
use azaion_loader::config;
use azaion_loader::name::{Folder, ResourceName};
use azaion_loader::net::{Client, client_config, turn};
use azaion_loader::secret::SecretText;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use smol::LocalExecutor;

const PIECE: usize = 256 * 1024;

#[expect(clippy::cast_precision_loss, reason = "rates are shown in three digits")]
fn main() {
    let mib = std::env::var("CDN_BENCH_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(1024_u64);
    let size = mib << 20;
    let (ca_pem, server_config) = identity();
    let dir = tempfile::tempdir().expect("a directory");
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, &ca_pem).expect("written");
    for (scheme, tls) in [("http", None), ("https", Some(server_config))] {
        let port = serve(size, tls);
        let ours = (0..3).map(|_| read(scheme, port, &ca_pem, size)).fold(f64::INFINITY, f64::min);
        let curl = (0..3).map(|_| curl(scheme, port, &ca_file)).fold(f64::INFINITY, f64::min);
        let rate = |seconds: f64| mib as f64 / seconds;
        println!("{scheme}: read {:.0} MiB/s, curl {:.0} MiB/s, {:.2} of it", rate(ours), rate(curl), curl / ours);
        let before = busy();
        read(scheme, port, &ca_pem, size);
        println!("{scheme}: {:.2} s of the processor for each GiB", (busy() - before) * 1024.0 / mib as f64);
    }
}

/// Seconds that a read of the whole object takes here.
fn read(scheme: &str, port: u16, ca_pem: &str, size: u64) -> f64 {
    let over = config::Cdn {
        host: Some(format!("{scheme}://localhost:{port}")),
        downloader_access_key: Some("A".into()),
        downloader_access_secret: Some(SecretText::new("s".into())),
        ..config::Cdn::default()
    };
    let settings = CdnSettings::from_yaml(None, &over).expect("complete");
    let client = Client::new(client_config(Some(ca_pem.as_bytes())).expect("a root"));
    let cdn = Cdn::new(Rc::new(client), settings, CdnClock::system());
    let name = ResourceName::new("model").expect("a name");
    turn::block_on(&LocalExecutor::new(), async {
        let began = Instant::now();
        let mut read = cdn.read(&Folder::default(), &name, "\"tag\"", 0..size).await.expect("an answer");
        let mut buffer = vec![0; PIECE];
        let mut all = 0;
        loop {
            match read.chunk(&mut buffer).await.expect("bytes") {
                0 => break,
                n => all += n as u64,
            }
        }
        assert_eq!(all, size);
        began.elapsed().as_secs_f64()
    })
}

/// Seconds that this thread, which is the whole client, has kept a processor busy.
fn busy() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(u64::try_from(time.tv_sec).expect("counted from 0"), nanoseconds).as_secs_f64()
}

/// Seconds that curl takes.
fn curl(scheme: &str, port: u16, ca_file: &std::path::Path) -> f64 {
    let began = Instant::now();
    let done = Command::new("curl")
        .args(["-sfS", "--noproxy", "*", "-o", "/dev/null", "--cacert"])
        .arg(ca_file)
        .arg(format!("{scheme}://localhost:{port}/default/model.big"))
        .stdout(Stdio::null())
        .status();
    assert!(done.is_ok_and(|status| status.success()), "curl reads");
    began.elapsed().as_secs_f64()
}

fn serve(size: u64, tls: Option<Arc<ServerConfig>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, tls) = (stream.expect("a connection"), tls.clone());
            std::thread::spawn(move || match tls {
                None => answer(stream, size),
                Some(config) => {
                    let connection = ServerConnection::new(config).expect("a configuration");
                    answer(StreamOwned::new(connection, stream), size);
                }
            });
        }
    });
    port
}

fn answer(stream: impl Read + Write, size: u64) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut is_ranged = false;
    while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
        is_ranged |= line.to_ascii_lowercase().starts_with("range:");
        line.clear();
    }
    let (status, range) =
        if is_ranged { (206, format!("Content-Range: bytes 0-{}/{size}\r\n", size - 1)) } else { (200, String::new()) };
    let head = format!("HTTP/1.1 {status} X\r\nETag: \"tag\"\r\n{range}Content-Length: {size}\r\n\r\n");
    let stream = stream.get_mut();
    let mut left = size;
    let piece = vec![7; PIECE];
    let mut said = stream.write_all(head.as_bytes());
    while left > 0 && said.is_ok() {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        said = stream.write_all(&piece[..most]);
        left -= most as u64;
    }
    let _ = stream.flush();
}

fn identity() -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    // Told apart from the leaf's, or it looks as if that had signed itself.
    params.distinguished_name.push(DnType::CommonName, "authority of the bench");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("key and certificate fit");
    (authority.pem(), Arc::new(config))
}
