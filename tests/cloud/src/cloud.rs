//! The handle that a test or the demo holds.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::call::{Call, Record};
use crate::connection::{Gate, serve};
use crate::fault::{Fault, Route, Script};
use crate::options::{Options, User};
use crate::s3::S3;
use crate::server::Shared;
use crate::store::Store;
use crate::token::Issuer;
use crate::{PATIENCE, certificate, lock};

/// How long a stop waits for the worker threads.
const STOP: Duration = Duration::from_secs(5);

/// A running Resource API; dropping it closes its port and every connection.
pub struct Cloud {
    addr: SocketAddr,
    ca_pem: String,
    shared: Arc<Shared>,
    s3: Option<S3>,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

impl Cloud {
    /// Starts a cloud on 127.0.0.1, on a free port unless [`Options::port`] names one. When this returns, it listens.
    ///
    /// # Panics
    /// When it cannot start; [`Cloud::try_start`] tells why instead.
    pub fn start(options: Options) -> Self {
        Self::try_start(options).expect("a test cloud needs a port, threads and randomness")
    }

    /// [`Cloud::start`] for a program that can tell a person what went wrong.
    pub fn try_start(options: Options) -> io::Result<Self> {
        let (ca_pem, tls) = certificate::make(options.leaf, options.authority.as_deref())?;
        let mut store = Store::default();
        store.fragment = options.fragment;
        options.users.into_iter().for_each(|user| store.add_user(user));
        let shared = Arc::new(Shared {
            salts: options.salts,
            token_lifetime: options.token_lifetime,
            time: options.time,
            wrong_credentials: options.wrong_credentials,
            unknown_file: options.unknown_file,
            observer: options.observer,
            issuer: Issuer::new(options.signing)?,
            store: Mutex::new(store),
            script: Mutex::new(Script::default()),
            record: Record::new(),
            connections: AtomicUsize::new(0),
            gate: Gate::new(),
        });
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("azaion-cloud").enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)))?;
        let addr = listener.local_addr()?;
        let tls = TlsAcceptor::from(tls);
        drop(runtime.spawn(serve(listener, Some(tls.clone()), Arc::clone(&shared))));
        let dir = options.s3_dir.as_deref();
        let s3 = if options.s3 { Some(S3::start(runtime.handle(), tls, dir)?) } else { None };
        let cloud = Self { addr, ca_pem, shared, s3, runtime: Some(runtime) };
        if let Some(s3) = &cloud.s3 {
            cloud.put_resource("", "cdn.yaml", s3.cdn_yaml(&s3.url()).into_bytes());
        }
        Ok(cloud)
    }

    /// `https://localhost:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate of the authority that signed the server's, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The S3 server.
    ///
    /// # Panics
    /// When [`Options::s3`] did not ask for one.
    pub fn s3(&self) -> &S3 {
        self.s3.as_ref().expect("a cloud has an S3 server when Options::s3 is set")
    }

    /// The key to check tokens with, in PEM; `None` with [`crate::Signing::Hs256`].
    pub fn token_public_key_pem(&self) -> Option<&str> {
        self.shared.issuer.public_key_pem()
    }

    /// Adds a user, or replaces the one with the same e-mail address. Tokens stay as they are.
    pub fn add_user(&self, user: User) {
        lock(&self.shared.store).add_user(user);
    }

    /// Sets the key fragment, of whatever length: also one the contract forbids.
    pub fn set_fragment(&self, fragment: Vec<u8>) {
        lock(&self.shared.store).fragment = Some(fragment);
    }

    /// Stores a file; `folder` may be empty.
    pub fn put_resource(&self, folder: &str, name: &str, bytes: Vec<u8>) {
        lock(&self.shared.store).put_file(folder, name, bytes);
    }

    /// A file as it was put or uploaded.
    pub fn resource(&self, folder: &str, name: &str) -> Option<Vec<u8>> {
        lock(&self.shared.store).file(folder, name).cloned()
    }

    /// Removes a file; says whether it was there.
    pub fn remove_resource(&self, folder: &str, name: &str) -> bool {
        lock(&self.shared.store).remove_file(folder, name)
    }

    /// Takes the API off the network or brings it back: away, it cuts every connection, and new ones at once. The S3
    /// server has a switch of its own, [`S3::set_away`].
    pub fn set_away(&self, away: bool) {
        self.shared.gate.set(!away);
    }

    /// Lets every token issued so far expire at once.
    pub fn expire_tokens(&self) {
        lock(&self.shared.store).expire_tokens();
    }

    /// Every token issued so far, for tests that look for them where they must not be.
    pub fn issued_tokens(&self) -> Vec<String> {
        lock(&self.shared.store).issued_tokens()
    }

    /// Queues a fault for the next call of this route that has none queued before it.
    ///
    /// # Panics
    /// When this fault cannot befall this route.
    pub fn fail_next(&self, route: Route, fault: Fault) {
        lock(&self.shared.script).push(route, fault);
    }

    /// Lets this fault befall every call of this route, after those that are queued.
    ///
    /// # Panics
    /// When this fault cannot befall this route.
    pub fn always(&self, route: Route, fault: Fault) {
        lock(&self.shared.script).always(route, fault);
    }

    /// Throws faults for `per_mille` of a thousand calls, always the same ones for a seed: those that a client is meant
    /// to survive by repeating the call. With calls side by side, their order decides who gets which.
    pub fn random_faults(&self, seed: u64, per_mille: u16) {
        lock(&self.shared.script).random(seed, per_mille);
    }

    /// Forgets all faults, queued, standing and thrown. One that has begun goes on.
    pub fn clear_faults(&self) {
        *lock(&self.shared.script) = Script::default();
    }

    /// Every call so far, in the order of their coming.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.record.all()
    }

    /// Waits until `count` calls have come in since the start, and returns all there are. They need not be answered yet.
    ///
    /// Blocks its thread: under an executor use [`Cloud::calls_reach`].
    ///
    /// # Panics
    /// When they have not come within a minute, and when called on a tokio thread.
    pub fn wait_for_calls(&self, count: usize) -> Vec<Call> {
        let runtime = self.runtime.as_ref().expect("the runtime lives as long as the cloud");
        let reached = runtime.block_on(async { timeout(PATIENCE, self.shared.record.reached(count)).await });
        assert!(reached.is_ok(), "waited for {count} calls, there are only {:#?}", self.calls());
        self.calls()
    }

    /// Done when `count` calls have come in since the start; for any executor.
    pub async fn calls_reach(&self, count: usize) {
        self.shared.record.reached(count).await;
    }

    /// TLS connections accepted so far; fewer than calls when the client keeps them alive.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(STOP);
        }
    }
}
