//! Certificates of two nodes of one cluster.
use link::Identity;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;

/// Of the one that pulls, and of the one that has the stream.
pub(crate) fn identities() -> [Identity; 2] {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    ["edge", "origin"].map(|node| {
        let name = control::certificate_name(node).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name]).expect("a name of the DNS");
        let cert = params.signed_by(&key, &issuer).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Identity::new(vec![cert.der().clone()], key, vec![authority.der().clone()]).expect("an identity")
    })
}
