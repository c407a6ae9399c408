//! DTLS 1.2 with one viewer, of which we are the server, and the keys that come out of it.
mod key;
mod record;
mod rsa;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use dimpl::certificate::generate_self_signed_certificate;
use dimpl::{Config, DtlsCertificate, Output};
use thiserror::Error;

use crate::sdp::Fingerprint;
use crate::srtp::{Srtp, SrtpError};

/// Bytes of one DTLS record that we send: a flight is cut to fit the path's smallest MTU.
const RECORD_MAX: usize = 1200;
/// The first wait for an answer to a flight; each further one is twice as long. RFC 6347, section 4.2.4.1, has a second,
/// browsers 50 ms: somebody waits for a picture.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(100);
/// Further tries, which together take as long as a viewer may need to connect.
const RETRANSMITS_MAX: usize = 8;
/// Room for anything the machine gives out at once; certificates of peers are the largest.
const OUTPUT_MAX: usize = 16 << 10;

/// Bytes that a viewer may send until it is connected, certificates of 8,192 bits and every repetition included: what it signs
/// wrongly is kept too.
const HANDSHAKE_BYTES_MAX: usize = 128 << 10;

/// Datagrams for the viewer, in their order.
pub(crate) type Flight = Vec<Vec<u8>>;

/// Why the handshake, or the session after it, is over.
#[derive(Debug, Error)]
pub(crate) enum DtlsError {
    #[error("the handshake failed: {0}")]
    Handshake(String),
    #[error("the viewer's certificate is not the one its offer announced")]
    Fingerprint,
    #[error("the viewer closed the session")]
    Closed,
    #[error(transparent)]
    Keys(#[from] SrtpError),
}

/// Our certificate, one for the life of the process, and its fingerprint.
#[derive(Debug)]
pub(crate) struct Identity {
    certificate: DtlsCertificate,
    /// One for all sessions: making it tries every cipher and curve, which takes twice as long as a handshake.
    config: Arc<Config>,
    pub(crate) fingerprint: Fingerprint,
}

impl Identity {
    /// Makes a self-signed ECDSA P-256 certificate.
    pub(crate) fn generate() -> Option<Self> {
        let certificate = generate_self_signed_certificate().ok()?;
        let fingerprint = fingerprint_of(&certificate.certificate);
        // The connectivity check has shown that the viewer is where it says it is: a cookie would show it again.
        let config = Config::builder()
            .with_crypto_provider(rsa::provider(key::provider(&certificate.private_key)?))
            .use_server_cookie(false)
            .mtu(RECORD_MAX - rsa::ADDED)
            .flight_start_rto(RETRANSMIT_AFTER)
            .flight_retries(RETRANSMITS_MAX)
            .build()
            .ok()?;
        Some(Self { certificate, config: Arc::new(config), fingerprint })
    }
}

/// One session.
pub(crate) struct Dtls {
    inner: dimpl::Dtls,
    expected: Fingerprint,
    is_peer_known: bool,
    /// Keys appear before the handshake is over, and before the peer's certificate is known to be right.
    keys: Option<Srtp>,
    is_connected: bool,
    /// Bytes that came before it was.
    received: usize,
    pub(crate) deadline: Instant,
}

impl Dtls {
    pub(crate) fn new(
        now: Instant,
        identity: &Identity,
        expected: Fingerprint,
    ) -> Result<Box<Self>, DtlsError> {
        let mut inner = dimpl::Dtls::new_12(Arc::clone(&identity.config), identity.certificate.clone(), now);
        inner.set_active(false);
        inner.handle_timeout(now).map_err(|error| DtlsError::Handshake(error.to_string()))?;
        Ok(Box::new(Self {
            inner,
            expected,
            is_peer_known: false,
            keys: None,
            is_connected: false,
            received: 0,
            deadline: now,
        }))
    }

    /// Feeds one datagram and writes what it leads to. Returns the keys once, when the peer is known and the handshake
    /// complete.
    pub(crate) fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        flight: &mut Flight,
    ) -> Result<Option<Srtp>, DtlsError> {
        // Also after the handshake: the machine answers a repetition of the viewer's last flight only when the time
        // since its answer before has passed by this clock. Otherwise a viewer that loses both never connects.
        let outcome = self.inner.handle_timeout(now);
        if !self.is_connected {
            outcome.map_err(|error| DtlsError::Handshake(error.to_string()))?;
            self.received = self.received.saturating_add(datagram.len());
            if self.received > HANDSHAKE_BYTES_MAX {
                return Err(DtlsError::Handshake("the viewer sends it without an end".to_owned()));
            }
        }
        // A single bad datagram must not end a session: anybody can send one from a forged address, and links lose and
        // swap them (RFC 6347, section 4.1.2.7). If a flight never arrives whole, the handshake times out.
        for records in record::split(datagram) {
            if let Err(error) = self.inner.handle_packet(records) {
                tracing::debug!(%error, "DTLS records were dropped");
            }
        }
        self.drain(flight)
    }

    /// Retransmits what is due.
    pub(crate) fn on_timeout(
        &mut self,
        now: Instant,
        flight: &mut Flight,
    ) -> Result<Option<Srtp>, DtlsError> {
        let outcome = self.inner.handle_timeout(now);
        let keys = self.drain(flight)?;
        outcome.map_err(|error| DtlsError::Handshake(error.to_string()))?;
        Ok(keys)
    }

    /// Tells the viewer that the session is over.
    pub(crate) fn close(&mut self, flight: &mut Flight) {
        if self.inner.close().is_ok() {
            let _ = self.drain(flight);
        }
    }

    fn drain(&mut self, flight: &mut Flight) -> Result<Option<Srtp>, DtlsError> {
        let mut buffer = vec![0; OUTPUT_MAX];
        loop {
            match self.inner.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    let mut datagram = packet.to_vec();
                    rsa::complete(&mut datagram);
                    flight.push(datagram);
                }
                Output::BufferTooSmall { .. } => {
                    return Err(DtlsError::Handshake("an output larger than any record".to_owned()));
                }
                Output::PeerCert(certificate) => {
                    if fingerprint_of(certificate) != self.expected {
                        return Err(DtlsError::Fingerprint);
                    }
                    self.is_peer_known = true;
                }
                Output::KeyingMaterial(keying, profile) => self.keys = Some(Srtp::new(profile, &keying)?),
                Output::Connected => self.is_connected = true,
                Output::CloseNotify => return Err(DtlsError::Closed),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    break;
                }
                _ => {}
            }
        }
        Ok(if self.is_connected && self.is_peer_known { self.keys.take() } else { None })
    }
}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dtls").field("is_connected", &self.is_connected).finish_non_exhaustive()
    }
}

fn fingerprint_of(certificate: &[u8]) -> Fingerprint {
    let hash = digest(&SHA256, certificate);
    Fingerprint::new(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A viewer made of the same machine, which does not know that its datagrams are counted.
    struct Viewer {
        inner: dimpl::Dtls,
        deadline: Instant,
        is_connected: bool,
    }

    impl Viewer {
        fn new(now: Instant, certificate: &DtlsCertificate) -> Self {
            let config = Arc::new(Config::builder().build().unwrap());
            let mut inner = dimpl::Dtls::new_12(config, certificate.clone(), now);
            inner.set_active(true);
            inner.handle_timeout(now).unwrap();
            Self { inner, deadline: now, is_connected: false }
        }

        fn drain(&mut self) -> Flight {
            let (mut flight, mut buffer) = (Flight::new(), vec![0; OUTPUT_MAX]);
            loop {
                match self.inner.poll_output(&mut buffer) {
                    Output::Packet(packet) => flight.push(packet.to_vec()),
                    Output::Connected => self.is_connected = true,
                    Output::Timeout(deadline) => {
                        self.deadline = deadline;
                        return flight;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Runs a handshake in virtual time. `is_lost` says of each of our datagrams since we were connected, counted from
    /// 0, whether it is lost.
    fn shake_hands(is_lost: impl Fn(usize) -> bool) -> (Viewer, Duration) {
        let began = Instant::now();
        let mut now = began;
        let identity = Identity::generate().unwrap();
        let certificate = generate_self_signed_certificate().unwrap();
        let mut viewer = Viewer::new(now, &certificate);
        let mut ours = Dtls::new(now, &identity, fingerprint_of(&certificate.certificate)).unwrap();
        let mut last_flights = 0;
        let mut sent = viewer.drain();
        while !viewer.is_connected && now < began + Duration::from_secs(20) {
            for datagram in std::mem::take(&mut sent) {
                let mut flight = Flight::new();
                ours.on_datagram(now, &datagram, &mut flight).unwrap();
                for datagram in flight {
                    let lost = ours.is_connected && is_lost(last_flights);
                    last_flights += usize::from(ours.is_connected);
                    if !lost {
                        viewer.inner.handle_packet(&datagram).unwrap();
                    }
                }
            }
            sent = viewer.drain();
            if sent.is_empty() && !viewer.is_connected {
                now = viewer.deadline;
                viewer.inner.handle_timeout(now).unwrap();
                sent = viewer.drain();
            }
        }
        (viewer, now - began)
    }

    #[test]
    fn a_viewer_connects_however_often_our_last_flight_is_lost() {
        let (viewer, took) = shake_hands(|_| false);
        assert!(viewer.is_connected && took.is_zero(), "{took:?}");
        for losses in 1..4 {
            let (viewer, took) = shake_hands(|datagram| datagram < losses);
            assert!(viewer.is_connected, "not in {took:?} after {losses} losses");
        }
    }

    #[test]
    fn a_handshake_that_never_ends_is_ended() {
        let now = Instant::now();
        let identity = Identity::generate().unwrap();
        let mut ours = Dtls::new(now, &identity, identity.fingerprint).unwrap();
        let mut flight = Flight::new();
        let mut send = || ours.on_datagram(now, &[0; 1024], &mut flight);
        let taken = (0..1_000).take_while(|_| send().is_ok()).count();
        assert_eq!(taken, HANDSHAKE_BYTES_MAX / 1024);
    }

    #[test]
    fn garbage_amid_a_handshake_is_dropped() {
        let now = Instant::now();
        let identity = Identity::generate().unwrap();
        let certificate = generate_self_signed_certificate().unwrap();
        let mut viewer = Viewer::new(now, &certificate);
        let mut ours = Dtls::new(now, &identity, fingerprint_of(&certificate.certificate)).unwrap();
        let mut flight = Flight::new();
        for hello in viewer.drain() {
            for len in 0..hello.len() {
                ours.on_datagram(now, &hello[..len], &mut flight).unwrap();
            }
            ours.on_datagram(now, &[22, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 3, 1, 2, 3], &mut flight)
                .unwrap();
            flight.clear();
            ours.on_datagram(now, &hello, &mut flight).unwrap();
        }
        assert!(!flight.is_empty(), "the hello itself is answered");
    }
}
