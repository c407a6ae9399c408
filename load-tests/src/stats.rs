//! What many viewers measured, as one distribution of bounded size.
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// Bits of precision: a value is known to 1 part in 128, which is below 1 %.
const PRECISION_BITS: u32 = 7;
const SUBBUCKETS: usize = 1 << PRECISION_BITS;
/// Values above 2^40 are counted as 2^40: 12 days in microseconds.
const VALUE_MAX: u64 = (1 << 40) - 1;
/// Bars of a picture of a histogram.
const BARS: u64 = 40;
/// Different reasons that a tally tells apart; a server that invents a new one each time fills the last.
const REASONS_MAX: usize = 32;
/// Letters of a reason.
const REASON_LEN_MAX: usize = 160;

/// A histogram whose buckets grow with the value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl Histogram {
    /// Counts one value.
    pub(crate) fn record(&mut self, value: u64) {
        let value = value.min(VALUE_MAX);
        let at = bucket_of(value);
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.sum = self.sum.saturating_add(value);
        self.count += 1;
    }

    /// Counts a time in microseconds.
    pub(crate) fn record_time(&mut self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(VALUE_MAX));
    }

    /// Takes over what another one counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
        self.count += other.count;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The smallest value that `percent` of all values do not exceed, to the precision of a bucket.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            seen += bucket;
            if seen >= rank {
                return upper_end(at).clamp(self.min, self.max);
            }
        }
        self.max
    }

    /// `{count, mean, p50, p95, p99, max}`, each divided by `unit`; null when nothing was counted.
    pub(crate) fn to_json(&self, unit: f64) -> Value {
        if self.count == 0 {
            return Value::Null;
        }
        let scaled = |value: u64| rounded(to_f64(value) / unit);
        json!({
            "count": self.count,
            "mean": rounded(to_f64(self.sum) / to_f64(self.count) / unit),
            "min": scaled(self.min),
            "p50": scaled(self.percentile(50)),
            "p95": scaled(self.percentile(95)),
            "p99": scaled(self.percentile(99)),
            "max": scaled(self.max),
            "bars": self.bars(unit),
        })
    }

    /// How many values lie between 0 and the 99th percentile, in bars of one width, as `report plot` draws them.
    fn bars(&self, unit: f64) -> Vec<Value> {
        let width = self.percentile(99).div_ceil(BARS).max(1);
        let mut counts = vec![0_u64; usize::try_from(BARS).unwrap_or(0)];
        for (at, count) in self.buckets.iter().enumerate() {
            if let Some(bar) = usize::try_from(upper_end(at) / width).ok().and_then(|bar| counts.get_mut(bar))
            {
                *bar += count;
            }
        }
        let bar = |(from, count): (u64, u64)| {
            json!({
                "from": rounded(to_f64(from * width) / unit),
                "to": rounded(to_f64((from + 1) * width) / unit),
                "count": count,
            })
        };
        (0..).zip(counts).map(bar).collect()
    }
}

/// How often each of a few reasons was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Counts `reason`, or "other" when there are too many different ones.
    pub(crate) fn add(&mut self, reason: &str) {
        self.add_many(reason, 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (reason, count) in &other.0 {
            self.add_many(reason, *count);
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(reason, count)| (reason.as_str(), *count))
    }

    pub(crate) fn to_json(&self) -> Value {
        Value::Object(self.iter().map(|(reason, count)| (reason.to_owned(), json!(count))).collect())
    }

    fn add_many(&mut self, reason: &str, count: u64) {
        let short: String = reason.chars().take(REASON_LEN_MAX).collect();
        let has_room = self.0.len() < REASONS_MAX || self.0.contains_key(&short);
        let key = if has_room { short } else { "other".to_owned() };
        *self.0.entry(key).or_default() += count;
    }
}

fn bucket_of(value: u64) -> usize {
    let exponent = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION_BITS + 1);
    let within = usize::try_from(value >> exponent).unwrap_or(0);
    // The first two rows are exact; each further row covers the next power of two with half as many new buckets.
    usize::try_from(exponent).unwrap_or(0) * SUBBUCKETS + within
}

/// The largest value that falls into a bucket.
fn upper_end(bucket: usize) -> u64 {
    let exponent = (bucket / SUBBUCKETS).saturating_sub(1);
    let within = bucket - exponent * SUBBUCKETS;
    let next = u64::try_from(within + 1).unwrap_or(0) << exponent;
    next - 1
}

/// Counts and microseconds are far below 2^52, where a float is exact.
pub(crate) fn to_f64(value: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people, below 2^52")]
    let float = value as f64;
    float
}

/// Three digits after the point are more than anybody reads.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_one_percent() {
        let mut histogram = Histogram::default();
        for value in 1..=100_000 {
            histogram.record(value);
        }
        for (percent, expected) in [(50, 50_000.0), (95, 95_000.0), (99, 99_000.0), (100, 100_000.0)] {
            let found = to_f64(histogram.percentile(percent));
            assert!((found / expected - 1.0).abs() < 0.01, "p{percent}: {found}");
        }
        assert_eq!((histogram.max(), histogram.count()), (100_000, 100_000));
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..2_000).chain((0..40).map(|bit| 1 << bit)).chain((1..40).map(|bit| (1 << bit) - 1)) {
            let bucket = bucket_of(value);
            assert!(upper_end(bucket) >= value, "{value} in {bucket}");
            assert!(bucket == 0 || upper_end(bucket - 1) < value, "{value} in {bucket}");
        }
    }

    #[test]
    fn two_halves_merged_are_the_whole() {
        let (mut left, mut right, mut whole) =
            (Histogram::default(), Histogram::default(), Histogram::default());
        for value in 0..1000_u64 {
            let half = if value % 3 == 0 { &mut left } else { &mut right };
            half.record(value * 7);
            whole.record(value * 7);
        }
        left.merge(&right);
        assert_eq!(left.to_json(1.0), whole.to_json(1.0));
        left.merge(&Histogram::default());
        assert_eq!(left.to_json(1.0), whole.to_json(1.0));
    }

    #[test]
    fn a_tally_is_bounded() {
        let mut tally = Tally::default();
        for n in 0..1000 {
            tally.add(&format!("reason {n}"));
        }
        assert_eq!(tally.total(), 1000);
        assert!(tally.iter().count() <= REASONS_MAX + 1);
    }
}
