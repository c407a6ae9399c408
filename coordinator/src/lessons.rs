//! What pages are told of lessons while they are open: the state of a class, and of all that have a lesson, as it changes.
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::app::{App, now_ms};
use crate::registry::{Lesson, Phase};

/// Pages that are told at a time: half of the connections that the ports of a process have, so that others come in.
pub(crate) const PAGES_MAX: usize = 4_096;
/// Of one network: a large school.
pub(crate) const PAGES_OF_NETWORK_MAX: usize = 1_024;
/// How many watch is told at most this often: in a large class it changes all the time.
const VIEWERS_PAUSE: Duration = Duration::from_secs(5);
/// When a state began is reckoned from each report anew; a difference below this is none.
const SINCE_STEP_MS: u64 = 2_000;
/// A change of the bit rate below this is none.
const BITRATE_STEP_BPS: u64 = 50_000;
/// A coordinator that has just begun knows what there is when every node has reported: until then it does not say that there is
/// nothing.
const SETTLE: Duration = Duration::from_millis(4_000);

/// How often is looked at all of them, if something may have changed.
const ALL_PAUSE: Duration = Duration::from_millis(500);
/// How many times that is between two looks at what changes without a word.
const LOOK_EVERY: u32 = 2;

/// Tells pages what nobody says: a node that is silent, a class that is gone.
pub(crate) async fn run(app: &App) -> Infallible {
    let mut interval = tokio::time::interval(ALL_PAUSE);
    for turn in (0..LOOK_EVERY).cycle() {
        interval.tick().await;
        if turn == 0 {
            app.lessons.look(app);
            app.metrics.pages.set(i64::try_from(app.lessons.pages()).unwrap_or(i64::MAX));
            app.lessons.is_dirty.store(true, Ordering::Relaxed);
        }
        app.lessons.look_at_all(app);
    }
    std::future::pending().await
}

/// What a page is told of a lesson.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Told {
    class: String,
    /// The name of the class for people.
    name: String,
    /// `offline`, `starting`, `live`, `reconnecting`, `ended`, or `removed`: there is no such class any more.
    state: &'static str,
    /// Since when, milliseconds since 1970, if that is known.
    since_ms: Option<i64>,
    /// How many watch, at all nodes.
    viewers: u32,
    /// Players that say how it goes, every ten seconds; the next four are of those.
    reporting: u32,
    /// Whose picture moves on a visible page.
    seeing: u32,
    /// Whose sound comes and is not muted.
    hearing: u32,
    /// Whose picture stood for half a second of ten, or who lost one packet in twenty.
    struggling: u32,
    /// How far they are behind the server, on average, milliseconds.
    delay_ms: Option<u64>,
    has_video: bool,
    has_audio: bool,
    width: u32,
    height: u32,
    bitrate_bps: u64,
    /// What the app does wrong.
    problems: Vec<Problem>,
}

/// Something that the teacher should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    code: String,
    text: String,
}

const REMOVED: &str = "removed";
const OFFLINE: &str = "offline";

impl Told {
    fn of(class: &str, name: String, lesson: Lesson) -> Self {
        let age = lesson.since.map(|since| Instant::now().saturating_duration_since(since));
        let age_ms = age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let problems = lesson.problems.into_iter();
        Self {
            class: class.to_owned(),
            name,
            state: match lesson.phase {
                Phase::Offline => OFFLINE,
                Phase::Starting => "starting",
                Phase::Live => "live",
                Phase::Reconnecting => "reconnecting",
                Phase::Ended => "ended",
            },
            since_ms: age_ms.map(|age_ms| now_ms().saturating_sub(age_ms)),
            viewers: lesson.viewers,
            reporting: lesson.playback.reporting,
            seeing: lesson.playback.seeing,
            hearing: lesson.playback.hearing,
            struggling: lesson.playback.struggling,
            delay_ms: lesson.playback.delay_ms(),
            has_video: lesson.has_video,
            has_audio: lesson.has_audio,
            width: lesson.width,
            height: lesson.height,
            bitrate_bps: lesson.bitrate_bps,
            problems: problems.map(|problem| Problem { code: problem.code, text: problem.text }).collect(),
        }
    }

    fn removed(class: &str) -> Self {
        let lesson = Lesson::without_stream(Phase::Offline, None);
        Self { state: REMOVED, ..Self::of(class, String::new(), lesson) }
    }

    /// Whether there is no such class any more.
    pub(crate) fn is_removed(&self) -> bool {
        self.state == REMOVED
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.state == OFFLINE
    }

    /// Whether it says the same, but for how many watch and what it takes. When a state began is reckoned anew with each report.
    fn is_same(&self, other: &Self) -> bool {
        let picture = |told: &Self| (told.has_video, told.has_audio, told.width, told.height);
        let since = self.since_ms.unwrap_or(0).abs_diff(other.since_ms.unwrap_or(0));
        self.state == other.state
            && since < SINCE_STEP_MS
            && picture(self) == picture(other)
            && self.problems == other.problems
            && self.name == other.name
    }
}

/// The lesson of one class as it was told last, and when.
pub(crate) type Latest = (Arc<Told>, Instant);
/// Every class, and its lesson.
pub(crate) type All = BTreeMap<String, Latest>;

/// Who is told, and what was told last.
pub(crate) struct Lessons {
    began: Instant,
    /// Of those classes that somebody looks at.
    classes: Mutex<HashMap<String, watch::Sender<Latest>>>,
    all: watch::Sender<Arc<All>>,
    /// Something may have changed since [`Self::look_at_all`].
    is_dirty: AtomicBool,
    pages: Arc<Mutex<Pages>>,
}

impl Default for Lessons {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            classes: Mutex::default(),
            all: watch::Sender::default(),
            is_dirty: AtomicBool::new(false),
            pages: Arc::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Pages {
    count: usize,
    networks: HashMap<IpAddr, usize>,
}

/// The place of a page that is told, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pages: Arc<Mutex<Pages>>,
    network: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut pages = lock(&self.pages);
        pages.count -= 1;
        if let Some(count) = pages.networks.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                pages.networks.remove(&self.network);
            }
        }
    }
}

impl Lessons {
    /// A place for a page of this network, if there is one.
    pub(crate) fn seat(&self, network: IpAddr) -> Option<Seat> {
        let mut pages = lock(&self.pages);
        let of_network = pages.networks.get(&network).copied().unwrap_or(0);
        if pages.count >= PAGES_MAX || of_network >= PAGES_OF_NETWORK_MAX {
            return None;
        }
        pages.count += 1;
        *pages.networks.entry(network).or_default() += 1;
        drop(pages);
        Some(Seat { pages: Arc::clone(&self.pages), network })
    }

    /// How many pages are told.
    pub(crate) fn pages(&self) -> usize {
        lock(&self.pages).count
    }

    /// The lesson of a class, now and whenever it changes.
    pub(crate) fn follow(&self, app: &App, class: &str) -> watch::Receiver<Latest> {
        let mut classes = lock(&self.classes);
        let sender = classes
            .entry(class.to_owned())
            .or_insert_with(|| watch::Sender::new((Arc::new(told(app, class)), Instant::now())));
        sender.subscribe()
    }

    /// Every lesson, now and whenever one changes.
    pub(crate) fn follow_all(&self, app: &App) -> watch::Receiver<Arc<All>> {
        let receiver = self.all.subscribe();
        self.refresh_all(app, Instant::now());
        receiver
    }

    /// From when on what there is not is not there.
    pub(crate) fn settled(&self) -> Instant {
        self.began + SETTLE
    }

    /// Something may have changed in these classes.
    pub(crate) fn tell<'a>(&self, app: &App, names: impl Iterator<Item = &'a str>) {
        self.is_dirty.store(true, Ordering::Relaxed);
        let now = Instant::now();
        let classes = lock(&self.classes);
        for (name, sender) in names.filter_map(|name| classes.get_key_value(name)) {
            refresh(app, name, sender, now);
        }
    }

    /// Looks at everything: what has changed without a word, such as a node that is silent.
    fn look(&self, app: &App) {
        let now = Instant::now();
        let mut classes = lock(&self.classes);
        classes.retain(|_, sender| sender.receiver_count() > 0);
        for (name, sender) in &*classes {
            refresh(app, name, sender, now);
        }
    }

    /// Looks at every class, if somebody is told of all.
    fn look_at_all(&self, app: &App) {
        if self.all.receiver_count() > 0 && self.is_dirty.swap(false, Ordering::Relaxed) {
            self.refresh_all(app, Instant::now());
        }
    }

    fn refresh_all(&self, app: &App, now: Instant) {
        let classes = app.classes.all();
        self.all.send_if_modified(|all| {
            let known = Arc::clone(all);
            let mut is_changed = known.len() != classes.len();
            let next = classes.iter().map(|class| {
                let name = &class.slug;
                let told = told(app, name);
                let latest = match known.get(name) {
                    Some(latest) if !is_news(latest, &told, now) => latest.clone(),
                    _ => {
                        is_changed = true;
                        (Arc::new(told), now)
                    }
                };
                (name.clone(), latest)
            });
            let next: All = next.collect();
            if is_changed {
                *all = Arc::new(next);
            }
            is_changed
        });
    }
}

/// The changes from one state of all lessons to the next, those that are gone included. Who is told of lessons alone hears nothing
/// of classes that had and have none.
pub(crate) fn changes(before: &All, after: &All, is_of_all: bool) -> Vec<Arc<Told>> {
    let known = |name: &String| before.get(name).map(|(told, _)| told);
    let is_new = |name: &String, told: &Arc<Told>| {
        let known = known(name);
        let is_silent = told.is_offline() && known.is_none_or(|known| known.is_offline());
        known.is_none_or(|known| !Arc::ptr_eq(known, told)) && (is_of_all || !is_silent)
    };
    let new =
        after.iter().filter(|(name, (told, _))| is_new(name, told)).map(|(_, (told, _))| Arc::clone(told));
    let gone = before
        .iter()
        .filter(|(name, (told, _))| !after.contains_key(*name) && (is_of_all || !told.is_offline()));
    let gone = gone.map(|(name, _)| Arc::new(Told::removed(name)));
    new.chain(gone).collect()
}

fn told(app: &App, class: &str) -> Told {
    let Some(known) = app.classes.class(class) else { return Told::removed(class) };
    let lesson = app.registry().lesson(class);
    Told::of(class, known.name, lesson)
}

fn refresh(app: &App, class: &str, sender: &watch::Sender<Latest>, now: Instant) {
    let told = told(app, class);
    sender.send_if_modified(|latest| {
        let is_news = is_news(latest, &told, now);
        if is_news {
            *latest = (Arc::new(told), now);
        }
        is_news
    });
}

fn is_news((known, at): &Latest, told: &Told, now: Instant) -> bool {
    let figures = |told: &Told| {
        let players = (told.reporting, told.seeing, told.hearing, told.struggling);
        (told.viewers, players, told.delay_ms, told.bitrate_bps / BITRATE_STEP_BPS)
    };
    let is_counted = figures(known) != figures(told) && now.saturating_duration_since(*at) >= VIEWERS_PAUSE;
    is_counted || !known.is_same(told)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn one_network_does_not_take_every_place_and_places_come_back() {
        let lessons = Lessons::default();
        let address = |last: u8| IpAddr::from(Ipv4Addr::new(192, 0, 2, last));
        let mut seats: Vec<_> = (0..PAGES_OF_NETWORK_MAX).map_while(|_| lessons.seat(address(1))).collect();
        assert_eq!(seats.len(), PAGES_OF_NETWORK_MAX);
        assert!(lessons.seat(address(1)).is_none(), "its network has enough");
        let others = (2..=u8::MAX).flat_map(|last| std::iter::repeat_n(address(last), PAGES_OF_NETWORK_MAX));
        seats.extend(others.map_while(|address| lessons.seat(address)));
        assert_eq!((seats.len(), lessons.pages()), (PAGES_MAX, PAGES_MAX));
        assert!(lessons.seat(address(200)).is_none(), "there are enough");
        drop(seats);
        assert_eq!(lessons.pages(), 0);
        assert!(lock(&lessons.pages).networks.is_empty(), "nothing is kept of who is gone");
    }
}
