//! A slow and obvious version of the whole decision, and random histories on which both must agree.

use super::super::score::{hash, mix};
use super::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

#[derive(Clone, Default)]
struct Known {
    last: Option<(u64, u64)>,
    seen: u64,
    reported: u64,
    settled: u64,
    hot: bool,
    step: CapacityStep,
    joins: Vec<(u64, u64)>,
}

struct Oracle {
    members: Vec<Member>,
    coordinators: u64,
    second: u64,
    known: HashMap<String, Known>,
    held: HashMap<String, (u64, Option<Duration>)>,
}

/// The score by the library's logarithm.
fn score(member: &Member, parts: &[&str]) -> f64 {
    let h = (2.0 * (mix(hash(&[&member.name]), hash(parts)) >> 12) as f64 + 1.0) / 2f64.powi(53);
    member.capacity_bps as f64 / -h.ln()
}

fn sort<'a>(members: impl Iterator<Item = &'a Member>, parts: &[&str]) -> Vec<&'a Member> {
    let mut sorted: Vec<&Member> = members.collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    sorted.sort_by(|a, b| score(b, parts).total_cmp(&score(a, parts)));
    sorted
}

impl Oracle {
    fn capacity(&self, member: &Member) -> u64 {
        self.known[&member.name].step.of(member.capacity_bps)
    }

    fn pending(&self, member: &Member) -> u64 {
        self.known[&member.name].joins.iter().map(|(_, cost)| cost * self.coordinators).sum()
    }

    fn load(&self, member: &Member) -> u64 {
        self.known[&member.name].settled + self.pending(member)
    }

    fn set_members(&mut self, members: Vec<Member>) {
        self.known.retain(|name, _| members.iter().any(|member| member.name == *name));
        self.members = members;
        for member in self.members.clone() {
            self.known.entry(member.name.clone()).or_default();
            self.weigh(&member);
        }
    }

    fn weigh(&mut self, member: &Member) {
        let capacity = self.capacity(member);
        let Some(known) = self.known.get_mut(&member.name) else { return };
        if known.reported * 100 > capacity * 85 {
            known.hot = true;
        } else if known.settled * 100 < capacity * 80 {
            known.hot = false;
        }
    }

    fn report(&mut self, name: &str, report: &LoadReport) {
        let Some(member) = self.members.iter().find(|member| member.name == name).cloned() else { return };
        let Some(known) = self.known.get_mut(name) else { return };
        if known.last.is_some_and(|last| (report.boot, report.seq) <= last) {
            return;
        }
        let same_boot = known.last.is_some_and(|last| last.0 == report.boot);
        let mut contained = 0;
        for _ in (if same_boot { known.seen } else { 0 })..report.joins_seen {
            if !known.joins.is_empty() {
                contained += known.joins.remove(0).1;
            }
        }
        let expected = known.settled + contained * self.coordinators;
        known.reported = report.load_bps;
        known.settled = expected;
        if expected * 21 < report.load_bps * 20 {
            known.settled = (report.load_bps * 20).div_ceil(21);
        }
        if expected * 19 > report.load_bps * 20 {
            known.settled = report.load_bps * 20 / 19;
        }
        if !same_boot {
            known.settled = report.load_bps;
        }
        known.step = capacity_step(report.cpu, report.loss, known.step);
        known.last = Some((report.boot, report.seq));
        known.seen = report.joins_seen;
        self.weigh(&member);
    }

    fn eligible(&self, member: &Member, request: &Request<'_>) -> bool {
        member.state == MemberState::Ready
            && !request.excluded.contains(&member.name.as_str())
            && request.region.is_none_or(|region| region == member.region)
            && self.capacity(member) > 0
            && !self.known[&member.name].hot
    }

    fn fits(&self, member: &Member, request: &Request<'_>, ppm: u64) -> bool {
        let more = request.cost_bps * self.coordinators;
        (self.load(member) + more) * 1_000_000 <= self.capacity(member) * ppm
            && (self.known[&member.name].reported + self.pending(member) + more) * 100
                <= self.capacity(member) * 85
    }

    fn demand(&mut self, now: Duration, request: &Request<'_>) -> u64 {
        let demand = (request.viewers + 1) * request.cost_bps;
        let (held, since) = self.held.entry(request.stream.to_owned()).or_insert((0, None));
        if demand >= *held {
            (*held, *since) = (demand, None);
        } else if demand * 10 >= *held * 7 {
            *since = None;
        } else if since.is_none() {
            *since = Some(now);
        } else if since.is_some_and(|since| now >= since + Duration::from_mins(10)) {
            (*held, *since) = (demand, None);
        }
        *held
    }

    fn assign(&mut self, now: Duration, request: &Request<'_>) -> Option<(String, How)> {
        self.second = now.as_secs();
        for known in self.known.values_mut() {
            known.joins.retain(|(second, _)| second + 10 >= self.second);
        }
        let demand = self.demand(now, request);
        let (name, how) = self.choose(request, demand)?;
        self.known.get_mut(&name)?.joins.push((self.second, request.cost_bps));
        Some((name, how))
    }

    fn choose(&self, request: &Request<'_>, demand: u64) -> Option<(String, How)> {
        let eligible = || self.members.iter().filter(|member| self.eligible(member, request));
        if let Some(hint) = eligible().find(|member| Some(member.name.as_str()) == request.hint)
            && self.fits(hint, request, 850_000)
        {
            return Some((hint.name.clone(), How::Sticky));
        }
        let counted = || {
            let ready = self.members.iter().filter(|member| member.state == MemberState::Ready);
            ready.filter(|member| request.region.is_none_or(|region| region == member.region))
        };
        let load: u64 = counted().map(|member| self.load(member)).sum();
        let capacity: u64 = counted().map(|member| self.capacity(member)).sum();
        let utilisation = (load + request.cost_bps * self.coordinators) * 1_000_000 / capacity.max(1);
        let bound = (utilisation * 123 / 100).clamp(600_000, 850_000);

        let order = sort(eligible(), &[request.stream]);
        let carried = |k: &usize| order[..*k].iter().map(|member| member.capacity_bps / 10).sum::<u64>();
        let k = (1..order.len()).find(|k| carried(k) >= demand).unwrap_or(order.len());
        let preferred = sort(order[..k].iter().copied(), &[request.stream, request.viewer]);
        for limit in [bound, 850_000] {
            if let Some(member) = preferred.iter().find(|member| self.fits(member, request, limit)) {
                return Some((member.name.clone(), How::Preferred));
            }
            if let Some(member) = order[k..].iter().find(|member| self.fits(member, request, limit)) {
                return Some((member.name.clone(), How::Overflow));
            }
        }
        None
    }
}

#[derive(Clone, Debug)]
enum Event {
    Join {
        stream: usize,
        viewer: usize,
        viewers: u64,
        hint: Option<&'static str>,
        excluded: Vec<&'static str>,
        region: Option<&'static str>,
    },
    Report {
        node: &'static str,
        report: LoadReport,
    },
    Members(Vec<Member>),
    Coordinators(u32),
    Wait(u64),
}

const NAMES: [&str; 7] = ["ada", "bert", "carl", "dora", "emil", "fritz", "greta"];

fn some_members() -> impl Strategy<Value = Vec<Member>> {
    use MemberState::{Dead, Draining, Ready, Suspect};
    let state = prop_oneof![8 => Just(Ready), 1 => select(vec![Suspect, Draining, Dead])];
    let one = (select(vec![0, 20_000_000, 50_000_000, 100_000_000]), select(vec!["eu", "us"]), state);
    let all = prop::collection::vec(one, NAMES.len());
    (subsequence(NAMES.to_vec(), 0..=NAMES.len()).prop_shuffle(), all).prop_map(|(names, all)| {
        let each = names.into_iter().zip(all);
        each.map(|(name, (capacity_bps, region, state))| Member {
            name: name.to_owned(),
            capacity_bps,
            region: region.to_owned(),
            state,
        })
        .collect()
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let names = || select(NAMES.to_vec());
    let region = prop_oneof![6 => Just(None), 1 => select(vec![Some("eu"), Some("us"), Some("nowhere")])];
    let hint = prop_oneof![3 => Just(None), 1 => names().prop_map(Some)];
    let excluded = prop_oneof![3 => Just(Vec::new()), 1 => subsequence(NAMES.to_vec(), 1..4)];
    let join = (0usize..3, 0usize..20, select(vec![0u64, 0, 1, 3, 10, 50]), hint, excluded, region).prop_map(
        |(stream, viewer, viewers, hint, excluded, region)| Event::Join {
            stream,
            viewer,
            viewers,
            hint,
            excluded,
            region,
        },
    );
    let cpu = prop_oneof![6 => Just(0.1), 1 => 0.6..1.0];
    let report = (names(), 0u64..2, 0u64..9, 0u64..100_000_000, 0u64..9, cpu).prop_map(
        |(node, boot, seq, load_bps, joins_seen, cpu)| Event::Report {
            node,
            report: LoadReport { boot, seq, load_bps, joins_seen, cpu, loss: 0.0 },
        },
    );
    let wait = prop_oneof![0u64..3_000, 0u64..20_000, Just(600_000)].prop_map(Event::Wait);
    let event = prop_oneof![
        20 => join,
        4 => report,
        1 => some_members().prop_map(Event::Members),
        1 => (0u32..4).prop_map(Event::Coordinators),
        2 => wait,
    ];
    (some_members(), prop::collection::vec(event, 1..120)).prop_map(|(members, mut events)| {
        events.insert(0, Event::Members(members));
        events
    })
}

fn check(events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut assignment = Assignment::new();
    let mut oracle =
        Oracle { members: vec![], coordinators: 1, second: 0, known: HashMap::new(), held: HashMap::new() };
    let mut now = NOW;
    for event in events {
        match event {
            Event::Members(members) => {
                assignment.set_members(members.clone());
                oracle.set_members(members);
            }
            Event::Coordinators(live) => {
                assignment.set_coordinators(live);
                oracle.coordinators = u64::from(live.max(1));
            }
            Event::Report { node, report } => {
                assignment.report_load(node, &report);
                oracle.report(node, &report);
            }
            Event::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
            Event::Join { stream, viewer, viewers, hint, excluded, region } => {
                let (stream, viewer) = (format!("class-{stream}"), format!("pupil-{viewer}"));
                let cost_bps = if stream == "class-0" { 4_000_000 } else { 2_500_000 };
                let excluded = &excluded;
                let (stream, viewer) = (&stream, &viewer);
                let request = Request { stream, viewer, cost_bps, viewers, hint, excluded, region };
                join(&mut assignment, &mut oracle, now, &request)?;
            }
        }
    }
    Ok(())
}

fn join(
    assignment: &mut Assignment,
    oracle: &mut Oracle,
    now: Duration,
    request: &Request<'_>,
) -> Result<(), TestCaseError> {
    let why = assignment.explain(now, request);
    let placed = assignment.assign(now, request);
    let name = placed.ok().and_then(|placed| Some(assignment.member(placed.node)?.name.clone()));
    let how = placed.ok().map(|placed| placed.how);
    prop_assert_eq!((&why.node, why.how), (&name, how), "the explanation differs from the decision");
    let expected = oracle.assign(now, request);
    prop_assert_eq!(name.clone().zip(how), expected, "{:#?}", why);
    let eligible = || oracle.members.iter().filter(|member| oracle.eligible(member, request));
    if let Some(name) = name {
        let chosen = eligible().find(|member| member.name == name);
        let Some(chosen) = chosen else { return Err(TestCaseError::fail("not eligible")) };
        let load = assignment.load_bps(&name).unwrap_or(u64::MAX);
        prop_assert!(load * 100 <= oracle.capacity(chosen) * 85, "above the hard limit");
        let is_chosen = |candidate: &&Candidate| candidate.node == name && candidate.verdict == Verdict::Fits;
        let bound = why.candidates.iter().find(is_chosen).map_or(0, |candidate| candidate.bound_bps);
        prop_assert!(load <= bound, "above the bound");
    } else {
        prop_assert!(!eligible().any(|member| oracle.fits(member, request, 850_000)), "refused despite room");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_decision_in_a_random_history_is_that_of_the_reference(events in events()) {
        check(events)?;
    }
}
