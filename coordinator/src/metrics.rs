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
        let database_errors = IntCounter::new(
            "lectern_coordinator_database_errors_total",
            "Calls of the database that failed",
        )?;
        registry.register(Box::new(database_errors.clone()))?;
        Ok(Self {
            requests: vector("requests_total", "HTTP requests by route and status", &["route", "status"])?,
            tokens: vector("tokens_total", "Tokens issued by role", &["role"])?,
            database_errors,
            streams: gauge("streams", "Streams that nodes report")?,
            nodes: gauge("nodes", "Nodes that are heard")?,
        })
    }
}
