//! Whose certificate a server shows, and from when to when it is good: for a person who wonders why TLS fails.
//!
//! Nothing here decides whether it is believed; that is rustls' alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use x509_cert::Certificate as X509;
use x509_cert::der::Decode as _;

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is (RFC 4514).
    pub subject: String,
    /// Who says so.
    pub issuer: String,
    /// From when on it is good.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl Certificate {
    /// Reads DER; `None` for what is no certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let certificate = X509::from_der(der).ok()?;
        let says = certificate.tbs_certificate();
        let at = |time: &x509_cert::time::Time| SystemTime::UNIX_EPOCH + time.to_unix_duration();
        Some(Self {
            subject: says.subject().to_string(),
            issuer: says.issuer().to_string(),
            not_before: at(&says.validity().not_before),
            not_after: at(&says.validity().not_after),
        })
    }

    /// How long it is good from `now` on; zero when it is not, or not yet.
    pub fn good_for(&self, now: SystemTime) -> Duration {
        if now < self.not_before { Duration::ZERO } else { self.not_after.duration_since(now).unwrap_or_default() }
    }
}

/// A verifier that keeps what the server showed, whatever the one below it thinks of it.
#[derive(Debug)]
pub(super) struct Recorder {
    below: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<Vec<u8>>>,
}

impl Recorder {
    pub(super) const fn over(below: Arc<WebPkiServerVerifier>) -> Self {
        Self { below, seen: Mutex::new(None) }
    }

    /// The server's own certificate of the last handshake.
    pub(super) fn seen(&self) -> Option<Certificate> {
        Certificate::of(self.seen.lock().unwrap_or_else(PoisonError::into_inner).as_deref()?)
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).replace(end_entity.to_vec());
        self.below.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.below.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.below.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.below.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_whose_it_is_and_how_long() {
        let day = Duration::from_hours(24);
        let mut params = rcgen::CertificateParams::new(["api.example.com".to_owned()]).expect("a name");
        params.distinguished_name.push(rcgen::DnType::CommonName, "api.example.com");
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 3, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let signed = params.self_signed(&key).expect("signed");
        let read = Certificate::of(signed.der()).expect("a certificate");
        assert!(read.subject.contains("CN=api.example.com") && read.issuer == read.subject, "{read:?}");
        assert_eq!(read.good_for(read.not_before - day), Duration::ZERO);
        assert_eq!(read.good_for(read.not_after - day), day);
        assert_eq!(read.good_for(read.not_after + day), Duration::ZERO);
        assert_eq!(read.not_after.duration_since(read.not_before).expect("later"), 59 * day);
        assert_eq!(Certificate::of(b"nonsense"), None);
    }
}
