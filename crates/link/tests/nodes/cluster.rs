//! Nodes that speak to each other over loopback, and a lesson.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Hub, Limits, StreamFrame, Subscription, Update};
use link::{Identity, Link};
use media::{AudioFrame, Frame, MediaTime, Track, Tracks, VideoConfig, VideoFrame};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Whoever waits longer than this waits for nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// x264, constrained baseline, 640x360.
const SPS: Bytes = Bytes::from_static(&[0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70]);
const PPS: Bytes = Bytes::from_static(&[0x68, 0xcb, 0x83, 0xcb, 0x20]);

/// An authority that makes nodes' certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: rcgen::Certificate,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        Self { issuer: Issuer::new(params, key), cert }
    }

    pub(crate) fn identity(&self, node: &str) -> Identity {
        let name = control::certificate_name(node).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name]).expect("a name of the DNS");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Identity::new(vec![cert.der().clone()], key, vec![self.cert.der().clone()]).expect("an identity")
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        let hub = Hub::new(Limits::default());
        let link = Link::bind(([127, 0, 0, 1], 0).into(), self.identity(name), hub.clone()).expect("a port");
        let drain = CancellationToken::new();
        let (running, ended) = (link.clone(), drain.clone());
        let task = tokio::spawn(async move { running.run(ended).await });
        Node { hub, link, drain, task }
    }
}

/// One node.
pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) link: Link,
    pub(crate) drain: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Node {
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.link.local_addr().expect("an address")
    }

    /// Pulls the class from another node until something ends that.
    pub(crate) fn pull(&self, from: &Self) -> JoinHandle<link::PullEnd> {
        let (link, node, address) = (self.link.clone(), from.link.node().to_owned(), from.address());
        tokio::spawn(async move {
            match link.pull("room101", &node, address).await {
                Ok(mut pulled) => pulled.run().await,
                Err(end) => end,
            }
        })
    }

    /// Subscribes once the stream is there.
    pub(crate) async fn watch(&self) -> Subscription {
        let mut changes = self.hub.changes();
        let wait = async {
            loop {
                if let Some(subscription) = self.hub.subscribe("room101") {
                    return subscription;
                }
                changes.next().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the stream comes")
    }
}

pub(crate) fn tracks() -> Tracks {
    let config = VideoConfig::parse(&SPS, &[PPS]).expect("parameter sets");
    Tracks { video: Some(Arc::new(config)), audio: true }
}

/// Picture `index` of a lesson at 30 a second with a keyframe each second. No two have the same bytes.
pub(crate) fn picture(index: u32) -> Frame {
    let keyframe = index.is_multiple_of(30);
    let len = if keyframe { 40_000 } else { 6_000 };
    let nal = |kind: u8, len: usize| {
        let mut nal = vec![kind; len];
        nal[1..5].copy_from_slice(&index.to_be_bytes());
        Bytes::from(nal)
    };
    let kind = if keyframe { 0x65 } else { 0x41 };
    Frame::Video(VideoFrame {
        time: MediaTime::from_micros(i64::from(index) * 33_333),
        keyframe,
        recovery_point: false,
        config: tracks().video.expect("it has a picture"),
        nals: Arc::from([nal(kind, len), nal(kind, 100)]),
        arrival: Instant::now(),
    })
}

/// Packet `index` of its sound.
pub(crate) fn sound(index: u32) -> Frame {
    let mut packet = vec![0xf8; 120];
    packet[1..5].copy_from_slice(&index.to_be_bytes());
    let time = MediaTime::from_millis(i64::from(index) * 20);
    Frame::Audio(AudioFrame { time, packet: packet.into(), arrival: Instant::now() })
}

/// What can be compared of a frame.
pub(crate) fn content(item: &StreamFrame) -> (hub::Place, MediaTime, bool, Vec<Bytes>) {
    let bytes = match &item.frame {
        Frame::Video(video) => video.nals.to_vec(),
        Frame::Audio(audio) => vec![audio.packet.clone()],
    };
    (item.place, item.epoch_time, item.frame.is_keyframe(), bytes)
}

/// The next frames of both tracks together.
pub(crate) async fn frames(subscription: &mut Subscription, count: usize) -> Vec<StreamFrame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
        let next = next.unwrap_or_else(|_| panic!("only {} of {count} frames", frames.len()));
        if let Update::Frame(frame) = next.expect("the stream lives") {
            frames.push((*frame).clone());
        }
    }
    frames
}

pub(crate) fn of(frames: &[StreamFrame], track: Track) -> Vec<StreamFrame> {
    frames.iter().filter(|frame| frame.frame.track() == track).cloned().collect()
}
