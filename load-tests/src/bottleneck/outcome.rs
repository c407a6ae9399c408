//! What joins came to, and the tables of it.
use serde::Serialize;
use serde_json::Value;

use crate::report::table::Table;
use crate::report::{figure, median};

/// Packets sent again, of those of the stream, that are no harm to a link that is hardly fast enough.
const AGAIN_PERCENT_MAX: f64 = 10.0;
/// When the first picture is to be there, on links that have room for it.
const FIRST_PICTURE_MS_MAX: f64 = 400.0;
const ROOMY_KBPS: u64 = 6000;

/// One join. What a player cannot tell is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Join {
    /// Seconds after the keyframe.
    place_s: f64,
    has_failed: bool,
    first_picture_ms: Option<f64>,
    pictures: f64,
    freezes: f64,
    frozen_s: f64,
    /// Pictures that came damaged, or after damage and before the next keyframe, later than a second after the first packet.
    damaged: Option<f64>,
    audio_lost: Option<f64>,
    concealed_percent: Option<f64>,
    /// Packets that the server put onto the link.
    sent: Option<f64>,
    /// Those beyond one for each packet of the stream.
    again_percent: Option<f64>,
    /// Packets that found the link's queue full, or are missing at the player.
    dropped: f64,
    nacks: f64,
    picture_requests: f64,
}

/// The joins of one server, player, link and GOP.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    pub(super) server: &'static str,
    pub(super) player: &'static str,
    pub(super) link_kbps: u64,
    pub(super) gop_s: u64,
    /// What the stream alone fills of the link's queue.
    pub(super) own_queue_ms: f64,
    pub(super) joins: Vec<Join>,
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
}

impl Join {
    pub(super) fn failed(place_s: f64) -> Self {
        Self { place_s, has_failed: true, ..Self::default() }
    }

    /// Of what `watch` counted, and what the link did.
    pub(super) fn of_load(place_s: f64, all: &Value, dropped: u64) -> Self {
        let of = |path: &str| number(all, &format!("/viewers/{path}"));
        let dropped = crate::stats::to_f64(dropped);
        let sent = of("packets") + dropped;
        let expected = of("video/expected") + of("audio/expected");
        let has_first = of("post_to_first_keyframe_ms/count") > 0.0;
        Self {
            place_s,
            has_failed: of("connected") < 1.0 || !has_first,
            first_picture_ms: has_first.then(|| of("post_to_first_keyframe_ms/max")),
            pictures: of("units_complete") - of("units_undecodable"),
            freezes: of("freezes"),
            frozen_s: of("frozen_ms") / 1e3,
            damaged: Some(of("unusable_after_join")),
            audio_lost: (of("audio/expected") > 0.0).then(|| of("audio/lost")),
            concealed_percent: None,
            sent: Some(sent),
            again_percent: Some(((sent - expected) / expected.max(1.0) * 100.0).max(0.0)),
            dropped,
            nacks: of("video/nacks"),
            picture_requests: of("picture_requests"),
        }
    }

    /// Of what Chromium's `getStats()` said; see `frontend/e2e/bench/link.player.ts`.
    pub(super) fn of_chromium(join: &Value) -> Self {
        let of = |name: &str| number(join, &format!("/{name}"));
        let has_sound = of("audioReceived") > 0.0;
        let first = join["firstPictureMs"].as_f64();
        Self {
            place_s: of("placeMs") / 1e3,
            has_failed: first.is_none(),
            first_picture_ms: first,
            pictures: of("framesDecoded"),
            freezes: of("freezeCount"),
            frozen_s: of("freezeSeconds"),
            damaged: None,
            audio_lost: has_sound.then(|| of("audioLost")),
            concealed_percent: has_sound.then(|| of("concealedPercent")),
            sent: None,
            again_percent: Some(of("receivedAgain") / of("videoReceived").max(1.0) * 100.0),
            dropped: of("videoLost"),
            nacks: of("nackCount"),
            picture_requests: of("pliCount"),
        }
    }

    fn is_met(&self, link_kbps: u64) -> bool {
        let is_late =
            link_kbps >= ROOMY_KBPS && self.first_picture_ms.is_none_or(|ms| ms > FIRST_PICTURE_MS_MAX);
        !self.has_failed
            && !is_late
            && self.freezes == 0.0
            && self.damaged.unwrap_or(0.0) == 0.0
            && self.audio_lost.unwrap_or(0.0) == 0.0
            && self.again_percent.unwrap_or(0.0) <= AGAIN_PERCENT_MAX
    }
}

/// A line for each join.
pub(super) fn joins(groups: &[Series]) -> String {
    let mut table = Table::new(&[
        "server",
        "player",
        "Mbit/s",
        "GOP s",
        "joined s",
        "first ms",
        "pictures",
        "freezes",
        "frozen s",
        "damaged",
        "sound lost",
        "concealed %",
        "sent",
        "again %",
        "dropped",
        "asked",
        "PLI",
    ]);
    for group in groups {
        for join in &group.joins {
            let [server, player, link, gop] = group.title();
            table.push([
                server,
                player,
                link,
                gop,
                format!("{:.1}", join.place_s),
                if join.has_failed { "failed".to_owned() } else { shown(join.first_picture_ms) },
                figure(join.pictures),
                figure(join.freezes),
                format!("{:.1}", join.frozen_s),
                shown(join.damaged),
                shown(join.audio_lost),
                join.concealed_percent.map_or("-".to_owned(), |percent| format!("{percent:.2}")),
                shown(join.sent),
                join.again_percent.map_or("-".to_owned(), |percent| format!("{percent:.1}")),
                figure(join.dropped),
                figure(join.nacks),
                figure(join.picture_requests),
            ]);
        }
    }
    table.render()
}

/// A line for all joins of a kind: times as the middle and the worst, counts added up, shares as the worst.
pub(super) fn summary(groups: &[Series]) -> String {
    let mut table = Table::new(&[
        "server",
        "player",
        "Mbit/s",
        "GOP s",
        "own queue ms",
        "joins",
        "first ms p50",
        "max",
        "freezes",
        "frozen s",
        "damaged",
        "sound lost",
        "concealed % max",
        "again % max",
        "dropped",
        "asked",
        "PLI",
        "met",
    ]);
    for group in groups {
        let of = |value: fn(&Join) -> Option<f64>| group.joins.iter().filter_map(value).collect::<Vec<f64>>();
        let sum = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>());
        let most = |values: &[f64]| values.iter().copied().reduce(f64::max);
        let mut firsts = of(|join| join.first_picture_ms);
        let [server, player, link, gop] = group.title();
        let failed = group.joins.iter().filter(|join| join.has_failed).count();
        let met = group.joins.iter().filter(|join| join.is_met(group.link_kbps)).count();
        table.push([
            server,
            player,
            link,
            gop,
            figure(group.own_queue_ms.round()),
            if failed > 0 {
                format!("{} ({failed} failed)", group.joins.len())
            } else {
                group.joins.len().to_string()
            },
            shown(median(&mut firsts)),
            shown(most(&firsts)),
            shown(sum(of(|join| Some(join.freezes)))),
            sum(of(|join| Some(join.frozen_s))).map_or("-".to_owned(), |frozen| format!("{frozen:.1}")),
            shown(sum(of(|join| join.damaged))),
            shown(sum(of(|join| join.audio_lost))),
            most(&of(|join| join.concealed_percent))
                .map_or("-".to_owned(), |percent| format!("{percent:.2}")),
            most(&of(|join| join.again_percent)).map_or("-".to_owned(), |percent| format!("{percent:.1}")),
            shown(sum(of(|join| Some(join.dropped)))),
            shown(sum(of(|join| Some(join.nacks)))),
            shown(sum(of(|join| Some(join.picture_requests)))),
            format!("{met} of {}", group.joins.len()),
        ]);
    }
    table.render()
}

impl Series {
    fn title(&self) -> [String; 4] {
        let mbps = crate::stats::to_f64(self.link_kbps) / 1e3;
        [self.server.to_owned(), self.player.to_owned(), figure(mbps), self.gop_s.to_string()]
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| figure(value.round()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_sent_again_is_what_the_stream_did_not_need() {
        let watched = json!({"viewers": {
            "connected": 1, "packets": 1150, "units_complete": 600, "units_undecodable": 0, "freezes": 0,
            "frozen_ms": 0, "unusable_after_join": 0, "post_to_first_keyframe_ms": {"count": 1, "max": 120.5},
            "video": {"expected": 1000, "nacks": 9}, "audio": {"expected": 100, "lost": 0},
        }});
        let join = Join::of_load(0.2, &watched, 60);
        assert_eq!((join.sent, join.again_percent), (Some(1210.0), Some(10.0)));
        assert!(join.is_met(6000));
        let late = Join { first_picture_ms: Some(500.0), ..join.clone() };
        assert!(!late.is_met(6000) && late.is_met(3000), "only roomy links promise an early picture");
        for worse in [
            Join { freezes: 1.0, ..join.clone() },
            Join { damaged: Some(1.0), ..join.clone() },
            Join { audio_lost: Some(1.0), ..join.clone() },
            Join { again_percent: Some(10.1), ..join.clone() },
            Join::failed(0.2),
        ] {
            assert!(!worse.is_met(3000), "{worse:?}");
        }
        let group = Series {
            server: "Lectern",
            player: "lectern-load",
            link_kbps: 6000,
            gop_s: 2,
            own_queue_ms: 120.0,
            joins: vec![join, late],
        };
        assert!(summary(&[group]).contains("1 of 2"));
    }
}
