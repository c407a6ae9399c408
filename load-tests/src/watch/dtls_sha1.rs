//! DTLS that offers `SRTP_AES128_CM_HMAC_SHA1_80` and nothing else, as old clients do; of the `webrtc` crate, because
//! the other implementation always offers everything.
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::SrtpProfile;
use webrtc_core::crypto::default_provider;
use webrtc_core::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use webrtc_core::dtls::crypto::Certificate;
use webrtc_core::dtls::endpoint::{Endpoint, EndpointEvent};
use webrtc_core::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_core::shared::TransportProtocol;

use super::dtls::{DtlsError, Keys};
use super::srtp::Session;

/// RFC 5764, section 4.2: two keys of 16 bytes and two salts of 14.
const MATERIAL_LEN: usize = 60;
const LABEL: &str = "EXTRACTOR-dtls_srtp";
/// When nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
/// The machine tells peers apart by address; each of ours has only one, so any will do.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// The certificate and what is offered with it.
#[derive(Clone)]
pub(super) struct Offer {
    config: Arc<HandshakeConfig>,
    pub(super) certificate: Vec<u8>,
}

impl Offer {
    pub(super) fn generate() -> Option<Self> {
        let provider = default_provider().ok()?;
        let certificate =
            Certificate::generate_self_signed(vec!["viewer".to_owned()], provider.crypto()).ok()?;
        let der = certificate.certificate.first()?.to_vec();
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            // The fingerprint of the answer is what proves the server (RFC 8122), and we check it ourselves.
            .with_insecure_skip_verify(true)
            .build(true, None)
            .ok()?;
        Some(Self { config: Arc::new(config), certificate: der })
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").finish_non_exhaustive()
    }
}

/// One handshake, of which we are the client.
pub(super) struct Handshake {
    endpoint: Endpoint,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

impl Handshake {
    pub(super) fn start(now: Instant, offer: &Offer) -> Result<Self, DtlsError> {
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        endpoint.connect(now, PEER, Arc::clone(&offer.config), None).map_err(|_| DtlsError::Handshake)?;
        Ok(Self { endpoint })
    }

    /// Takes a datagram. `check` says whether a certificate is the right one.
    pub(super) fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        check: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Keys>, DtlsError> {
        // A damaged datagram is dropped; what it broke shows in a timeout.
        let events = self.endpoint.read(now, PEER, None, datagram.into()).unwrap_or_default();
        let mut keys = None;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => keys = Some(self.keys(&check)?),
                EndpointEvent::PeerClosed => return Err(DtlsError::Closed),
                _ => {}
            }
        }
        Ok(keys)
    }

    pub(super) fn on_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        self.endpoint.handle_timeout(PEER, now).map_err(|_| DtlsError::Handshake)
    }

    pub(super) fn deadline(&self, now: Instant) -> Instant {
        self.endpoint.poll_timeout(&PEER).unwrap_or(now + IDLE)
    }

    pub(super) fn close(&mut self, now: Instant) {
        let _ = self.endpoint.close(now);
    }

    /// Appends what is to be sent.
    pub(super) fn drain(&mut self, out: &mut Vec<Vec<u8>>) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            out.push(transmit.message.to_vec());
        }
    }

    fn keys(&self, check: impl Fn(&[u8]) -> bool) -> Result<Keys, DtlsError> {
        let state = self.endpoint.get_connection_state(PEER).ok_or(DtlsError::Handshake)?;
        if !state.peer_certificates.first().is_some_and(|certificate| check(certificate)) {
            return Err(DtlsError::Fingerprint);
        }
        if state.srtp_protection_profile() != SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 {
            return Err(DtlsError::Profile);
        }
        let material = state
            .export_keying_material(LABEL, &[], MATERIAL_LEN)
            .map_err(|_| DtlsError::Handshake)?
            .into_bytes();
        let session =
            Session::new(SrtpProfile::AES128_CM_SHA1_80, &material, true).ok_or(DtlsError::Profile)?;
        Ok(Keys { session, profile: "AES128_CM_HMAC_SHA1_80" })
    }
}
