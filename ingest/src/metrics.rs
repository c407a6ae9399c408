//! What the RTMP side counts.
use hub::{Hub, Stats};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Registry};

/// Counters of all publishers together; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Connections open now.
    pub connections: IntGauge,
    /// Publishers accepted.
    pub publishers: IntCounter,
    /// Publishers refused: wrong key, unusable codec, another app has taken over.
    pub publishers_refused: IntCounter,
    /// Connections ended because they broke the protocol or a bound.
    pub protocol_errors: IntCounter,
    /// Bytes received.
    pub bytes: IntCounter,
    /// Pictures passed on.
    pub frames: IntCounter,
    /// Pictures left out because of B-frames.
    pub reordered: IntCounter,
    /// Media messages that could not be read.
    pub damaged: IntCounter,
    /// Access units with more NAL units than any encoder makes.
    pub nals_exceeded: IntCounter,
    /// Frames of sound that the transcoders were too busy for.
    pub audio_dropped: IntCounter,
    /// Publishers whose audio transcoder panicked.
    pub transcoder_panics: IntCounter,
    /// Steps of publishers' clocks.
    pub clock_steps: IntCounter,
    /// Connections ended because the peer did not read its answers.
    pub write_timeouts: IntCounter,
}

impl Metrics {
    /// Registered with `registry`.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(format!("lectern_ingest_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let connections = IntGauge::new("lectern_ingest_connections", "RTMP connections open now")?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Self {
            connections,
            publishers: counter("publishers_total", "Publishers accepted")?,
            publishers_refused: counter("publishers_refused_total", "Publishers refused")?,
            protocol_errors: counter(
                "protocol_errors_total",
                "Connections that broke the protocol or a bound",
            )?,
            bytes: counter("received_bytes_total", "Bytes received over RTMP")?,
            frames: counter("video_frames_total", "Pictures passed on")?,
            reordered: counter("video_frames_reordered_total", "Pictures left out because of B-frames")?,
            damaged: counter("damaged_messages_total", "Media messages that could not be read")?,
            nals_exceeded: counter("nal_units_exceeded_total", "Access units with too many NAL units")?,
            audio_dropped: counter(
                "audio_frames_dropped_total",
                "AAC frames that found the transcoders busy",
            )?,
            transcoder_panics: counter(
                "transcoder_panics_total",
                "Publishers whose audio transcoder panicked",
            )?,
            clock_steps: counter("clock_steps_total", "Steps of publishers' clocks")?,
            write_timeouts: counter("write_timeouts_total", "Connections whose peer did not read")?,
        })
    }
}

/// Registers what the hub counts.
pub fn register_hub(registry: &Registry, hub: &Hub) -> prometheus::Result<()> {
    registry.register(Box::new(HubCollector { stats: hub.stats(), described: hub_counters(&hub.stats())? }))
}

/// Reads the hub's counters when somebody asks.
struct HubCollector {
    stats: Stats,
    /// As they were at the beginning: what they are called.
    described: Vec<IntCounter>,
}

impl Collector for HubCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.described.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        hub_counters(&self.stats).unwrap_or_default().iter().flat_map(Collector::collect).collect()
    }
}

fn hub_counters(stats: &Stats) -> prometheus::Result<Vec<IntCounter>> {
    let counter = |(name, help, value): (&str, &str, u64)| {
        let counter = IntCounter::new(format!("lectern_hub_{name}"), help)?;
        counter.inc_by(value);
        Ok(counter)
    };
    [
        ("streams_refused_total", "Publishers refused by a full node", stats.streams_refused()),
        ("groups_cut_total", "Groups of pictures cut to the keyframe", stats.groups_cut()),
        (
            "video_frames_dropped_total",
            "Video frames that a subscriber did not get",
            stats.video_frames_dropped(),
        ),
        (
            "audio_frames_dropped_total",
            "Audio frames that a subscriber did not get",
            stats.audio_frames_dropped(),
        ),
        ("notices_dropped_total", "Notices of a stream that later ones made void", stats.notices_dropped()),
    ]
    .into_iter()
    .map(counter)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_hub_refuses_is_a_metric() {
        let registry = Registry::new();
        let hub = Hub::new(hub::Limits { streams_max: 0, ..hub::Limits::default() });
        register_hub(&registry, &hub).unwrap();
        for refused in 1..3 {
            assert!(hub.publish("room101", "session", 1).is_err());
            let families = registry.gather();
            let family =
                families.iter().find(|family| family.name() == "lectern_hub_streams_refused_total").unwrap();
            let value = family.get_metric()[0].get_counter().get_value();
            assert!((value - f64::from(refused)).abs() < 0.5, "{value} refused");
        }
    }
}
