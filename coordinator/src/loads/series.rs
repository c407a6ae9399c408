//! The gauges of a node (`docs/metrics.md`), put together again to the report that they show.
use control::api::NodeLoad;

use crate::registry::NodeReport;

/// What the names of these gauges begin with.
pub(super) const PREFIX: &str = "lectern_node_";

/// The gauges of one node that are known so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauges {
    load_bps: Option<u64>,
    egress_bps: Option<u64>,
    cpu: Option<f64>,
    loss: Option<f64>,
    seq: Option<u64>,
    started_at_ms: Option<u64>,
    joins_seen: Option<u64>,
}

impl Gauges {
    /// Adds one of them; others than those of a report do not matter, nor do the joins of another coordinator than `run`.
    pub(super) fn add<'a>(
        &mut self,
        name: &str,
        label: impl Fn(&str) -> Option<&'a str>,
        value: f64,
        run: &str,
    ) {
        match (name.strip_prefix(PREFIX), label("of")) {
            (Some("bits_per_second"), Some("load")) => self.load_bps = count(value),
            (Some("bits_per_second"), Some("egress")) => self.egress_bps = count(value),
            (Some("share"), Some("cpu")) => self.cpu = share(value),
            (Some("share"), Some("loss")) => self.loss = share(value),
            (Some("report_seq"), _) => self.seq = count(value),
            (Some("start_time_seconds"), _) => self.started_at_ms = count(value * 1000.0),
            (Some("joins_seen"), _) if label("coordinator") == Some(run) => self.joins_seen = count(value),
            _ => {}
        }
    }

    /// The report, unless one of them is missing: a node shows the joins of a coordinator once it has heard from it.
    pub(super) fn report(&self) -> Option<NodeReport> {
        let load = NodeLoad {
            load_bps: self.load_bps?,
            egress_bps: self.egress_bps?,
            cpu: self.cpu?,
            loss: self.loss?,
            joins_seen: self.joins_seen?,
            ..NodeLoad::default()
        };
        Some(NodeReport { started_at_ms: self.started_at_ms?, seq: self.seq?, load })
    }
}

/// A count: what is negative, endless or no number is none.
fn count(value: f64) -> Option<u64> {
    // By way of text, for no conversion says what does not fit.
    format!("{value:.0}").parse().ok()
}

fn share(value: f64) -> Option<f64> {
    (0.0..=1.0).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [(&str, &str, f64); 7] = [
        ("lectern_node_bits_per_second", "load", 5e9),
        ("lectern_node_bits_per_second", "egress", 4e9),
        ("lectern_node_share", "cpu", 0.5),
        ("lectern_node_share", "loss", 0.0),
        ("lectern_node_report_seq", "", 77.0),
        ("lectern_node_start_time_seconds", "", 1_795_338_000.123),
        ("lectern_node_joins_seen", "here", 3.0),
    ];

    fn gauges(samples: &[(&str, &'static str, f64)]) -> Option<NodeReport> {
        let mut gauges = Gauges::default();
        for (name, label, value) in samples {
            gauges.add(name, |_| Some(*label), *value, "here");
        }
        gauges.report()
    }

    #[test]
    fn a_report_is_put_together_of_all_its_gauges() {
        let report = gauges(&WHOLE).unwrap();
        assert_eq!((report.started_at_ms, report.seq), (1_795_338_000_123, 77));
        let load = report.load;
        assert_eq!((load.load_bps, load.egress_bps, load.joins_seen), (5_000_000_000, 4_000_000_000, 3));
        assert_eq!((load.cpu, load.loss), (0.5, 0.0));
    }

    #[test]
    fn a_gauge_that_is_missing_or_cannot_be_leaves_none() {
        for at in 0..WHOLE.len() {
            let mut samples = WHOLE.to_vec();
            for value in [-1.0, f64::NAN, f64::INFINITY, 1e40] {
                samples[at].2 = value;
                assert_eq!(gauges(&samples), None, "{:?}", samples[at]);
            }
            samples.remove(at);
            assert_eq!(gauges(&samples), None, "without {:?}", WHOLE[at]);
        }
        let mut elsewhere = WHOLE;
        elsewhere[6].1 = "elsewhere";
        assert_eq!(gauges(&elsewhere), None, "joins by another coordinator");
    }
}
