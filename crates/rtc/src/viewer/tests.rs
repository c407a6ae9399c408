use std::net::SocketAddr;

use bytes::Bytes;
use dimpl::SrtpProfile;
use media::{AudioFrame, VideoConfig, VideoFrame};

use super::*;
use crate::sdp::{Credentials, Fingerprint};
use crate::udp::Socket;

/// A lesson of 30 pictures of 14 kB and 50 packets of sound a second.
struct Lesson {
    pictures: rtp::h264::Packetizer,
    sound: rtp::opus::Packetizer,
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
        let (pictures, sound) = Default::default();
        Self { pictures, sound, config: Arc::new(config), began: Instant::now() }
    }

    fn picture(&mut self, number: i64, keyframe: bool) -> Arc<Packets> {
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
        Arc::new(self.pictures.packetize(&frame).unwrap())
    }

    fn packet(&mut self, number: i64) -> Packets {
        let frame = AudioFrame {
            time: MediaTime::from_millis(number * 20),
            packet: Bytes::from_static(&[7; 240]),
            arrival: self.began,
        };
        self.sound.packetize(&frame).unwrap()
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
        }),
        audio: Some(AudioTerms { mid: String::new(), pt: 111, ssrc: 2 }),
        remote: Credentials { ufrag: String::new(), pwd: String::new() },
        remote_fingerprint: Fingerprint::new([0; 32]),
    }
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
            (Viewer::new(lesson.began, &terms(), 32), srtp)
        })
        .collect();
    let mut now = lesson.began;
    let mut send = |number: i64| -> (u64, u64) {
        // What is made once for all viewers may be allocated.
        let (picture, packet) = (lesson.picture(number, number % 60 == 0), lesson.packet(number));
        ring.push(picture);
        now += Duration::from_millis(33);
        let before: u64 = viewers.iter().map(|(viewer, _)| viewer.stats.packets).sum();
        let allocated = allocation_counter::measure(|| {
            for (viewer, srtp) in &mut viewers {
                let mut out = Out { srtp, path: Path::Udp(to), batch: &mut batch };
                viewer.send_audio(&packet, &mut out);
                viewer.send_video(now, &ring, &mut out);
            }
            socket.send(&batch.arena, batch.messages());
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

#[test]
fn a_request_that_crossed_its_answer_is_not_answered_again() {
    let now = Instant::now();
    let mut resend =
        Resend { next: 0, window: now, count: 0, recent: Vec::new(), waiting: Vec::new(), due: None };
    assert!(!resend.is_repeat(now, 7));
    resend.remember(now, 7);
    assert!(!resend.is_repeat(now, 8));
    resend.remember(now, 8);
    assert!(resend.is_repeat(now + RESEND_INTERVAL / 2, 7));
    assert!(!resend.is_repeat(now + RESEND_INTERVAL, 7), "then it may have been lost again");
}

#[test]
fn a_burst_is_as_many_times_faster_than_its_stream_as_it_may_be() {
    let (mut lesson, mut ring) = (Lesson::new(), Ring::default());
    for number in 0..60 {
        ring.push(lesson.picture(number, number == 0));
    }
    // 14 kB thirty times a second.
    assert!((3_300_000..3_600_000).contains(&ring.rate_bps()), "{}", ring.rate_bps());
    for (multiple, expected_ms) in [(1, 200..=700), (32, 30..=70), (1000, 30..=70)] {
        let mut srtp = Srtp::new(SrtpProfile::AEAD_AES_128_GCM, &[3; 56]).unwrap();
        let mut viewer = Viewer::new(lesson.began, &terms(), multiple);
        let mut batch = Batch::default();
        let mut out = Out { srtp: &mut srtp, path: Path::Udp(([127, 0, 0, 1], 9).into()), batch: &mut batch };
        let mut now = lesson.began;
        while let Some(next) = viewer.send_video(now, &ring, &mut out) {
            now = next;
        }
        let took_ms = (now - lesson.began).as_millis();
        println!("{multiple}: {took_ms} ms");
        assert!(expected_ms.contains(&took_ms), "{multiple} times: {took_ms} ms");
    }
}

#[test]
fn answers_to_a_crowd_are_spread_and_those_to_a_few_are_not() {
    let now = Instant::now();
    let mut crowd = Crowd::new(now);
    let waits: Vec<Duration> = (0..CROWD_MIN + 100).map(|_| crowd.on_nack(now)).collect();
    let (few, many) = waits.split_at(CROWD_MIN as usize);
    assert!(few.iter().all(Duration::is_zero), "{few:?}");
    assert!(many.iter().all(|wait| *wait <= CROWD_SPREAD));
    let spread = many.iter().max().unwrap().saturating_sub(*many.iter().min().unwrap());
    assert!(spread > CROWD_SPREAD / 2, "{many:?}");
    assert!(crowd.on_nack(now + CROWD_WINDOW).is_zero(), "the crowd is gone");
}

#[test]
fn what_waits_is_sent_again_when_it_is_due_and_once() {
    let (mut lesson, mut ring) = (Lesson::new(), Ring::default());
    ring.push(lesson.picture(0, true));
    let mut srtp = Srtp::new(SrtpProfile::AEAD_AES_128_GCM, &[3; 56]).unwrap();
    let mut viewer = Viewer::new(lesson.began, &terms(), 32);
    let mut batch = Batch::default();
    let mut out = Out { srtp: &mut srtp, path: Path::Udp(([127, 0, 0, 1], 9).into()), batch: &mut batch };
    let now = lesson.began;
    viewer.send_video(now, &ring, &mut out);
    let resend = &mut viewer.video.as_mut().unwrap().resend;
    let first = u16::from_be_bytes([out.batch.arena[2], out.batch.arena[3]]);
    (resend.waiting, resend.due) = (vec![first, first.wrapping_add(1)], Some(now + CROWD_SPREAD));
    assert_eq!(viewer.next_resend(), Some(now + CROWD_SPREAD));
    viewer.resend_waiting(now, &ring, &mut out);
    assert_eq!(viewer.stats.resent, 0);
    viewer.resend_waiting(now + CROWD_SPREAD, &ring, &mut out);
    assert_eq!((viewer.stats.resent, viewer.next_resend()), (2, None));
    viewer.resend_waiting(now + CROWD_SPREAD * 2, &ring, &mut out);
    assert_eq!(viewer.stats.resent, 2);
    viewer.resend(now + CROWD_SPREAD, [first].into_iter(), &ring, &mut out);
    assert_eq!(viewer.stats.resent, 2, "its copy is on its way");
    viewer.resend(now + CROWD_SPREAD + RESEND_INTERVAL, [first].into_iter(), &ring, &mut out);
    assert_eq!(viewer.stats.resent, 3);
}
