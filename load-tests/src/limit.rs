//! `lectern-load limit`: what a packet costs on this machine if a server does nothing but seal and send it.
//!
//! Over loopback the sender also pays for the receiving half of the kernel, but for no network card.
mod sealer;
mod sink;
pub(crate) mod socket;

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use self::sealer::Sealer;
use self::sink::Sink;
use self::socket::{BATCH_MAX, Message};
use crate::report::table::Table;
use crate::report::{self, figure, median};

/// Parts of each measurement; the middle one counts, so that what else the machine does does not.
const SLICES: u32 = 9;
/// Packets per second to one viewer, for the figure that people ask for: 1.2 Mbit/s.
const VIEWER_PACKETS_PER_SECOND: f64 = 128.0;
/// Viewers at most: their keys and counters are held, a kilobyte each.
const VIEWERS_MAX: usize = 100_000;
/// Packets of one message at most: what kernels allow since 4.18.
const SEGMENTS_MAX: usize = 64;
/// Bytes of one message at most.
const MESSAGE_BYTES_MAX: usize = 65_507;

/// The command line of `limit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The core that seals and sends [default: the first one allowed].
    #[arg(long)]
    core: Option<usize>,
    /// The core that reads [default: the last one allowed].
    #[arg(long)]
    reader_core: Option<usize>,
    /// Bytes of RTP payload in a packet.
    #[arg(long, value_name = "BYTES", default_value_t = 1200)]
    payload: usize,
    /// Packets in a message, cut by the kernel (UDP GSO).
    #[arg(long, value_name = "N", default_value_t = 4)]
    segments: usize,
    /// Messages in a call of sendmmsg.
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Viewers, each with a key.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    viewers: usize,
    /// Seconds for each line of the table.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Write the figures there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was measured, and how.
#[derive(Debug, Serialize)]
struct Outcome {
    core: usize,
    reader_core: Option<usize>,
    payload: usize,
    segments: usize,
    batch: usize,
    viewers: usize,
    seal: Figures,
    send_unread: Figures,
    send_read: Option<Figures>,
    both_unread: Figures,
    both_read: Option<Figures>,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Figures {
    us_per_packet: f64,
    us_per_packet_min: f64,
    us_per_packet_max: f64,
    packets_per_core: f64,
    /// At 128 packets per second.
    viewers_per_core: f64,
    packets: u64,
    /// Of the packets sent, where somebody reads.
    read_share: Option<f64>,
}

/// Measures all of it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let allowed = socket::cores().context("which cores are allowed")?;
    let core = arguments.core.or_else(|| allowed.first().copied()).context("no core is allowed")?;
    let reader_core =
        arguments.reader_core.or_else(|| allowed.iter().rev().copied().find(|other| *other != core));
    let mut bench = Bench::new(arguments)?;
    socket::pin(&[core]).with_context(|| format!("core {core} cannot be used"))?;
    let mut measure = |task: Task, reader: Option<usize>| bench.measure(task, reader);
    let outcome = Outcome {
        core,
        reader_core,
        payload: arguments.payload,
        segments: arguments.segments,
        batch: arguments.batch,
        viewers: arguments.viewers,
        seal: measure(Task { seals: true, sends: false }, None)?,
        send_unread: measure(Task { seals: false, sends: true }, None)?,
        send_read: reader_core
            .map(|reader| measure(Task { seals: false, sends: true }, Some(reader)))
            .transpose()?,
        both_unread: measure(Task { seals: true, sends: true }, None)?,
        both_read: reader_core
            .map(|reader| measure(Task { seals: true, sends: true }, Some(reader)))
            .transpose()?,
    };
    report::result(&outcome.table());
    arguments.json.as_ref().map_or(Ok(()), |file| report::write_json(file, &outcome))
}

impl Outcome {
    fn table(&self) -> String {
        let title = format!("core {}, {} bytes", self.core, self.payload);
        let mut table =
            Table::new(&[&title, "µs per packet", "least", "most", "packets/s", "viewers at 128/s", "read"]);
        let sending = |what: &str| format!("{what} sendmmsg({}) with GSO x{}", self.batch, self.segments);
        let rows = [
            ("AES-128-GCM".to_owned(), Some(&self.seal)),
            (format!("{}, nobody reads", sending("")).trim_start().to_owned(), Some(&self.send_unread)),
            (format!("{}, another core reads", sending("")).trim_start().to_owned(), self.send_read.as_ref()),
            (sending("AES-128-GCM and") + ", nobody reads", Some(&self.both_unread)),
            (sending("AES-128-GCM and") + ", another core reads", self.both_read.as_ref()),
        ];
        for (what, figures) in rows {
            let Some(figures) = figures else { continue };
            let read =
                figures.read_share.map_or(String::new(), |share| format!("{} %", figure(share * 100.0)));
            table.push([
                what,
                figure(figures.us_per_packet),
                figure(figures.us_per_packet_min),
                figure(figures.us_per_packet_max),
                figure(figures.packets_per_core),
                figure(figures.viewers_per_core),
                read,
            ]);
        }
        table.render()
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Task {
    seals: bool,
    sends: bool,
}

/// A server without anything but its last step.
struct Bench {
    socket: UdpSocket,
    sealers: Vec<Sealer>,
    /// The messages of one call, one behind the other.
    arena: Vec<u8>,
    payload: Vec<u8>,
    packet_len: usize,
    segments: usize,
    slice: Duration,
    next_viewer: usize,
}

impl Bench {
    fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let Arguments { payload, segments, batch, viewers, seconds, .. } = *arguments;
        let packet_len = Sealer::packet_len(payload);
        ensure!((1..=VIEWERS_MAX).contains(&viewers), "--viewers must be 1 to {VIEWERS_MAX}");
        ensure!((1..=SEGMENTS_MAX).contains(&segments), "--segments must be 1 to {SEGMENTS_MAX}");
        ensure!((1..=BATCH_MAX).contains(&batch), "--batch must be 1 to {BATCH_MAX}");
        ensure!((0.01..=3600.0).contains(&seconds), "--seconds must be 0.01 to 3600");
        ensure!(
            payload > 0 && packet_len.saturating_mul(segments) <= MESSAGE_BYTES_MAX,
            "{segments} packets of {packet_len} bytes are no message: at most {MESSAGE_BYTES_MAX} bytes in all"
        );
        Ok(Self {
            socket: UdpSocket::bind("127.0.0.1:0").context("cannot bind to loopback")?,
            sealers: (0..viewers).map(|_| Sealer::new()).collect::<anyhow::Result<_>>()?,
            arena: vec![0; packet_len * segments * batch],
            payload: (0..payload).map(|_| rand::random()).collect(),
            packet_len,
            segments,
            slice: Duration::from_secs_f64(seconds) / SLICES,
            next_viewer: 0,
        })
    }

    fn measure(&mut self, task: Task, reader: Option<usize>) -> anyhow::Result<Figures> {
        let sink = Sink::open(reader)?;
        let mut packets = 0;
        let mut costs = Vec::new();
        // The first slice finds caches cold and is not counted.
        for slice in 0..=SLICES {
            let (begun, time_before) = (Instant::now(), socket::thread_time());
            let mut in_slice = 0;
            while begun.elapsed() < self.slice {
                in_slice += self.pass(task, &sink)?;
            }
            packets += in_slice;
            if slice > 0 {
                let spent = socket::thread_time().saturating_sub(time_before);
                costs.push(spent.as_secs_f64() * 1e6 / as_f64(in_slice.max(1)));
            }
        }
        let read = sink.close()?;
        let us_per_packet = median(&mut costs).context("there are slices")?;
        let packets_per_core = 1e6 / us_per_packet;
        Ok(Figures {
            us_per_packet,
            us_per_packet_min: costs.first().copied().unwrap_or(us_per_packet),
            us_per_packet_max: costs.last().copied().unwrap_or(us_per_packet),
            packets_per_core,
            viewers_per_core: packets_per_core / VIEWER_PACKETS_PER_SECOND,
            packets,
            read_share: reader.map(|_| as_f64(read) / as_f64(packets.max(1))),
        })
    }

    /// One picture to every viewer, in batches. Returns the packets.
    fn pass(&mut self, task: Task, sink: &Sink) -> anyhow::Result<u64> {
        let message_len = self.packet_len * self.segments;
        let segment = u16::try_from(self.packet_len).context("a packet is too long")?;
        let mut packets = 0;
        for viewers in self.sealers.chunks_mut(self.arena.len() / message_len) {
            let slots = self.arena.chunks_exact_mut(message_len);
            if task.seals {
                for (sealer, slot) in viewers.iter_mut().zip(slots) {
                    for packet in slot.chunks_exact_mut(self.packet_len) {
                        sealer.seal(&self.payload, packet)?;
                    }
                }
            }
            if task.sends {
                let mut messages = [Message { start: 0, len: message_len, to: sink.address(0) }; BATCH_MAX];
                for (at, message) in messages.iter_mut().take(viewers.len()).enumerate() {
                    message.start = at * message_len;
                    message.to = sink.address(self.next_viewer + at);
                }
                let mut rest = messages.get(..viewers.len()).unwrap_or(&[]);
                while !rest.is_empty() {
                    let sent = socket::send(&self.socket, &self.arena, rest, segment)
                        .context("the kernel does not send")?;
                    rest = rest.get(sent..).unwrap_or(&[]);
                }
            }
            self.next_viewer = self.next_viewer.wrapping_add(viewers.len());
            packets += (viewers.len() * self.segments) as u64;
        }
        Ok(packets)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people; counts far below 2^52")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_sealed_where_the_task_says_so() {
        let arguments = Arguments {
            core: None,
            reader_core: None,
            payload: 100,
            segments: 2,
            batch: 3,
            viewers: 7,
            seconds: 0.1,
            json: None,
        };
        let sink = Sink::open(None).unwrap();
        for seals in [false, true] {
            let mut bench = Bench::new(&arguments).unwrap();
            assert_eq!(bench.pass(Task { seals, sends: true }, &sink).unwrap(), 14);
            let is_sealed = |packet: &[u8]| packet.iter().any(|byte| *byte > 0);
            assert!(bench.arena.chunks(bench.packet_len).all(|packet| is_sealed(packet) == seals));
        }
    }
}
