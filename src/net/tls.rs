//! TLS as a client: whom to trust, and why a handshake failed.
//!
//! The roots are those of `[cloud] ca_file`, else Mozilla's as `webpki-roots` carries them. Verification must never be
//! weakened here, not even for a board whose clock is wrong: the fault is named, so that someone else can see to it.

use std::sync::Arc;
use std::{error, fmt, io};

use jiff::Timestamp;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::certificate::{Certificate, Recorder};
use super::http::TlsFault;

/// Sessions remembered for a shorter handshake: the API, the CDN and some spare.
const SESSIONS: usize = 8;

/// Why the roots cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// The file is not PEM.
    Pem(pem::Error),
    /// The file holds no `CERTIFICATE`.
    NoCertificate,
    /// One of its certificates cannot be a root.
    Root(rustls::Error),
    /// The cipher suites of this build do not make a configuration: a fault of this program.
    Suites(rustls::Error),
    /// The roots do not make a verifier.
    Verifier(VerifierBuilderError),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pem(_) => "the file of roots is not PEM",
            Self::NoCertificate => "the file of roots holds no certificate; it must have one CERTIFICATE block or more",
            Self::Root(_) => "a certificate in the file of roots cannot be a root",
            Self::Suites(_) => "no usable cipher suites",
            Self::Verifier(_) => "the roots cannot be used",
        })
    }
}

impl error::Error for TlsError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Pem(source) => Some(source),
            Self::Root(source) | Self::Suites(source) => Some(source),
            Self::Verifier(source) => Some(source),
            Self::NoCertificate => None,
        }
    }
}

/// The configuration for every TLS connection: roots from PEM where given, else the built-in ones.
///
/// # Errors
/// [`TlsError`] when the PEM holds no root, or one that cannot be used.
pub fn client_config(ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, TlsError> {
    let config = builder()?.with_root_certificates(roots(ca_pem)?).with_no_client_auth();
    Ok(Arc::new(finished(config)))
}

/// The same configuration, which keeps the certificate that the server showed. For one handshake at a time.
pub(super) struct Recording {
    config: Arc<ClientConfig>,
    recorder: Arc<Recorder>,
}

impl Recording {
    /// # Errors
    /// As [`client_config`].
    pub(super) fn of(ca_pem: Option<&[u8]>) -> Result<Self, TlsError> {
        let below = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider());
        let recorder = Arc::new(Recorder::over(below.build().map_err(TlsError::Verifier)?));
        let verifier = Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>;
        let config = builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Self { config: Arc::new(finished(config)), recorder })
    }

    pub(super) const fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// What the server showed.
    pub(super) fn seen(&self) -> Option<Certificate> {
        self.recorder.seen()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(TlsError::Suites)
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config
}

fn roots(ca_pem: Option<&[u8]>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(text) => {
            for certificate in CertificateDer::pem_slice_iter(text) {
                roots.add(certificate.map_err(TlsError::Pem)?).map_err(TlsError::Root)?;
            }
            if roots.is_empty() {
                return Err(TlsError::NoCertificate);
            }
        }
    }
    Ok(roots)
}

/// What TLS itself found wrong, or `None` when the connection failed below it.
pub(super) fn fault(error: &io::Error) -> Option<TlsFault> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(why) = error else {
        return Some(TlsFault::Other);
    };
    Some(match why {
        // A signature that does not fit is what a new authority under the name of an old one looks like.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownAuthority,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotValidYet,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsFault::WrongName,
        // The enum is non-exhaustive; everything else about a certificate has no remedy of its own.
        _ => TlsFault::Other,
    })
}

/// The same error, with dates as people read them.
pub(super) fn in_words(error: io::Error) -> io::Error {
    let said = match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before })) => {
            format!("it is good from {} on, this board's clock says {}", moment(*not_before), moment(*time))
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after })) => {
            format!("it was good until {}, this board's clock says {}", moment(*not_after), moment(*time))
        }
        _ => return error,
    };
    io::Error::new(error.kind(), said)
}

/// `2026-11-26T21:24:00Z`
fn moment(time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "a time without a date".to_owned(), |time| time.to_string())
}
