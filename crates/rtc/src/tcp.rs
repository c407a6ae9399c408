//! ICE over TCP (RFC 6544, passive candidates) for networks that block UDP: packets with a length in front (RFC 4571).
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::SockRef;

use crate::batch::Class;

/// Bytes that one connection may have waiting for its peer. Beyond it packets of any kind are dropped.
const OUTGOING_MAX: usize = 256 << 10;
/// Bytes that wait when a connection counts as congested: an eighth of a second of a 4 Mbit/s lesson. Video goes on at the
/// next keyframe after they are gone; sound and control may still come.
const CONGESTED_BYTES: usize = 64 << 10;
/// Bytes that the kernel takes without having sent them. What waits here instead can be counted and held back; the
/// kernel's own buffer may grow to seconds (tcp(7), `TCP_NOTSENT_LOWAT`).
const UNSENT_BYTES: u32 = 32 << 10;
/// A frame from a viewer: STUN, DTLS and RTCP are far smaller than what the two bytes of length can say.
const FRAME_MAX: usize = 4096;
/// Bytes of length in front of every frame.
const LENGTH_LEN: usize = 2;
/// A connection must prove that it belongs to a viewer within this time.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// A viewer's connection on which nothing comes for so long is closed. Browsers check those in reserve every 25 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// One connection from a viewer, or from somebody who has yet to prove to be one.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// Until when an authenticated frame must have come; none after it has.
    claim_by: Option<Instant>,
    heard: Instant,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    dropped: u64,
}

/// A connection that is no more, or not one of ours.
#[derive(Debug)]
pub(crate) struct Gone;

impl Connection {
    pub(crate) fn new(now: Instant, stream: TcpStream, peer: SocketAddr, incoming: Vec<u8>) -> Self {
        // Whole frames are written at once; waiting for more to fill a segment would only add delay.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES);
        Self {
            stream,
            peer,
            claim_by: Some(now + FIRST_FRAME_TIMEOUT),
            heard: now,
            incoming,
            outgoing: VecDeque::new(),
            dropped: 0,
        }
    }

    /// It belongs to a viewer.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claim_by.is_none()
    }

    /// A frame came that belongs to a viewer.
    pub(crate) fn on_authentic(&mut self, now: Instant) {
        self.claim_by = None;
        self.heard = now;
    }

    /// It never proved to belong to a viewer, or that viewer has abandoned it.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        now >= self.claim_by.unwrap_or(self.heard + IDLE_TIMEOUT)
    }

    /// Bytes that wait for the peer.
    pub(crate) fn queued(&self) -> usize {
        self.outgoing.len()
    }

    /// The peer takes less than it is sent: it should get no video before this is over, and then from a keyframe on.
    pub(crate) fn is_congested(&self) -> bool {
        self.queued() > CONGESTED_BYTES
    }

    /// Packets dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Reads what has come, as far as there is room. Returns whether more may be left.
    pub(crate) fn read(&mut self) -> Result<bool, Gone> {
        let mut chunk = [0; FRAME_MAX];
        while self.incoming.len() <= 2 * FRAME_MAX {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Gone),
                Ok(len) => self.incoming.extend_from_slice(chunk.get(..len).unwrap_or(&[])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(true)
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

    /// Queues one packet. Video is dropped when the peer takes too little, everything when it takes nothing.
    pub(crate) fn push(&mut self, packet: &[u8], class: Class) {
        let Ok(length) = u16::try_from(packet.len()) else { return };
        let is_full = self.queued() + LENGTH_LEN + packet.len() > OUTGOING_MAX;
        if is_full || class == Class::Video && self.is_congested() {
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A connection and the viewer's end of it.
    fn pair(now: Instant) -> (Connection, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (Connection::new(now, TcpStream::from_std(server), peer, Vec::new()), client)
    }

    #[test]
    fn a_peer_that_takes_nothing_is_congested_early_and_gets_sound_but_no_video() {
        let (mut connection, _client) = pair(Instant::now());
        let mut pushed = 0;
        while !connection.is_congested() {
            connection.push(&[0; 1200], Class::Video);
            connection.write().unwrap();
            pushed += 1200;
            assert!(pushed < 64 << 20, "the kernel takes everything");
        }
        assert_eq!(connection.take_dropped(), 0);
        let queued = connection.queued();
        connection.push(&[0; 1200], Class::Video);
        assert_eq!(
            (connection.take_dropped(), connection.take_dropped(), connection.queued()),
            (1, 0, queued)
        );
        connection.push(&[0; 200], Class::Audio);
        assert_eq!((connection.take_dropped(), connection.queued()), (0, queued + 202));
        for _ in 0..10_000 {
            connection.push(&[0; 100], Class::Control);
        }
        assert!(connection.queued() <= OUTGOING_MAX);
        assert!(connection.take_dropped() > 0);
    }

    #[test]
    fn the_kernel_holds_little_that_it_has_not_sent() {
        let (connection, _client) = pair(Instant::now());
        assert_eq!(SockRef::from(&connection.stream).tcp_notsent_lowat().unwrap(), UNSENT_BYTES);
    }

    #[test]
    fn congestion_ends_when_the_peer_reads_again() {
        let (mut connection, mut client) = pair(Instant::now());
        while !connection.is_congested() {
            connection.push(&[0; 1200], Class::Video);
            connection.write().unwrap();
        }
        let mut chunk = vec![0; 1 << 20];
        while connection.queued() > 0 {
            assert!(client.read(&mut chunk).unwrap() > 0);
            connection.write().unwrap();
        }
        assert!(!connection.is_congested());
    }

    #[test]
    fn a_connection_expires_without_a_claim_and_after_its_viewer_has_abandoned_it() {
        let now = Instant::now();
        let (mut connection, _client) = pair(now);
        assert!(!connection.is_claimed() && !connection.is_expired(now));
        assert!(connection.is_expired(now + FIRST_FRAME_TIMEOUT));
        connection.on_authentic(now + Duration::from_secs(4));
        assert!(connection.is_claimed() && !connection.is_expired(now + FIRST_FRAME_TIMEOUT));
        assert!(connection.is_expired(now + Duration::from_secs(4) + IDLE_TIMEOUT));
    }

    #[test]
    fn more_than_one_read_takes_is_reported_as_left() {
        let (mut connection, mut client) = pair(Instant::now());
        let frame = [&[0, 100][..], &[7; 100]].concat();
        for _ in 0..200 {
            client.write_all(&frame).unwrap();
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let (mut frames, mut reads, mut has_more) = (0, 0, true);
        while has_more {
            // On loopback everything has arrived before the end of the stream is seen.
            match connection.read() {
                Ok(more) => has_more = more,
                Err(Gone) => has_more = false,
            }
            reads += 1;
            while let Ok(Some(_)) = connection.next_frame() {
                frames += 1;
            }
        }
        assert_eq!(frames, 200);
        assert!(reads > 1, "what is left is read later");
    }
}
