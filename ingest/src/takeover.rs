//! Who publishes in which class, so that two apps that reconnect by themselves do not take it from each other without an end.
//!
//! Any app with a key of the class takes it over: the teacher changes from the laptop to the phone. The laptop's app, told to go,
//! reconnects after two seconds, as OBS does. It is refused while the phone publishes, until it has been quiet for a while.
//! Apps are told apart by their key and by how they call themselves, and not by address: a phone goes to and fro between Wi-Fi and
//! 4G. An app remembers the node that it publishes to, and that node remembers it, whichever node the other one publishes to.
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A displaced app that has not come for this long, nor for twice the time between its last two tries, is started by somebody:
/// apps that try again by themselves wait longer each time, OBS half as long again.
const QUIET: Duration = Duration::from_secs(45);
/// Nobody is kept out for longer.
const QUIET_MAX: Duration = Duration::from_secs(600);
/// Displaced apps of a class that are remembered.
const DISPLACED_MAX: usize = 8;

/// An app with its key, as a hash: keys are kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct App(u64);

/// The classes that somebody publishes in.
#[derive(Debug, Default)]
pub(crate) struct Takeovers {
    hasher: RandomState,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    turns: u64,
    classes: HashMap<String, Class>,
}

#[derive(Debug)]
struct Class {
    turn: u64,
    /// Who publishes here. Nobody if the one that does, publishes at another node.
    app: Option<App>,
    displaced: Vec<Displaced>,
}

/// An app that had to go.
#[derive(Clone, Copy, Debug)]
struct Displaced {
    app: App,
    /// When it was here last, and until when it is taken to come by itself.
    last: Instant,
    until: Instant,
}

/// An app that was displaced and comes back by itself.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) app: App,
    pub(crate) class: String,
    /// The other one publishes at another node, if it still does.
    pub(crate) is_elsewhere: bool,
    /// If it does not come for so long, it is let in.
    pub(crate) wait: Duration,
}

/// That an app publishes, for as long as it does.
#[derive(Debug)]
pub(crate) struct Turn {
    takeovers: Arc<Takeovers>,
    class: String,
    number: u64,
}

impl Takeovers {
    /// An app that has come: it may publish unless it was displaced, the other one still publishes, and it comes back by itself.
    pub(crate) fn admit(&self, now: Instant, key: &str, encoder: &str) -> Result<App, Kept> {
        let app = App(self.hasher.hash_one((key, encoder)));
        let mut table = self.lock();
        for (name, class) in table.classes.iter_mut().filter(|(_, class)| class.app != Some(app)) {
            class.displaced.retain(|other| now < other.until);
            if let Some(other) = class.displaced.iter_mut().find(|other| other.app == app) {
                let waited = now.saturating_duration_since(other.last);
                let wait = QUIET.max(2 * waited).min(QUIET_MAX);
                (other.last, other.until) = (now, now + wait);
                return Err(Kept { app, class: name.clone(), is_elsewhere: class.app.is_none(), wait });
            }
        }
        Ok(app)
    }

    /// Gives a class to an app that was admitted.
    pub(crate) fn take(self: &Arc<Self>, now: Instant, name: &str, app: App) -> Turn {
        let mut table = self.lock();
        let number = table.turns;
        let before = table.classes.remove(name);
        let mut displaced = Vec::new();
        if let Some(before) = before {
            let others = before.displaced.into_iter().filter(|other| other.app != app);
            let newest = before.app.filter(|before| *before != app).map(|app| Displaced::new(now, app));
            displaced.extend(newest.into_iter().chain(others));
            displaced.truncate(DISPLACED_MAX);
        }
        table.turns += 1;
        table.classes.insert(name.to_owned(), Class { turn: number, app: Some(app), displaced });
        Turn { takeovers: Arc::clone(self), class: name.to_owned(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Displaced {
    fn new(now: Instant, app: App) -> Self {
        Self { app, last: now, until: now + QUIET }
    }
}

impl Turn {
    /// The app has to go, for one that publishes here or at another node.
    pub(crate) fn displace(&self, now: Instant) {
        let mut table = self.takeovers.lock();
        table
            .classes
            .retain(|_, class| class.app.is_some() || class.displaced.iter().any(|other| now < other.until));
        let Some(class) = table.classes.get_mut(&self.class).filter(|class| class.turn == self.number) else {
            return;
        };
        // Nobody has taken its turn here.
        if let Some(app) = class.app.take() {
            class.displaced.insert(0, Displaced::new(now, app));
            class.displaced.truncate(DISPLACED_MAX);
        }
    }
}

impl Drop for Turn {
    /// Nobody is kept out of a class in which nobody publishes.
    fn drop(&mut self) {
        let mut table = self.takeovers.lock();
        if table
            .classes
            .get(&self.class)
            .is_some_and(|class| class.turn == self.number && class.app.is_some())
        {
            table.classes.remove(&self.class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(takeovers: &Arc<Takeovers>, now: Instant, class: &str, encoder: &str) -> Option<Turn> {
        let app = takeovers.admit(now, &format!("key of {class}"), encoder).ok()?;
        Some(takeovers.take(now, class, app))
    }

    #[test]
    fn who_was_displaced_does_not_come_back_by_itself() {
        let (takeovers, mut now) = (Arc::new(Takeovers::default()), Instant::now());
        let laptop = publish(&takeovers, now, "a", "laptop").unwrap();
        let phone = publish(&takeovers, now, "a", "phone").unwrap();
        drop(laptop);
        for _ in 0..20 {
            now += Duration::from_secs(10);
            assert!(publish(&takeovers, now, "a", "laptop").is_none());
        }
        for gap in [15, 23, 35, 52, 79, 118, 177, 265] {
            now += Duration::from_secs(gap);
            assert!(publish(&takeovers, now, "a", "laptop").is_none(), "after {gap} s");
        }
        let other = publish(&takeovers, now, "b", "laptop");
        assert!(other.is_some(), "another class is another matter");
        let again = publish(&takeovers, now, "a", "phone");
        assert!(again.is_some(), "a phone whose connection broke comes back");
        drop(phone);
        assert!(
            publish(&takeovers, now, "a", "laptop").is_none(),
            "the first connection was no longer the one"
        );
        let waited = now + 2 * Duration::from_secs(265);
        let back = publish(&takeovers, waited, "a", "laptop");
        assert!(back.is_some(), "somebody has started it");
        assert!(publish(&takeovers, waited, "a", "phone").is_none(), "now the phone was displaced");
    }

    #[test]
    fn who_waits_as_long_as_told_is_let_in() {
        for gaps in [&[2, 3, 5][..], &[35], &[40, 60, 60], &[44, 80, 150, 290, 500]] {
            let (takeovers, mut now) = (Arc::new(Takeovers::default()), Instant::now());
            let _laptop = publish(&takeovers, now, "a", "laptop").unwrap();
            let _phone = publish(&takeovers, now, "a", "phone").unwrap();
            let mut wait = QUIET;
            for gap in gaps {
                now += Duration::from_secs(*gap);
                let kept = takeovers.admit(now, "key of a", "laptop").unwrap_err();
                assert!(kept.wait >= QUIET && !kept.is_elsewhere, "{kept:?}");
                wait = kept.wait;
            }
            assert!(
                wait <= QUIET_MAX && takeovers.admit(now + wait, "key of a", "laptop").is_ok(),
                "{gaps:?}"
            );
        }
    }

    #[test]
    fn who_was_displaced_by_an_app_at_another_node_is_known_here() {
        let (takeovers, mut now) = (Arc::new(Takeovers::default()), Instant::now());
        let laptop = publish(&takeovers, now, "a", "laptop").unwrap();
        laptop.displace(now);
        drop(laptop);
        for _ in 0..5 {
            now += Duration::from_secs(20);
            let kept = takeovers.admit(now, "key of a", "laptop").unwrap_err();
            assert!(kept.is_elsewhere && kept.class == "a");
        }
        let phone = publish(&takeovers, now, "a", "phone").unwrap();
        assert!(
            !takeovers.admit(now, "key of a", "laptop").unwrap_err().is_elsewhere,
            "it publishes here now"
        );
        drop(phone);
        assert!(publish(&takeovers, now, "a", "laptop").is_some(), "nobody publishes");
        let other = publish(&takeovers, now, "b", "laptop").unwrap();
        other.displace(now);
        drop(other);
        let later = publish(&takeovers, now + QUIET, "c", "laptop").unwrap();
        later.displace(now + QUIET);
        assert_eq!(takeovers.lock().classes.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn a_class_without_a_publisher_is_for_everybody_and_forgotten() {
        let (takeovers, now) = (Arc::new(Takeovers::default()), Instant::now());
        let laptop = publish(&takeovers, now, "a", "laptop").unwrap();
        let phone = publish(&takeovers, now, "a", "phone").unwrap();
        drop((laptop, phone));
        assert!(takeovers.lock().classes.is_empty());
        assert!(publish(&takeovers, now, "a", "laptop").is_some());
    }

    #[test]
    fn few_of_the_displaced_are_remembered() {
        let (takeovers, now) = (Arc::new(Takeovers::default()), Instant::now());
        let turns: Vec<_> =
            (0..100).map(|n| publish(&takeovers, now, "a", &n.to_string()).unwrap()).collect();
        assert_eq!(takeovers.lock().classes["a"].displaced.len(), DISPLACED_MAX);
        assert!(publish(&takeovers, now, "a", "98").is_none());
        drop(turns);
    }
}
