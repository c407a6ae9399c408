//! Tests of the assignment through its public functions, and the helpers they share.

mod capacity;
mod golden;
mod loads;
mod oracle;
mod placement;
mod relay;
mod score;
mod spread;

use super::*;

pub(super) const GIGABIT: u64 = 1_000_000_000;
pub(super) const NOW: Duration = Duration::from_secs(1000);

pub(super) fn member(name: &str, gigabits: u64) -> Member {
    let state = MemberState::Ready;
    Member { name: name.to_owned(), capacity_bps: gigabits * GIGABIT, region: "eu".to_owned(), state }
}

/// `count` nodes of 1, 2, 3, 4, 1, 2, ... times `gigabits`.
pub(super) fn members(count: u64, gigabits: u64) -> Vec<Member> {
    (0..count).map(|n| member(&format!("node-{n}"), gigabits * (1 + n % 4))).collect()
}

pub(super) fn cluster(members: Vec<Member>) -> Assignment {
    let mut assignment = Assignment::new();
    assignment.set_members(members);
    assignment
}

pub(super) fn request<'a>(stream: &'a str, viewer: &'a str) -> Request<'a> {
    Request { stream, viewer, cost_bps: 2_500_000, viewers: 0, hint: None, excluded: &[], region: None }
}

/// Where a viewer would go, without going there.
pub(super) fn place(assignment: &Assignment, request: &Request<'_>) -> Option<String> {
    assignment.explain(NOW, request).node
}

/// Sends a viewer, and tells where.
pub(super) fn send(assignment: &mut Assignment, now: Duration, request: &Request<'_>) -> Option<String> {
    let placed = assignment.assign(now, request).ok()?;
    assignment.member(placed.node).map(|member| member.name.clone())
}

/// Where each of `viewers` viewers of each of `streams` streams would go, `size` being in each already.
pub(super) fn places(assignment: &Assignment, streams: u32, viewers: u32, size: u64) -> Vec<Option<String>> {
    let names = (0..streams).flat_map(|stream| (0..viewers).map(move |viewer| (stream, viewer)));
    names
        .map(|(stream, viewer)| {
            let (stream, viewer) = (format!("class-{stream}"), format!("pupil-{viewer}"));
            place(assignment, &Request { viewers: size, ..request(&stream, &viewer) })
        })
        .collect()
}

pub(super) fn report(load_bps: u64, seq: u64) -> LoadReport {
    LoadReport { seq, load_bps, ..LoadReport::default() }
}

#[test]
fn an_explanation_can_be_serialized() {
    fn serializable<T: Serialize>(_: &T) {}
    serializable(&cluster(members(3, 1)).explain(NOW, &request("class", "pupil")));
}
