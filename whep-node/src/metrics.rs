//! What the WHEP side counts, and the engine's counters for whoever scrapes.
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use rtc::EngineHandle;

/// Counters of all sessions together; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Requests by method and status.
    pub(crate) requests: IntCounterVec,
    /// From an answer to keys.
    pub(crate) join_seconds: Histogram,
    /// Session events that the coordinator never got.
    pub(crate) events_lost: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry, engine: EngineHandle) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new("lectern_whep_requests_total", "WHEP requests by method and status"),
            &["method", "status"],
        )?;
        let buckets = vec![0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
        let join_seconds = Histogram::with_opts(
            HistogramOpts::new("lectern_rtc_join_seconds", "From the answer to agreed keys").buckets(buckets),
        )?;
        let events_lost = IntCounter::new(
            "lectern_whep_session_events_lost_total",
            "Session events that were never reported",
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(join_seconds.clone()))?;
        registry.register(Box::new(events_lost.clone()))?;
        registry.register(Box::new(EngineCollector::new(engine)?))?;
        Ok(Self { requests, join_seconds, events_lost })
    }
}

/// Reads the engine's counters when somebody asks.
struct EngineCollector {
    engine: EngineHandle,
    viewers: Gauge,
}

impl EngineCollector {
    fn new(engine: EngineHandle) -> prometheus::Result<Self> {
        Ok(Self { engine, viewers: Gauge::new("lectern_rtc_viewers", "Viewers that have a seat")? })
    }

    fn counters(&self) -> [(&'static str, &'static str, u64); 11] {
        let counters = self.engine.counters();
        [
            ("packets_total", "RTP packets sent, retransmissions included", counters.packets.value()),
            ("payload_bytes_total", "RTP payload sent, retransmissions included", counters.bytes.value()),
            ("resent_packets_total", "RTP packets sent again", counters.resent.value()),
            ("keyframe_requests_total", "Keyframe requests received", counters.keyframe_requests.value()),
            ("skips_total", "Times that a viewer skipped to a keyframe", counters.skips.value()),
            (
                "frames_dropped_total",
                "Frames that a shard was too busy to take",
                counters.frames_dropped.value(),
            ),
            ("send_refused_total", "Messages that the kernel would not take", counters.send_refused.value()),
            ("send_calls_total", "System calls made for sending", counters.send_calls.value()),
            ("strays_total", "Datagrams that belong to nobody", counters.strays.value()),
            ("forwarded_total", "Datagrams handed to another shard", counters.forwarded.value()),
            ("handshakes_failed_total", "Viewers that never connected", counters.handshakes_failed.value()),
        ]
    }
}

impl Collector for EngineCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.viewers.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let viewers = u32::try_from(self.engine.viewers()).unwrap_or(u32::MAX);
        self.viewers.set(f64::from(viewers));
        let mut families = self.viewers.collect();
        for (name, help, value) in self.counters() {
            if let Ok(counter) = IntCounter::new(format!("lectern_rtc_{name}"), help) {
                counter.inc_by(value);
                families.extend(counter.collect());
            }
        }
        families
    }
}
