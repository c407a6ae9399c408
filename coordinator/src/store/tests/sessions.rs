//! Who published, and who watched.
use control::api::{Playback, PublishRequest, SessionEvent, StreamReport, StreamState};

use super::*;

fn opening(class: &Class, epoch: Epoch) -> Opening {
    let [node, key, peer_ip, encoder] = ["n1", "", "192.0.2.7", "pho\0ne"].map(str::to_owned);
    Opening::new(class, &PublishRequest { node, name: None, key, peer_ip, encoder }, epoch, 1)
}

fn joined(id: usize, session: &str) -> SessionEvent {
    let [node, user_id, user_type] = ["n1", "s-1", "student"].map(str::to_owned);
    let [user_agent, ip_address] = ["bro\0wser", "192.0.2.9"].map(str::to_owned);
    let (id, stream_session) = (format!("v{id}"), session.to_owned());
    SessionEvent::ViewerJoined {
        id,
        node,
        stream_session,
        user_id,
        user_type,
        user_agent,
        ip_address,
        at_ms: 10,
    }
}

fn report(session: &str) -> StreamReport {
    StreamReport {
        class: "room".to_owned(),
        session: session.to_owned(),
        epoch: 1,
        key: String::new(),
        is_relayed: false,
        since_ms: 0,
        is_ended: false,
        playback: Playback::default(),
        state: StreamState::Active,
        viewers: 3,
        has_video: true,
        has_audio: false,
        width: 1280,
        height: 720,
        bitrate_bps: 2_000_000,
        problems: Vec::new(),
    }
}

fn counts(of: &[(&str, i64)]) -> Vec<(String, i64)> {
    of.iter().map(|(status, count)| ((*status).to_owned(), *count)).collect()
}

async fn no_two_publishers_have_one_epoch_whichever_coordinator_they_ask(database: Database) {
    let stores = [database.store().await, database.store().await];
    let class = class(&stores[0], "room").await;
    let mut asking = tokio::task::JoinSet::new();
    for index in 0..40 {
        let (store, opening) = (stores[index % 2].clone(), opening(&class, Epoch::After(0)));
        asking.spawn(async move { store.open_stream(&opening).await.unwrap() });
    }
    let mut epochs = asking.join_all().await;
    epochs.sort_unstable();
    assert!(epochs.iter().copied().eq(1..=40), "{epochs:?}");
    let last = counts(&[("starting", 1), ("stopped", 39)]);
    assert_eq!(stores[0].session_counts().await.unwrap(), last, "each is over when the next one begins");
}

/// The simulator has the function in the database's place.
async fn the_rule_of_epochs_is_that_of_the_statement(database: Database) {
    let store = database.store().await;
    let class = class(&store, "room").await;
    let (mut row, mut known): (Option<EpochRow>, Vec<Opening>) = (None, Vec::new());
    // Every choice follows every other: what is new, and what is written again.
    for step in 0..120_u64 {
        let newest = row.as_ref().map_or(0, |row| row.epoch);
        let epoch = match step % 7 {
            0 | 3 => Epoch::After(0),
            1 => Epoch::After(newest + step % 3),
            2 => Epoch::Given(newest + 1),
            4 => Epoch::Given(newest + 4),
            5 => Epoch::Given(newest.saturating_sub(step % 4).max(1)),
            _ => Epoch::After(newest.saturating_sub(1)),
        };
        let again =
            known.len().checked_sub(usize::try_from(step % 5).unwrap_or(0) + 1).filter(|_| step % 4 == 0);
        let asked = match again.and_then(|index| known.get(index)) {
            Some(known) => Opening { epoch, ..known.clone() },
            None => opening(&class, epoch),
        };
        let epoch = store.open_stream(&asked).await.unwrap();
        let next = EpochRow::after(row.take(), &asked);
        assert_eq!(epoch, next.epoch, "step {step}: {asked:?}");
        (row, _) = (Some(next), known.push(asked));
    }
}

async fn an_epoch_that_was_given_in_an_outage_is_kept_and_none_comes_twice(database: Database) {
    let store = database.store().await;
    let class = class(&store, "room").await;
    let open = async |epoch| store.open_stream(&opening(&class, epoch)).await.unwrap();
    assert_eq!(open(Epoch::After(0)).await, 1);
    assert_eq!(open(Epoch::Given(5)).await, 5);
    assert_eq!(open(Epoch::Given(3)).await, 5, "one that is older than what is known changes nothing");
    assert_eq!(open(Epoch::After(0)).await, 6);
    assert_eq!(open(Epoch::After(9)).await, 10, "a node is heard to have the ninth");
    let again = opening(&class, Epoch::After(0));
    let (first, second) =
        (store.open_stream(&again).await.unwrap(), store.open_stream(&again).await.unwrap());
    assert_eq!((first, second), (11, 11), "one session, whose first answer was lost");
}

async fn a_session_is_recorded_from_its_beginning_to_its_end(database: Database) {
    let store = database.store().await;
    let opening = opening(&class(&store, "room").await, Epoch::After(0));
    store.open_stream(&opening).await.unwrap();
    let session = opening.session;
    store.update_streams(&[&report(&session)], 2).await.unwrap();
    // More than one statement takes.
    let events: Vec<_> = (0..100).map(|id| joined(id, &session)).chain([joined(100, "unknown")]).collect();
    assert_eq!(store.record(&events).await.unwrap(), 1, "one of a stream that nobody knows");
    assert_eq!(store.record(&events[..100]).await.unwrap(), 0, "what is told again is no loss");
    let (connected, left) = ("v0".to_owned(), "v1".to_owned());
    let (reason, bytes, packets, lost) = ("left".to_owned(), 5, 6, 7);
    let events = [
        SessionEvent::ViewerConnected { id: connected, at_ms: 11 },
        SessionEvent::ViewerLeft { id: left, at_ms: 12, reason, bytes, packets, lost },
    ];
    assert_eq!(store.record(&events).await.unwrap(), 0);
    assert_eq!(
        store.session_counts().await.unwrap(),
        counts(&[("active", 1), ("left", 1), ("watching", 99)])
    );
    assert_eq!(store.nodes_with_sessions().await.unwrap(), ["n1"]);
    assert_eq!(store.open_streams("n1", 2).await.unwrap(), std::slice::from_ref(&session));
    store.record(&[SessionEvent::StreamEnded { session, at_ms: 20 }]).await.unwrap();
    store.end_node("n1", i64::MAX, EndReason::NodeLost, 21).await.unwrap();
    assert_eq!(store.session_counts().await.unwrap(), counts(&[("left", 100), ("stopped", 1)]));
    assert_eq!(store.nodes_with_sessions().await.unwrap(), [""; 0]);
}

async fn what_a_node_has_was_not_lost_whatever_the_record_says(database: Database) {
    let store = database.store().await;
    let class = class(&store, "room").await;
    let [over, denied, lost] = [(); 3].map(|()| opening(&class, Epoch::After(0)));
    for (opening, end) in [(&over, EndReason::Ended), (&denied, EndReason::Unreported)] {
        store.open_stream(opening).await.unwrap();
        store.end_stream(&opening.session, end, 2).await.unwrap();
    }
    store.open_stream(&lost).await.unwrap();
    store.end_node("n1", i64::MAX, EndReason::NodeLost, 3).await.unwrap();
    assert_eq!(store.session_counts().await.unwrap(), counts(&[("stopped", 3)]));
    let reports = [&over, &denied, &lost].map(|opening| report(&opening.session));
    store.update_streams(&reports.each_ref(), 4).await.unwrap();
    let mut open = store.open_streams("n1", 2).await.unwrap();
    open.sort_unstable();
    let mut expected = [denied.session, lost.session];
    expected.sort_unstable();
    assert_eq!(open, expected);
}

on_both!(
    no_two_publishers_have_one_epoch_whichever_coordinator_they_ask,
    the_rule_of_epochs_is_that_of_the_statement,
    an_epoch_that_was_given_in_an_outage_is_kept_and_none_comes_twice,
    a_session_is_recorded_from_its_beginning_to_its_end,
    what_a_node_has_was_not_lost_whatever_the_record_says,
);
