//! Viewers that do what no honest one does, to see whether the others notice.
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::{reception, rtcp};

/// How often a mischievous viewer acts.
const INTERVAL: Duration = Duration::from_millis(5);
/// Random datagrams each time: with the interval 2,000 a second.
const GARBAGE_DATAGRAMS: usize = 10;
/// Bytes of the longest.
const GARBAGE_BYTES_MAX: usize = 1400;
/// Compounds of requests each time, each for everything recent: with the interval 3.4 million packets a second.
const NACK_COMPOUNDS: usize = 16;
/// Packets that one compound asks for.
const NACK_PACKETS: u16 = 17 * 63;

/// What a viewer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Misbehaviour {
    /// Never reads its socket again once media flows.
    StopReading,
    /// Sends random bytes to the media port.
    Garbage,
    /// Asks for every packet again, all the time.
    NackFlood,
}

#[derive(Debug)]
pub(super) struct Mischief {
    kind: Misbehaviour,
    pub(super) due: Instant,
}

impl Mischief {
    pub(super) fn new(now: Instant, kind: Misbehaviour) -> Self {
        Self { kind, due: now + INTERVAL }
    }

    /// Appends datagrams to send as they are; returns compounds to seal first.
    pub(super) fn act(
        &mut self,
        now: Instant,
        ssrc: u32,
        newest: Option<(u32, u64)>,
        out: &mut Vec<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        self.due = now + INTERVAL;
        match self.kind {
            Misbehaviour::StopReading => Vec::new(),
            Misbehaviour::Garbage => {
                for _ in 0..GARBAGE_DATAGRAMS {
                    let mut bytes = vec![0; rand::random_range(1..=GARBAGE_BYTES_MAX)];
                    rand::fill(&mut bytes[..]);
                    // Half of them look like SRTP or SRTCP at first sight, so that they get past the first look.
                    if let Some(first) = bytes.first_mut().filter(|first| **first & 1 == 0) {
                        *first = 0x80;
                    }
                    out.push(bytes);
                }
                Vec::new()
            }
            Misbehaviour::NackFlood => {
                let Some((media, newest)) = newest else { return Vec::new() };
                let newest = reception::low16(newest);
                let sequences: Vec<u16> =
                    (0..NACK_PACKETS).rev().map(|back| newest.wrapping_sub(back)).collect();
                let compound = || {
                    let mut compound = rtcp::report(ssrc, &[]);
                    rtcp::nack(&mut compound, ssrc, media, &sequences);
                    compound
                };
                (0..NACK_COMPOUNDS).map(|_| compound()).collect()
            }
        }
    }
}
