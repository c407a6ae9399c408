use super::*;

fn width(assignment: &Assignment, now: Duration, viewers: u64) -> usize {
    assignment.explain(now, &Request { viewers, ..request("class", "pupil") }).k
}

/// Ten nodes of 1 Gbit/s: a slice carries 40 viewers of 2.5 Mbit/s.
fn ten_nodes() -> Assignment {
    cluster((0..10).map(|n| member(&format!("node-{n}"), 1)).collect())
}

fn join(assignment: &mut Assignment, now: Duration, viewers: u64) {
    assert!(assignment.assign(now, &Request { viewers, ..request("class", "pupil") }).is_ok());
}

#[test]
fn a_stream_has_as_many_nodes_as_slices_carry_its_viewers() {
    let assignment = ten_nodes();
    for (viewers, k) in [(0, 1), (39, 1), (40, 2), (79, 2), (80, 3), (399, 10), (400, 10), (u64::MAX, 10)] {
        assert_eq!(width(&assignment, NOW, viewers), k, "{viewers} viewers and one more");
    }
}

#[test]
fn larger_nodes_have_larger_slices() {
    let assignment = cluster((0..10).map(|n| member(&format!("node-{n}"), 4)).collect());
    assert_eq!(width(&assignment, NOW, 159), 1);
    assert_eq!(width(&assignment, NOW, 160), 2);
}

#[test]
fn the_spread_grows_at_once() {
    let mut assignment = ten_nodes();
    join(&mut assignment, NOW, 0);
    assert_eq!(width(&assignment, NOW, 199), 5);
}

#[test]
fn the_spread_shrinks_after_ten_minutes_below_seventy_percent() {
    let mut assignment = ten_nodes();
    let minute = Duration::from_mins(1);
    join(&mut assignment, NOW, 399);
    join(&mut assignment, NOW + minute, 99);
    let shrinks = NOW + minute + SHRINK_AFTER;
    assert_eq!(width(&assignment, shrinks - Duration::from_millis(1), 99), 10);
    assert_eq!(width(&assignment, shrinks, 99), 3);
    join(&mut assignment, shrinks, 99);
    assert_eq!(width(&assignment, shrinks, 99), 3);
}

#[test]
fn seventy_percent_are_not_low() {
    let mut assignment = ten_nodes();
    join(&mut assignment, NOW, 399);
    join(&mut assignment, NOW + SHRINK_AFTER, 279);
    assert_eq!(width(&assignment, NOW + 3 * SHRINK_AFTER, 279), 10);
}

#[test]
fn a_moment_above_seventy_percent_starts_the_ten_minutes_anew() {
    let mut assignment = ten_nodes();
    join(&mut assignment, NOW, 399);
    join(&mut assignment, NOW, 99);
    join(&mut assignment, NOW + SHRINK_AFTER / 2, 300);
    join(&mut assignment, NOW + SHRINK_AFTER / 2, 99);
    assert_eq!(width(&assignment, NOW + SHRINK_AFTER, 99), 10);
    assert_eq!(width(&assignment, NOW + SHRINK_AFTER * 3 / 2, 99), 3);
}

#[test]
fn a_stream_that_nobody_joins_for_an_hour_is_forgotten() {
    let mut assignment = ten_nodes();
    join(&mut assignment, NOW, 399);
    let later = NOW + Duration::from_hours(1);
    assert!(assignment.assign(later, &request("another class", "pupil")).is_ok());
    assert_eq!(width(&assignment, later, 99), 3);
    assert_eq!(assignment.streams.len(), 1);
}
