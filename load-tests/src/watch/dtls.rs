//! DTLS 1.2 with the server, and the SRTP keys that come out of it (RFC 5764).
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use dimpl::certificate::generate_self_signed_certificate;
use dimpl::{Config, DtlsCertificate, Output, SrtpProfile};
use thiserror::Error;

use super::dtls_sha1;
use super::srtp::Session;

/// Bytes of a record that we send.
const RECORD_MAX: usize = 1200;
/// The first wait for an answer to a flight, as in browsers.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(50);
/// Further tries, each after twice the time.
const RETRANSMITS_MAX: usize = 10;
/// Room for anything that the machine gives out at once.
const OUTPUT_MAX: usize = 16 << 10;

/// Why there are no keys, or no more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum DtlsError {
    #[error("the DTLS handshake failed")]
    Handshake,
    #[error("the server's certificate is not the one of its answer")]
    Fingerprint,
    #[error("the server chose an SRTP profile that is not known")]
    Profile,
    #[error("the server closed the session")]
    Closed,
}

/// One certificate for all viewers: making one for each would measure us, not the server.
#[derive(Debug)]
pub(super) struct Identity {
    certificate: DtlsCertificate,
    config: Arc<Config>,
    /// What is used instead when viewers offer SHA1-80 only.
    sha1: Option<dtls_sha1::Offer>,
}

impl Identity {
    pub(super) fn generate(sha1_only: bool) -> Option<Self> {
        let certificate = generate_self_signed_certificate().ok()?;
        let config = Arc::new(
            Config::builder()
                .mtu(RECORD_MAX)
                .flight_start_rto(RETRANSMIT_AFTER)
                .flight_retries(RETRANSMITS_MAX)
                .build()
                .ok()?,
        );
        let sha1 = if sha1_only { Some(dtls_sha1::Offer::generate()?) } else { None };
        Some(Self { certificate, config, sha1 })
    }

    /// As an SDP writes it (RFC 8122, section 5).
    pub(super) fn fingerprint(&self) -> String {
        let certificate =
            self.sha1.as_ref().map_or(&self.certificate.certificate, |offer| &offer.certificate);
        let hash = digest(&SHA256, certificate);
        let bytes: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        bytes.join(":")
    }
}

/// The keys, and what was agreed on.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) session: Session,
    pub(super) profile: &'static str,
}

#[derive(Debug)]
enum Engine {
    All(Box<dimpl::Dtls>),
    Sha1(Box<dtls_sha1::Handshake>),
}

#[derive(Debug)]
pub(super) struct Dtls {
    inner: Engine,
    expected: [u8; 32],
    is_client: bool,
    is_peer_known: bool,
    is_connected: bool,
    keys: Option<Keys>,
    pub(super) deadline: Instant,
}

impl Dtls {
    pub(super) fn new(
        now: Instant,
        identity: &Identity,
        expected: [u8; 32],
        is_client: bool,
    ) -> Result<Self, DtlsError> {
        let inner = match &identity.sha1 {
            Some(offer) if is_client => Engine::Sha1(Box::new(dtls_sha1::Handshake::start(now, offer)?)),
            // Who offers little only ever speaks first.
            Some(_) => return Err(DtlsError::Handshake),
            None => {
                let config = Arc::clone(&identity.config);
                let mut inner = dimpl::Dtls::new_12(config, identity.certificate.clone(), now);
                inner.set_active(is_client);
                Engine::All(Box::new(inner))
            }
        };
        Ok(Self {
            inner,
            expected,
            is_client,
            is_peer_known: false,
            is_connected: false,
            keys: None,
            deadline: now,
        })
    }

    /// Takes a datagram. The keys are returned once, when the handshake is over and the certificate is right.
    pub(super) fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        out: &mut Vec<Vec<u8>>,
    ) -> Result<Option<Keys>, DtlsError> {
        match &mut self.inner {
            Engine::All(inner) => {
                // A damaged datagram is dropped (RFC 6347, section 4.1.2.7); what it broke shows in a timeout.
                let _ = inner.handle_packet(datagram);
                self.drain(out)
            }
            Engine::Sha1(inner) => {
                let expected = self.expected;
                let is_right = |certificate: &[u8]| digest(&SHA256, certificate).as_ref() == expected;
                let keys = inner.on_datagram(now, datagram, is_right);
                inner.drain(out);
                self.deadline = inner.deadline(now);
                keys
            }
        }
    }

    pub(super) fn on_timeout(
        &mut self,
        now: Instant,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<Option<Keys>, DtlsError> {
        match &mut self.inner {
            Engine::All(inner) => {
                let outcome = inner.handle_timeout(now);
                let keys = self.drain(out)?;
                outcome.map_err(|_| DtlsError::Handshake)?;
                Ok(keys)
            }
            Engine::Sha1(inner) => {
                let outcome = inner.on_timeout(now);
                inner.drain(out);
                self.deadline = inner.deadline(now);
                outcome.map(|()| None)
            }
        }
    }

    pub(super) fn close(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        match &mut self.inner {
            Engine::All(inner) => {
                if inner.close().is_ok() {
                    let _ = self.drain(out);
                }
            }
            Engine::Sha1(inner) => {
                inner.close(now);
                inner.drain(out);
            }
        }
    }

    fn drain(&mut self, out: &mut Vec<Vec<u8>>) -> Result<Option<Keys>, DtlsError> {
        let Engine::All(inner) = &mut self.inner else { return Ok(None) };
        let mut buffer = vec![0; OUTPUT_MAX];
        loop {
            match inner.poll_output(&mut buffer) {
                Output::Packet(packet) => out.push(packet.to_vec()),
                Output::BufferTooSmall { .. } => return Err(DtlsError::Handshake),
                Output::PeerCert(certificate) => {
                    if digest(&SHA256, certificate).as_ref() != self.expected {
                        return Err(DtlsError::Fingerprint);
                    }
                    self.is_peer_known = true;
                }
                Output::KeyingMaterial(material, profile) => {
                    let session =
                        Session::new(profile, &material, self.is_client).ok_or(DtlsError::Profile)?;
                    self.keys = Some(Keys { session, profile: name_of(profile) });
                }
                Output::Connected => self.is_connected = true,
                Output::CloseNotify => return Err(DtlsError::Closed),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    let is_done = self.is_connected && self.is_peer_known;
                    return Ok(if is_done { self.keys.take() } else { None });
                }
                _ => {}
            }
        }
    }
}

fn name_of(profile: SrtpProfile) -> &'static str {
    match profile {
        SrtpProfile::AEAD_AES_128_GCM => "AEAD_AES_128_GCM",
        SrtpProfile::AEAD_AES_256_GCM => "AEAD_AES_256_GCM",
        SrtpProfile::AES128_CM_SHA1_80 => "AES128_CM_HMAC_SHA1_80",
        _ => "another",
    }
}
