//! What the WHEP side counts, and the engine's counters for whoever scrapes.
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
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
    /// Requests beyond the rate of one address.
    pub(crate) rate_limited: IntCounter,
    /// Requests that took longer than a request may.
    pub(crate) request_timeouts: IntCounter,
    /// Joins that found every seat taken.
    pub(crate) joins_refused_full: IntCounter,
    /// Joins that found a shard's queue full.
    pub(crate) joins_refused_busy: IntCounter,
    /// Sessions that made room for another one of their token.
    pub(crate) sessions_displaced: IntCounter,
    /// Sessions whose tokens were revoked.
    pub(crate) sessions_revoked: IntCounter,
    pub(crate) player: PlayerMetrics,
}

/// What players say.
#[derive(Clone, Debug)]
pub(crate) struct PlayerMetrics {
    /// From the page's request to the first picture.
    pub(crate) first_picture_seconds: Histogram,
    /// From the server to the eye.
    pub(crate) delay_seconds: Histogram,
    pub(crate) freezes: IntCounter,
    /// Packets.
    pub(crate) lost: IntCounter,
}

impl PlayerMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str| -> prometheus::Result<Histogram> {
            let buckets = vec![0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0];
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        Ok(Self {
            first_picture_seconds: histogram(
                "lectern_player_first_picture_seconds",
                "From a page's request to its first picture, as players say",
            )?,
            delay_seconds: histogram(
                "lectern_player_delay_seconds",
                "From the server to the eye, as players say every ten seconds",
            )?,
            freezes: counter("lectern_player_freezes_total", "Times that a picture stood, as players say")?,
            lost: counter("lectern_player_packets_lost_total", "Packets that never came, as players say")?,
        })
    }
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
        let joins_refused = IntCounterVec::new(
            Opts::new("lectern_whep_joins_refused_total", "Joins that found no room, by what was full"),
            &["reason"],
        )?;
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(join_seconds.clone()))?;
        registry.register(Box::new(joins_refused.clone()))?;
        registry.register(Box::new(EngineCollector::new(engine)?))?;
        Ok(Self {
            player: PlayerMetrics::new(registry)?,
            requests,
            join_seconds,
            events_lost: counter(
                "lectern_whep_session_events_lost_total",
                "Session events that were never reported",
            )?,
            rate_limited: counter(
                "lectern_whep_rate_limited_total",
                "Requests beyond the rate of one address",
            )?,
            request_timeouts: counter(
                "lectern_whep_request_timeouts_total",
                "Requests that were not complete in time",
            )?,
            joins_refused_full: joins_refused.with_label_values(&["viewers_max"]),
            joins_refused_busy: joins_refused.with_label_values(&["shard_queue"]),
            sessions_displaced: counter(
                "lectern_whep_sessions_displaced_total",
                "Sessions ended because their token opened another one",
            )?,
            sessions_revoked: counter(
                "lectern_whep_sessions_revoked_total",
                "Sessions ended because their token was revoked",
            )?,
        })
    }
}

/// Reads the engine's counters when somebody asks.
struct EngineCollector {
    engine: EngineHandle,
    viewers: IntGaugeVec,
}

impl EngineCollector {
    fn new(engine: EngineHandle) -> prometheus::Result<Self> {
        let viewers = Opts::new("lectern_rtc_viewers", "Viewers that have a seat, by shard");
        Ok(Self { engine, viewers: IntGaugeVec::new(viewers, &["shard"])? })
    }

    fn counters(&self) -> [(&'static str, &'static str, u64); 20] {
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
            ("send_blocked_total", "Times that the media socket was full", counters.send_blocked.value()),
            (
                "send_dropped_total",
                "Packets dropped because too much waited for a full socket",
                counters.send_dropped.value(),
            ),
            (
                "unsegmented_total",
                "Times that the kernel refused segmented messages to a peer",
                counters.unsegmented.value(),
            ),
            (
                "tcp_dropped_total",
                "Packets dropped because a TCP connection took too little",
                counters.tcp_dropped.value(),
            ),
            ("send_calls_total", "System calls made for sending", counters.send_calls.value()),
            ("strays_total", "Datagrams that belong to nobody", counters.strays.value()),
            ("forwarded_total", "Datagrams handed to another shard", counters.forwarded.value()),
            (
                "resends_refused_total",
                "Retransmissions beyond a viewer's budget",
                counters.resends_refused.value(),
            ),
            (
                "forwards_dropped_total",
                "Datagrams for another shard that had no room for them",
                counters.forwards_dropped.value(),
            ),
            (
                "foreign_forgotten_total",
                "Addresses of other shards that were forgotten because they were too many",
                counters.foreign_forgotten.value(),
            ),
            (
                "connections_refused_total",
                "ICE-TCP connections that found no room",
                counters.connections_refused.value(),
            ),
            (
                "handshakes_refused_total",
                "Handshake datagrams dropped because too many waited",
                counters.handshakes_refused.value(),
            ),
            ("handshakes_failed_total", "Viewers that never connected", counters.handshakes_failed.value()),
        ]
    }
}

impl EngineCollector {
    fn histograms(&self) -> Vec<MetricFamily> {
        let counters = self.engine.counters();
        let delays = [("audio", &counters.audio_delay), ("video", &counters.video_delay)];
        vec![
            family(
                "forward_delay_seconds",
                "From the arrival of a frame to when a shard had sent it to all its viewers",
                delays.map(|(track, histogram)| sample(histogram, Some(("track", track)))).into(),
            ),
            family(
                "pass_seconds",
                "How long the passes of shards took",
                vec![sample(&counters.pass_time, None)],
            ),
            family(
                "first_report_seconds",
                "From a viewer's answer to its first report on video",
                vec![sample(&counters.first_report, None)],
            ),
        ]
    }
}

impl Collector for EngineCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.viewers.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (shard, viewers) in self.engine.viewers_of_shards().enumerate() {
            let gauge = self.viewers.with_label_values(&[&shard.to_string()]);
            gauge.set(i64::try_from(viewers).unwrap_or(i64::MAX));
        }
        let mut families = self.viewers.collect();
        for (name, help, value) in self.counters() {
            if let Ok(counter) = IntCounter::new(format!("lectern_rtc_{name}"), help) {
                counter.inc_by(value);
                families.extend(counter.collect());
            }
        }
        families.extend(self.histograms());
        families
    }
}

/// The engine's histogram in Prometheus's form.
fn sample(histogram: &rtc::Histogram, label: Option<(&str, &str)>) -> proto::Metric {
    let bucket = |(upper_bound, count)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(upper_bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let pair = |(name, value): (&str, &str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let mut sample = proto::Histogram::default();
    sample.set_bucket(histogram.cumulative().map(bucket).collect());
    sample.set_sample_count(histogram.count());
    sample.set_sample_sum(histogram.sum_seconds());
    let mut metric = proto::Metric::default();
    metric.set_label(label.map(pair).into_iter().collect());
    metric.set_histogram(sample);
    metric
}

fn family(name: &str, help: &str, samples: Vec<proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("lectern_rtc_{name}"));
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(samples);
    family
}
