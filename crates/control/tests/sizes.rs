//! The sizes that `docs/scale.md` reckons with: whoever changes a message changes that page.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
use control::api::{
    Heartbeat, HeartbeatAnswer, LinkAddress, NodeLoad, Playback, SessionEvent, StreamReport, StreamState,
};
use serde::Serialize;

fn stream() -> StreamReport {
    StreamReport {
        class: "class-000042".to_owned(),
        session: "abcdefghjkmnpqrstuvw".to_owned(),
        epoch: 17,
        key: "abcdefghjkmn".to_owned(),
        is_relayed: false,
        since_ms: 1_234_567,
        is_ended: false,
        playback: Playback {
            reporting: 36,
            seeing: 34,
            hearing: 30,
            struggling: 1,
            delays: 36,
            delay_ms_sum: 4_500,
        },
        state: StreamState::Active,
        viewers: 36,
        has_video: true,
        has_audio: true,
        width: 1280,
        height: 720,
        bitrate_bps: 2_650_000,
        problems: Vec::new(),
    }
}

/// Of a node in the middle of a day.
fn heartbeat(streams: usize) -> Heartbeat {
    Heartbeat {
        node: "node-00042".to_owned(),
        boot: 12_345_678_901_234_567_890,
        seq: 86_400,
        coordinator: "abcdefgh".to_owned(),
        started_at_ms: 1_795_338_000_123,
        is_draining: false,
        coordinators: 10,
        region: "region-042".to_owned(),
        load: NodeLoad {
            capacity_bps: 10_000_000_000,
            load_bps: 2_650_000_000,
            egress_bps: 2_650_000_000,
            viewers: 1000,
            cpu: 0.412_345_678_901_234_5,
            loss: 0.0,
            joins_seen: 123_456,
        },
        public_url: None,
        whep_port: 8889,
        rtmp_port: Some(1935),
        rtmps_port: None,
        link: Some(LinkAddress { host: None, port: 8190 }),
        metrics: Some("127.0.0.1:9090".parse().unwrap()),
        revocations: 12_345_678_901_234_567_890,
        streams: vec![stream(); streams],
    }
}

fn bytes(message: &impl Serialize) -> usize {
    serde_json::to_vec(message).unwrap().len()
}

#[test]
fn messages_are_as_large_as_the_page_about_scale_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/scale.md");
    let page = std::fs::read_to_string(path).unwrap();
    let joined = SessionEvent::ViewerJoined {
        id: "abcdefghjkmnpqrstuvw".to_owned(),
        node: "node-00042".to_owned(),
        stream_session: "abcdefghjkmnpqrstuvw".to_owned(),
        user_id: "web-abcdefghjkmn".to_owned(),
        user_type: "student".to_owned(),
        // Chrome's of today.
        user_agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                     Chrome/142.0.0.0 Safari/537.36"
            .to_owned(),
        ip_address: "203.0.113.142".to_owned(),
        at_ms: 1_795_338_000_123,
    };
    let left = SessionEvent::ViewerLeft {
        id: "abcdefghjkmnpqrstuvw".to_owned(),
        at_ms: 1_795_338_000_123,
        reason: "deleted".to_owned(),
        bytes: 894_000_000,
        packets: 800_000,
        lost: 120,
    };
    for (what, size) in [
        ("a heartbeat without streams", bytes(&heartbeat(0))),
        ("each stream", bytes(&heartbeat(2)) - bytes(&heartbeat(1))),
        (
            "its answer",
            bytes(&HeartbeatAnswer {
                coordinator: "abcdefgh".to_owned(),
                revocations_version: 12_345_678_901_234_567_890,
                ..HeartbeatAnswer::default()
            }),
        ),
        ("a viewer who joins", bytes(&joined)),
        ("one who leaves", bytes(&left)),
    ] {
        assert!(
            page.contains(&format!("{what}: {size} bytes")),
            "docs/scale.md does not say: {what}: {size} bytes"
        );
    }
}
