//! Viewers whose certificate has an RSA key, as GStreamer's have.
//!
//! The library asks for ECDSA certificates alone, and has no setting for it. So its request is completed on its way out,
//! and wherever the library hashes or checks the handshake so far, the request stands there as it was sent.
//! docs/decisions/0011-rsa-certificates.md has the alternatives.
use std::borrow::Cow;
use std::ops::Range;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, SignatureAlgorithm, SignatureVerifier,
};
use dimpl::{CryptoError, CryptoOperation};
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;

use super::record;

/// Bytes by which a completed request is longer.
pub(super) const ADDED: usize = 3;
/// A kind of record.
const HANDSHAKE: u8 = 22;
/// Of a handshake message (RFC 6347, section 4.2.2): type, length, number, and which part of it this is.
const HEADER_LEN: usize = 12;
const CERTIFICATE_REQUEST: u8 = 13;
/// A kind of certificate (RFC 5246, section 7.4.4).
const RSA_SIGN: u8 = 1;
/// SHA-256 with RSA (section 7.4.1.4.1).
const RSA_SHA256: [u8; 2] = [4, 1];

/// Lets this provider hash and check handshakes in which the request was completed. What it takes is never freed: the
/// library wants it for the life of the process.
pub(super) fn provider(inner: CryptoProvider) -> CryptoProvider {
    let hashes: &'static Hashes = Box::leak(Box::new(Hashes(inner.hash_provider)));
    let verifier: &'static Verifier = Box::leak(Box::new(Verifier(inner.signature_verification)));
    CryptoProvider { hash_provider: hashes, signature_verification: verifier, ..inner }
}

/// Completes the request in a datagram of ours, if it is in there: whole, and in clear.
pub(super) fn complete(datagram: &mut Vec<u8>) {
    let mut at = 0;
    while let Some((header, body)) = datagram.get(at..).and_then(record::first) {
        let [kind, _, _, epoch0, epoch1, ..] = *header;
        let (body_at, len) = (at + header.len(), body.len());
        if (kind, epoch0, epoch1) == (HANDSHAKE, 0, 0)
            && let Some((place, request)) = request_of(body)
            && let Ok(len) = u16::try_from(len + ADDED)
        {
            datagram.splice(body_at + place.start..body_at + place.end, request);
            datagram.splice(body_at - 2..body_at, len.to_be_bytes());
            return;
        }
        at = body_at + len;
    }
}

/// The messages of a handshake as the viewer has seen them.
fn as_sent(transcript: &[u8]) -> Cow<'_, [u8]> {
    let Some((place, request)) = request_of(transcript) else { return Cow::Borrowed(transcript) };
    let mut sent = transcript.to_vec();
    sent.splice(place, request);
    Cow::Owned(sent)
}

/// Where among these messages the request is, and how it reads when completed. None if they are no messages, none of them
/// is a whole request, or it asks for RSA already.
fn request_of(messages: &[u8]) -> Option<(Range<usize>, Vec<u8>)> {
    let mut at = 0;
    loop {
        let (header, rest) = messages.get(at..)?.split_first_chunk::<HEADER_LEN>()?;
        let [kind, l0, l1, l2, _, _, part @ ..] = *header;
        let len = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let body = rest.get(..len)?;
        let end = at + HEADER_LEN + len;
        if kind == CERTIFICATE_REQUEST && part == [0, 0, 0, l0, l1, l2] {
            return Some((at..end, completed(header, body)?));
        }
        at = end;
    }
}

fn completed(header: &[u8; HEADER_LEN], body: &[u8]) -> Option<Vec<u8>> {
    let (kinds_len, rest) = body.split_first()?;
    let (kinds, rest) = rest.split_at_checked(usize::from(*kinds_len))?;
    let (algorithms_len, rest) = rest.split_first_chunk::<2>()?;
    let (algorithms, authorities) =
        rest.split_at_checked(usize::from(u16::from_be_bytes(*algorithms_len)))?;
    if kinds.contains(&RSA_SIGN) {
        return None;
    }
    let kinds_len = kinds_len.checked_add(1)?;
    let algorithms_len = u16::from_be_bytes(*algorithms_len).checked_add(2)?.to_be_bytes();
    let [_, l0, l1, l2] = u32::try_from(body.len() + ADDED).ok()?.to_be_bytes();
    let [kind, _, _, _, n0, n1, ..] = *header;
    let mut message = vec![kind, l0, l1, l2, n0, n1, 0, 0, 0, l0, l1, l2];
    for part in [&[kinds_len], kinds, &[RSA_SIGN], &algorithms_len, algorithms, &RSA_SHA256, authorities] {
        message.extend_from_slice(part);
    }
    Some(message)
}

#[derive(Debug)]
struct Hashes(&'static dyn HashProvider);

impl HashProvider for Hashes {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        Box::new(Hash(self.0.create_hash(algorithm)))
    }
}

#[derive(Debug)]
struct Hash(Box<dyn HashContext>);

impl HashContext for Hash {
    /// The library hashes a handshake in one piece, from its first message.
    fn update(&mut self, transcript: &[u8]) {
        self.0.update(&as_sent(transcript));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}

#[derive(Debug)]
struct Verifier(&'static dyn SignatureVerifier);

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        certificate: &[u8],
        transcript: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let sent = as_sent(transcript);
        if algorithm != SignatureAlgorithm::RSA {
            return self.0.verify_signature(certificate, &sent, signature, hash, algorithm);
        }
        if hash != HashAlgorithm::SHA256 {
            return Err(CryptoError::UnsupportedSignatureAlgorithm(algorithm));
        }
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| CryptoError::CertificateParseFailed)?;
        let key = certificate.public_key();
        if key.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
            return Err(CryptoError::UnsupportedPublicKeyAlgorithm);
        }
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key.subject_public_key.data)
            .verify(&sent, signature)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::VerifySignature))
    }
}

#[cfg(test)]
mod tests {
    use dimpl::crypto::aws_lc_rs::default_provider;
    use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey};

    use super::*;

    /// A message as the library writes it: kinds, algorithms, no authorities.
    const REQUEST: [u8; 22] = [13, 0, 0, 10, 0, 4, 0, 0, 0, 0, 0, 10, 1, 64, 0, 4, 4, 3, 5, 3, 0, 0];
    const COMPLETED: [u8; 25] =
        [13, 0, 0, 13, 0, 4, 0, 0, 0, 0, 0, 13, 2, 64, 1, 0, 6, 4, 3, 5, 3, 4, 1, 0, 0];
    const HELLO_DONE: [u8; HEADER_LEN] = [14, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0];
    const CERTIFICATE: [u8; HEADER_LEN + 2] = [11, 0, 0, 2, 0, 2, 0, 0, 0, 0, 0, 2, 8, 9];

    fn record(epoch: u8, body: &[u8]) -> Vec<u8> {
        [&[22, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 3, 0, u8::try_from(body.len()).unwrap()], body].concat()
    }

    #[test]
    fn the_request_is_completed_on_the_wire_and_in_the_transcript() {
        let transcript = [&CERTIFICATE[..], &REQUEST, &HELLO_DONE].concat();
        assert_eq!(*as_sent(&transcript), [&CERTIFICATE[..], &COMPLETED, &HELLO_DONE].concat());
        let mut datagram = [&CERTIFICATE[..], &REQUEST, &HELLO_DONE].map(|body| record(0, body)).concat();
        complete(&mut datagram);
        assert_eq!(
            datagram,
            [&CERTIFICATE[..], &COMPLETED, &HELLO_DONE].map(|body| record(0, body)).concat()
        );
        assert_eq!(COMPLETED.len(), REQUEST.len() + ADDED);
    }

    #[test]
    fn whatever_is_no_whole_request_in_clear_stays_as_it_is() {
        let mut part = REQUEST;
        part[11] = 9;
        let mut too_long = REQUEST;
        too_long[12] = 200;
        for other in [&COMPLETED[..], &CERTIFICATE, &part, &too_long, &REQUEST[..20], &[], &[13]] {
            assert!(matches!(as_sent(other), Cow::Borrowed(found) if found == other));
            let mut datagram = record(0, other);
            complete(&mut datagram);
            assert_eq!(datagram, record(0, other));
        }
        let mut encrypted = record(1, &REQUEST);
        complete(&mut encrypted);
        assert_eq!(encrypted, record(1, &REQUEST));
    }

    #[test]
    fn damaged_messages_break_nothing() {
        for _ in 0..20_000 {
            let mut datagram = [&CERTIFICATE[..], &REQUEST, &HELLO_DONE].map(|body| record(0, body)).concat();
            for _ in 0..rand::random_range(1..4) {
                let at = rand::random_range(0..datagram.len());
                datagram[at] = rand::random();
            }
            datagram.truncate(rand::random_range(0..=datagram.len()));
            let len = datagram.len();
            assert!([len, len + ADDED].contains(&as_sent(&datagram).len()));
            assert_eq!(record::split(&datagram).map(<[u8]>::len).sum::<usize>(), len);
            complete(&mut datagram);
            assert!([len, len + ADDED].contains(&datagram.len()));
        }
    }

    #[test]
    fn a_signature_counts_only_from_the_certificates_key_over_what_was_sent() {
        let provider = provider(default_provider());
        let verify = |certificate: &[u8], signature: &[u8], hash: HashAlgorithm| {
            let transcript = [&CERTIFICATE[..], &REQUEST].concat();
            let verifier = provider.signature_verification;
            verifier.verify_signature(certificate, &transcript, signature, hash, SignatureAlgorithm::RSA)
        };
        let certificate =
            |key: &KeyPair| CertificateParams::default().self_signed(key).unwrap().der().to_vec();
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let sent = [&CERTIFICATE[..], &COMPLETED].concat();
        let signature = key.sign(&sent).unwrap();
        verify(&certificate(&key), &signature, HashAlgorithm::SHA256).unwrap();
        let unsent = key.sign(&[&CERTIFICATE[..], &REQUEST].concat()).unwrap();
        verify(&certificate(&key), &unsent, HashAlgorithm::SHA256).unwrap_err();
        verify(&certificate(&key), &signature, HashAlgorithm::SHA1).unwrap_err();
        verify(&certificate(&key), &[], HashAlgorithm::SHA256).unwrap_err();
        verify(&[48, 3], &signature, HashAlgorithm::SHA256).unwrap_err();
        let other = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        verify(&certificate(&other), &signature, HashAlgorithm::SHA256).unwrap_err();
        let ecdsa = KeyPair::generate().unwrap();
        verify(&certificate(&ecdsa), &signature, HashAlgorithm::SHA256).unwrap_err();
    }
}
