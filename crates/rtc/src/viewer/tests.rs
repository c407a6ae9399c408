use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use dimpl::SrtpProfile;
use media::{AudioFrame, VideoConfig, VideoFrame};
use rand::SeedableRng;

use super::*;
use crate::sdp::{Credentials, Fingerprint, VideoTerms};
use crate::udp::Socket;

/// A lesson of 30 frames of 14 kB and 50 packets of audio a second.
struct Lesson {
    frames: rtp::h264::Packetizer,
    audio: rtp::opus::Packetizer,
    config: Arc<VideoConfig>,
    began: Instant,
}

impl Lesson {
    fn new() -> Self {
        let config = VideoConfig {
            sps: Bytes::from_static(&[0x67]),
            pps: vec![],
            profile_level_id: [0x42, 0xe0, 0x1f],
            width: 1280,
            height: 720,
        };
        let (frames, audio) = Default::default();
        Self { frames, audio, config: Arc::new(config), began: Instant::now() }
    }

    fn video(&mut self, number: i64, keyframe: bool) -> Arc<Packets> {
        let mut nal = vec![if keyframe { 0x65 } else { 0x41 }];
        nal.resize(14_000, 7);
        let frame = VideoFrame {
            time: MediaTime::from_millis(number * 33),
            keyframe,
            recovery_point: false,
            config: Arc::clone(&self.config),
            nals: Arc::from([Bytes::from(nal)]),
            arrival: self.began,
        };
        Arc::new(self.frames.packetize(&frame).unwrap())
    }

    fn audio(&mut self, number: i64) -> Packets {
        let frame = AudioFrame {
            time: MediaTime::from_millis(number * 20),
            packet: Bytes::from_static(&[7; 240]),
            arrival: self.began,
        };
        self.audio.packetize(&frame).unwrap()
    }
}

fn terms() -> Terms {
    Terms {
        video: Some(VideoTerms {
            mid: String::new(),
            pt: 96,
            ssrc: 1,
            nack: true,
            rtx: None,
            playout_delay_id: None,
            transport_cc_id: None,
        }),
        audio: Some(AudioTerms { mid: String::new(), pt: 111, ssrc: 2 }),
        remote: Credentials { ufrag: String::new(), pwd: String::new() },
        remote_fingerprint: Fingerprint::new([0; 32]),
    }
}

fn viewer(now: Instant, burst_multiple: u32) -> Viewer {
    Viewer::new(now, &terms(), burst_multiple, &mut StdRng::seed_from_u64(1))
}

#[test]
fn packets_in_a_steady_state_allocate_nothing() {
    let (mut lesson, mut ring) = (Lesson::new(), Ring::default());
    let mut socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let to: SocketAddr = socket.local_addr().unwrap();
    let mut batch = Batch::default();
    let mut viewers: Vec<(Viewer, Srtp)> = (0..50)
        .map(|_| {
            let srtp = Srtp::new(SrtpProfile::AEAD_AES_128_GCM, &[3; 56]).unwrap();
            (viewer(lesson.began, 32), srtp)
        })
        .collect();
    let mut now = lesson.began;
    let mut send = |number: i64| -> (u64, u64) {
        // What is made once for all viewers may be allocated.
        let (video, audio) = (lesson.video(number, number % 60 == 0), lesson.audio(number));
        ring.push(video);
        now += Duration::from_millis(33);
        let before: u64 = viewers.iter().map(|(viewer, _)| viewer.stats.packets).sum();
        let allocated = allocation_counter::measure(|| {
            for (viewer, srtp) in &mut viewers {
                let mut out = Out { srtp, path: Path::Udp { peer: to, local: None }, batch: &mut batch };
                viewer.send_audio(&audio, &mut out);
                let mut next = Some(now);
                while let Some(now) = next {
                    next = viewer.send_video(now, &ring, &mut out);
                }
            }
            let (arena, messages) = batch.unsent();
            socket.send(arena, messages);
            batch.clear();
        });
        let sent = viewers.iter().map(|(viewer, _)| viewer.stats.packets).sum::<u64>() - before;
        (allocated.count_total, sent)
    };
    for number in 0..60 {
        send(number);
    }
    let (allocations, packets) = (60..180).map(send).fold((0, 0), |sum, now| (sum.0 + now.0, sum.1 + now.1));
    assert!(packets > 120 * 50 * 12, "{packets} packets were sent");
    assert_eq!(allocations, 0, "for {packets} packets");
}

/// What a viewer sends, written into a batch and not sealed in a way that hides headers.
fn sent(act: impl FnOnce(&mut Out<'_>)) -> Vec<u8> {
    let mut srtp = Srtp::new(SrtpProfile::AEAD_AES_128_GCM, &[3; 56]).unwrap();
    let path = Path::Udp { peer: "127.0.0.1:9".parse().unwrap(), local: None };
    let mut batch = Batch::default();
    act(&mut Out { srtp: &mut srtp, path, batch: &mut batch });
    batch.arena
}

#[test]
fn the_first_packet_of_audio_after_a_silence_is_marked() {
    let mut lesson = Lesson::new();
    let mut viewer = viewer(lesson.began, 32);
    let markers = [0, 1, 2, 5, 6, 8].map(|number| {
        let frame = lesson.audio(number);
        let packet = sent(|out| viewer.send_audio(&frame, out));
        packet[1] & 0x80 != 0
    });
    assert_eq!(markers, [true, false, false, true, false, true]);
}

#[test]
fn a_request_for_packets_of_another_source_is_not_answered_with_video() {
    let (mut lesson, mut ring) = (Lesson::new(), Ring::default());
    let mut crowd = Crowd::new(lesson.began);
    let mut viewer = viewer(lesson.began, 32);
    ring.push(lesson.video(0, true));
    let packets = sent(|out| _ = viewer.send_video(lesson.began, &ring, out));
    let [_, _, s0, s1, ..] = packets[..] else { panic!("no packet") };
    let now = lesson.began + Duration::from_millis(100);
    let mut ask = |ssrc: u8| {
        // RFC 4585, section 6.2.1: this packet and no other.
        let nack = [0x81, 205, 0, 3, 0, 0, 0, 9, 0, 0, 0, ssrc, s0, s1, 0, 0];
        sent(|out| {
            rtp::rtcp::parse(&nack, |feedback| {
                if let rtp::rtcp::Feedback::Nack { ssrc, lost } = feedback {
                    viewer.on_nack(now, (ssrc, lost), &ring, (&mut crowd, 0.0), out);
                }
            });
        })
    };
    assert!(ask(2).is_empty(), "that is the audio");
    assert!(!ask(1).is_empty());
    assert_eq!(viewer.stats.resent, 1);
}

/// Bytes that a viewer which reports no arrivals is sent in a second of a stream of 2 Mbit/s, so long after the first window.
fn blind_bytes_in_a_second(after_ms: u64, tell: impl Fn(&mut pace::Pace, Instant)) -> usize {
    const STREAM_BPS: u64 = 2_000_000;
    let began = Instant::now();
    let mut pace = pace::Pace::new(None);
    pace.begin(began, 60_000);
    while pace.wait(began, STREAM_BPS).is_none() {
        pace.on_sent(began, 1_200, STREAM_BPS);
    }
    tell(&mut pace, began + Duration::from_millis(after_ms));
    let mut sent = [0, 0];
    for ms in 0..after_ms + 1_000 {
        let now = began + Duration::from_millis(ms);
        while pace.wait(now, STREAM_BPS).is_none() {
            pace.on_sent(now, 1_200, STREAM_BPS);
            sent[usize::from(ms >= after_ms)] += 1_200;
        }
    }
    sent[1]
}

#[test]
fn a_viewer_that_asks_for_packets_or_whose_round_trip_grows_is_sent_no_more_than_the_stream() {
    let first = blind_bytes_in_a_second(0, |_, _| {});
    assert!((235_000..250_000).contains(&first), "{first} bytes at 85 % for half a second, then 110 %");
    let free = blind_bytes_in_a_second(500, |_, _| {});
    assert!((268_000..285_000).contains(&free), "{free} bytes at 110 %");
    let asking = blind_bytes_in_a_second(500, |pace, now| pace.on_nack(now));
    assert!((245_000..260_000).contains(&asking), "{asking} bytes at 100 %");
    let queueing = blind_bytes_in_a_second(500, |pace, now| {
        pace.on_round_trip(now, Duration::from_millis(20));
        pace.on_round_trip(now, Duration::from_millis(90));
    });
    assert!((245_000..260_000).contains(&queueing), "{queueing} bytes at 100 %");
}

#[test]
fn a_track_is_reported_from_its_first_packet_on() {
    let mut lesson = Lesson::new();
    let mut viewer = viewer(lesson.began, 32);
    let time = MediaTime::from_millis(100);
    let mut now = lesson.began + Duration::from_millis(100);
    assert!(sent(|out| viewer.send_reports(now, time, 1 << 40, "c", out)).is_empty(), "nothing was sent");
    assert_eq!(viewer.next_report(), now + REPORT_INTERVAL);
    let frame = lesson.audio(0);
    sent(|out| viewer.send_audio(&frame, out));
    assert!(viewer.next_report() <= now, "players need the first one at once");
    now += Duration::from_millis(1);
    let report = sent(|out| viewer.send_reports(now, time, 1 << 40, "c", out));
    assert_eq!((&report[..2], &report[4..8]), (&[0x80, 200][..], &[0, 0, 0, 2][..]), "of the audio alone");
    assert_eq!(viewer.next_report(), now + REPORT_INTERVAL);
}

#[test]
fn the_round_trip_is_told_by_any_of_the_last_reports() {
    let mut lesson = Lesson::new();
    let mut viewer = viewer(lesson.began, 32);
    let frame = lesson.audio(0);
    sent(|out| viewer.send_audio(&frame, out));
    let at = |second: usize| lesson.began + REPORT_INTERVAL * u32::try_from(second).unwrap();
    for second in 0..10 {
        let ntp = (second as u64 + 1) << 32;
        sent(|out| viewer.send_reports(at(second), MediaTime::ZERO, ntp, "c", out));
    }
    for age in 0..SENT_REPORTS + 2 {
        viewer.round_trip = None;
        let middle = u32::try_from(10 - age).unwrap() << 16;
        // Held for as long as it is old, but for 80 ms.
        let delay = u32::try_from(age).unwrap() * 65_536;
        let (fraction_lost, highest_sequence, jitter) = (0, 0, 0);
        let block = ReportBlock {
            ssrc: 2,
            fraction_lost,
            lost: 0,
            highest_sequence,
            jitter,
            last_report: middle,
            delay,
        };
        viewer.on_report(at(9) + Duration::from_millis(80), &block);
        let known = (age < SENT_REPORTS).then_some(Duration::from_millis(80));
        assert_eq!(viewer.round_trip, known, "{age} reports ago");
    }
}
