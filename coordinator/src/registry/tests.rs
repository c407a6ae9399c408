use super::*;

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn report(state: StreamState) -> StreamReport {
    StreamReport {
        class: "room101".to_owned(),
        session: "s1".to_owned(),
        epoch: 1,
        is_relayed: false,
        state,
        viewers: 0,
        has_video: true,
        has_audio: true,
        width: 1280,
        height: 720,
        bitrate_bps: 0,
        problems: Vec::new(),
    }
}

fn heartbeat(started_at_ms: u64, streams: Vec<StreamReport>) -> Heartbeat {
    Heartbeat { node: "n1".to_owned(), started_at_ms, public_url: None, whep_port: 8889, link: None, streams }
}

/// Takes a heartbeat and has written down what it changes.
fn save(registry: &mut Registry, now: Instant, heartbeat: Heartbeat) -> Vec<Change> {
    let node = heartbeat.node.clone();
    let changes = registry.on_heartbeat(now, FROM, heartbeat);
    let telling = registry.unsaved(&node);
    assert_eq!(telling.is_none(), changes.is_empty());
    telling.into_iter().for_each(|telling| registry.on_saved(&node, telling));
    changes
}

#[test]
fn only_changes_are_told() {
    let mut registry = Registry::default();
    let now = Instant::now();
    let first = save(&mut registry, now, heartbeat(1, vec![report(StreamState::Starting)]));
    assert_eq!(first.len(), 2, "a new life and a new stream");
    assert!(!registry.is_live("room101"));
    assert!(registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Starting)])).is_empty());
    let active = registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Active)]));
    let expected = Change::Stream { node: "n1".to_owned(), report: report(StreamState::Active) };
    assert_eq!(active, [expected]);
    assert!(registry.is_live("room101"));
}

#[test]
fn a_new_life_ends_what_was_before() {
    let mut registry = Registry::default();
    let now = Instant::now();
    registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Active)]));
    let changes = registry.on_heartbeat(now, FROM, heartbeat(2, vec![]));
    assert_eq!(changes, [Change::Restarted { node: "n1".to_owned(), started_at_ms: 2 }]);
}

#[test]
fn silence_ends_a_node_also_one_that_was_only_expected() {
    let mut registry = Registry::default();
    let now = Instant::now();
    registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Active)]));
    registry.expect(now, "n0");
    registry.expect(now, "n1");
    assert!(registry.on_timeout(now + SILENCE_MAX - Duration::from_millis(1)).is_empty());
    assert_eq!(registry.on_timeout(now + SILENCE_MAX), ["n0", "n1"]);
    assert!(registry.node_for("room101").is_none());
    registry.on_heartbeat(now + SILENCE_MAX, FROM, heartbeat(1, vec![]));
    let lost = ["n0".to_owned()].map(|node| Change::Lost { node });
    assert_eq!(registry.take_lost(), lost, "the other one is there again");
    assert!(registry.take_lost().is_empty());
}

#[test]
fn what_was_not_written_down_is_told_again() {
    let mut registry = Registry::default();
    let now = Instant::now();
    let active = || heartbeat(1, vec![report(StreamState::Active)]);
    let first = registry.on_heartbeat(now, FROM, active());
    assert!(registry.is_live("room101"), "viewers are not concerned");
    let telling = registry.unsaved("n1").unwrap();
    assert_eq!(
        registry.on_heartbeat(now, FROM, active()),
        first,
        "whoever wrote it may have been interrupted"
    );
    registry.on_saved("n1", telling);
    assert_eq!(save(&mut registry, now, active()), first, "it is not the newest that was written down");
    assert!(save(&mut registry, now, active()).is_empty());
    registry.on_unsaved(now, "n1");
    assert_eq!(save(&mut registry, now, active()), first);
    registry.on_timeout(now + SILENCE_MAX);
    let lost = registry.take_lost();
    registry.on_unsaved(now + SILENCE_MAX, "n1");
    registry.on_timeout(now + SILENCE_MAX * 2);
    assert_eq!(registry.take_lost(), lost);
}

#[test]
fn a_node_denies_only_what_it_does_not_report() {
    let mut registry = Registry::default();
    let now = Instant::now();
    registry.expect(now, "n1");
    assert!(!registry.denies("n1", "s2"), "it has not been heard");
    registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Starting)]));
    assert_eq!((registry.denies("n1", "s1"), registry.denies("n1", "s2")), (false, true));
    assert!(!registry.denies("n2", "s2"));
}

#[test]
fn nodes_beyond_the_bound_are_not_taken_in() {
    let mut registry = Registry::default();
    let now = Instant::now();
    for n in 0..=NODES_MAX {
        let named = Heartbeat { node: n.to_string(), ..heartbeat(1, vec![]) };
        assert_eq!(registry.on_heartbeat(now, FROM, named).is_empty(), n == NODES_MAX);
    }
    assert_eq!(registry.nodes().len(), NODES_MAX);
}

#[test]
fn a_viewer_is_sent_where_the_stream_is() {
    let mut registry = Registry::default();
    let now = Instant::now();
    registry.on_heartbeat(now, FROM, Heartbeat { node: "a".to_owned(), ..heartbeat(1, vec![]) });
    registry.on_heartbeat(now, FROM, heartbeat(1, vec![report(StreamState::Active)]));
    assert_eq!(registry.node_for("room101").map(|(node, _)| node.node.as_str()), Some("n1"));
    assert_eq!(registry.node_for("another").map(|(node, _)| node.node.as_str()), Some("a"));
}

#[test]
fn of_a_stream_that_many_nodes_have_the_publishers_counts() {
    let mut registry = Registry::default();
    let now = Instant::now();
    let relayed = StreamReport { is_relayed: true, epoch: 2, viewers: 5, ..report(StreamState::Active) };
    let old = StreamReport { viewers: 7, ..report(StreamState::Grace) };
    let new = StreamReport { epoch: 2, viewers: 1, session: "s2".to_owned(), ..report(StreamState::Active) };
    for (node, report) in [("a", relayed), ("b", old), ("c", new)] {
        let heartbeat = Heartbeat { node: node.to_owned(), ..heartbeat(1, vec![report]) };
        let changes = registry.on_heartbeat(now, FROM, heartbeat);
        let told = changes.iter().filter(|change| matches!(change, Change::Stream { .. })).count();
        assert_eq!(told, usize::from(node != "a"), "what is passed on is not written down as a session");
    }
    let located = registry.stream("room101").unwrap();
    assert_eq!((&*located.node, located.report.viewers), ("c", 13));
    assert_eq!(registry.streams(), [located]);
    assert_eq!(registry.node_for("room101").map(|(node, _)| &*node.node), Some("c"));
    let epochs =
        |node| registry.superseded(node).iter().map(|superseded| superseded.epoch).collect::<Vec<_>>();
    assert_eq!((epochs("b"), epochs("c")), (vec![2], vec![]));
    assert_eq!(registry.epoch("room101"), 2);
}
