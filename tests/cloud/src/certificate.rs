//! A certificate authority and a server certificate, fresh for each cloud unless it is given its authority's key. Private
//! keys leave this module for the server's own TLS and by [`new_authority`], never else.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::options::Leaf;

/// The far end of `tests/tools/thin-link`.
const THIN_LINK: &str = "10.213.0.2";
/// This machine, seen from inside QEMU's user network.
const QEMU_HOST: &str = "10.0.2.2";

/// A key for [`crate::Options::authority`]: PKCS#8 in PEM.
pub fn new_authority() -> io::Result<String> {
    KeyPair::generate().map(|key| key.serialize_pem()).map_err(io::Error::other)
}

/// The authority's certificate in PEM, and what the server speaks TLS with. Name and key make the authority: with the same
/// key it is the same one, although its certificate is signed anew.
pub(crate) fn make(leaf: Leaf, authority_key: Option<&str>) -> io::Result<(String, Arc<ServerConfig>)> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "azaion-cloud test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = match authority_key {
        Some(pem) => KeyPair::from_pem(pem),
        None => KeyPair::generate(),
    }
    .map_err(io::Error::other)?;
    let ca_pem = authority.self_signed(&authority_key).map_err(io::Error::other)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let names: &[&str] = match leaf {
        Leaf::Good | Leaf::Expired | Leaf::NotYetValid => &["localhost", "127.0.0.1", THIN_LINK, QEMU_HOST],
        Leaf::WrongName => &["elsewhere.example"],
    };
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut server = CertificateParams::new(names).map_err(io::Error::other)?;
    server.distinguished_name.push(DnType::CommonName, "azaion-cloud");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    match leaf {
        Leaf::Expired => server.not_after = date_time_ymd(2000, 1, 1),
        Leaf::NotYetValid => server.not_before = date_time_ymd(2100, 1, 1),
        Leaf::Good | Leaf::WrongName => {}
    }
    let server_key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = server.signed_by(&server_key, &issuer).map_err(io::Error::other)?;

    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(server_key.serialize_der()).into())
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((ca_pem, Arc::new(config)))
}
