//! The CDN: an S3 server in process, with real signatures, on ports of its own beside the API's.
//!
//! The protocol is the crate `s3s`: signatures, XML, headers. What the operations do is [`store`]'s, and the faults and
//! the record of calls are `server`'s. It must never look at a secret key: `s3s` checks signatures, [`operations`] says
//! who may do what.

mod call;
mod clock;
mod operations;
mod server;
mod store;

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

pub use call::{S3Call, S3Route};

use crate::connection::{Gate, serve};
use crate::fault::{Fault, Script};
use crate::{PATIENCE, lock};
use call::Record;
use server::Server;
use store::Store;

/// A pair of keys.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Keys {
    /// The public half.
    pub access: String,
    /// The secret half.
    pub secret: String,
}

impl S3Keys {
    fn random(who: &str) -> io::Result<Self> {
        let mut bytes = [0; 20];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let hex = hex(&bytes);
        let (access, secret) = hex.split_at(8);
        Ok(Self { access: format!("{who}{access}"), secret: format!("secret{secret}") })
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // A string takes everything.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

impl std::fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Keys").field("access", &self.access).finish_non_exhaustive()
    }
}

/// The running S3 server of a [`crate::Cloud`]; it ends with it.
///
/// A bucket is there once it was made, by [`S3::make_bucket`], [`S3::put_object`] or the uploader; any name will do.
/// A part other than the last must have 5 MiB, as everywhere.
pub struct S3 {
    tls: SocketAddr,
    plain: SocketAddr,
    server: Arc<Server>,
    runtime: Handle,
    /// Where the objects are, when no directory was given: removed with it.
    _own: Option<TempDir>,
}

impl S3 {
    /// Listens on two free ports of 127.0.0.1. Objects go into `dir`, or a directory of its own.
    pub(crate) fn start(runtime: &Handle, tls: TlsAcceptor, dir: Option<&Path>) -> io::Result<Self> {
        let own = if dir.is_none() { Some(TempDir::new()?) } else { None };
        let dir = dir.or_else(|| own.as_ref().map(TempDir::path)).expect("one of the two was just made");
        let store = Arc::new(Store::new(dir)?);
        let (downloader, uploader) = (S3Keys::random("DOWN")?, S3Keys::random("UP")?);
        let server = Arc::new(Server {
            service: operations::service(Arc::clone(&store), &downloader, &uploader),
            store,
            downloader,
            uploader,
            script: std::sync::Mutex::new(Script::default()),
            record: Arc::new(Record::new()),
            connections: AtomicUsize::new(0),
            gate: Gate::new(),
            ahead: AtomicU64::new(0),
        });
        let [safe, open] = [(); 2].map(|()| runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))));
        let (safe, open) = (safe?, open?);
        let (at_tls, at_plain) = (safe.local_addr()?, open.local_addr()?);
        drop(runtime.spawn(serve(safe, Some(tls), Arc::clone(&server))));
        drop(runtime.spawn(serve(open, None, Arc::clone(&server))));
        Ok(Self { tls: at_tls, plain: at_plain, server, runtime: runtime.clone(), _own: own })
    }

    /// `https://localhost:PORT`, without a slash at the end; its certificate is of the cloud's authority.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.tls.port())
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end: the same objects, faults and record.
    pub fn plain_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.plain.port())
    }

    /// Where it listens with TLS.
    pub fn addr(&self) -> SocketAddr {
        self.tls
    }

    /// Keys that may only read.
    pub fn downloader(&self) -> &S3Keys {
        &self.server.downloader
    }

    /// Keys that may do everything.
    pub fn uploader(&self) -> &S3Keys {
        &self.server.uploader
    }

    /// The resource `cdn.yaml` for this server at `url` ([`S3::url`], [`S3::plain_url`] or a proxy before one).
    pub fn cdn_yaml(&self, url: &str) -> String {
        let (down, up) = (self.downloader(), self.uploader());
        format!(
            "host: {url}\nregion: us-east-1\ndownloader_access_key: {}\ndownloader_access_secret: {}\n\
             uploader_access_key: {}\nuploader_access_secret: {}\n",
            down.access, down.secret, up.access, up.secret
        )
    }

    /// Makes a bucket, if it is not there.
    pub fn make_bucket(&self, bucket: &str) {
        self.server.store.make_bucket(bucket);
    }

    /// Stores an object, its bucket made if need be. Its `ETag` is the MD5 of the bytes, as of every plain upload.
    ///
    /// # Panics
    /// When the disk does not take it.
    pub fn put_object(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.server.store.put_bytes(bucket, key, bytes).expect("the object is written");
    }

    /// [`S3::put_object`] with the bytes of a file, which is linked where it can be and copied where not: it must not
    /// change afterwards.
    ///
    /// # Panics
    /// When the file cannot be read or the disk does not take it.
    pub fn put_object_file(&self, bucket: &str, key: &str, file: &Path) {
        self.server.store.put_file(bucket, key, file).expect("the object is linked or copied");
    }

    /// An object's bytes.
    ///
    /// # Panics
    /// When its file cannot be read.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.object_file(bucket, key).map(|file| std::fs::read(file).expect("the object is read"))
    }

    /// The file that an object's bytes stand in, as long as it is neither replaced nor removed. A test may damage it:
    /// it is served as it then is, under the old `ETag`.
    pub fn object_file(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        self.server.store.object(bucket, key).map(|stored| stored.file().to_owned())
    }

    /// An object's `ETag` as HTTP shows it, in quotes.
    pub fn object_etag(&self, bucket: &str, key: &str) -> Option<String> {
        self.server.store.object(bucket, key).map(|stored| format!("\"{}\"", stored.etag()))
    }

    /// Removes an object; says whether it was there.
    pub fn remove_object(&self, bucket: &str, key: &str) -> bool {
        self.server.store.remove(bucket, key)
    }

    /// The keys and sizes of a bucket's objects, in order of the keys.
    pub fn objects(&self, bucket: &str) -> Vec<(String, u64)> {
        let objects = self.server.store.objects(bucket).unwrap_or_default();
        objects.into_iter().map(|(key, stored)| (key, stored.size())).collect()
    }

    /// The ids of the multipart uploads that were begun and neither completed nor aborted.
    pub fn uploads(&self) -> Vec<String> {
        self.server.store.uploads()
    }

    /// Forgets all multipart uploads, as a server does after some days: their next call gets `NoSuchUpload`.
    pub fn forget_uploads(&self) {
        self.server.store.forget_uploads();
    }

    /// Queues a fault for the next call of this route that has none queued before it.
    ///
    /// # Panics
    /// When this fault cannot befall this route.
    pub fn fail_next(&self, route: S3Route, fault: Fault) {
        lock(&self.server.script).push(route, fault);
    }

    /// Lets this fault befall every call of this route, after those that are queued.
    ///
    /// # Panics
    /// When this fault cannot befall this route.
    pub fn always(&self, route: S3Route, fault: Fault) {
        lock(&self.server.script).always(route, fault);
    }

    /// Throws faults for `per_mille` of a thousand calls: see [`crate::Cloud::random_faults`]. Cuts come within the
    /// first 256 KiB.
    pub fn random_faults(&self, seed: u64, per_mille: u16) {
        lock(&self.server.script).random(seed, per_mille);
    }

    /// Forgets all faults, queued, standing and thrown. One that has begun goes on.
    pub fn clear_faults(&self) {
        *lock(&self.server.script) = Script::default();
    }

    /// Takes the server off the network or brings it back: away, it cuts every connection, and new ones at once.
    pub fn set_away(&self, away: bool) {
        self.server.gate.set(!away);
    }

    /// Sets the server's clock ahead of this machine's: its `Date` says so, and what was signed more than 15 minutes
    /// from it, or has expired by it, is refused with 403. A clock behind is a client's clock that is ahead.
    pub fn set_clock_ahead(&self, by: Duration) {
        self.server.ahead.store(by.as_secs(), Ordering::SeqCst);
    }

    /// Every call so far, in the order of their coming.
    pub fn calls(&self) -> Vec<S3Call> {
        self.server.record.all()
    }

    /// Bytes of objects sent so far: the bodies of all successful [`S3Route::Get`] calls, cut ones as far as they came.
    pub fn bytes_out(&self) -> u64 {
        self.calls().iter().filter(|call| call.is_download()).map(|call| call.bytes_out).sum()
    }

    /// Bytes of objects received so far: the bodies of [`S3Route::Put`] and [`S3Route::Part`], refused ones too.
    pub fn bytes_in(&self) -> u64 {
        self.calls().iter().filter(|call| matches!(call.route, S3Route::Put | S3Route::Part)).map(|c| c.bytes_in).sum()
    }

    /// Waits until the record fulfils this, and returns it; it is asked again at every call and every piece of a body.
    ///
    /// Blocks its thread: under an executor use [`S3::reached`].
    ///
    /// # Panics
    /// When that has not come within a minute, and when called on a tokio thread.
    pub fn wait_for(&self, fulfils: impl FnMut(&[S3Call]) -> bool) -> Vec<S3Call> {
        let reached = self.runtime.block_on(async { timeout(PATIENCE, self.reached(fulfils)).await });
        assert!(reached.is_ok(), "waited in vain, there are only {:#?}", self.calls());
        self.calls()
    }

    /// Done when the record fulfils this; for any executor.
    pub async fn reached(&self, fulfils: impl FnMut(&[S3Call]) -> bool) {
        self.server.record.reached(fulfils).await;
    }

    /// Connections accepted so far; fewer than calls when the client keeps them alive.
    pub fn connections(&self) -> usize {
        self.server.connections.load(Ordering::SeqCst)
    }
}
