//! The server's own figures, as its operators read them: Prometheus's text format.
use std::collections::BTreeMap;

use anyhow::Context;

/// What `/metrics` said at one moment.
#[derive(Debug, Default)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub(crate) async fn read(http: &reqwest::Client, address: &str) -> anyhow::Result<Self> {
        let url = format!("http://{address}/metrics");
        let text = http.get(&url).send().await?.error_for_status()?.text().await?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines
                .filter_map(|line| {
                    let (name, value) = line.rsplit_once(' ')?;
                    Some((name.to_owned(), value.parse().ok()?))
                })
                .collect(),
        )
    }

    /// The sum of a gauge over its labels.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let prefix = format!("{name}{{");
        self.0.iter().filter(|(line, _)| line.starts_with(&prefix)).map(|(_, value)| value).sum()
    }

    /// How much a counter has grown since `before`.
    pub(super) fn grown(&self, before: &Self, name: &str) -> anyhow::Result<f64> {
        let value = self.0.get(name).with_context(|| format!("the server has no metric {name}"))?;
        Ok(value - before.0.get(name).unwrap_or(&0.0))
    }

    /// The bucket of a histogram in which a quantile of what was counted since `before` lies: its upper end in
    /// milliseconds. `None` above all buckets, or when nothing was counted.
    pub(super) fn quantile_ms(&self, before: &Self, name: &str, labels: &str, quantile: f64) -> Option<f64> {
        let prefix = format!("{name}_bucket{{{labels}");
        let bucket = |line: &str| -> Option<(f64, f64)> {
            let end = line.strip_prefix(&prefix)?.split_once("le=\"")?.1.split_once('"')?.0;
            let end = if end == "+Inf" { f64::INFINITY } else { end.parse().ok()? };
            Some((end, self.grown(before, line).ok()?))
        };
        let mut buckets: Vec<(f64, f64)> = self.0.keys().filter_map(|line| bucket(line)).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all = buckets.last()?.1;
        let (end, _) = buckets.into_iter().find(|(_, count)| all > 0.0 && *count >= all * quantile)?;
        end.is_finite().then_some(end * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_came_since() {
        let text = |counts: [u32; 3]| {
            let [a, b, c] = counts;
            format!(
                "# HELP d x\nd_bucket{{track=\"video\",le=\"0.001\"}} {a}\nd_bucket{{track=\"video\",le=\"0.01\"}} {b}\n\
                 d_bucket{{track=\"video\",le=\"+Inf\"}} {c}\nsent 7\n"
            )
        };
        let (before, after) = (Metrics::parse(&text([10, 10, 10])), Metrics::parse(&text([10, 108, 110])));
        let quantile = |quantile| after.quantile_ms(&before, "d", "track=\"video\"", quantile);
        assert_eq!((quantile(0.5), quantile(0.98), quantile(0.99)), (Some(10.0), Some(10.0), None));
        assert_eq!(before.quantile_ms(&before, "d", "track=\"video\"", 0.5), None);
        assert_eq!(after.grown(&before, "sent").unwrap(), 0.0);
        assert!(after.grown(&before, "gone").is_err());
    }
}
