//! SRTP and SRTCP: AES-GCM (RFC 7714) where the viewer can, AES-CM with HMAC-SHA1-80 (RFC 3711) where it cannot.
//!
//! Only what a sender needs: RTP is sealed, RTCP is sealed and opened. Keys come from DTLS (RFC 5764, section 4.2); we
//! are always the DTLS server.
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use dimpl::SrtpProfile;
use thiserror::Error;

/// Why protection failed. Nothing in it depends on secrets.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SrtpError {
    #[error("the keying material has {0} bytes, which is not what the profile needs")]
    KeyLength(usize),
    #[error("the protection profile is not supported")]
    Profile,
    #[error("the cryptographic library refused")]
    Crypto,
}

/// RFC 3711, section 4.3.1: the labels of the key derivation.
const LABEL_RTP_KEY: u8 = 0;
const LABEL_RTP_AUTH: u8 = 1;
const LABEL_RTP_SALT: u8 = 2;
const LABEL_RTCP_KEY: u8 = 3;
const LABEL_RTCP_AUTH: u8 = 4;
const LABEL_RTCP_SALT: u8 = 5;

/// Bytes that are sent in the clear at the head of every RTCP packet.
const RTCP_HEADER_LEN: usize = 8;
/// RFC 3711, section 5.2: the tag of HMAC-SHA1-80.
const SHA1_TAG_LEN: usize = 10;
/// RFC 3711, section 3.4: the flag that says an SRTCP packet is encrypted, in the word that carries the index.
const ENCRYPTED: u32 = 0x8000_0000;
/// Sources of one viewer that are remembered as reporting: a browser has one for each track.
const REPORTERS_MAX: usize = 8;

/// Both directions of one viewer's protected media.
#[derive(Debug)]
pub(crate) struct Srtp {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    rtcp_in: Cipher,
    rtcp_index: u32,
    replays: Replays,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "GCM is the common case, and used for every packet")]
enum Cipher {
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    Sha1 { key: Box<EncryptingKey>, salt: [u8; 14], auth: hmac::Key },
}

impl Srtp {
    /// From what DTLS exported.
    pub(crate) fn new(profile: SrtpProfile, keying: &[u8]) -> Result<Self, SrtpError> {
        let (key_len, salt_len) = match profile {
            SrtpProfile::AEAD_AES_128_GCM => (16, 12),
            SrtpProfile::AEAD_AES_256_GCM => (32, 12),
            SrtpProfile::AES128_CM_SHA1_80 => (16, 14),
            _ => return Err(SrtpError::Profile),
        };
        if keying.len() != 2 * (key_len + salt_len) {
            return Err(SrtpError::KeyLength(keying.len()));
        }
        // RFC 5764, section 4.2: client key, server key, client salt, server salt.
        let (keys, salts) = keying.split_at(2 * key_len);
        let (client_key, server_key) = keys.split_at(key_len);
        let (client_salt, server_salt) = salts.split_at(salt_len);
        Ok(Self {
            profile,
            rtp: Cipher::new(profile, server_key, server_salt, LABEL_RTP_KEY)?,
            rtcp: Cipher::new(profile, server_key, server_salt, LABEL_RTCP_KEY)?,
            rtcp_in: Cipher::new(profile, client_key, client_salt, LABEL_RTCP_KEY)?,
            rtcp_index: 0,
            replays: Replays::default(),
        })
    }

    pub(crate) fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Seals the RTP packet that begins at `start` in `arena` and has `header_len` bytes of header; the tag is appended.
    ///
    /// `index` is the packet's 48-bit index: rollover counter and sequence number. The same index may be sealed again
    /// only for the same bytes.
    pub(crate) fn protect_rtp(
        &self,
        arena: &mut Vec<u8>,
        start: usize,
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<(), SrtpError> {
        let packet = arena.get_mut(start..).ok_or(SrtpError::Crypto)?;
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                // RFC 7714, section 8.1: 16 zero bits, SSRC, ROC, SEQ, all under the salt.
                let mut nonce = *salt;
                xor(&mut nonce, 2, &ssrc.to_be_bytes());
                xor(&mut nonce, 6, index.to_be_bytes().get(2..).unwrap_or(&[]));
                let (header, body) = packet.split_at_mut_checked(header_len).ok_or(SrtpError::Crypto)?;
                let tag = key
                    .seal_in_place_separate_tag(
                        Nonce::assume_unique_for_key(nonce),
                        Aad::from(&*header),
                        body,
                    )
                    .map_err(|_| SrtpError::Crypto)?;
                arena.extend_from_slice(tag.as_ref());
            }
            Cipher::Sha1 { key, salt, auth } => {
                let body = packet.get_mut(header_len..).ok_or(SrtpError::Crypto)?;
                counter_mode(key, salt, ssrc, index, body)?;
                let mut mac = hmac::Context::with_key(auth);
                mac.update(packet);
                // RFC 3711, section 4.2: the rollover counter is authenticated but not sent.
                let rollover = u32::try_from((index >> 16) & 0xffff_ffff).unwrap_or(0);
                mac.update(&rollover.to_be_bytes());
                let tag = mac.sign();
                arena.extend_from_slice(tag.as_ref().get(..SHA1_TAG_LEN).unwrap_or(&[]));
            }
        }
        Ok(())
    }

    /// Seals the RTCP packet that begins at `start` in `arena`; index and tag are appended.
    pub(crate) fn protect_rtcp(&mut self, arena: &mut Vec<u8>, start: usize) -> Result<(), SrtpError> {
        self.rtcp_index = (self.rtcp_index + 1) & !ENCRYPTED;
        let index = self.rtcp_index;
        let trailer = (index | ENCRYPTED).to_be_bytes();
        let packet = arena.get_mut(start..).ok_or(SrtpError::Crypto)?;
        let (header, body) = packet.split_at_mut_checked(RTCP_HEADER_LEN).ok_or(SrtpError::Crypto)?;
        let ssrc = ssrc_of(header);
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let tag = key
                    .seal_in_place_separate_tag(
                        rtcp_nonce(salt, ssrc, index),
                        rtcp_aad(header, trailer),
                        body,
                    )
                    .map_err(|_| SrtpError::Crypto)?;
                arena.extend_from_slice(tag.as_ref());
                arena.extend_from_slice(&trailer);
            }
            Cipher::Sha1 { key, salt, auth } => {
                counter_mode(key, salt, ssrc, u64::from(index), body)?;
                arena.extend_from_slice(&trailer);
                let tag = hmac::sign(auth, arena.get(start..).unwrap_or(&[]));
                arena.extend_from_slice(tag.as_ref().get(..SHA1_TAG_LEN).unwrap_or(&[]));
            }
        }
        Ok(())
    }

    /// Opens a received RTCP packet in place; `None` when it is forged, damaged or was seen before.
    pub(crate) fn unprotect_rtcp<'a>(&mut self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let len = match &self.rtcp_in {
            Cipher::Gcm { key, salt } => {
                let at = packet.len().checked_sub(4)?;
                let (sealed, trailer) = packet.split_at_mut_checked(at)?;
                let trailer = *trailer.first_chunk::<4>()?;
                let word = u32::from_be_bytes(trailer);
                let (header, body) = sealed.split_at_mut_checked(RTCP_HEADER_LEN)?;
                let (ssrc, index) = (ssrc_of(header), word & !ENCRYPTED);
                if word & ENCRYPTED == 0 || !self.replays.is_new(ssrc, index) {
                    return None;
                }
                let nonce = rtcp_nonce(salt, ssrc, index);
                let plain = key.open_in_place(nonce, rtcp_aad(header, trailer), body).ok()?.len();
                self.replays.mark(ssrc, index);
                RTCP_HEADER_LEN + plain
            }
            Cipher::Sha1 { key, salt, auth } => {
                let at = packet.len().checked_sub(SHA1_TAG_LEN)?;
                let (signed, tag) = packet.split_at_mut_checked(at)?;
                let expected = hmac::sign(auth, signed);
                aws_lc_rs::constant_time::verify_slices_are_equal(
                    expected.as_ref().get(..SHA1_TAG_LEN)?,
                    tag,
                )
                .ok()?;
                let (sealed, trailer) = signed.split_at_mut_checked(signed.len().checked_sub(4)?)?;
                let word = u32::from_be_bytes(*trailer.first_chunk::<4>()?);
                let (header, body) = sealed.split_at_mut_checked(RTCP_HEADER_LEN)?;
                let (ssrc, index) = (ssrc_of(header), word & !ENCRYPTED);
                if !self.replays.is_new(ssrc, index) {
                    return None;
                }
                if word & ENCRYPTED != 0 {
                    counter_mode(key, salt, ssrc, u64::from(index), body).ok()?;
                }
                self.replays.mark(ssrc, index);
                sealed.len()
            }
        };
        packet.get(..len)
    }
}

impl Cipher {
    /// Derives the session keys whose first label is `label`; those of RTCP are 3 further on.
    fn new(profile: SrtpProfile, key: &[u8], salt: &[u8], label: u8) -> Result<Self, SrtpError> {
        let rtcp = label - LABEL_RTP_KEY;
        debug_assert!(
            rtcp == 0 || LABEL_RTCP_AUTH - LABEL_RTP_AUTH == rtcp && LABEL_RTCP_SALT - LABEL_RTP_SALT == rtcp
        );
        let mut session_key = [0; 32];
        let session_key = session_key.get_mut(..key.len()).ok_or(SrtpError::KeyLength(key.len()))?;
        derive(key, salt, label, session_key)?;
        let gcm = |algorithm: &'static Algorithm, session_key: &[u8]| -> Result<Self, SrtpError> {
            let mut session_salt = [0; 12];
            derive(key, salt, LABEL_RTP_SALT + rtcp, &mut session_salt)?;
            let key = UnboundKey::new(algorithm, session_key).map_err(|_| SrtpError::Crypto)?;
            Ok(Self::Gcm { key: LessSafeKey::new(key), salt: session_salt })
        };
        match profile {
            SrtpProfile::AEAD_AES_128_GCM => gcm(&AES_128_GCM, session_key),
            SrtpProfile::AEAD_AES_256_GCM => gcm(&AES_256_GCM, session_key),
            SrtpProfile::AES128_CM_SHA1_80 => {
                let mut session_salt = [0; 14];
                derive(key, salt, LABEL_RTP_SALT + rtcp, &mut session_salt)?;
                let mut auth = [0; 20];
                derive(key, salt, LABEL_RTP_AUTH + rtcp, &mut auth)?;
                Ok(Self::Sha1 {
                    key: Box::new(ctr_key(session_key)?),
                    salt: session_salt,
                    auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth),
                })
            }
            _ => Err(SrtpError::Profile),
        }
    }
}

/// RFC 3711, section 4.3: AES in counter mode over zeros, the counter being salt and label. RFC 7714, section 11, uses
/// the same with a salt of 12 bytes, padded on the right.
fn derive(key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Result<(), SrtpError> {
    let mut counter = [0; 16];
    xor(&mut counter, 0, salt);
    xor(&mut counter, 7, &[label]);
    out.fill(0);
    encrypt(&ctr_key(key)?, counter, out)
}

fn ctr_key(key: &[u8]) -> Result<EncryptingKey, SrtpError> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| SrtpError::Crypto)?;
    EncryptingKey::ctr(key).map_err(|_| SrtpError::Crypto)
}

fn encrypt(key: &EncryptingKey, counter: [u8; 16], data: &mut [u8]) -> Result<(), SrtpError> {
    let context = EncryptionContext::Iv128(FixedLength::from(counter));
    key.less_safe_encrypt(data, context).map(drop).map_err(|_| SrtpError::Crypto)
}

/// RFC 3711, section 4.1.1: the counter is the salt, the SSRC and the packet index.
fn counter_mode(
    key: &EncryptingKey,
    salt: &[u8; 14],
    ssrc: u32,
    index: u64,
    data: &mut [u8],
) -> Result<(), SrtpError> {
    let mut counter = [0; 16];
    xor(&mut counter, 0, salt);
    xor(&mut counter, 4, &ssrc.to_be_bytes());
    xor(&mut counter, 8, index.to_be_bytes().get(2..).unwrap_or(&[]));
    encrypt(key, counter, data)
}

/// RFC 7714, section 9.1: 16 zero bits, SSRC, 16 zero bits, the SRTCP index.
fn rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Nonce {
    let mut nonce = *salt;
    xor(&mut nonce, 2, &ssrc.to_be_bytes());
    xor(&mut nonce, 8, &index.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714, section 9.2: header and trailer are authenticated beside the sealed part.
fn rtcp_aad(header: &[u8], trailer: [u8; 4]) -> Aad<[u8; 12]> {
    let mut aad = [0; 12];
    xor(&mut aad, 0, header);
    xor(&mut aad, RTCP_HEADER_LEN, &trailer);
    Aad::from(aad)
}

fn ssrc_of(header: &[u8]) -> u32 {
    header.get(4..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |ssrc| u32::from_be_bytes(*ssrc))
}

fn xor(target: &mut [u8], offset: usize, with: &[u8]) {
    for (byte, other) in target.iter_mut().skip(offset).zip(with) {
        *byte ^= other;
    }
}

/// The replay window of each source that reports: they count their packets apart (RFC 3711, section 3.2.3). The latest
/// heard of is last.
#[derive(Debug, Default)]
struct Replays(Vec<(u32, Replay)>);

impl Replays {
    fn is_new(&self, ssrc: u32, index: u32) -> bool {
        self.0.iter().find(|(known, _)| *known == ssrc).is_none_or(|(_, replay)| replay.is_new(index))
    }

    /// Only for packets that are authentic: nobody else may push a window out.
    fn mark(&mut self, ssrc: u32, index: u32) {
        let known = self.0.iter().position(|(known, _)| *known == ssrc);
        let (_, mut replay) = known.map(|at| self.0.remove(at)).unwrap_or_default();
        replay.mark(index);
        if self.0.len() >= REPORTERS_MAX {
            self.0.remove(0);
        }
        self.0.push((ssrc, replay));
    }
}

/// RFC 3711, section 3.3.2: which of the last 64 indices have been seen.
#[derive(Debug, Default)]
struct Replay {
    next: u64,
    seen: u64,
}

impl Replay {
    fn is_new(&self, index: u32) -> bool {
        match self.next.checked_sub(1 + u64::from(index)) {
            None => true,
            Some(age) => age < 64 && self.seen & (1 << age) == 0,
        }
    }

    fn mark(&mut self, index: u32) {
        let after = u64::from(index) + 1;
        if let Some(ahead) = after.checked_sub(self.next).filter(|ahead| *ahead > 0) {
            self.seen = if ahead < 64 { self.seen << ahead } else { 0 };
            self.next = after;
        }
        self.seen |= 1 << (self.next - after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keying(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i % 256).unwrap()).collect()
    }

    /// What the other end has: the two directions change places.
    fn client(profile: SrtpProfile, keying: &[u8]) -> Srtp {
        let salt_len = if matches!(profile, SrtpProfile::AES128_CM_SHA1_80) { 14 } else { 12 };
        let key_len = keying.len() / 2 - salt_len;
        let (keys, salts) = keying.split_at(2 * key_len);
        let swapped = [&keys[key_len..], &keys[..key_len], &salts[salt_len..], &salts[..salt_len]].concat();
        Srtp::new(profile, &swapped).unwrap()
    }

    const PROFILES: [(SrtpProfile, usize); 3] = [
        (SrtpProfile::AEAD_AES_128_GCM, 56),
        (SrtpProfile::AEAD_AES_256_GCM, 88),
        (SrtpProfile::AES128_CM_SHA1_80, 60),
    ];

    #[test]
    fn rtcp_survives_the_round_trip_once() {
        for (profile, len) in PROFILES {
            let mut server = Srtp::new(profile, &keying(len)).unwrap();
            let mut client = client(profile, &keying(len));
            let plain = [0x81, 201, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
            let mut sealed = plain.to_vec();
            client.protect_rtcp(&mut sealed, 0).unwrap();
            assert_ne!(sealed[8..16], plain[8..]);
            let mut again = sealed.clone();
            let mut forged = sealed.clone();
            forged[9] ^= 1;
            assert_eq!(server.unprotect_rtcp(&mut forged), None, "{profile:?} must notice a changed byte");
            assert_eq!(server.unprotect_rtcp(&mut sealed), Some(&plain[..]), "{profile:?}");
            assert_eq!(server.unprotect_rtcp(&mut again), None, "{profile:?} must notice a replay");
        }
    }

    /// A report of `ssrc`, sealed as the packet `index` of its source.
    fn report(client: &mut Srtp, ssrc: u32, index: u32) -> Vec<u8> {
        let mut sealed = [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat();
        client.rtcp_index = index - 1;
        client.protect_rtcp(&mut sealed, 0).unwrap();
        sealed
    }

    #[test]
    fn every_source_counts_its_reports_apart() {
        for (profile, len) in PROFILES {
            let mut server = Srtp::new(profile, &keying(len)).unwrap();
            let mut client = client(profile, &keying(len));
            for (ssrc, index) in [(1, 500), (2, 1), (2, 2), (1, 501), (3, 1), (2, 3)] {
                let sealed = report(&mut client, ssrc, index);
                assert!(server.unprotect_rtcp(&mut sealed.clone()).is_some(), "{profile:?} {ssrc} {index}");
                assert!(server.unprotect_rtcp(&mut sealed.clone()).is_none(), "{profile:?} replay");
            }
        }
    }

    #[test]
    fn remembered_reporters_are_bounded_and_only_authentic_packets_displace_them() {
        let (profile, len) = PROFILES[0];
        let mut server = Srtp::new(profile, &keying(len)).unwrap();
        let mut client = client(profile, &keying(len));
        let first = report(&mut client, 1, 1);
        assert!(server.unprotect_rtcp(&mut first.clone()).is_some());
        for ssrc in 100..1000 {
            let mut forged = report(&mut client, ssrc, 1);
            forged[10] ^= 1;
            assert!(server.unprotect_rtcp(&mut forged).is_none());
        }
        assert!(server.unprotect_rtcp(&mut first.clone()).is_none(), "its window is still there");
        for ssrc in 100..1000 {
            assert!(server.unprotect_rtcp(&mut report(&mut client, ssrc, 1)).is_some());
            assert!(server.replays.0.len() <= REPORTERS_MAX);
        }
    }

    #[test]
    fn reports_are_numbered_from_one() {
        for (profile, len) in PROFILES {
            let tag_len = if matches!(profile, SrtpProfile::AES128_CM_SHA1_80) { SHA1_TAG_LEN } else { 0 };
            let mut srtp = Srtp::new(profile, &keying(len)).unwrap();
            for number in 1..4_u32 {
                let mut arena = vec![0x80; 28];
                srtp.protect_rtcp(&mut arena, 0).unwrap();
                let (_, index) = arena[..arena.len() - tag_len].split_last_chunk::<4>().unwrap();
                assert_eq!(u32::from_be_bytes(*index), ENCRYPTED | number, "{profile:?}");
            }
        }
    }

    #[test]
    fn each_of_the_last_64_indices_is_taken_once_in_any_order() {
        let (mut replay, mut known) = (Replay::default(), std::collections::HashSet::new());
        let (mut state, mut highest) = (1_u32, 0);
        for step in 0..20_000_u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let index = step / 3 + (state >> 16) % 90;
            let is_new = !known.contains(&index) && index + 64 > highest;
            assert_eq!(replay.is_new(index), is_new, "{index} when {highest} was the highest");
            if is_new {
                replay.mark(index);
                known.insert(index);
                highest = highest.max(index);
            }
        }
    }

    #[test]
    fn short_rtcp_is_refused() {
        for (profile, len) in PROFILES {
            let mut server = Srtp::new(profile, &keying(len)).unwrap();
            for short in 0..32 {
                assert_eq!(server.unprotect_rtcp(&mut vec![0x80; short]), None);
            }
        }
    }

    /// RFC 3711, appendix B.3: the session keys that the derivation must give.
    #[test]
    fn the_key_derivation_gives_the_values_of_rfc_3711() {
        let key =
            [0xe1, 0xf9, 0x7a, 0x0d, 0x3e, 0x01, 0x8b, 0xe0, 0xd6, 0x4f, 0xa3, 0x2c, 0x06, 0xde, 0x41, 0x39];
        let salt = [0x0e, 0xc6, 0x75, 0xad, 0x49, 0x8a, 0xfe, 0xeb, 0xb6, 0x96, 0x0b, 0x3a, 0xab, 0xe6];
        let mut out = [0; 16];
        derive(&key, &salt, LABEL_RTP_KEY, &mut out).unwrap();
        assert_eq!(
            out,
            [0xc6, 0x1e, 0x7a, 0x93, 0x74, 0x4f, 0x39, 0xee, 0x10, 0x73, 0x4a, 0xfe, 0x3f, 0xf7, 0xa0, 0x87]
        );
        let mut out = [0; 14];
        derive(&key, &salt, LABEL_RTP_SALT, &mut out).unwrap();
        assert_eq!(out, [0x30, 0xcb, 0xbc, 0x08, 0x86, 0x3d, 0x8c, 0x85, 0xd4, 0x9d, 0xb3, 0x4a, 0x9a, 0xe1]);
    }

    #[test]
    fn the_same_index_gives_the_same_bytes_and_the_tag_is_appended() {
        for (profile, len) in PROFILES {
            let srtp = Srtp::new(profile, &keying(len)).unwrap();
            let packet: Vec<u8> = (0..100).collect();
            let mut arena = b"before".to_vec();
            arena.extend_from_slice(&packet);
            srtp.protect_rtp(&mut arena, 6, 12, 7, 70_000).unwrap();
            let mut again = packet.clone();
            srtp.protect_rtp(&mut again, 0, 12, 7, 70_000).unwrap();
            let tag = if matches!(profile, SrtpProfile::AES128_CM_SHA1_80) { SHA1_TAG_LEN } else { 16 };
            assert_eq!(arena.len(), 6 + 100 + tag);
            assert_eq!(arena[6..], again);
            assert_eq!(
                arena[..18],
                [b"before", &packet[..12]].concat(),
                "what was there before and the header stay"
            );
        }
    }

    #[test]
    fn the_replay_window_slides() {
        let mut replay = Replay::default();
        for index in [0, 5, 3, 100, 90] {
            assert!(replay.is_new(index));
            replay.mark(index);
            assert!(!replay.is_new(index));
        }
        assert!(!replay.is_new(3) && !replay.is_new(36), "too old to know");
        assert!(replay.is_new(37) && replay.is_new(101));
    }
}
