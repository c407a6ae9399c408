//! The paths on which a viewer checks, and which of them takes media: see `docs/decisions/0008-path-changes.md`.
use std::time::{Duration, Instant};

use is::stun::TransId;

use crate::batch::Path;

/// Paths that a viewer may check at once: a phone has a handful of addresses, each with a few ports.
pub(super) const PATHS_MAX: usize = 16;
/// A path on which nothing has come for so long gives way to one on which something has. Browsers check the pair in use
/// every 2.5 s.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// What is known of the paths of one viewer.
#[derive(Debug, Default)]
pub(super) struct Paths {
    known: Vec<Known>,
    selected: Option<Path>,
    /// Decisions of the viewer so far.
    round: u32,
}

#[derive(Debug)]
struct Known {
    path: Path,
    /// The PRIORITY of its latest check.
    priority: u32,
    /// The decision that nominated it.
    round: Option<u32>,
    /// When a check nominated it last.
    nominated: Option<Instant>,
    /// It was checked without a nomination since.
    is_reserve: bool,
    /// When something authentic came last.
    heard: Instant,
    /// What is sent to it arrives there.
    is_proven: bool,
    /// The check of ours that asks for proof.
    probe: Option<TransId>,
}

/// A connectivity check that knew the password.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) path: Path,
    pub(super) priority: u32,
    pub(super) nominates: bool,
    /// It is the first with the credentials of a restart.
    pub(super) completes_restart: bool,
}

impl Paths {
    /// Returns a path that was forgotten to make room for a new one.
    pub(super) fn on_check(&mut self, now: Instant, check: Check) -> Option<Path> {
        let mut forgotten = None;
        if self.known(check.path).is_none() {
            forgotten = self.make_room();
            self.known.push(Known {
                path: check.path,
                priority: check.priority,
                round: None,
                nominated: None,
                is_reserve: false,
                heard: now,
                // A connection is open only when both ends have heard from each other.
                is_proven: matches!(check.path, Path::Tcp(_)),
                probe: None,
            });
        }
        let decides = check.completes_restart || check.nominates && self.is_decision(now, check.path);
        self.round += u32::from(decides);
        let round = self.round;
        if let Some(known) = self.known(check.path) {
            known.heard = now;
            known.priority = check.priority;
            known.is_reserve = !check.nominates;
            if check.nominates || decides {
                known.nominated = Some(now);
                known.round = if decides { Some(round) } else { known.round.or(Some(round)) };
            }
        }
        self.select(now);
        forgotten
    }

    /// Whether a nomination of `path` is a decision for it (RFC 8445, section 8.1.1), after it was checked without one.
    /// Otherwise it repeats one, or the viewer nominates whatever it checks (RFC 5245, section 8.1.1.2).
    fn is_decision(&self, now: Instant, path: Path) -> bool {
        let others = self.known.iter().filter(|other| other.path != path);
        let latest = others.filter_map(|other| other.nominated).max();
        let is_alone = latest.is_some_and(|latest| now.saturating_duration_since(latest) >= SILENCE);
        let is_reserve = self.known.iter().any(|known| known.path == path && known.is_reserve);
        self.nominated() != Some(path) && (is_reserve || is_alone)
    }

    /// Something authentic came on a path.
    pub(super) fn on_heard(&mut self, now: Instant, path: Path) {
        if let Some(known) = self.known(path) {
            known.heard = now;
        }
    }

    /// The check of ours that `path` is to answer, if it has yet to prove itself: always the same one.
    pub(super) fn probe(&mut self, path: Path, new: impl FnOnce() -> Option<TransId>) -> Option<TransId> {
        let known = self.known(path).filter(|known| !known.is_proven)?;
        known.probe = known.probe.or_else(new);
        known.probe
    }

    /// An answer came on a path. Returns whether it is the proof that was asked for.
    pub(super) fn on_answer(&mut self, now: Instant, path: Path, answered: TransId) -> bool {
        let Some(known) = self.known(path).filter(|known| known.probe == Some(answered)) else {
            return false;
        };
        known.heard = now;
        known.probe = None;
        self.prove(now, path);
        true
    }

    /// What is sent to `path` arrives there.
    pub(super) fn prove(&mut self, now: Instant, path: Path) {
        if let Some(known) = self.known(path) {
            known.is_proven = true;
            self.select(now);
        }
    }

    pub(super) fn forget(&mut self, path: Path) {
        self.known.retain(|known| known.path != path);
        if self.selected == Some(path) {
            self.selected = None;
            let latest = self.known.iter().map(|known| known.heard).max();
            if let Some(latest) = latest {
                self.select(latest);
            }
        }
    }

    /// The path that media takes.
    pub(super) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// The path that media takes or would take, proven or not.
    pub(super) fn nominated(&self) -> Option<Path> {
        let best = self.known.iter().filter(|known| known.round.is_some()).max_by_key(|known| known.rank());
        best.or(self.known.first()).map(|known| known.path)
    }

    /// Whether `path` is in use: proven, and not silent.
    pub(super) fn is_in_use(&self, now: Instant, path: Path) -> bool {
        let known = self.known.iter().find(|known| known.path == path);
        known.is_some_and(|known| known.is_proven && known.is_fresh(now))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Path> {
        self.known.iter().map(|known| known.path)
    }

    fn known(&mut self, path: Path) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.path == path)
    }

    /// The latest decision counts; within one - an aggressive viewer takes none - UDP before TCP and then the priority.
    fn select(&mut self, now: Instant) {
        let usable = |known: &&Known| known.is_proven && known.round.is_some();
        let any_fresh = self.known.iter().filter(usable).any(|known| known.is_fresh(now));
        let fit = self.known.iter().filter(usable).filter(|known| !any_fresh || known.is_fresh(now));
        let best = fit.max_by_key(|known| known.rank()).map(|known| known.path);
        // Before any nomination, the first path carries what there is.
        let first = || self.known.iter().find(|known| known.is_proven).map(|known| known.path);
        self.selected = best.or(self.selected).or_else(first);
    }

    /// Room for one more: the longest silent one goes, those without proof first.
    fn make_room(&mut self) -> Option<Path> {
        if self.known.len() < PATHS_MAX {
            return None;
        }
        let selected = self.selected;
        let spare = self.known.iter().filter(|known| Some(known.path) != selected);
        let path = spare.min_by_key(|known| (known.is_proven, known.heard)).map(|known| known.path)?;
        self.known.retain(|known| known.path != path);
        Some(path)
    }
}

impl Known {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < SILENCE
    }

    fn rank(&self) -> (Option<u32>, bool, u32) {
        (self.round, matches!(self.path, Path::Udp { .. }), self.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELLULAR: u32 = 100;
    const WIFI: u32 = 200;

    fn udp(port: u16) -> Path {
        Path::Udp { peer: ([192, 0, 2, 1], port).into(), local: None }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A check that proves its path.
    fn check(paths: &mut Paths, now: Instant, path: Path, priority: u32, nominates: bool) {
        paths.on_check(now, Check { path, priority, nominates, completes_restart: false });
        paths.prove(now, path);
    }

    #[test]
    fn among_paths_nominated_by_their_first_check_the_highest_priority_wins() {
        let now = Instant::now();
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut paths = Paths::default();
            for port in order {
                check(&mut paths, now, udp(port), u32::from(port), true);
            }
            // TCP is for those who have nothing else, whatever it claims.
            check(&mut paths, now, Path::Tcp(1), u32::MAX, true);
            assert_eq!(paths.selected(), Some(udp(3)), "{order:?}");
        }
    }

    #[test]
    fn a_path_nominated_after_a_plain_check_wins_at_once_whatever_its_priority() {
        let now = Instant::now();
        let mut paths = Paths::default();
        for nominates in [false, true, true] {
            check(&mut paths, now, udp(1), WIFI, nominates);
        }
        assert_eq!(paths.selected(), Some(udp(1)));
        check(&mut paths, now + ms(10), udp(2), CELLULAR, false);
        assert_eq!(paths.selected(), Some(udp(1)));
        check(&mut paths, now + ms(60), udp(2), CELLULAR, true);
        assert_eq!(paths.selected(), Some(udp(2)), "the phone has left the Wi-Fi");
        // Its last check there comes late, and the next ones do not nominate.
        check(&mut paths, now + ms(70), udp(1), WIFI, true);
        assert_eq!(paths.selected(), Some(udp(2)));
        check(&mut paths, now + ms(80), udp(1), WIFI, false);
        assert_eq!(paths.selected(), Some(udp(2)));
        check(&mut paths, now + ms(90), udp(1), WIFI, true);
        assert_eq!(paths.selected(), Some(udp(1)), "it is back");
    }

    #[test]
    fn a_viewer_that_nominates_another_path_alone_is_followed_without_a_plain_check() {
        let now = Instant::now();
        let mut paths = Paths::default();
        check(&mut paths, now, udp(1), WIFI, true);
        check(&mut paths, now, udp(2), CELLULAR, true);
        assert_eq!(paths.selected(), Some(udp(1)));
        for at in [1000, 3000, 5000] {
            paths.on_heard(now + ms(at), udp(1));
            check(&mut paths, now + ms(at), udp(2), CELLULAR, true);
        }
        assert_eq!(paths.selected(), Some(udp(2)), "no nomination of the other for 5 s");
    }

    #[test]
    fn a_silent_path_gives_way_to_a_nominated_one_that_is_heard_of() {
        let now = Instant::now();
        let mut paths = Paths::default();
        check(&mut paths, now, udp(1), WIFI, true);
        check(&mut paths, now, udp(2), CELLULAR, true);
        check(&mut paths, now + ms(4900), udp(2), CELLULAR, false);
        assert_eq!(paths.selected(), Some(udp(1)));
        check(&mut paths, now + ms(5000), udp(2), CELLULAR, false);
        assert_eq!(paths.selected(), Some(udp(2)));
        check(&mut paths, now + ms(6000), udp(1), WIFI, false);
        assert_eq!(paths.selected(), Some(udp(1)), "heard of again");
    }

    #[test]
    fn feedback_keeps_a_path_from_counting_as_silent() {
        let now = Instant::now();
        let mut paths = Paths::default();
        check(&mut paths, now, udp(1), WIFI, true);
        check(&mut paths, now, udp(2), CELLULAR, true);
        paths.on_heard(now + ms(4000), udp(1));
        check(&mut paths, now + ms(6000), udp(2), CELLULAR, false);
        assert_eq!(paths.selected(), Some(udp(1)));
    }

    #[test]
    fn media_stays_where_it_is_until_a_nominated_path_proves_itself() {
        let now = Instant::now();
        let mut paths = Paths::default();
        check(&mut paths, now, udp(1), WIFI, false);
        check(&mut paths, now, udp(1), WIFI, true);
        for nominates in [false, true] {
            let spoofed = Check { path: udp(2), priority: u32::MAX, nominates, completes_restart: false };
            paths.on_check(now + ms(1), spoofed);
        }
        assert_eq!((paths.selected(), paths.nominated()), (Some(udp(1)), Some(udp(2))));
        let restart = Check { path: udp(3), priority: 1, nominates: true, completes_restart: true };
        paths.on_check(now + ms(2), restart);
        assert_eq!(paths.selected(), Some(udp(1)), "a restart proves nothing either");
        paths.prove(now + ms(3), udp(3));
        assert_eq!(paths.selected(), Some(udp(3)));
    }

    #[test]
    fn the_number_of_paths_is_bounded_and_those_with_proof_outlast_the_others() {
        let now = Instant::now();
        let mut paths = Paths::default();
        for port in [1, 2] {
            check(&mut paths, now, udp(port), WIFI, port == 1);
        }
        for port in 3..200 {
            let check = Check { path: udp(port), priority: 1, nominates: false, completes_restart: false };
            let forgotten = paths.on_check(now + ms(port.into()), check);
            let oldest = port.checked_sub(14).filter(|oldest| *oldest >= 3).map(udp);
            assert_eq!(forgotten, oldest);
        }
        assert_eq!(paths.iter().count(), PATHS_MAX);
        assert_eq!(paths.selected(), Some(udp(1)));
        assert!(paths.iter().any(|path| path == udp(2)));
    }

    #[test]
    fn a_path_whose_connection_is_gone_is_replaced() {
        let now = Instant::now();
        let mut paths = Paths::default();
        check(&mut paths, now, Path::Tcp(1), WIFI, true);
        check(&mut paths, now, Path::Tcp(2), CELLULAR, true);
        paths.forget(Path::Tcp(1));
        assert_eq!(paths.selected(), Some(Path::Tcp(2)));
        paths.forget(Path::Tcp(2));
        assert_eq!(paths.selected(), None);
    }
}
