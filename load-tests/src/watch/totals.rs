//! What a group of viewers measured together.
use serde_json::{Map, Value, json};

use super::reception::Counts;
use crate::stats::{Histogram, Tally};

/// Microseconds in a millisecond: times are recorded in the first and reported in the second.
const MS: f64 = 1000.0;

macro_rules! totals {
    (histograms { $($histogram:ident: $unit:expr,)* } counters { $($counter:ident,)* }) => {
        /// Everything that is counted, added up over viewers.
        #[derive(Clone, Debug, Default)]
        pub(super) struct Totals {
            $(pub(super) $histogram: Histogram,)*
            $(pub(super) $counter: u64,)*
            pub(super) video: Counts,
            pub(super) audio: Counts,
            /// Joins that failed before there was a session.
            pub(super) failures: Tally,
            /// Sessions that ended before they should.
            pub(super) ended: Tally,
            pub(super) profiles: Tally,
        }

        impl Totals {
            pub(super) fn merge(&mut self, other: &Self) {
                $(self.$histogram.merge(&other.$histogram);)*
                $(self.$counter += other.$counter;)*
                self.video.add(&other.video);
                self.audio.add(&other.audio);
                self.failures.merge(&other.failures);
                self.ended.merge(&other.ended);
                self.profiles.merge(&other.profiles);
            }

            pub(super) fn to_json(&self) -> Value {
                let mut all = Map::new();
                $(all.insert(stringify!($histogram).to_owned(), self.$histogram.to_json($unit));)*
                $(all.insert(stringify!($counter).to_owned(), json!(self.$counter));)*
                all.insert("video".to_owned(), self.video.to_json());
                all.insert("audio".to_owned(), self.audio.to_json());
                all.insert("failures".to_owned(), self.failures.to_json());
                all.insert("ended_early".to_owned(), self.ended.to_json());
                all.insert("srtp_profiles".to_owned(), self.profiles.to_json());
                Value::Object(all)
            }

            /// The distributions with their units, for the table.
            pub(super) fn histograms(&self) -> Vec<(&'static str, &Histogram, f64)> {
                vec![$((stringify!($histogram), &self.$histogram, $unit),)*]
            }
        }
    };
}

totals! {
    histograms {
    token_ms: MS,
    post_ms: MS,
    post_to_ice_ms: MS,
    post_to_dtls_ms: MS,
    post_to_first_packet_ms: MS,
    post_to_first_unit_ms: MS,
    post_to_first_keyframe_ms: MS,
    round_trip_ms: MS,
    delay_ms: MS,
    keyframe_delay_ms: MS,
    delay_at_start_ms: MS,
    jitter_ms: MS,
    longest_gap_ms: MS,
    person_longest_gap_ms: MS,
    freeze_ms: MS,
    lost_per_viewer: 1.0,
    window_lost_per_viewer: 1.0,
    window_longest_gap_ms: MS,
    }
    counters {
    joined,
    moved,
    rejoined,
    not_back,
    connected,
    with_media,
    decrypting,
    packets,
    bytes,
    units_complete,
    units_damaged,
    units_undecodable,
    unusable_after_join,
    keyframes,
    sounds,
    sounds_malformed,
    undecryptable,
    unknown,
    picture_requests,
    reports,
    arrival_reports,
    freezes,
    frozen_ms,
    frozen_viewers,
    lossy_viewers,
    stamps_from_the_future,
    }
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.restarts += other.restarts;
        self.gaps += other.gaps;
        self.missed += other.missed;
        self.nacked += other.nacked;
        self.nacks += other.nacks;
        self.healed += other.healed;
        self.lost += other.lost;
        self.overflows += other.overflows;
        self.expected += other.expected;
    }

    fn to_json(self) -> Value {
        json!({
            "received": self.received, "reordered": self.reordered, "duplicates": self.duplicates,
            "restarts": self.restarts, "gaps": self.gaps, "missed": self.missed, "nacked": self.nacked,
            "nacks": self.nacks, "healed": self.healed, "lost": self.lost,
            "overflows": self.overflows, "expected": self.expected,
        })
    }
}
