//! Stamps, reports and the clocks they belong to.
use std::time::{Duration, Instant};

use crate::browser::Offers;
use crate::keyed::Abilities;
use crate::lesson::Lesson;
use crate::network::Link;
use crate::screen::Screen;
use crate::world::World;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How much later than their stamps frames arrive: the least and the most, in milliseconds from the first frame's.
fn lateness(screen: &Screen) -> (i64, i64) {
    let first = screen.shown[0];
    let late = |at: Instant, stamp: u32| {
        let arrived = i64::try_from((at - first.whole).as_millis()).unwrap();
        arrived - i64::from(stamp.wrapping_sub(first.timestamp).cast_signed()) / 90
    };
    let all = || screen.shown.iter().map(|shown| late(shown.whole, shown.timestamp));
    (all().min().unwrap(), all().max().unwrap())
}

#[test]
fn stamps_are_live_through_the_burst_of_a_join_at_any_phase_of_a_long_group() {
    for fps in [30, 60] {
        let mut world = World::new(1);
        let stream = world.publish(Lesson { fps, group: 10 * u64::from(fps), ..Lesson::default() });
        world.run(ms(300));
        for _ in 0..10 {
            world.join_with(
                stream,
                Link::default(),
                Link::default(),
                Offers { transport_cc: true, rtx: true },
            );
            world.run(ms(1_003));
        }
        for viewer in 0..10 {
            let screen = world.screen(viewer);
            let stamps: Vec<i32> = screen
                .shown
                .iter()
                .map(|shown| shown.timestamp.wrapping_sub(screen.shown[0].timestamp).cast_signed())
                .collect();
            assert!(stamps.is_sorted_by(|a, b| a < b), "time goes forward");
            let (least, most) = lateness(screen);
            assert!(least >= -12 && most <= 12, "{fps} fps, viewer {viewer}: {least} to {most} ms");
            assert!(screen.freezes(fps).is_empty());
        }
    }
}

#[test]
fn a_viewer_that_falls_behind_is_stamped_with_the_live_timeline() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::with_group(10));
    world.run(ms(100));
    let viewer = world.join_keyed(stream, (Link::default(), Link::bottleneck(1_500_000)), Abilities::ALL);
    // In the second group it has been at the live edge, if only for the keyframe.
    for seconds in [9, 9] {
        world.run(Duration::from_secs(seconds));
        let screen = world.screen(viewer);
        let last = screen.shown.last().unwrap();
        let behind = world.since() - Duration::from_secs(1) * u32::try_from(last.number).unwrap() / 30;
        assert!(behind > Duration::from_secs(2), "{behind:?} behind the lesson");
        let (_, most) = lateness(screen);
        assert!(most < 700, "but stamped {most} ms late at most");
    }
}

#[test]
fn sender_reports_map_stamps_to_the_clock_at_which_frames_were_made() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson::default());
    world.run(ms(1_234));
    let viewer = world.join_keyed(stream, (Link::default(), Link::default()), Abilities::ALL);
    world.run(Duration::from_secs(6));
    let (video, audio) = (world.keyed(viewer).video_ssrc(), world.keyed(viewer).audio_ssrc());
    let reports = world.keyed(viewer).sender_reports.clone();
    assert!(reports.iter().filter(|(_, ssrc, ..)| *ssrc == video).count() >= 6);
    let zero = world.node.ntp(world.began);
    for (ssrc, rate, behind_ms) in [(video, 90, 0), (audio, 48, 45)] {
        for (_, _, ntp, rtp) in reports.iter().filter(|report| report.1 == ssrc) {
            // Milliseconds since the beginning at which the report was written, and which a frame of this stamp was made.
            let written = i64::try_from(((ntp - zero) * 1_000) >> 32).unwrap();
            let screen = world.screen(viewer);
            let (number, stamp, step) = if ssrc == video {
                let last = screen.shown.last().unwrap();
                (last.number, last.timestamp, 1_000.0 / 30.0)
            } else {
                let last = screen.audio.last().unwrap();
                (last.0, last.2, 20.0)
            };
            let made = f64::from(u32::try_from(number).unwrap()) * step;
            let mapped = i64::from(stamp.wrapping_sub(*rtp).cast_signed()) / rate + written;
            let error = mapped - i64::try_from(Duration::from_secs_f64(made / 1_000.0).as_millis()).unwrap();
            assert!((error - behind_ms).abs() <= 2, "{error} ms, audio {}", ssrc == audio);
        }
    }
}

#[test]
fn audio_steps_by_960_and_is_whole_whatever_the_video_does() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson { keyframe: 400_000, bps: 6_000_000, ..Lesson::default() });
    world.run(ms(900));
    let viewers: Vec<usize> = (0..10)
        .map(|_| world.join_keyed(stream, (Link::default(), Link::default()), Abilities::ALL))
        .collect();
    world.run(Duration::from_secs(4));
    for viewer in viewers {
        let audio = &world.screen(viewer).audio;
        assert!(
            audio
                .windows(2)
                .all(|pair| pair[1].0 == pair[0].0 + 1 && pair[1].2.wrapping_sub(pair[0].2) == 960)
        );
        let late = audio.windows(2).map(|pair| pair[1].1 - pair[0].1).max().unwrap();
        assert!(late <= ms(21), "{late:?} between packets");
    }
}

#[test]
fn audio_goes_before_the_video_that_waits() {
    let mut world = World::new(1);
    let stream = world.publish(Lesson { group: 6, bps: 3_000_000, ..Lesson::default() });
    for _ in 0..200 {
        world.join_keyed(stream, (Link::default(), Link::default()), Abilities::NONE);
    }
    world.run(ms(150));
    world.tap = Some(Vec::new());
    // The keyframe at 200 ms is made in the same moment as a packet of audio.
    world.run(ms(52));
    let tap = world.tap.take().unwrap();
    let keyframe = world.began + ms(200);
    let kinds = tap.iter().filter(|(at, ..)| *at >= keyframe && *at < keyframe + ms(1));
    let kinds: Vec<u8> =
        kinds.map(|(.., packet)| packet[1] & 0x7f).filter(|pt| [102, 111].contains(pt)).collect();
    let last_audio = kinds.iter().rposition(|pt| *pt == 111).unwrap();
    assert_eq!(kinds[..=last_audio].iter().filter(|pt| **pt == 111).count(), 200);
    assert!(last_audio <= 200 + 64 * 16, "{last_audio} packets before the last of audio");
}
