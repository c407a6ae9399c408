//! What a server does to a packet before it is sent.
use anyhow::anyhow;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// An RTP header without extensions.
const HEADER_LEN: usize = 12;
/// What AES-GCM adds.
const TAG_LEN: usize = 16;
/// Version 2; the payload type is any.
const HEADER_START: [u8; 2] = [0x80, 96];

/// One viewer's key and counters.
#[derive(Debug)]
pub(super) struct Sealer {
    key: LessSafeKey,
    salt: [u8; 12],
    ssrc: u32,
    /// Packets so far: the low 16 bits are the sequence number, the others count its rounds.
    index: u64,
}

impl Sealer {
    pub(super) fn new() -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_128_GCM, &rand::random::<[u8; 16]>());
        let key = key.map_err(|_| anyhow!("AES-128-GCM is not available"))?;
        Ok(Self { key: LessSafeKey::new(key), salt: rand::random(), ssrc: rand::random(), index: 0 })
    }

    /// Bytes of a packet.
    pub(super) fn packet_len(payload: usize) -> usize {
        HEADER_LEN + payload + TAG_LEN
    }

    /// Writes the next packet (RFC 7714, section 8) into `packet`, which has the length for it.
    pub(super) fn seal(&mut self, payload: &[u8], packet: &mut [u8]) -> anyhow::Result<()> {
        let too_short = || anyhow!("no room for a packet");
        let (header, rest) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or_else(too_short)?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or_else(too_short)?;
        let counter = self.index.to_be_bytes();
        let [_, _, index @ ..] = counter;
        let [.., s0, s1] = counter;
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let [h0, h1] = HEADER_START;
        *header = [h0, h1, s0, s1, 0, 0, 0, 0, c0, c1, c2, c3];
        body.copy_from_slice(payload);
        // Section 8.1: two zeros, the source, the rounds and the sequence number, mixed with the salt.
        let mut nonce = self.salt;
        for (byte, other) in nonce.iter_mut().skip(2).zip([c0, c1, c2, c3].iter().chain(&index)) {
            *byte ^= other;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(&header[..]), body);
        tag.copy_from_slice(sealed.map_err(|_| anyhow!("sealing failed"))?.as_ref());
        self.index += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_differ_and_can_be_opened() {
        let mut sealer = Sealer::new().unwrap();
        let payload = [7; 100];
        let (mut one, mut two) = ([0; 128], [0; 128]);
        sealer.seal(&payload, &mut one).unwrap();
        sealer.seal(&payload, &mut two).unwrap();
        assert_ne!(one[12..], two[12..]);
        assert_eq!((&one[2..4], &two[2..4]), (&[0, 0][..], &[0, 1][..]));
        let (header, body) = two.split_at_mut(12);
        let mut nonce = sealer.salt;
        for (byte, other) in nonce[2..].iter_mut().zip(sealer.ssrc.to_be_bytes()) {
            *byte ^= other;
        }
        nonce[11] ^= 1;
        let opened = sealer.key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(&header), body);
        assert_eq!(opened.unwrap(), payload);
    }

    #[test]
    fn a_packet_that_is_too_short_is_refused() {
        assert!(Sealer::new().unwrap().seal(&[], &mut [0; 27]).is_err());
    }
}
