use std::sync::atomic::{AtomicU64, Ordering};

use control::api::{LinkAddress, NodeLoad, Playback};

use super::*;
use crate::assign::FIRST_LEVEL_EDGES;

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn report(state: StreamState) -> StreamReport {
    StreamReport {
        class: "room101".to_owned(),
        session: "s1".to_owned(),
        epoch: 1,
        key: String::new(),
        is_relayed: false,
        since_ms: 0,
        is_ended: false,
        playback: Playback::default(),
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
    let load = NodeLoad { capacity_bps: 1_000_000_000, ..NodeLoad::default() };
    Heartbeat {
        node: "n1".to_owned(),
        boot: started_at_ms,
        started_at_ms,
        load,
        streams,
        ..Heartbeat::default()
    }
}

/// Takes a heartbeat as the next that the node sends.
fn hear(registry: &mut Registry, now: Instant, heartbeat: Heartbeat) -> Vec<Change> {
    static SEQ: AtomicU64 = AtomicU64::new(1);
    let seq = SEQ.fetch_add(1, Ordering::Relaxed);
    registry.on_heartbeat(now, FROM, Heartbeat { seq, ..heartbeat }).unwrap()
}

/// Looks every second, for so long. Returns who was forgotten.
fn wait(registry: &mut Registry, now: Instant, time: Duration) -> Vec<String> {
    let seconds = (0..time.as_secs()).map(Duration::from_secs);
    seconds.chain([time]).flat_map(|after| registry.on_timeout(now + after)).collect()
}

/// Where a viewer of the class would go.
fn place(registry: &mut Registry, now: Instant, excluded: &[&str]) -> Result<String, NoNode> {
    let wish = Wish { class: "room101", viewer: "ada", hint: None, excluded, region: None };
    registry.place(now, &wish).map(|(node, _)| node.node.clone())
}

/// Takes a heartbeat and has written down what it changes.
fn save(registry: &mut Registry, now: Instant, heartbeat: Heartbeat) -> Vec<Change> {
    let node = heartbeat.node.clone();
    let changes = hear(registry, now, heartbeat);
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
    assert!(hear(&mut registry, now, heartbeat(1, vec![report(StreamState::Starting)])).is_empty());
    let active = hear(&mut registry, now, heartbeat(1, vec![report(StreamState::Active)]));
    let expected = Change::Stream { node: "n1".to_owned(), report: report(StreamState::Active) };
    assert_eq!(active, [expected]);
    assert!(registry.is_live("room101"));
}

#[test]
fn a_new_life_ends_what_was_before() {
    let mut registry = Registry::default();
    let now = Instant::now();
    hear(&mut registry, now, heartbeat(1, vec![report(StreamState::Active)]));
    let changes = hear(&mut registry, now, heartbeat(2, vec![]));
    assert_eq!(changes, [Change::Restarted { node: "n1".to_owned(), started_at_ms: 2 }]);
}

#[test]
fn silence_ends_a_node_also_one_that_was_only_expected() {
    let mut registry = Registry::default();
    let now = Instant::now();
    hear(&mut registry, now, heartbeat(1, vec![report(StreamState::Active)]));
    registry.expect(now, "n0");
    registry.expect(now, "n1");
    assert!(registry.on_timeout(now + SILENCE_MAX - Duration::from_millis(1)).is_empty());
    assert_eq!(registry.on_timeout(now + SILENCE_MAX), ["n0", "n1"]);
    assert_eq!(place(&mut registry, now, &[]), Err(NoNode::Nobody));
    hear(&mut registry, now + SILENCE_MAX, heartbeat(1, vec![]));
    let lost = ["n0".to_owned()].map(|node| Change::Lost { node });
    assert_eq!(registry.take_lost(), lost, "the other one is there again");
    assert!(registry.take_lost().is_empty());
}

#[test]
fn what_was_not_written_down_is_told_again() {
    let mut registry = Registry::default();
    let now = Instant::now();
    let active = || heartbeat(1, vec![report(StreamState::Active)]);
    let first = hear(&mut registry, now, active());
    assert!(registry.is_live("room101"), "viewers are not concerned");
    let telling = registry.unsaved("n1").unwrap();
    assert_eq!(hear(&mut registry, now, active()), first, "whoever wrote it may have been interrupted");
    registry.on_saved("n1", telling);
    assert_eq!(save(&mut registry, now, active()), first, "it is not the newest that was written down");
    assert!(save(&mut registry, now, active()).is_empty());
    registry.on_unsaved(now, "n1");
    assert_eq!(save(&mut registry, now, active()), first);
    wait(&mut registry, now, SILENCE_MAX);
    let lost = registry.take_lost();
    registry.on_unsaved(now + SILENCE_MAX, "n1");
    wait(&mut registry, now + SILENCE_MAX, SILENCE_MAX);
    assert_eq!(registry.take_lost(), lost);
}

#[test]
fn a_node_denies_only_what_it_does_not_report() {
    let mut registry = Registry::default();
    let now = Instant::now();
    registry.expect(now, "n1");
    assert!(!registry.denies(now, "n1", "s2"), "it has not been heard");
    hear(&mut registry, now, heartbeat(1, vec![report(StreamState::Starting)]));
    assert_eq!((registry.denies(now, "n1", "s1"), registry.denies(now, "n1", "s2")), (false, true));
    assert!(!registry.denies(now, "n2", "s2"));
    assert!(!registry.denies(now + SILENCE_MAX, "n1", "s2"), "it may have begun since");
}

#[test]
fn nodes_beyond_the_bound_are_not_taken_in() {
    let mut registry = Registry::default();
    let now = Instant::now();
    for n in 0..=NODES_MAX {
        let named = Heartbeat { node: n.to_string(), ..heartbeat(1, vec![]) };
        assert_eq!(hear(&mut registry, now, named).is_empty(), n == NODES_MAX);
    }
    assert_eq!(registry.nodes().len(), NODES_MAX);
}

#[test]
fn viewers_go_to_nodes_that_are_heard_and_take_them() {
    let mut registry = Registry::default();
    let now = Instant::now();
    let beat = |registry: &mut Registry, node: &str, now: Instant, is_draining: bool| {
        let streams = if node == "n1" { vec![report(StreamState::Active)] } else { vec![] };
        hear(registry, now, Heartbeat { node: node.to_owned(), is_draining, ..heartbeat(1, streams) });
    };
    ["n1", "n2", "n3"].into_iter().for_each(|node| beat(&mut registry, node, now, false));
    let first = place(&mut registry, now, &[]).unwrap();
    let second = place(&mut registry, now, &[&first]).unwrap();
    assert_ne!(first, second, "it could not be reached");
    // The first is silent for three seconds, the others are not.
    let later = now + SUSPECT_AFTER;
    ["n1", "n2", "n3"]
        .into_iter()
        .filter(|node| *node != first)
        .for_each(|node| beat(&mut registry, node, later, false));
    assert!(registry.on_timeout(later).is_empty());
    assert_eq!(place(&mut registry, later, &[]).as_deref(), Ok(&*second));
    // The second one takes no new viewers, and then there is one left.
    beat(&mut registry, &second, later, true);
    let third = place(&mut registry, later, &[]).unwrap();
    assert!(third != first && third != second);
    assert_eq!(
        place(&mut registry, later, &[&third]).as_deref(),
        Ok(&*first),
        "better one that is silent than none"
    );
    // What is heard again is taken again.
    ["n1", "n2", "n3"].into_iter().for_each(|node| beat(&mut registry, node, later, false));
    assert_eq!(place(&mut registry, later, &[]).as_deref(), Ok(&*first));
}

#[test]
fn one_node_alone_says_itself_when_it_is_full_and_of_many_none_is_overfilled() {
    let mut registry = Registry::default();
    let now = Instant::now();
    let full = NodeLoad { capacity_bps: 1_000_000, load_bps: 1_000_000, ..NodeLoad::default() };
    hear(&mut registry, now, Heartbeat { load: full, ..heartbeat(1, vec![]) });
    assert_eq!(place(&mut registry, now, &[]).as_deref(), Ok("n1"));
    hear(&mut registry, now, Heartbeat { node: "n2".to_owned(), load: full, ..heartbeat(1, vec![]) });
    assert!(matches!(place(&mut registry, now, &[]), Err(NoNode::Full { .. })));
    let roomy = NodeLoad { capacity_bps: 1_000_000_000, ..NodeLoad::default() };
    hear(&mut registry, now, Heartbeat { node: "n3".to_owned(), load: roomy, ..heartbeat(1, vec![]) });
    assert_eq!(place(&mut registry, now, &[]).as_deref(), Ok("n3"));
}

#[test]
fn a_heartbeat_that_is_sent_again_says_nothing() {
    let mut registry = Registry::default();
    let now = Instant::now();
    let beat = |boot, seq, streams| Heartbeat { seq, ..heartbeat(boot, streams) };
    registry.on_heartbeat(now, FROM, beat(1, 5, vec![report(StreamState::Active)])).unwrap();
    let recorded = beat(1, 6, vec![report(StreamState::Active)]);
    registry.on_heartbeat(now, FROM, recorded.clone()).unwrap();
    registry.on_heartbeat(now, FROM, beat(1, 7, vec![])).unwrap();
    assert_eq!(registry.on_heartbeat(now, FROM, recorded.clone()), Err(Stale::Repeated));
    assert!(!registry.is_live("room101"));
    // Nor when the node has begun anew, or is gone.
    registry.on_heartbeat(now, FROM, beat(2, 1, vec![])).unwrap();
    assert_eq!(registry.on_heartbeat(now, FROM, recorded.clone()), Err(Stale::FormerLife));
    assert_eq!(wait(&mut registry, now, SILENCE_MAX), ["n1"]);
    assert!(registry.nodes().is_empty());
    assert_eq!(registry.on_heartbeat(now, FROM, recorded), Err(Stale::FormerLife));
}

#[test]
fn if_most_nodes_fall_silent_together_they_stay_for_a_while() {
    let second = Duration::from_secs(1);
    let names = ["n1", "n2", "n3", "n4", "n5"];
    for (silent, stay) in [(2, false), (3, true), (5, true)] {
        let mut registry = Registry::default();
        let mut now = Instant::now();
        for at in 0..=8 {
            let heard = if at == 0 { &names[..] } else { &names[silent..] };
            for node in heard {
                hear(&mut registry, now, Heartbeat { node: (*node).to_owned(), ..heartbeat(1, vec![]) });
            }
            registry.on_timeout(now);
            now += second;
        }
        assert_eq!(registry.nodes().len(), if stay { 5 } else { 5 - silent }, "{silent} are silent");
        // Not for ever.
        for _ in 0..HALF_MAX.as_secs() {
            for node in &names[silent..] {
                hear(&mut registry, now, Heartbeat { node: (*node).to_owned(), ..heartbeat(1, vec![]) });
            }
            registry.on_timeout(now);
            now += second;
        }
        assert_eq!(registry.nodes().len(), 5 - silent);
    }
}

#[test]
fn time_in_which_this_process_stood_still_is_no_silence() {
    let mut registry = Registry::default();
    let now = Instant::now();
    hear(&mut registry, now, heartbeat(1, vec![]));
    registry.on_timeout(now);
    let woken = now + Duration::from_secs(60);
    assert!(registry.on_timeout(woken).is_empty());
    assert_eq!(place(&mut registry, woken, &[]).as_deref(), Ok("n1"));
    assert!(registry.on_timeout(woken + Duration::from_secs(2)).is_empty());
    assert!(registry.on_timeout(woken + Duration::from_secs(4)).is_empty());
    assert_eq!(registry.on_timeout(woken + Duration::from_secs(5)), ["n1"]);
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
        let changes = hear(&mut registry, now, heartbeat);
        let told = changes.iter().filter(|change| matches!(change, Change::Stream { .. })).count();
        assert_eq!(told, usize::from(node != "a"), "what is passed on is not written down as a session");
    }
    let located = registry.stream("room101").unwrap();
    assert_eq!((&*located.node, located.report.viewers), ("c", 13));
    assert_eq!(registry.streams(), [located]);
    let epochs =
        |node| registry.superseded(node).iter().map(|superseded| superseded.epoch).collect::<Vec<_>>();
    assert_eq!((epochs("b"), epochs("c")), (vec![2], vec![]));
    assert_eq!(registry.epoch("room101"), 2);
}

#[test]
fn a_publisher_whose_viewers_nodes_have_seen_a_later_epoch_comes_back_with_one_beyond() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let relayed = |epoch| StreamReport { is_relayed: true, epoch, ..report(StreamState::Grace) };
    let published = StreamReport { epoch: 2, ..report(StreamState::Active) };
    for (node, report) in [("a", published), ("b", relayed(1_551_012)), ("c", relayed(2))] {
        hear(&mut registry, now, Heartbeat { node: node.to_owned(), ..heartbeat(1, vec![report]) });
    }
    let epochs =
        |node| registry.superseded(node).iter().map(|superseded| superseded.epoch).collect::<Vec<_>>();
    assert_eq!((epochs("a"), epochs("b"), epochs("c")), (vec![1_551_012], vec![], vec![]));
    assert_eq!(registry.epoch("room101"), 1_551_012);
}

#[test]
fn where_many_nodes_have_a_stream_they_pass_it_on_to_each_other() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let link = Some(LinkAddress { host: None, port: 7000 });
    let published = heartbeat(1, vec![report(StreamState::Active)]);
    hear(&mut registry, now, Heartbeat { node: "origin".to_owned(), link, ..published });
    let edges: Vec<String> = (0..60).map(|index| format!("edge-{index}")).collect();
    let mut sources = BTreeMap::new();
    for edge in &edges {
        let source = registry.source("room101", edge, None).expect("somebody has it").node;
        sources.insert(edge.clone(), source);
        let relayed = StreamReport { is_relayed: true, ..report(StreamState::Active) };
        hear(&mut registry, now, Heartbeat { node: edge.clone(), link, ..heartbeat(1, vec![relayed]) });
    }
    let of_origin =
        |sources: &BTreeMap<String, String>| sources.values().filter(|from| *from == "origin").count();
    assert!(of_origin(&sources) < 20, "{} pull from the origin", of_origin(&sources));
    // When all of them ask anew.
    for (edge, source) in &mut sources {
        *source = registry.source("room101", edge, None).expect("somebody has it").node;
    }
    assert_eq!(of_origin(&sources), FIRST_LEVEL_EDGES);
    for (edge, source) in sources.iter().filter(|(_, source)| *source != "origin") {
        assert_eq!(
            sources.get(source).map(String::as_str),
            Some("origin"),
            "{edge} is two nodes away at most"
        );
        let again = registry.source("room101", edge, Some(source)).expect("somebody has it");
        assert_eq!(again.node, "origin", "{edge} could not pull from {source}");
    }
    let detours: BTreeSet<String> = edges
        .iter()
        .map(|edge| {
            let source = registry.source("room101", edge, Some("origin")).expect("others have it").node;
            assert!(
                source != *edge && source != "origin",
                "{edge} does not reach the origin, and is sent to {source}"
            );
            source
        })
        .collect();
    assert!(detours.len() > 20, "only {} are asked by those that do not reach the origin", detours.len());
}

#[test]
fn a_lesson_whose_node_is_gone_is_expected_back_for_a_minute() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let phase = |registry: &Registry| registry.lesson("room101").phase;
    hear(&mut registry, now, heartbeat(1, vec![report(StreamState::Active)]));
    assert_eq!(phase(&registry), Phase::Live);
    wait(&mut registry, now, SILENCE_MAX);
    let lost = now + SILENCE_MAX;
    let lesson = registry.lesson("room101");
    assert_eq!((lesson.phase, lesson.since), (Phase::Reconnecting, Some(lost)));
    // At another node, and then nowhere, as that says itself.
    let elsewhere = |streams| Heartbeat { node: "n2".to_owned(), ..heartbeat(1, streams) };
    hear(&mut registry, lost, elsewhere(vec![StreamReport { epoch: 2, ..report(StreamState::Active) }]));
    assert_eq!(phase(&registry), Phase::Live);
    hear(&mut registry, lost, elsewhere(Vec::new()));
    assert_eq!(phase(&registry), Phase::Offline);
    // A node that begins a new life loses its publishers too; those who had ended are not expected.
    hear(&mut registry, lost, elsewhere(vec![report(StreamState::Active)]));
    let anew = Heartbeat { node: "n2".to_owned(), ..heartbeat(2, Vec::new()) };
    hear(&mut registry, lost, anew);
    assert_eq!(phase(&registry), Phase::Reconnecting);
    wait(&mut registry, lost, Duration::from_secs(60));
    assert_eq!(phase(&registry), Phase::Offline, "nobody came back");
    let ended = StreamReport { is_ended: true, ..report(StreamState::Grace) };
    hear(&mut registry, lost, Heartbeat { node: "n2".to_owned(), ..heartbeat(3, vec![ended]) });
    assert_eq!(phase(&registry), Phase::Ended);
    hear(&mut registry, lost, Heartbeat { node: "n2".to_owned(), ..heartbeat(4, Vec::new()) });
    assert_eq!(phase(&registry), Phase::Offline);
}
