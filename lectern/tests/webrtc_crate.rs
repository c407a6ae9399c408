//! The lesson in the `webrtc` crate: an implementation in Rust that shares nothing with our engine.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#[path = "lesson/admission.rs"]
mod lesson;

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use testkit::Server;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCSessionDescription, Registry, register_default_interceptors,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use webrtc::runtime::default_runtime;
use webrtc_core::rtp_transceiver::rtp_sender::RtpCodecKind;

use self::lesson::admission;

/// From the offer to two seconds of media.
const WATCHED: Duration = Duration::from_secs(20);
const PICTURES: usize = 60;
const SOUNDS: usize = 100;

/// One RTP packet, as far as the test looks at it.
struct Packet {
    is_video: bool,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    payload: Vec<u8>,
}

struct Handler(UnboundedSender<Packet>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let sender = self.0.clone();
        let is_video = track.kind().await == RtpCodecKind::Video;
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
                let header = &packet.header;
                let packet = Packet {
                    is_video,
                    marker: header.marker,
                    sequence: header.sequence_number,
                    timestamp: header.timestamp,
                    payload: packet.payload.to_vec(),
                };
                if sender.send(packet).is_err() {
                    return;
                }
            }
        });
    }
}

async fn join(server: &Server, packets: UnboundedSender<Packet>) -> impl PeerConnection {
    let mut media = MediaEngine::default();
    media.register_default_codecs().unwrap();
    let registry = register_default_interceptors(Registry::new(), &mut media).unwrap();
    let connection = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(Handler(packets)))
        .with_runtime(default_runtime().unwrap())
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .unwrap();
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        let init =
            RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
        connection.add_transceiver_from_kind(kind, Some(init)).await.unwrap();
    }
    let offer = connection.create_offer(None).await.unwrap();
    connection.set_local_description(offer).await.unwrap();
    let offer = connection.local_description().await.unwrap();
    let (url, token) = admission(server, "user_type=student&user_id=rust").await;
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url).bearer_auth(token);
    let response = request.header("Content-Type", "application/sdp").body(offer.sdp).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let answer = RTCSessionDescription::answer(response.text().await.unwrap()).unwrap();
    connection.set_remote_description(answer).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webrtc_crate_receives_the_lesson_whole_and_in_order() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let _publisher = server.publish_demo();
    let (sender, mut packets) = unbounded_channel();
    let connection = join(&server, sender).await;
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    let deadline = tokio::time::Instant::now() + WATCHED;
    let markers = |packets: &[Packet]| packets.iter().filter(|packet| packet.marker).count();
    while markers(&video) < PICTURES || audio.len() < SOUNDS {
        let packet = tokio::time::timeout_at(deadline, packets.recv()).await.expect("media in time").unwrap();
        if packet.is_video { &mut video } else { &mut audio }.push(packet);
    }
    connection.close().await.unwrap();
    for track in [&video, &audio] {
        let is_next = |pair: &[Packet]| pair[1].sequence == pair[0].sequence.wrapping_add(1);
        assert!(track.windows(2).all(is_next), "no packet is missing or out of order");
    }
    let steps = audio.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp));
    assert!(steps.clone().all(|step| step == 960), "{:?}", steps.collect::<Vec<_>>());
    // STAP-A with the parameter sets, then the IDR picture, whole or in fragments: RFC 6184, sections 5.7.1 and 5.8.
    let kind = |packet: &Packet| packet.payload[0] & 0x1f;
    let is_idr = |packet: &Packet| kind(packet) == 5 || (kind(packet) == 28 && packet.payload[1] & 0x1f == 5);
    assert!(video.windows(2).any(|pair| kind(&pair[0]) == 24 && is_idr(&pair[1])), "a keyframe every 2 s");
    for pair in video.windows(2) {
        assert_eq!(
            pair[0].timestamp != pair[1].timestamp,
            pair[0].marker,
            "the marker ends a picture, nothing else"
        );
    }
}
