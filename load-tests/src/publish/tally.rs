//! What all publishers together have done.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::message::Kind;
use crate::report::table::Table;
use crate::report::{figure, median};

/// A message that is later than this was kept back by the server or by this machine, and not by a timer.
const LATE: Duration = Duration::from_millis(20);
/// Different errors that are told apart; the rest are counted together.
const ERRORS_MAX: usize = 32;
/// How the rest is called.
const OTHER_ERRORS: &str = "other errors";

/// Counters that every publisher adds to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    publishing: AtomicU64,
    video: AtomicU64,
    audio: AtomicU64,
    bytes: AtomicU64,
    late: AtomicU64,
    late_us_max: AtomicU64,
    openings: Mutex<Vec<f64>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) publishing: u64,
    pub(super) video: u64,
    pub(super) audio: u64,
    pub(super) bytes: u64,
    pub(super) late: u64,
    pub(super) errors: u64,
}

impl Tally {
    /// A publisher was let in, after that long. `publishers` of them at most.
    pub(super) fn on_open(&self, took: Duration) {
        self.publishing.fetch_add(1, Relaxed);
        self.openings.lock().unwrap_or_else(PoisonError::into_inner).push(took.as_secs_f64() * 1e3);
    }

    /// A publisher that was let in has ended.
    pub(super) fn on_close(&self) {
        self.publishing.fetch_sub(1, Relaxed);
    }

    /// A message was written, that long after its time.
    pub(super) fn on_sent(&self, kind: Kind, bytes: usize, late: Duration) {
        match kind {
            Kind::Video => self.video.fetch_add(1, Relaxed),
            Kind::Audio => self.audio.fetch_add(1, Relaxed),
            Kind::Metadata => 0,
        };
        self.bytes.fetch_add(bytes as u64, Relaxed);
        if late > LATE {
            self.late.fetch_add(1, Relaxed);
        }
        self.late_us_max.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A publisher has failed.
    pub(super) fn on_error(&self, error: &anyhow::Error) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!("{error:#}");
        if errors.len() >= ERRORS_MAX && !errors.contains_key(&text) {
            OTHER_ERRORS.clone_into(&mut text);
        }
        *errors.entry(text).or_default() += 1;
    }

    /// How things stand.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            publishing: self.publishing.load(Relaxed),
            video: self.video.load(Relaxed),
            audio: self.audio.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            late: self.late.load(Relaxed),
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).values().sum(),
        }
    }

    /// What became of it all, in so many seconds.
    pub(super) fn outcome(&self, publishers: usize, seconds: f64) -> Outcome {
        let counts = self.counts();
        let mut openings = self.openings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let middle = median(&mut openings);
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        Outcome {
            publishers,
            admitted: openings.len(),
            seconds,
            video_messages: counts.video,
            audio_messages: counts.audio,
            bytes: counts.bytes,
            bitrate_bps: as_f64(counts.bytes) * 8.0 / seconds.max(0.001),
            opening_ms_median: middle,
            opening_ms_max: openings.last().copied(),
            late_messages: counts.late,
            late_ms_max: as_f64(self.late_us_max.load(Relaxed)) / 1e3,
            failed: counts.errors,
            errors: errors.clone(),
        }
    }
}

impl Counts {
    /// A line for whoever waits: what has come since `before`, a second ago.
    pub(super) fn line(self, before: Self, publishers: usize, second: u64) -> String {
        let megabits = figure(as_f64(self.bytes.saturating_sub(before.bytes)) * 8.0 / 1e6);
        format!(
            "{second:>5} s  {}/{publishers} publishing  {} pictures  {} sounds  {megabits} Mbit/s  {} late  {} failed",
            self.publishing,
            self.video.saturating_sub(before.video),
            self.audio.saturating_sub(before.audio),
            self.late.saturating_sub(before.late),
            self.errors,
        )
    }
}

/// What became of it all.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    publishers: usize,
    /// Those whom the server let in.
    pub(super) admitted: usize,
    seconds: f64,
    video_messages: u64,
    audio_messages: u64,
    /// On the wire, RTMP's own included.
    bytes: u64,
    bitrate_bps: f64,
    /// From the connection to the consent.
    opening_ms_median: Option<f64>,
    opening_ms_max: Option<f64>,
    /// More than 20 ms behind their time.
    late_messages: u64,
    late_ms_max: f64,
    /// Publishers that ended before their time.
    pub(super) failed: u64,
    /// Why, and how many.
    errors: BTreeMap<String, u64>,
}

impl Outcome {
    /// For people.
    pub(super) fn table(&self) -> String {
        let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{} ms", figure(ms)));
        let mut table = Table::new(&["published", ""]);
        table.push(["publishers let in", &format!("{} of {}", self.admitted, self.publishers)]);
        table.push(["time", &format!("{} s", figure(self.seconds))]);
        table.push(["video messages", &figure(as_f64(self.video_messages))]);
        table.push(["audio messages", &figure(as_f64(self.audio_messages))]);
        table.push(["bit rate, all together", &format!("{} Mbit/s", figure(self.bitrate_bps / 1e6))]);
        table.push(["opening, median", &ms(self.opening_ms_median)]);
        table.push(["opening, longest", &ms(self.opening_ms_max)]);
        table.push(["messages over 20 ms late", &figure(as_f64(self.late_messages))]);
        table.push(["latest message", &ms(Some(self.late_ms_max))]);
        table.push(["publishers that failed", &figure(as_f64(self.failed))]);
        for (text, count) in &self.errors {
            table.push([format!("  {text}"), count.to_string()]);
        }
        table.render()
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people; counts far below 2^52")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn errors_are_counted_by_what_they_say_and_bounded() {
        let tally = Tally::default();
        for number in 0..1000 {
            tally.on_error(&anyhow!("port {number} is closed"));
            tally.on_error(&anyhow!("lost").context("sending"));
        }
        let outcome = tally.outcome(2000, 1.0);
        assert_eq!(outcome.failed, 2000);
        assert_eq!(outcome.errors["sending: lost"], 1000);
        assert_eq!(outcome.errors.len(), ERRORS_MAX + 1);
    }
}
