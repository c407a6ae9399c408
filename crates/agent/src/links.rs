//! What the links to other nodes carry, for whoever scrapes.
use link::{Link, Stats};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Registry};

/// Registers what a node's links count.
pub fn register_link(registry: &Registry, link: &Link) -> prometheus::Result<()> {
    let stats = link.stats();
    registry.register(Box::new(LinkCollector { described: figures(&stats)?, stats }))
}

/// Reads the counters when somebody asks.
struct LinkCollector {
    stats: Stats,
    /// As they were at the beginning: what they are called.
    described: Vec<Box<dyn Collector>>,
}

impl Collector for LinkCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.described.iter().flat_map(|figure| figure.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        figures(&self.stats).unwrap_or_default().iter().flat_map(|figure| figure.collect()).collect()
    }
}

fn figures(stats: &Stats) -> prometheus::Result<Vec<Box<dyn Collector>>> {
    let gauge = |name: &str, help: &str, value: u64| -> prometheus::Result<Box<dyn Collector>> {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        Ok(Box::new(gauge))
    };
    let counter = |name: &str, help: &str, value: u64| -> prometheus::Result<Box<dyn Collector>> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        Ok(Box::new(counter))
    };
    Ok(vec![
        gauge("lectern_link_streams_served", "Streams that other nodes pull from this one", stats.served())?,
        gauge("lectern_link_nodes_strained", "Nodes to which not everything is carried", stats.strained())?,
        counter("lectern_link_groups_total", "Groups sent to other nodes", stats.groups())?,
        counter("lectern_link_groups_given_up_total", "Groups that were late", stats.groups_given_up())?,
        counter(
            "lectern_link_pulls_missing_total",
            "Pulls of streams that are not here",
            stats.refused_missing(),
        )?,
        counter(
            "lectern_link_pulls_refused_total",
            "Pulls that the way to the other node does not carry",
            stats.refused_overload(),
        )?,
    ])
}
