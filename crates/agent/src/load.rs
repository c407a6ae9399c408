//! What a node carries, for coordinators and for whoever scrapes its metrics: one set of figures for both.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use control::api::{NodeLoad, Playback, StreamReport};
use process::clock::cpu_time;
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

/// Rates are measured over this time at least: a heartbeat that a change brings forward has those of the last one.
const SPAN_MIN: Duration = Duration::from_millis(900);
/// Headers of a packet that carries media: IPv4, UDP, RTP, and SRTP's tag.
const PACKET_OVERHEAD: u64 = 20 + 8 + 12 + 10;

/// Who watches on this node.
pub trait Audience: Send + Sync + 'static {
    /// How many watch a class.
    fn viewers(&self, class: &str) -> u32;
    /// What players say of what is seen and heard, by class.
    fn playbacks(&self) -> HashMap<String, Playback>;
    /// How many have joined with tokens of this life of a coordinator.
    fn joins_by(&self, coordinator: &str) -> u64;
    /// What was sent since the node began.
    fn sent(&self) -> Sent;
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of payload.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that the machine itself did not take.
    pub refused: u64,
}

/// The figures as Prometheus shows them, by the name of the node.
#[derive(Clone, Debug)]
pub struct Gauges {
    bits: IntGaugeVec,
    viewers: IntGaugeVec,
    shares: GaugeVec,
    start: GaugeVec,
    seq: IntGaugeVec,
    joins: IntGaugeVec,
}

impl Gauges {
    /// Registers them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let integers = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntGaugeVec> {
            let gauges = IntGaugeVec::new(Opts::new(format!("lectern_node_{name}"), help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        let floats = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<GaugeVec> {
            let gauges = GaugeVec::new(Opts::new(format!("lectern_node_{name}"), help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        Ok(Self {
            bits: integers(
                "bits_per_second",
                "What the node can send (capacity), what its viewers take (load), what it sends (egress)",
                &["node", "of"],
            )?,
            viewers: integers("viewers", "Viewers of all classes", &["node"])?,
            shares: floats(
                "share",
                "Shares of the processor used and of packets not sent, 0 to 1",
                &["node", "of"],
            )?,
            start: floats("start_time_seconds", "When the node's process began, Unix time", &["node"])?,
            seq: integers("report_seq", "Counts the node's reports of its load", &["node"])?,
            joins: integers("joins_seen", "Joins with tokens of each coordinator", &["node", "coordinator"])?,
        })
    }

    /// A life of the node begins: reports are counted anew in each.
    pub(crate) fn begin(&self, node: &str, started_at_ms: u64) {
        let start = Duration::from_millis(started_at_ms);
        self.start.with_label_values(&[node]).set(start.as_secs_f64());
    }

    pub(crate) fn show(&self, node: &str, seq: u64, coordinator: &str, load: &NodeLoad) {
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let bits = [("capacity", load.capacity_bps), ("load", load.load_bps), ("egress", load.egress_bps)];
        for (of, value) in bits {
            self.bits.with_label_values(&[node, of]).set(int(value));
        }
        for (of, share) in [("cpu", load.cpu), ("loss", load.loss)] {
            self.shares.with_label_values(&[node, of]).set(share);
        }
        self.viewers.with_label_values(&[node]).set(load.viewers.into());
        self.seq.with_label_values(&[node]).set(int(seq));
        if !coordinator.is_empty() {
            self.joins.with_label_values(&[node, coordinator]).set(int(load.joins_seen));
        }
    }

    /// A coordinator has begun a new life: nobody asks for its former one.
    pub(crate) fn forget(&self, node: &str, coordinator: &str) {
        let _ = self.joins.remove_label_values(&[node, coordinator]);
    }
}

/// Measures.
#[derive(Debug)]
pub(crate) struct Meter {
    capacity_bps: u64,
    cores: f64,
    before: (Instant, Sent, Duration),
    egress_bps: u64,
    cpu: f64,
    loss: f64,
}

impl Meter {
    pub(crate) fn new(capacity_bps: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            capacity_bps,
            cores: f64::from(u32::try_from(cores).unwrap_or(1)),
            before: (Instant::now(), Sent::default(), cpu_time()),
            egress_bps: 0,
            cpu: 0.0,
            loss: 0.0,
        }
    }

    /// What the node carries. Of every stream it takes the number of viewers and the rate.
    pub(crate) fn measure(
        &mut self,
        sent: Sent,
        joins_seen: u64,
        streams: impl Iterator<Item = (u32, u64)>,
    ) -> NodeLoad {
        let (now, cpu) = (Instant::now(), cpu_time());
        self.on_time(now, sent, cpu);
        let (mut viewers, mut load_bps) = (0_u32, 0_u64);
        for (count, bps) in streams {
            viewers = viewers.saturating_add(count);
            let bps = if bps == 0 { StreamReport::RATE_USUAL_BPS } else { bps };
            load_bps = load_bps.saturating_add(bps.saturating_mul(count.into()));
        }
        let Self { capacity_bps, egress_bps, cpu, loss, .. } = *self;
        NodeLoad { capacity_bps, load_bps, egress_bps, viewers, cpu, loss, joins_seen }
    }

    fn on_time(&mut self, now: Instant, sent: Sent, cpu: Duration) {
        let (then, before, cpu_before) = self.before;
        let span = now.saturating_duration_since(then);
        if span < SPAN_MIN {
            return;
        }
        self.before = (now, sent, cpu);
        let packets = sent.packets.saturating_sub(before.packets);
        let bytes = sent.bytes.saturating_sub(before.bytes).saturating_add(packets * PACKET_OVERHEAD);
        self.egress_bps = u64::try_from(u128::from(bytes) * 8_000_000 / span.as_micros()).unwrap_or(u64::MAX);
        let refused = sent.refused.saturating_sub(before.refused);
        self.loss = share(refused, refused.saturating_add(packets));
        self.cpu = (cpu.saturating_sub(cpu_before).as_secs_f64() / span.as_secs_f64() / self.cores).min(1.0);
    }
}

fn share(part: u64, whole: u64) -> f64 {
    let as_f64 = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    if whole == 0 { 0.0 } else { as_f64(part) / as_f64(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_counts_with_the_rate_of_its_stream_before_it_is_sent_anything() {
        let mut meter = Meter::new(1_000_000_000);
        let streams = [(3, 2_000_000), (0, 9_000_000), (1, 0)];
        let load = meter.measure(Sent::default(), 4, streams.into_iter());
        assert_eq!((load.viewers, load.load_bps), (4, 6_000_000 + StreamReport::RATE_USUAL_BPS));
        assert_eq!((load.capacity_bps, load.egress_bps, load.joins_seen), (1_000_000_000, 0, 4));
    }

    #[test]
    fn rates_are_those_of_the_last_second() {
        let mut meter = Meter::new(0);
        let (began, _, cpu) = meter.before;
        let second = Duration::from_secs(1);
        let sent = Sent { bytes: 120_000, packets: 100, refused: 25 };
        meter.on_time(began + second, sent, cpu + second.mul_f64(meter.cores / 2.0));
        assert_eq!(meter.egress_bps, (120_000 + 100 * PACKET_OVERHEAD) * 8);
        assert!((meter.loss - 0.2).abs() < 1e-9 && (meter.cpu - 0.5).abs() < 1e-6, "{meter:?}");
        // A heartbeat right behind it changes nothing, and one that comes later forgets.
        let egress = meter.egress_bps;
        meter.on_time(began + second * 3 / 2, Sent { bytes: 900_000, ..sent }, cpu);
        assert_eq!(meter.egress_bps, egress);
        meter.on_time(began + second * 2, sent, cpu);
        assert_eq!((meter.egress_bps, meter.loss), (0, 0.0));
    }
}
