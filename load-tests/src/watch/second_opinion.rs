//! Viewers made of the `webrtc` crate: slower, and nothing of them is ours but the counting.
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCSessionDescription, Registry, register_default_interceptors,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use webrtc::runtime::default_runtime;
use webrtc_core::rtp_transceiver::rtp_sender::RtpCodecKind;

use super::answer::Answer;
use super::join::{Entrance, Newcomer};
use super::media::{Media, Moment};
use super::rtp::Header;
use super::totals::Totals;
use crate::whep::{Session, Way};

/// Packets between the crate's tracks and the counting; beyond it they count as lost.
const PACKETS_MAX: usize = 4096;
/// From the answer to the first packet.
const FIRST_PACKET: Duration = Duration::from_secs(15);
/// How often losses are looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// One packet as the crate handed it over.
struct Packet {
    at: Moment,
    is_video: bool,
    header: Header,
    payload: Vec<u8>,
}

struct Handler(Sender<Packet>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let sender = self.0.clone();
        let is_video = track.kind().await == RtpCodecKind::Video;
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
                let header = Header {
                    marker: packet.header.marker,
                    payload_type: packet.header.payload_type,
                    sequence: packet.header.sequence_number,
                    timestamp: packet.header.timestamp,
                    ssrc: packet.header.ssrc,
                    has_padding: false,
                    len: 0,
                };
                let payload = packet.payload.to_vec();
                let _ = sender.try_send(Packet { at: Moment::read(), is_video, header, payload });
                if sender.is_closed() {
                    return;
                }
            }
        });
    }
}

/// Takes one viewer in, keeps it as long as it stays, and sees it out.
pub(super) async fn attend(entrance: &Entrance, newcomer: Newcomer, mut end: watch::Receiver<bool>) {
    let (sender, packets) = channel(PACKETS_MAX);
    let joined = async {
        let _place = entrance.places.acquire().await?;
        join(entrance, newcomer, sender).await
    };
    let joined = tokio::select! {
        joined = joined => joined,
        _ = end.wait_for(|is_over| *is_over) => return,
    };
    match joined {
        Ok((connection, session, answer)) => {
            let stays = async {
                let over = end.wait_for(|is_over| *is_over);
                match newcomer.stay {
                    Some(stay) => _ = tokio::time::timeout(stay, over).await,
                    None => _ = over.await,
                }
            };
            let totals = count(entrance, &session, &answer, packets, stays).await;
            entrance.record(newcomer.group, |all| all.merge(&totals));
            let _ = connection.close().await;
            let _place = entrance.places.acquire().await;
            entrance.door.leave(newcomer.number, &session).await;
        }
        Err(error) => {
            entrance.failed.fetch_add(1, Relaxed);
            entrance.record(newcomer.group, |totals| totals.failures.add(&error.to_string()));
        }
    }
}

async fn join(
    entrance: &Entrance,
    newcomer: Newcomer,
    packets: Sender<Packet>,
) -> Result<(impl PeerConnection, Session, Answer)> {
    let mut media = MediaEngine::default();
    media.register_default_codecs()?;
    let registry = register_default_interceptors(Registry::new(), &mut media)?;
    let connection = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(Handler(packets)))
        .with_runtime(default_runtime().context("the webrtc crate has no runtime")?)
        .with_udp_addrs(vec![std::net::SocketAddr::new(entrance.address(newcomer.number), 0).to_string()])
        .build()
        .await?;
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        let direction = RTCRtpTransceiverDirection::Recvonly;
        let init = RTCRtpTransceiverInit { direction, ..Default::default() };
        connection.add_transceiver_from_kind(kind, Some(init)).await?;
    }
    let offer = connection.create_offer(None).await?;
    connection.set_local_description(offer).await?;
    let offer = connection.local_description().await.context("the webrtc crate made no offer")?;
    let session = entrance.door.join(newcomer.number, &offer.sdp, Way::Usual).await?;
    entrance.on_joined(newcomer.group, &session);
    let answer = Answer::parse(&session.answer)?;
    connection.set_remote_description(RTCSessionDescription::answer(session.answer.clone())?).await?;
    Ok((connection, session, answer))
}

/// Counts packets until `stays` is over.
async fn count(
    entrance: &Entrance,
    session: &Session,
    answer: &Answer,
    mut packets: Receiver<Packet>,
    stays: impl Future<Output = ()>,
) -> Totals {
    let mut totals = Totals::default();
    // The crate asks for lost packets itself, so what it delivers late was not asked for by us.
    let mut answer = answer.clone();
    answer.video_nack = false;
    let mut media = Media::new(Instant::now(), session.post_began, &answer, true);
    let Ok(Some(first)) = tokio::time::timeout(FIRST_PACKET, packets.recv()).await else {
        entrance.failed.fetch_add(1, Relaxed);
        totals.ended.add("no media");
        return totals;
    };
    totals.connected += 1;
    entrance.crate_connected.fetch_add(1, Relaxed);
    let mut next = Some(first);
    let mut ticks = tokio::time::interval(INTERVAL);
    tokio::pin!(stays);
    loop {
        if let Some(Packet { at, is_video, header, payload }) = next.take() {
            if is_video {
                media.on_plain_video(at, &header, &payload, &mut totals);
            } else {
                media.on_plain_audio(at, &header, &payload, &mut totals);
            }
        }
        tokio::select! {
            packet = packets.recv() => match packet {
                Some(packet) => next = Some(packet),
                None => {
                    totals.ended.add("the webrtc crate ended its tracks");
                    break;
                }
            },
            _ = ticks.tick() => {
                media.on_timeout(Moment::read(), &mut totals);
            }
            () = &mut stays => break,
        }
    }
    media.finish(Instant::now(), &mut totals);
    totals
}
