//! Who publishes in which class, so that two apps that reconnect by themselves do not take it from each other without an end.
//!
//! Any app with a key of the class takes it over: the teacher changes from the laptop to the phone. The laptop's app, told to go,
//! reconnects after two seconds, as OBS does. It is refused while the phone publishes, until it has been quiet for a while.
//! Apps are told apart by how they call themselves, and not by address: a phone goes to and fro between Wi-Fi and 4G.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A displaced app that has not come for this long is started by somebody.
const QUIET: Duration = Duration::from_secs(45);
/// Displaced apps of a class that are remembered.
const DISPLACED_MAX: usize = 8;

/// The classes that somebody publishes in.
#[derive(Debug, Default)]
pub(crate) struct Takeovers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    turns: u64,
    classes: HashMap<String, Class>,
}

#[derive(Debug)]
struct Class {
    turn: u64,
    app: String,
    /// Those that had to go, and when they were here last.
    displaced: Vec<(String, Instant)>,
}

/// That an app publishes, for as long as it does.
#[derive(Debug)]
pub(crate) struct Turn {
    takeovers: Arc<Takeovers>,
    class: String,
    number: u64,
}

impl Takeovers {
    /// Gives the class to this app, unless it was displaced there and comes back by itself.
    pub(crate) fn take(self: &Arc<Self>, now: Instant, name: &str, app: &str) -> Option<Turn> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = table.turns;
        let mut displaced = Vec::new();
        if let Some(class) = table.classes.get_mut(name) {
            class.displaced.retain(|(_, last)| now < *last + QUIET);
            if class.app != app {
                if let Some((_, last)) = class.displaced.iter_mut().find(|(other, _)| other == app) {
                    *last = now;
                    return None;
                }
                class.displaced.truncate(DISPLACED_MAX - 1);
                class.displaced.insert(0, (class.app.clone(), now));
            }
            displaced = std::mem::take(&mut class.displaced);
        }
        table.turns += 1;
        table.classes.insert(name.to_owned(), Class { turn: number, app: app.to_owned(), displaced });
        Some(Turn { takeovers: Arc::clone(self), class: name.to_owned(), number })
    }
}

impl Drop for Turn {
    /// Nobody is kept out of a class in which nobody publishes.
    fn drop(&mut self) {
        let mut table = self.takeovers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.classes.get(&self.class).is_some_and(|class| class.turn == self.number) {
            table.classes.remove(&self.class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_displaced_does_not_come_back_by_itself() {
        let (takeovers, mut now) = (Arc::new(Takeovers::default()), Instant::now());
        let laptop = takeovers.take(now, "a", "laptop").unwrap();
        let phone = takeovers.take(now, "a", "phone").unwrap();
        drop(laptop);
        for _ in 0..20 {
            now += Duration::from_secs(10);
            assert!(takeovers.take(now, "a", "laptop").is_none());
        }
        let other = takeovers.take(now, "b", "laptop");
        assert!(other.is_some(), "another class is another matter");
        let again = takeovers.take(now, "a", "phone");
        assert!(again.is_some(), "a phone whose connection broke comes back");
        drop(phone);
        assert!(takeovers.take(now, "a", "laptop").is_none(), "the first connection was no longer the one");
        let waited = now + QUIET;
        let back = takeovers.take(waited, "a", "laptop");
        assert!(back.is_some(), "somebody has started it");
        assert!(takeovers.take(waited, "a", "phone").is_none(), "now the phone was displaced");
    }

    #[test]
    fn a_class_without_a_publisher_is_for_everybody_and_forgotten() {
        let (takeovers, now) = (Arc::new(Takeovers::default()), Instant::now());
        let laptop = takeovers.take(now, "a", "laptop").unwrap();
        let phone = takeovers.take(now, "a", "phone").unwrap();
        drop((laptop, phone));
        assert!(takeovers.0.lock().unwrap().classes.is_empty());
        assert!(takeovers.take(now, "a", "laptop").is_some());
    }

    #[test]
    fn few_of_the_displaced_are_remembered() {
        let (takeovers, now) = (Arc::new(Takeovers::default()), Instant::now());
        let turns: Vec<_> = (0..100).map(|n| takeovers.take(now, "a", &n.to_string()).unwrap()).collect();
        assert_eq!(takeovers.0.lock().unwrap().classes["a"].displaced.len(), DISPLACED_MAX);
        assert!(takeovers.take(now, "a", "98").is_none());
        drop(turns);
    }
}
