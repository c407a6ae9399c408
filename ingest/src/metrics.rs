//! What the RTMP side counts.
use prometheus::{IntCounter, IntGauge, Registry};

/// Counters of all publishers together; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Connections open now.
    pub connections: IntGauge,
    /// Connections refused because there were too many.
    pub connections_refused: IntCounter,
    /// Publishers accepted.
    pub publishers: IntCounter,
    /// Publishers refused: wrong key, unusable codec.
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
    /// AAC frames that the transcoders were too busy for.
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
            connections_refused: counter("connections_refused_total", "RTMP connections over the limit")?,
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
