use super::super::capacity::*;
use CapacityStep::{Full, Half, ThreeQuarters, Zero};
use proptest::prelude::*;

#[test]
fn the_processor_lowers_the_capacity_at_once() {
    for (cpu, step) in [(0.75, Full), (0.76, ThreeQuarters), (0.86, Half), (0.96, Zero), (7.0, Zero)] {
        assert_eq!(capacity_step(cpu, 0.0, Full), step, "{cpu}");
    }
}

#[test]
fn loss_lowers_the_capacity_at_once() {
    for (loss, step) in [(0.02, Full), (0.03, ThreeQuarters), (0.06, Half), (0.11, Zero)] {
        assert_eq!(capacity_step(0.0, loss, Full), step, "{loss}");
    }
}

#[test]
fn a_step_is_taken_back_only_with_a_margin_and_one_at_a_time() {
    assert_eq!(capacity_step(0.70, 0.0, ThreeQuarters), ThreeQuarters);
    assert_eq!(capacity_step(0.64, 0.0, ThreeQuarters), Full);
    assert_eq!(capacity_step(0.76, 0.0, Half), Half);
    assert_eq!(capacity_step(0.0, 0.0, Zero), Half);
    assert_eq!(capacity_step(0.0, 0.0, Half), ThreeQuarters);
    assert_eq!(capacity_step(0.0, 0.015, ThreeQuarters), ThreeQuarters);
    assert_eq!(capacity_step(0.0, 0.009, ThreeQuarters), Full);
    assert_eq!(capacity_step(0.90, 0.0, Zero), Zero);
}

#[test]
fn a_measure_that_is_no_number_changes_nothing() {
    for step in [Full, ThreeQuarters, Half, Zero] {
        assert_eq!(capacity_step(f64::NAN, 0.0, step), step);
        assert_eq!(capacity_step(0.0, f64::NAN, step), step);
    }
}

#[test]
fn steps_leave_their_share_of_any_capacity() {
    assert_eq!([Full, ThreeQuarters, Half, Zero].map(|step| step.of(1000)), [1000, 750, 500, 0]);
    assert_eq!(ThreeQuarters.of(u64::MAX), u64::MAX - u64::MAX / 4);
}

proptest! {
    #[test]
    fn a_processor_that_swings_by_less_than_ten_points_does_not_flap(
        middle in 0.0..1.0,
        swings in prop::collection::vec(-0.049..0.049, 1..100),
    ) {
        let mut step = Full;
        let mut steps = vec![step];
        for swing in swings {
            step = capacity_step(middle + swing, 0.0, step);
            steps.push(step);
        }
        prop_assert!(steps.is_sorted(), "{steps:?}");
    }
}
