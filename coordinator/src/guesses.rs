//! Wrong PINs: how many may be tried from where, and for which class. A machine without a clock.
//!
//! Right answers cost nothing. A wrong one costs the network that it came from, and the class if that network has never
//! given a right one. Whoever must wait is not told whether the answer was right; except a network that has given a right
//! answer before: its right answers always count, so that a class is not locked out by its own typing errors or by an
//! attack from elsewhere. `docs/decisions/0006-doors.md` has the arithmetic.
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::store::Class;

/// Wrong PINs of one network at once: a school behind one address that types a new PIN.
const NETWORK_FAILURES: u32 = 120;
/// Until one of them is forgiven.
const NETWORK_FORGIVES: Duration = Duration::from_secs(10);
/// Wrong PINs for one class before newcomers wait.
pub(crate) const CLASS_FAILURES: u32 = 100;
/// How long they wait after the next wrong one; twice as long after each further one, up to the longest.
const WAIT_MIN: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A class with no wrong PIN for this long begins anew.
const CLASS_FORGIVES: Duration = Duration::from_secs(3600);
/// Networks whose failures are remembered, about 2 MB; the one longest quiet is forgotten first.
const NETWORKS_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("a literal");
/// Networks that have given a class's right PIN, about 8 MB; the one longest unused must pass like a newcomer again.
const ENTERED_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("a literal");
/// Classes whose failures are remembered: all that there can be.
const CLASSES_MAX: NonZeroUsize = NonZeroUsize::new(crate::directory::CLASSES_MAX).expect("a literal");
/// Names of no class whose failures are remembered, about 6 MB, apart from classes so that they push none of these out. Of a
/// class nothing is forgotten, so whoever makes this forget a name knows that it is none: with 120 tries each that takes
/// 500 networks.
const UNKNOWN_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("a literal");

/// What was tried.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// A class, by its id.
    Class(&'a str),
    /// A name that no class has. It is treated the same, so that names cannot be tried out.
    Unknown(&'a str),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The PIN is right.
    Right,
    /// The PIN or the name is wrong.
    Wrong,
    /// There were too many wrong ones; what was tried is not said.
    Wait(Duration),
}

/// Failures that are forgiven one after the other.
#[derive(Clone, Copy, Debug)]
struct Debt {
    failures: u32,
    /// When the last one was forgiven.
    since: Instant,
}

/// Failures of a class.
#[derive(Clone, Copy, Debug)]
struct Budget {
    failures: u32,
    last: Instant,
    wait: Duration,
}

/// Everything that is remembered of wrong and right PINs.
#[derive(Debug)]
pub(crate) struct Guesses {
    networks: LruCache<IpAddr, Debt>,
    classes: LruCache<String, Budget>,
    /// By the hash of the name; what can be the name of no class shares one entry.
    unknown: LruCache<u64, Budget>,
    hasher: RandomState,
    entered: LruCache<(String, IpAddr), ()>,
}

impl Default for Guesses {
    fn default() -> Self {
        Self {
            networks: LruCache::new(NETWORKS_MAX),
            classes: LruCache::new(CLASSES_MAX),
            unknown: LruCache::new(UNKNOWN_MAX),
            hasher: RandomState::new(),
            entered: LruCache::new(ENTERED_MAX),
        }
    }
}

impl Guesses {
    /// Judges one try from a network. `is_right` must be false for an unknown name.
    pub(crate) fn judge(
        &mut self,
        target: Target<'_>,
        network: IpAddr,
        is_right: bool,
        now: Instant,
    ) -> Verdict {
        let has_entered = match target {
            Target::Class(id) => self.entered.get(&(id.to_owned(), network)).is_some(),
            Target::Unknown(_) => false,
        };
        if has_entered && is_right {
            return Verdict::Right;
        }
        let new = || Debt { failures: 0, since: now };
        let debt = self.networks.get_or_insert_mut(network, new);
        debt.forgive(now);
        let new = || Budget::new(now);
        let budget = match target {
            Target::Class(id) => self.classes.get_or_insert_mut_ref(id, new),
            Target::Unknown(name) => {
                let name = Some(name).filter(|name| Class::is_slug(name));
                self.unknown.get_or_insert_mut(self.hasher.hash_one(name), new)
            }
        };
        budget.forgive(now);
        let class_waits = if has_entered { Duration::ZERO } else { budget.waits(now) };
        let waits = debt.waits(now).max(class_waits);
        if !waits.is_zero() {
            return Verdict::Wait(waits);
        }
        if is_right {
            budget.on_newcomer();
            if let Target::Class(id) = target {
                self.entered.put((id.to_owned(), network), ());
            }
            return Verdict::Right;
        }
        debt.failures += 1;
        if !has_entered {
            budget.on_failure(now);
        }
        Verdict::Wrong
    }

    /// The PIN of a class is another one: what was tried and found before means nothing.
    pub(crate) fn on_new_pin(&mut self, class_id: &str) {
        self.classes.pop(class_id);
        let known: Vec<_> =
            self.entered.iter().map(|(key, ())| key).filter(|key| key.0 == class_id).cloned().collect();
        for key in known {
            self.entered.pop(&key);
        }
    }
}

impl Debt {
    fn forgive(&mut self, now: Instant) {
        let forgiven = now.saturating_duration_since(self.since).as_secs() / NETWORK_FORGIVES.as_secs();
        match u32::try_from(forgiven) {
            Ok(forgiven) if forgiven < self.failures => {
                self.failures -= forgiven;
                self.since += NETWORK_FORGIVES * forgiven;
            }
            _ => *self = Self { failures: 0, since: now },
        }
    }

    fn waits(&self, now: Instant) -> Duration {
        if self.failures < NETWORK_FAILURES {
            return Duration::ZERO;
        }
        (self.since + NETWORK_FORGIVES).saturating_duration_since(now)
    }
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { failures: 0, last: now, wait: Duration::ZERO }
    }

    fn forgive(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last) >= CLASS_FORGIVES {
            *self = Self::new(now);
        }
    }

    fn waits(&self, now: Instant) -> Duration {
        (self.last + self.wait).saturating_duration_since(now)
    }

    /// A network that was not known gave the right PIN: an attack has none of these, a large class many.
    fn on_newcomer(&mut self) {
        self.failures = self.failures.saturating_sub(1);
        if self.failures < CLASS_FAILURES {
            self.wait = Duration::ZERO;
        }
    }

    fn on_failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.last = now;
        if self.failures >= CLASS_FAILURES {
            self.wait = (self.wait * 2).clamp(WAIT_MIN, WAIT_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Target<'static> = Target::Class("room");

    fn network(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    fn exhaust(guesses: &mut Guesses, now: Instant) {
        for n in 0..CLASS_FAILURES {
            assert_eq!(guesses.judge(ROOM, network(n), false, now), Verdict::Wrong);
        }
    }

    #[test]
    fn right_pins_cost_nothing() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for _ in 0..10_000 {
            assert_eq!(guesses.judge(ROOM, network(1), true, now), Verdict::Right);
        }
    }

    #[test]
    fn one_network_runs_out_of_wrong_pins_and_is_forgiven_one_by_one() {
        let (mut guesses, mut now) = (Guesses::default(), Instant::now());
        // It has entered, so that the class's own budget is not concerned.
        guesses.judge(ROOM, network(1), true, now);
        let wrong = |guesses: &mut Guesses, now| {
            (0..500).filter(|_| guesses.judge(ROOM, network(1), false, now) == Verdict::Wrong).count()
        };
        assert_eq!(wrong(&mut guesses, now), 120);
        assert_eq!(guesses.judge(ROOM, network(1), false, now), Verdict::Wait(NETWORK_FORGIVES));
        assert_eq!(guesses.judge(ROOM, network(1), true, now), Verdict::Right, "it was right before");
        now += NETWORK_FORGIVES;
        assert_eq!(wrong(&mut guesses, now), 1);
        now += NETWORK_FORGIVES * 1000;
        assert_eq!(wrong(&mut guesses, now), 120);
    }

    #[test]
    fn a_network_that_must_wait_is_not_told_that_it_is_right() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for n in 0..NETWORK_FAILURES {
            guesses.judge(Target::Unknown(&n.to_string()), network(1), false, now);
        }
        assert_eq!(guesses.judge(ROOM, network(1), true, now), Verdict::Wait(NETWORK_FORGIVES));
    }

    #[test]
    fn many_addresses_together_get_only_as_far_as_one() {
        let (mut guesses, begin) = (Guesses::default(), Instant::now());
        let tried = (0..86_400_u32)
            .flat_map(|second| (0..3).map(move |n| (second, n)))
            .filter(|(second, n)| {
                let now = begin + Duration::from_secs(u64::from(*second));
                guesses.judge(ROOM, network(second * 3 + n), false, now) == Verdict::Wrong
            })
            .count();
        assert!((1400..1600).contains(&tried), "{tried} of a million PINs in a day");
    }

    #[test]
    fn an_attack_on_a_class_does_not_refuse_whoever_was_right_before() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let student = IpAddr::from([203, 0, 113, 5]);
        assert_eq!(guesses.judge(ROOM, student, true, now), Verdict::Right);
        exhaust(&mut guesses, now);
        let newcomer = IpAddr::from([203, 0, 113, 6]);
        assert_eq!(guesses.judge(ROOM, newcomer, true, now), Verdict::Wait(WAIT_MIN));
        assert_eq!(guesses.judge(ROOM, student, true, now), Verdict::Right);
        assert_eq!(guesses.judge(ROOM, newcomer, true, now + WAIT_MIN), Verdict::Right, "in a pause");
        assert_eq!(guesses.judge(Target::Class("other"), newcomer, true, now), Verdict::Right);
    }

    #[test]
    fn a_large_class_that_mistypes_now_and_then_does_not_lock_itself_out() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for n in 0..20_000 {
            if n % 5 == 0 {
                assert_eq!(guesses.judge(ROOM, network(n), false, now), Verdict::Wrong, "{n}");
            }
            assert_eq!(guesses.judge(ROOM, network(n), true, now), Verdict::Right, "{n}");
        }
    }

    #[test]
    fn a_name_of_no_class_is_answered_like_a_class() {
        let now = Instant::now();
        let answers = |target: Target<'_>| {
            let mut guesses = Guesses::default();
            (0..200).map(|n| guesses.judge(target, network(n), false, now)).collect::<Vec<_>>()
        };
        assert_eq!(answers(ROOM), answers(Target::Unknown("nowhere")));
    }

    #[test]
    fn what_can_be_the_name_of_no_class_takes_no_room() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for n in 0..1000 {
            let name = format!("{} {n}", "x".repeat(1000));
            guesses.judge(Target::Unknown(&name), network(n), false, now);
        }
        assert_eq!(guesses.unknown.len(), 1);
    }

    #[test]
    fn a_new_pin_begins_anew_for_everybody() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let student = IpAddr::from([203, 0, 113, 5]);
        guesses.judge(ROOM, student, true, now);
        exhaust(&mut guesses, now);
        guesses.on_new_pin("room");
        assert_eq!(guesses.judge(ROOM, network(7777), true, now), Verdict::Right);
        exhaust(&mut guesses, now);
        let verdict = guesses.judge(ROOM, student, true, now);
        assert!(matches!(verdict, Verdict::Wait(_)), "it knew another PIN: {verdict:?}");
    }

    #[test]
    fn the_tables_are_bounded_and_names_of_no_class_push_no_class_out() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        exhaust(&mut guesses, now);
        for n in 0..100_000 {
            guesses.judge(Target::Unknown(&n.to_string()), network(n), false, now);
            guesses.judge(Target::Class("other"), network(n), true, now);
        }
        assert_eq!(guesses.networks.len(), NETWORKS_MAX.get());
        assert_eq!(guesses.entered.len(), ENTERED_MAX.get());
        assert_eq!(guesses.unknown.len(), UNKNOWN_MAX.get());
        let verdict = guesses.judge(ROOM, network(u32::MAX), true, now);
        assert!(matches!(verdict, Verdict::Wait(_)), "{verdict:?}");
    }
}
