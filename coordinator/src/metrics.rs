//! What the coordinator counts.
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Requests by route and status.
    pub(crate) requests: IntCounterVec,
    /// Tokens issued, by role.
    pub(crate) tokens: IntCounterVec,
    /// Calls of the database that failed.
    pub(crate) database_errors: IntCounter,
    /// PINs that were tried, by outcome: `wrong`, or `waiting` when there were too many wrong ones.
    pub(crate) pins: IntCounterVec,
    /// Sessions of publishers that wait for the database.
    pub(crate) openings_waiting: IntGauge,
    /// Sessions of publishers that were never written down because too many waited.
    pub(crate) openings_dropped: IntCounter,
    /// Viewers that were never written down because the session of their stream was not.
    pub(crate) viewers_dropped: IntCounter,
    /// Heartbeats that were not news.
    pub(crate) heartbeats_refused: IntCounter,
    /// Viewers that found every node full.
    pub(crate) viewers_refused: IntCounter,
    /// Reports of loads that came from elsewhere than heartbeats.
    pub(crate) load_reports: IntCounter,
    /// Nodes of which nothing comes from there.
    pub(crate) loads_silent: IntGauge,
    /// Pages that are told of lessons as they change.
    pub(crate) pages: IntGauge,
    /// Pages that were not, because there were too many.
    pub(crate) pages_refused: IntCounter,
    /// Streams that are live.
    pub(crate) streams: IntGauge,
    /// Nodes that are heard.
    pub(crate) nodes: IntGauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let vector = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let vector = IntCounterVec::new(Opts::new(format!("lectern_coordinator_{name}"), help), labels)?;
            registry.register(Box::new(vector.clone()))?;
            Ok(vector)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(format!("lectern_coordinator_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(format!("lectern_coordinator_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let pins = vector("pins_refused_total", "Class PINs refused by outcome", &["outcome"])?;
        // Shown before they count: an alert cannot tell a rise from nothing.
        for outcome in ["wrong", "waiting"] {
            pins.with_label_values(&[outcome]);
        }
        Ok(Self {
            requests: vector("requests_total", "HTTP requests by route and status", &["route", "status"])?,
            tokens: vector("tokens_total", "Tokens issued by role", &["role"])?,
            database_errors: counter("database_errors_total", "Calls of the database that failed")?,
            pins,
            openings_waiting: gauge("openings_waiting", "Publisher sessions that wait for the database")?,
            openings_dropped: counter(
                "openings_dropped_total",
                "Publisher sessions that were never recorded: the queue was full, or the process ended in an outage",
            )?,
            viewers_dropped: counter(
                "viewers_dropped_total",
                "Viewers that were never recorded because the session of their stream was not",
            )?,
            heartbeats_refused: counter(
                "heartbeats_refused_total",
                "Heartbeats that came late or twice, or from a node's former life",
            )?,
            pages: gauge("pages", "Pages that are told of lessons as they change")?,
            pages_refused: counter(
                "pages_refused_total",
                "Pages that were not told of lessons as they change: too many were, in all or of one network",
            )?,
            viewers_refused: counter("viewers_refused_total", "Viewers that found every node full")?,
            load_reports: counter(
                "load_reports_total",
                "Reports of nodes' loads that the source which is set has brought, heartbeats not counted",
            )?,
            loads_silent: gauge(
                "load_source_silent_nodes",
                "Nodes of which the source of loads says nothing, so that their heartbeats count",
            )?,
            streams: gauge("streams", "Streams that nodes report")?,
            nodes: gauge("nodes", "Nodes that are heard")?,
        })
    }
}
