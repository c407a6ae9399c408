//! ICE over TCP (RFC 6544, passive candidates) for networks that block UDP: packets with a length in front (RFC 4571).
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

/// Bytes that one connection may have waiting for its peer; half a second of a 4 Mbit/s lesson. Beyond it packets are
/// dropped, which NACKs and keyframe requests then heal as on UDP.
const OUTGOING_MAX: usize = 256 << 10;
/// A frame from a viewer: STUN, DTLS and RTCP are far smaller than what the two bytes of length can say.
const FRAME_MAX: usize = 4096;
/// Bytes of length in front of every frame.
const LENGTH_LEN: usize = 2;
/// A connection must prove that it belongs to a viewer within this time.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection from a viewer, or from somebody who has yet to prove to be one.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// Until when an authenticated frame must have come.
    pub(crate) claim_by: Option<Instant>,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    pub(crate) dropped: u64,
}

/// A connection that is no more, or not one of ours.
#[derive(Debug)]
pub(crate) struct Gone;

impl Connection {
    pub(crate) fn new(now: Instant, stream: TcpStream, peer: SocketAddr, incoming: Vec<u8>) -> Self {
        // Whole frames are written at once; waiting for more to fill a segment would only add delay.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            peer,
            claim_by: Some(now + FIRST_FRAME_TIMEOUT),
            incoming,
            outgoing: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Reads until there is no more for now.
    pub(crate) fn read(&mut self) -> Result<(), Gone> {
        let mut chunk = [0; FRAME_MAX];
        while self.incoming.len() <= 2 * FRAME_MAX {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Gone),
                Ok(len) => self.incoming.extend_from_slice(chunk.get(..len).unwrap_or(&[])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Takes the next whole frame.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        let Some((&length, rest)) = self.incoming.split_first_chunk::<LENGTH_LEN>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(length));
        if len > FRAME_MAX {
            return Err(Gone);
        }
        let Some(frame) = rest.get(..len) else { return Ok(None) };
        let frame = frame.to_vec();
        self.incoming.drain(..LENGTH_LEN + len);
        Ok(Some(frame))
    }

    /// The bytes that have been read and not been taken, for another shard to go on with.
    pub(crate) fn into_parts(mut self, frame: &[u8]) -> (TcpStream, SocketAddr, Vec<u8>) {
        let mut bytes = u16::try_from(frame.len()).unwrap_or(0).to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        bytes.append(&mut self.incoming);
        (self.stream, self.peer, bytes)
    }

    /// Queues one packet. It is dropped when the peer takes nothing.
    pub(crate) fn push(&mut self, packet: &[u8]) {
        let Ok(length) = u16::try_from(packet.len()) else { return };
        if self.outgoing.len() + packet.len() > OUTGOING_MAX {
            self.dropped += 1;
            return;
        }
        self.outgoing.extend(length.to_be_bytes());
        self.outgoing.extend(packet);
    }

    /// Writes as much as the peer takes.
    pub(crate) fn write(&mut self) -> Result<(), Gone> {
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            match self.stream.write(front) {
                Ok(0) => return Err(Gone),
                Ok(len) => drop(self.outgoing.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }
}
