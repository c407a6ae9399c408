//! The table against a list that is searched from end to end, and the rules of its own indices.
use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rtc::{Engine, EngineHandle};

use std::time::Instant;

use control::{Revocation, Revocations, Revoked};
use tokio::sync::mpsc::error::TryRecvError;

use super::*;

/// Hands out viewers; it never runs.
fn engine() -> EngineHandle {
    let listen = ([127, 0, 0, 1], 0).into();
    let config = rtc::Config {
        listen,
        announce: vec![],
        shards: 1,
        viewers_max: 10,
        connections_max: 8,
        burst_multiple: 1,
    };
    Engine::bind(&config).unwrap().0.handle()
}

fn viewer(engine: &EngineHandle) -> ViewerId {
    engine.reserve().unwrap().viewer
}

fn credentials(name: &str) -> Credentials {
    Credentials { ufrag: name.to_owned(), pwd: format!("password of {name}") }
}

fn new<'a>(viewer: ViewerId, class: &'a str, token: &'a str) -> NewSession<'a> {
    NewSession {
        viewer,
        class,
        token,
        kid: "k1",
        issued_at: 50,
        remote: credentials("first"),
        report_id: format!("report {viewer:?}"),
        stream_session: "stream".to_owned(),
        by: None,
        origin: Origin { user_id: format!("user of {token}"), scheme: "http", host: None },
    }
}

#[test]
fn joins_are_counted_for_each_life_of_a_coordinator() {
    let (sessions, engine) = (Sessions::default(), engine());
    for by in [Some("a"), Some("b"), Some("a"), None] {
        let new = NewSession { by, ..new(viewer(&engine), "room", "token") };
        sessions.open(new, || Ok::<_, ()>(())).unwrap();
    }
    // One that the engine has no room for has not joined.
    let refused = NewSession { by: Some("b"), ..new(viewer(&engine), "room", "token") };
    assert!(sessions.open(refused, || Err(())).is_err());
    assert_eq!((sessions.joins_by("a"), sessions.joins_by("b"), sessions.joins_by("c")), (2, 1, 0));
    for life in 0..COORDINATORS_MAX {
        let by = life.to_string();
        let new = NewSession { by: Some(&by), ..new(viewer(&engine), "room", "token") };
        sessions.open(new, || Ok::<_, ()>(())).unwrap();
    }
    assert_eq!(sessions.lock().joins.len(), COORDINATORS_MAX);
    assert_eq!(sessions.joins_by("a"), 2, "who sends many is not forgotten for one who sent one");
}

/// Opens a session that the engine takes.
fn open(sessions: &Sessions, viewer: ViewerId, class: &str, token: &str) -> Opened {
    sessions.open(new(viewer, class, token), || Ok::<_, ()>(())).unwrap()
}

/// What a session is remembered by, searched from end to end.
#[derive(Clone, Debug)]
struct Known {
    viewer: ViewerId,
    class: String,
    token: String,
    id: String,
    etag: EntityTag,
    remote: Credentials,
    is_ending: bool,
    /// By its URL.
    was_ended: bool,
}

impl Table {
    /// Every row that is not ending stands once in each index, and nothing else does.
    fn check(&self, known: &[Known]) {
        let open = || known.iter().filter(|known| !known.is_ending);
        assert_eq!(self.rows.len(), known.len());
        assert_eq!(self.by_id.len(), open().count());
        assert_eq!(self.by_token.values().map(Vec::len).sum::<usize>(), open().count());
        assert_eq!(self.watching.values().sum::<usize>(), open().count());
        assert_eq!(self.watching.len(), open().map(|known| &known.class).collect::<HashSet<_>>().len());
        for known in known {
            let row = &self.rows[&known.viewer];
            assert_eq!((row.id.as_str(), row.is_ending), (&*known.id, known.is_ending));
            assert_eq!((row.etag, &row.remote), (known.etag, &known.remote));
        }
        for (token, viewers) in &self.by_token {
            let expected: Vec<_> =
                open().filter(|known| *known.token == **token).map(|known| known.viewer).collect();
            assert_eq!(*viewers, expected, "the oldest first");
            assert!((1..=PER_TOKEN_MAX).contains(&viewers.len()));
        }
    }
}

/// One operation that is drawn by lot, on the table and on the list.
fn operate(rng: &mut StdRng, engine: &EngineHandle, sessions: &Sessions, known: &mut Vec<Known>) {
    let class = ["room1", "room2", "room3"][rng.random_range(0..3)];
    let token = ["a", "b", "c", "d"][rng.random_range(0..4)];
    let any = (!known.is_empty()).then(|| rng.random_range(0..known.len()));
    let id = any.map_or_else(SessionId::random, |any| SessionId::parse(&known[any].id).unwrap());
    let found = any.filter(|any| known[*any].class == class && !known[*any].is_ending);
    match rng.random_range(0..5) {
        0 => {
            let viewer = viewer(engine);
            assert!(sessions.open(new(viewer, class, token), || Err(())).is_err(), "the engine is full");
        }
        1 => {
            let viewer = viewer(engine);
            let Opened { id, etag, displaced } = open(sessions, viewer, class, token);
            let mut same = known.iter_mut().filter(|known| known.token == token && !known.is_ending);
            let oldest = same.next();
            let is_full = oldest.is_some() && same.next().is_some();
            let oldest = oldest.filter(|_| is_full).map(|oldest| {
                oldest.is_ending = true;
                oldest.viewer
            });
            assert_eq!(displaced, oldest);
            let (class, token, id) = (class.to_owned(), token.to_owned(), id.as_str().to_owned());
            let remote = credentials("first");
            known.push(Known { viewer, class, token, id, etag, remote, is_ending: false, was_ended: false });
        }
        2 => {
            let expected = found.map(|found| known[found].viewer);
            assert_eq!(sessions.contains(class, &id), expected.is_some());
            assert_eq!(sessions.end(class, &id), expected);
            assert_eq!(sessions.end(class, &id), None, "it ends once");
            if let Some(found) = found {
                (known[found].is_ending, known[found].was_ended) = (true, true);
            }
        }
        3 => patch(rng, sessions, (class, &id), found.map(|found| &mut known[found])),
        _ => {
            let Some(any) = any else { return };
            let gone = known.remove(any);
            let row = sessions.on_closed(gone.viewer).unwrap();
            assert_eq!(row.report_id, format!("report {:?}", gone.viewer));
            assert!(sessions.on_closed(gone.viewer).is_none(), "it is reported once");
            let id = SessionId::parse(&gone.id).unwrap();
            assert_eq!(sessions.has_ended(&id), !gone.was_ended, "displaced or closed, but not by its URL");
            assert!(!sessions.has_ended(&id), "it is said once");
            assert!(sessions.on_connected(gone.viewer, Duration::ZERO).is_none());
        }
    }
}

/// One PATCH that is drawn by lot.
fn patch(rng: &mut StdRng, sessions: &Sessions, url: (&str, &SessionId), known: Option<&mut Known>) {
    let remote = credentials(["first", "second", "third"][rng.random_range(0..3)]);
    let current = known.as_ref().map_or("\"none\"".to_owned(), |known| known.etag.to_string());
    let conditions = [Some("*"), Some("\"*\""), Some("\"0\""), Some(&*format!("\"0\", {current}")), None];
    let condition = conditions[rng.random_range(0..5)].map(str::to_owned);
    let is_taken = rng.random_bool(0.8);
    let mut asked = None;
    let restart = |viewer, _| {
        asked = Some(viewer);
        if is_taken { Ok(credentials("ours")) } else { Err(()) }
    };
    let patched = sessions.patch(url.0, url.1, condition.as_deref(), Some(remote.clone()), restart);
    let Some(known) = known else { return assert_eq!(patched, Err(PatchError::NotFound)) };
    if condition.as_deref() == Some("\"0\"") {
        assert_eq!((patched, asked), (Err(PatchError::Outdated), None));
    } else if remote == known.remote {
        assert_eq!((patched, asked), (Ok(Patched::Unchanged), None));
    } else if condition.is_none() {
        assert_eq!((patched, asked), (Err(PatchError::Unconditional), None));
    } else if let Ok(Patched::Restarted { etag, .. }) = patched {
        assert!(is_taken && etag != known.etag && asked == Some(known.viewer));
        (known.etag, known.remote) = (etag, remote);
    } else {
        assert_eq!((patched, is_taken), (Err(PatchError::Busy), false));
    }
}

#[test]
fn rows_and_indices_agree_whatever_happens_in_whatever_order() {
    let engine = engine();
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (sessions, mut known) = (Sessions::default(), Vec::new());
        for _ in 0..200 {
            operate(&mut rng, &engine, &sessions, &mut known);
            sessions.lock().check(&known);
            for class in ["room1", "room2", "room3"] {
                let watching = known.iter().filter(|known| known.class == class && !known.is_ending);
                assert_eq!(sessions.count(class), watching.count());
            }
        }
        for gone in known.drain(..) {
            assert!(sessions.on_closed(gone.viewer).is_some());
        }
        sessions.lock().check(&[]);
    }
}

#[test]
fn a_session_that_the_engine_does_not_take_displaces_nobody() {
    let (engine, sessions) = (engine(), Sessions::default());
    let first = open(&sessions, viewer(&engine), "room1", "a");
    let second = open(&sessions, viewer(&engine), "room1", "a");
    assert!(sessions.open(new(viewer(&engine), "room1", "a"), || Err(())).is_err());
    assert!(sessions.contains("room1", &first.id) && sessions.contains("room1", &second.id));
    assert_eq!(sessions.count("room1"), 2);
}

#[test]
fn of_two_restarts_with_one_entity_tag_only_the_first_reaches_the_engine() {
    let (engine, sessions) = (engine(), Sessions::default());
    let Opened { id, etag, .. } = open(&sessions, viewer(&engine), "room1", "a");
    let both_ready = std::sync::Barrier::new(2);
    let restart = |name: &'static str| {
        both_ready.wait();
        let ours = |_, _| Ok::<_, ()>(credentials("ours"));
        sessions.patch("room1", &id, Some(&etag.to_string()), Some(credentials(name)), ours)
    };
    let outcomes = std::thread::scope(|scope| {
        let other = scope.spawn(|| restart("second"));
        [restart("third"), other.join().unwrap()]
    });
    let restarted = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Patched::Restarted { .. })));
    assert_eq!(restarted.count(), 1, "{outcomes:?}");
    assert!(outcomes.contains(&Err(PatchError::Outdated)), "{outcomes:?}");
}

#[test]
fn a_table_shows_nobody_its_permissions() {
    let (engine, sessions) = (engine(), Sessions::default());
    let Opened { id, .. } = open(&sessions, viewer(&engine), "room1", "a");
    let shown = format!("{sessions:?}");
    assert!(!shown.contains(id.as_str()) && !shown.contains("password"), "{shown}");
}

#[test]
fn viewers_that_can_be_told_to_go_are_told_once_until_they_have_had_time() {
    let (sessions, engine) = (Sessions::default(), engine());
    let now = Instant::now();
    let opened = ["asks", "reads", "nothing"].map(|token| {
        let viewer = viewer(&engine);
        (viewer, open(&sessions, viewer, "room", token).id)
    });
    for (_, id) in &opened[..2] {
        assert!(sessions.subscribe("room", id, vec![EventKind::Reconnect]));
    }
    assert!(!sessions.subscribe("another room", &opened[0].1, vec![EventKind::Reconnect]));
    assert!(sessions.listen("room", &opened[2].1, &SentEvent::Active).is_none(), "it has not asked");
    let mut reads = sessions.listen("room", &opened[1].1, &SentEvent::Active).unwrap();
    let leaving = sessions.leaving(now, 10);
    assert_eq!(leaving.iter().map(|leaving| &*leaving.origin.user_id).collect::<Vec<_>>(), ["user of reads"]);
    sessions.tell_class("room", &SentEvent::Active);
    assert!(reads.try_recv().is_err(), "it did not ask for that");
    sessions.send_away(now, leaving[0].viewer, "http://other/whep".to_owned());
    assert_eq!(reads.try_recv(), Ok(SentEvent::Reconnect { url: "http://other/whep".to_owned() }));
    assert_eq!(sessions.leaving(now + Duration::from_secs(9), 10), []);
    assert_eq!(sessions.leaving(now + Duration::from_secs(10), 10), leaving, "it is still here");
    sessions.end("room", &opened[1].1);
    assert_eq!(sessions.leaving(now + Duration::from_secs(20), 10), []);
    assert_eq!(reads.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn viewers_without_a_place_do_not_keep_the_others_from_being_told() {
    let (sessions, engine) = (Sessions::default(), engine());
    let now = Instant::now();
    let _reads = ["a", "b", "c"].map(|token| {
        let id = open(&sessions, viewer(&engine), "room", token).id;
        assert!(sessions.subscribe("room", &id, vec![EventKind::Reconnect]));
        sessions.listen("room", &id, &SentEvent::Active).unwrap()
    });
    let asked = (0..3).map(|seconds| sessions.leaving(now + Duration::from_secs(seconds), 1));
    let mut asked: Vec<_> = asked.map(|leaving| leaving[0].origin.user_id.clone()).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["user of a", "user of b", "user of c"]);
}

fn revocations(of: Revoked) -> Revocations {
    let mut revocations = Revocations::default();
    revocations.add(&Revocation { of, issued_until: 50, good_until: 100 });
    revocations
}

#[test]
fn what_is_revoked_ends_and_nothing_else() {
    let (engine, sessions) = (engine(), Sessions::default());
    let (ada, bob, other) = (viewer(&engine), viewer(&engine), viewer(&engine));
    let of_ada = open(&sessions, ada, "room1", "a").id;
    open(&sessions, bob, "room1", "b");
    open(&sessions, other, "room2", "c");
    let later = NewSession { issued_at: 51, ..new(viewer(&engine), "room1", "d") };
    sessions.open(later, || Ok::<_, ()>(())).unwrap();
    assert_eq!(sessions.revoke(&Revocations::default()), []);
    let [user, class] = ["user of a", "room1"].map(str::to_owned);
    assert_eq!(sessions.revoke(&revocations(Revoked::User { user, class: class.clone() })), [ada]);
    assert!(!sessions.contains("room1", &of_ada));
    assert!(sessions.has_ended(&of_ada), "its player may still say goodbye");
    assert_eq!(sessions.revoke(&revocations(Revoked::Class { class })), [bob], "one ends once");
    assert_eq!((sessions.count("room1"), sessions.count("room2")), (1, 1));
    let mut left = sessions.revoke(&revocations(Revoked::Key { kid: "k1".to_owned() }));
    left.retain(|viewer| *viewer != other);
    assert_eq!((left.len(), sessions.all()), (1, 0));
    assert!(sessions.on_closed(ada).unwrap().is_revoked, "which the record says");
}
