//! What players say of what their people see and hear.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use control::api::Playback;
use serde::Deserialize;

use super::{SessionId, Sessions};

/// Players say it every ten seconds; what was said longer ago counts no more.
const SAID_MAX: Duration = Duration::from_secs(25);
/// What ten seconds may have of it before a viewer struggles: half a second without motion, or one packet in twenty lost.
const FROZEN_MAX_MS: u32 = 500;
const LOST_PER_20: u64 = 1;
/// A delay beyond this is a clock that is wrong.
const DELAY_MAX_MS: u32 = 60_000;

/// What a player has seen of the last ten seconds or so.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct PlaybackReport {
    /// Pictures move, and the page is visible.
    pub(crate) is_seen: bool,
    /// Sound comes, and is not muted.
    pub(crate) is_heard: bool,
    /// From the server to the eye, if the player knows.
    pub(crate) delay_ms: Option<u32>,
    /// How often and how long the picture stood.
    pub(crate) freezes: u32,
    pub(crate) frozen_ms: u32,
    /// Packets that came, and those that never did.
    pub(crate) packets: u32,
    pub(crate) lost: u32,
    /// From the page's request to the first picture; with the first report of a session alone.
    pub(crate) first_picture_ms: Option<u32>,
}

impl PlaybackReport {
    fn is_struggling(&self) -> bool {
        let (packets, lost) = (u64::from(self.packets), u64::from(self.lost));
        self.frozen_ms > FROZEN_MAX_MS || lost * 20 > (packets + lost) * LOST_PER_20
    }

    pub(crate) fn delay_ms(&self) -> Option<u32> {
        self.delay_ms.filter(|delay_ms| *delay_ms <= DELAY_MAX_MS)
    }
}

impl Sessions {
    /// Notes what a player says. False if there is no such session.
    pub(crate) fn report(&self, class: &str, id: &SessionId, report: PlaybackReport, now: Instant) -> bool {
        let mut table = self.lock();
        let Some(viewer) = table.find(class, id) else { return false };
        if let Some(session) = table.rows.get_mut(&viewer) {
            session.playback = Some(Box::new((now, report)));
        }
        true
    }

    /// What the players of each class say, of those that have said something lately.
    pub(crate) fn playbacks(&self, now: Instant) -> HashMap<String, Playback> {
        let table = self.lock();
        let mut all: HashMap<String, Playback> = HashMap::new();
        for session in table.rows.values().filter(|session| !session.is_ending) {
            let Some((_, report)) = session.playback.as_deref().filter(|(at, _)| now < *at + SAID_MAX) else {
                continue;
            };
            let playback = match all.get_mut(&*session.class) {
                Some(playback) => playback,
                None => all.entry(session.class.to_string()).or_default(),
            };
            playback.add(&Playback {
                reporting: 1,
                seeing: report.is_seen.into(),
                hearing: report.is_heard.into(),
                struggling: report.is_struggling().into(),
                delays: report.delay_ms().is_some().into(),
                delay_ms_sum: report.delay_ms().unwrap_or(0).into(),
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(frozen_ms: u32, packets: u32, lost: u32) -> PlaybackReport {
        PlaybackReport { frozen_ms, packets, lost, ..PlaybackReport::default() }
    }

    #[test]
    fn who_struggles_has_stood_still_or_lost_much() {
        assert!(!report(0, 0, 0).is_struggling(), "nothing came, and nothing was to come");
        assert!(!report(500, 1000, 50).is_struggling());
        assert!(report(501, 1000, 0).is_struggling());
        assert!(report(0, 940, 60).is_struggling());
        assert!(report(0, u32::MAX, u32::MAX).is_struggling());
    }
}
