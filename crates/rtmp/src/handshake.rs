//! The handshake: sections 5.2.1 to 5.2.5. Nothing in it is secret, and nothing of the peer's is checked: encoders send
//! zeros, random bytes or digests of Flash Player's time.
use crate::Error;

/// C1, C2, S1 and S2 have this many bytes.
const PACKET_LEN: usize = 1536;
const VERSION: u8 = 3;

/// Where the handshake is.
#[derive(Debug)]
pub(crate) enum Handshake {
    /// C0 and C1 are awaited.
    Hello,
    /// C2 is awaited.
    Ack,
    Done,
}

impl Handshake {
    /// Takes what it can from `input`. Returns how many bytes were used and what is to be sent.
    pub(crate) fn advance(&mut self, input: &[u8]) -> Result<(usize, Option<Vec<u8>>), Error> {
        match self {
            Self::Hello => {
                let Some((&version, rest)) = input.split_first() else { return Ok((0, None)) };
                if version != VERSION {
                    return Err(Error::Version(version));
                }
                let Some(c1) = rest.first_chunk::<PACKET_LEN>() else { return Ok((0, None)) };
                *self = Self::Ack;
                // S0, S1 with zeros for time and version as in the "simple" handshake, S2 the echo of C1.
                let mut reply = vec![VERSION];
                reply.extend_from_slice(&[0; 8]);
                reply.extend((0..PACKET_LEN.saturating_sub(8)).map(|i| u8::try_from(i % 251).unwrap_or(0)));
                reply.extend_from_slice(c1);
                Ok((PACKET_LEN.saturating_add(1), Some(reply)))
            }
            Self::Ack if input.len() >= PACKET_LEN => {
                *self = Self::Done;
                Ok((PACKET_LEN, None))
            }
            Self::Ack | Self::Done => Ok((0, None)),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}
