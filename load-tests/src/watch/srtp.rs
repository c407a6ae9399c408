//! SRTP of a receiver: media is opened, RTCP is opened and sealed.
//!
//! AES-GCM as in RFC 7714, AES-CM with HMAC-SHA1-80 as in RFC 3711. Keys come from DTLS (RFC 5764, section 4.2).
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use dimpl::SrtpProfile;

/// RFC 7714, section 5: the tag of AES-GCM.
const GCM_TAG_LEN: usize = 16;
/// RFC 3711, section 5.2: the tag of HMAC-SHA1-80.
const SHA1_TAG_LEN: usize = 10;
/// RFC 3711, section 3.4: the word that follows an SRTCP packet, and its flag for "encrypted".
const TRAILER_LEN: usize = 4;
const ENCRYPTED: u32 = 1 << 31;
/// The part of an RTCP packet that stays in the clear: header and SSRC.
const RTCP_CLEAR_LEN: usize = 8;

/// What protects one viewer's session.
#[derive(Debug)]
pub(super) struct Session {
    media: Direction,
    control_in: Direction,
    control_out: Direction,
    control_index: u32,
}

/// Keys of one direction and one kind of packet.
#[derive(Debug)]
enum Direction {
    Gcm { key: Box<LessSafeKey>, salt: [u8; 12] },
    CounterMode { key: Box<EncryptingKey>, salt: [u8; 14], auth: Box<hmac::Key> },
}

/// Which of the derived keys (RFC 3711, section 4.3.2).
#[derive(Clone, Copy)]
enum Use {
    Rtp = 0,
    Rtcp = 3,
}

impl Session {
    /// From what DTLS exported; `None` when the profile is unknown or the material does not fit it.
    pub(super) fn new(profile: SrtpProfile, material: &[u8], is_dtls_client: bool) -> Option<Self> {
        let (key_len, salt_len) = match profile {
            SrtpProfile::AEAD_AES_128_GCM => (16, 12),
            SrtpProfile::AEAD_AES_256_GCM => (32, 12),
            SrtpProfile::AES128_CM_SHA1_80 => (16, 14),
            _ => return None,
        };
        if material.len() != 2 * (key_len + salt_len) {
            return None;
        }
        let (keys, salts) = material.split_at(2 * key_len);
        let client = (keys.get(..key_len)?, salts.get(..salt_len)?);
        let server = (keys.get(key_len..)?, salts.get(salt_len..)?);
        let (ours, theirs) = if is_dtls_client { (client, server) } else { (server, client) };
        let is_gcm = !matches!(profile, SrtpProfile::AES128_CM_SHA1_80);
        Some(Self {
            media: Direction::derive(is_gcm, theirs, Use::Rtp)?,
            control_in: Direction::derive(is_gcm, theirs, Use::Rtcp)?,
            control_out: Direction::derive(is_gcm, ours, Use::Rtcp)?,
            control_index: 0,
        })
    }

    /// Opens the RTP packet in place and returns its payload, padding included; `None` when it is forged or damaged.
    ///
    /// `index` is the packet's 48-bit index (RFC 3711, section 3.3.1).
    pub(super) fn open_rtp<'a>(
        &self,
        packet: &'a mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Option<&'a [u8]> {
        let index_bytes = index.to_be_bytes();
        match &self.media {
            Direction::Gcm { key, salt } => {
                let mut nonce = *salt;
                mix(nonce.get_mut(2..)?, &ssrc.to_be_bytes());
                mix(nonce.get_mut(6..)?, index_bytes.get(2..)?);
                let (header, sealed) = packet.split_at_mut_checked(header_len)?;
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, Aad::from(&*header), sealed).ok().map(|plain| &*plain)
            }
            Direction::CounterMode { key, salt, auth } => {
                let (signed, tag) = packet.split_at_mut_checked(packet.len().checked_sub(SHA1_TAG_LEN)?)?;
                let mut mac = hmac::Context::with_key(auth);
                mac.update(signed);
                mac.update(index_bytes.get(2..6)?);
                verify_slices_are_equal(mac.sign().as_ref().get(..SHA1_TAG_LEN)?, tag).ok()?;
                let body = signed.get_mut(header_len..)?;
                apply_keystream(key, salt, ssrc, index, body)?;
                Some(body)
            }
        }
    }

    /// Opens a compound RTCP packet in place.
    pub(super) fn open_rtcp<'a>(&self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let is_gcm = matches!(self.control_in, Direction::Gcm { .. });
        // RFC 7714, section 9.3: tag, then the word. RFC 3711, section 3.4: the word, then the tag.
        let tag_len = if is_gcm { 0 } else { SHA1_TAG_LEN };
        let (signed, tag) = packet.split_at_mut_checked(packet.len().checked_sub(tag_len)?)?;
        if let Direction::CounterMode { auth, .. } = &self.control_in {
            verify_slices_are_equal(hmac::sign(auth, signed).as_ref().get(..SHA1_TAG_LEN)?, tag).ok()?;
        }
        let (body, trailer) = signed.split_at_mut_checked(signed.len().checked_sub(TRAILER_LEN)?)?;
        let trailer: [u8; TRAILER_LEN] = (&*trailer).try_into().ok()?;
        let word = u32::from_be_bytes(trailer);
        let (index, is_encrypted) = (word & !ENCRYPTED, word & ENCRYPTED != 0);
        let (clear, sealed) = body.split_at_mut_checked(RTCP_CLEAR_LEN)?;
        let ssrc = u32::from_be_bytes(clear.get(4..8)?.try_into().ok()?);
        let len = match &self.control_in {
            Direction::Gcm { key, salt } => {
                if !is_encrypted {
                    return None;
                }
                let mut aad = [0; RTCP_CLEAR_LEN + TRAILER_LEN];
                mix(&mut aad, clear);
                mix(aad.get_mut(RTCP_CLEAR_LEN..)?, &trailer);
                let plain =
                    key.open_in_place(control_nonce(salt, ssrc, index)?, Aad::from(aad), sealed).ok()?;
                RTCP_CLEAR_LEN + plain.len()
            }
            Direction::CounterMode { key, salt, .. } => {
                if is_encrypted {
                    apply_keystream(key, salt, ssrc, u64::from(index), sealed)?;
                }
                RTCP_CLEAR_LEN + sealed.len()
            }
        };
        packet.get(..len)
    }

    /// Seals a compound RTCP packet: tag and index are appended.
    pub(super) fn seal_rtcp(&mut self, packet: &mut Vec<u8>) -> Option<()> {
        self.control_index = (self.control_index + 1) & !ENCRYPTED;
        let index = self.control_index;
        let trailer = (index | ENCRYPTED).to_be_bytes();
        let (clear, body) = packet.split_at_mut_checked(RTCP_CLEAR_LEN)?;
        let ssrc = u32::from_be_bytes(clear.get(4..8)?.try_into().ok()?);
        match &self.control_out {
            Direction::Gcm { key, salt } => {
                let mut aad = [0; RTCP_CLEAR_LEN + TRAILER_LEN];
                mix(&mut aad, clear);
                mix(aad.get_mut(RTCP_CLEAR_LEN..)?, &trailer);
                let nonce = control_nonce(salt, ssrc, index)?;
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), body).ok()?;
                packet.extend_from_slice(tag.as_ref().get(..GCM_TAG_LEN)?);
                packet.extend_from_slice(&trailer);
            }
            Direction::CounterMode { key, salt, auth } => {
                apply_keystream(key, salt, ssrc, u64::from(index), body)?;
                packet.extend_from_slice(&trailer);
                let tag = hmac::sign(auth, packet);
                packet.extend_from_slice(tag.as_ref().get(..SHA1_TAG_LEN)?);
            }
        }
        Some(())
    }
}

impl Direction {
    fn derive(is_gcm: bool, (key, salt): (&[u8], &[u8]), used_for: Use) -> Option<Self> {
        let label = used_for as u8;
        let mut session_key = vec![0; key.len()];
        expand(key, salt, label, &mut session_key)?;
        if is_gcm {
            let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
            let unbound = UnboundKey::new(algorithm, &session_key).ok()?;
            let mut session_salt = [0; 12];
            expand(key, salt, label + 2, &mut session_salt)?;
            return Some(Self::Gcm { key: Box::new(LessSafeKey::new(unbound)), salt: session_salt });
        }
        let mut auth = [0; 20];
        expand(key, salt, label + 1, &mut auth)?;
        let mut session_salt = [0; 14];
        expand(key, salt, label + 2, &mut session_salt)?;
        let auth = Box::new(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth));
        Some(Self::CounterMode { key: Box::new(counter_key(&session_key)?), salt: session_salt, auth })
    }
}

/// The key derivation of RFC 3711, section 4.3, with a derivation rate of 0. A salt of 12 bytes stands on the left
/// (RFC 7714, section 11).
fn expand(key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Option<()> {
    let mut block = [0; 16];
    mix(&mut block, salt);
    mix(block.get_mut(7..)?, &[label]);
    out.fill(0);
    keystream(&counter_key(key)?, block, out)
}

fn counter_key(key: &[u8]) -> Option<EncryptingKey> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key).ok()?).ok()
}

fn keystream(key: &EncryptingKey, block: [u8; 16], data: &mut [u8]) -> Option<()> {
    key.less_safe_encrypt(data, EncryptionContext::Iv128(FixedLength::from(block))).ok().map(drop)
}

/// RFC 3711, section 4.1.1.
fn apply_keystream(key: &EncryptingKey, salt: &[u8], ssrc: u32, index: u64, data: &mut [u8]) -> Option<()> {
    let mut block = [0; 16];
    mix(&mut block, salt);
    mix(block.get_mut(4..)?, &ssrc.to_be_bytes());
    mix(block.get_mut(8..)?, index.to_be_bytes().get(2..)?);
    keystream(key, block, data)
}

/// RFC 7714, section 9.1.
fn control_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Option<Nonce> {
    let mut nonce = *salt;
    mix(nonce.get_mut(2..)?, &ssrc.to_be_bytes());
    mix(nonce.get_mut(8..)?, &index.to_be_bytes());
    Some(Nonce::assume_unique_for_key(nonce))
}

fn mix(into: &mut [u8], with: &[u8]) {
    into.iter_mut().zip(with).for_each(|(byte, other)| *byte ^= other);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILES: [(SrtpProfile, usize); 3] = [
        (SrtpProfile::AEAD_AES_128_GCM, 56),
        (SrtpProfile::AEAD_AES_256_GCM, 88),
        (SrtpProfile::AES128_CM_SHA1_80, 60),
    ];

    fn pair(profile: SrtpProfile, len: usize) -> (Session, Session) {
        let material: Vec<u8> = (0..len).map(|n| u8::try_from(n * 7 % 256).unwrap()).collect();
        let [client, server] =
            [true, false].map(|is_client| Session::new(profile, &material, is_client).unwrap());
        (client, server)
    }

    #[test]
    fn what_one_end_seals_the_other_opens_and_nobody_else() {
        for (profile, len) in PROFILES {
            let (mut client, server) = pair(profile, len);
            let plain: Vec<u8> = [0x80, 201, 0, 1].into_iter().chain(0..40).collect();
            let mut sealed = plain.clone();
            client.seal_rtcp(&mut sealed).unwrap();
            assert_ne!(sealed.get(8..plain.len()), plain.get(8..));
            let mut forged = sealed.clone();
            forged[12] ^= 1;
            assert_eq!(server.open_rtcp(&mut forged), None);
            assert_eq!(client.open_rtcp(&mut sealed.clone()), None, "the directions have keys of their own");
            assert_eq!(server.open_rtcp(&mut sealed), Some(&plain[..]));
        }
    }

    /// RFC 3711, appendix B.3.
    #[test]
    fn keys_are_derived_as_in_the_standard() {
        let key =
            [0xE1, 0xF9, 0x7A, 0x0D, 0x3E, 0x01, 0x8B, 0xE0, 0xD6, 0x4F, 0xA3, 0x2C, 0x06, 0xDE, 0x41, 0x39];
        let salt = [0x0E, 0xC6, 0x75, 0xAD, 0x49, 0x8A, 0xFE, 0xEB, 0xB6, 0x96, 0x0B, 0x3A, 0xAB, 0xE6];
        let mut out = [0; 16];
        expand(&key, &salt, 0, &mut out).unwrap();
        let expected =
            [0xC6, 0x1E, 0x7A, 0x93, 0x74, 0x4F, 0x39, 0xEE, 0x10, 0x73, 0x4A, 0xFE, 0x3F, 0xF7, 0xA0, 0x87];
        assert_eq!(out, expected);
    }

    #[test]
    fn nothing_short_or_odd_does_harm() {
        for (profile, len) in PROFILES {
            let (client, _) = pair(profile, len);
            for len in 0..80 {
                let mut bytes = vec![0x80; len];
                assert_eq!(client.open_rtcp(&mut bytes), None);
                assert_eq!(client.open_rtp(&mut bytes, 12, 1, 1), None);
            }
            assert!(Session::new(profile, &[0; 3], true).is_none());
        }
    }
}
