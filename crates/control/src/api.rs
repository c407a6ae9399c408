//! What nodes and the coordinator say to each other.
mod playback;

use std::net::{IpAddr, SocketAddr};

pub use self::playback::Playback;

use serde::{Deserialize, Serialize};

use crate::token::Revocation;

/// `POST /internal/v1/join`, with the secret that nodes join with: a machine wants to be a node.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct JoinRequest {
    /// What it is to be called.
    pub name: String,
    /// Where browsers reach its WHEP server, if not at the address from which it comes.
    pub public_url: Option<String>,
    /// A certificate signing request (PKCS #10, PEM) for its key.
    pub certificate_request: String,
}

/// The answer.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct JoinAnswer {
    /// What it proves itself with from now on.
    pub credential: String,
    /// Its certificate towards other nodes, PEM.
    pub certificate: String,
    /// Whom it believes that others are nodes, PEM.
    pub authority: String,
}

/// `POST /internal/v1/publish/authorize`: somebody wants to publish.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct PublishRequest {
    /// The node that asks.
    pub node: String,
    /// The class that the publisher named, if it did.
    pub name: Option<String>,
    /// The stream key.
    pub key: String,
    /// Where the publisher comes from.
    pub peer_ip: String,
    /// What its encoder calls itself.
    pub encoder: String,
}

/// The answer: what it may publish.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct PublishGrant {
    /// The class's name in addresses.
    pub class: String,
    /// The session that was opened for it in `stream_sessions`.
    pub session: String,
    /// Its number among the publishers of this class: greater than those of all before.
    pub epoch: u64,
    /// The id of the stream key that it has.
    #[serde(default)]
    pub key: String,
}

/// `POST /internal/v1/admit`: somebody wants to watch and has no token.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct AdmitRequest {
    /// The class, as the address names it.
    pub class: String,
    /// Where the viewer comes from, as far as is known.
    pub client_ip: IpAddr,
    /// Whether that is its own address and not that of a proxy on the way.
    pub is_direct: bool,
    /// `http` or `https`, by which it reached the node.
    pub scheme: String,
    /// By what name it reached the node.
    pub host: Option<String>,
    /// The page that it comes from.
    pub origin: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "admission", rename_all = "snake_case")]
pub enum Admission {
    /// It may watch.
    Open,
    /// It needs a token, as everybody does who is not let in.
    TokenNeeded,
    /// It would be let in, but there is no such class.
    NoClass,
}

/// `POST /internal/v1/source`: a node has viewers of a class whose stream it does not have.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct SourceRequest {
    /// The node that asks.
    pub node: String,
    /// The class.
    pub class: String,
    /// The node that it could not pull the stream from just now.
    #[serde(default)]
    pub failed: Option<String>,
}

/// The answer: where to pull the stream from.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Source {
    /// The node that has it.
    pub node: String,
    /// Where that node is; that machine of the coordinator if nothing is said.
    pub host: Option<IpAddr>,
    /// The UDP port of its link.
    pub port: u16,
    /// The number of the stream's publisher.
    pub epoch: u64,
    /// Whether that publisher is there now.
    #[serde(default)]
    pub is_live: bool,
    /// The same, or it is about to be: nothing can be pulled yet.
    #[serde(default)]
    pub is_published: bool,
}

/// `POST /internal/v1/places`: a node that is about to end asks where its viewers are to go.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct PlacesRequest {
    /// The node that asks.
    pub node: String,
    /// Some of its viewers, [`Self::VIEWERS_MAX`] at most.
    pub viewers: Vec<MovingViewer>,
}

impl PlacesRequest {
    /// Viewers of one request.
    pub const VIEWERS_MAX: usize = 128;
}

/// A viewer that has to go to another node.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct MovingViewer {
    /// What it watches.
    pub class: String,
    /// Who it is.
    pub user_id: String,
    /// `http` or `https`, by which it reached its node.
    pub scheme: String,
    /// By what host it did.
    pub host: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Places {
    /// For each of them the WHEP endpoint to go to, if there is one.
    pub urls: Vec<Option<String>>,
}

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// A publisher is there, its tracks are not known.
    Starting,
    /// Frames flow.
    Active,
    /// The publisher is gone; the stream waits for it.
    Grace,
}

/// Something that the teacher should know.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct StreamProblem {
    /// A name for programs.
    pub code: String,
    /// A sentence for people.
    pub text: String,
}

/// One stream of a node.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct StreamReport {
    /// The class.
    pub class: String,
    /// The session of its publisher.
    pub session: String,
    /// The number of its publisher.
    pub epoch: u64,
    /// The id of the stream key that its publisher was let in with, as the grant says it. Nothing if the node has it from another one.
    #[serde(default)]
    pub key: String,
    /// Whether the node has it from another one.
    pub is_relayed: bool,
    /// Where it is in its life.
    pub state: StreamState,
    /// For how long, milliseconds.
    #[serde(default)]
    pub since_ms: u64,
    /// In [`StreamState::Grace`]: its publisher said that the lesson is over.
    #[serde(default)]
    pub is_ended: bool,
    /// Viewers on this node.
    pub viewers: u32,
    /// What their players say.
    #[serde(default)]
    pub playback: Playback,
    /// Whether it has a picture.
    pub has_video: bool,
    /// Whether it has sound.
    pub has_audio: bool,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Coded media, bits a second.
    pub bitrate_bps: u64,
    /// What is wrong.
    pub problems: Vec<StreamProblem>,
}

impl StreamReport {
    /// What a stream counts for while its rate is not known, bits a second: 720p of a phone with audio.
    pub const RATE_USUAL_BPS: u64 = 2_650_000;
}

/// Where a node's link is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct LinkAddress {
    /// Where it comes from if nothing is said.
    pub host: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
}

/// What a node can carry and what it carries. Its `/metrics` shows the same.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct NodeLoad {
    /// What it can send, bits a second.
    pub capacity_bps: u64,
    /// What its viewers take: each counts with the rate of its stream from the moment it joins.
    pub load_bps: u64,
    /// What it sends.
    pub egress_bps: u64,
    /// Viewers of all classes.
    pub viewers: u32,
    /// The share of its processor that it uses, 0 to 1.
    pub cpu: f64,
    /// The share of packets that its own socket did not take, 0 to 1.
    pub loss: f64,
    /// Viewers with a token of the coordinator that hears this who have joined since the node began.
    pub joins_seen: u64,
}

/// `POST /internal/v1/heartbeat`: once a second, and when a stream changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Heartbeat {
    /// The node's name.
    pub node: String,
    /// Another number for each life of its process.
    pub boot: u64,
    /// Rises with each heartbeat of that life: what comes late or twice is refused.
    pub seq: u64,
    /// The life of the coordinator that it is meant for, as that said in its last answer. One that has just begun knows by it what
    /// was recorded before.
    #[serde(default)]
    pub coordinator: String,
    /// When its process began, in milliseconds since 1970, for the records.
    pub started_at_ms: u64,
    /// Whether it takes no new viewers.
    pub is_draining: bool,
    /// How many coordinators have answered it lately: they hand out joins beside each other.
    pub coordinators: u32,
    /// Where it is, for viewers who are to stay there.
    pub region: String,
    /// What it carries.
    pub load: NodeLoad,
    /// Where browsers reach its WHEP server, if that cannot be derived from the address they already use.
    pub public_url: Option<String>,
    /// The port of its WHEP server.
    pub whep_port: u16,
    /// Those of RTMP and RTMPS, where it has them.
    #[serde(default)]
    pub rtmp_port: Option<u16>,
    /// The second of them.
    #[serde(default)]
    pub rtmps_port: Option<u16>,
    /// Where other nodes pull streams from it, if they can.
    pub link: Option<LinkAddress>,
    /// Where its `/metrics` listens, as it sees that itself.
    pub metrics: Option<SocketAddr>,
    /// The version of the revocations that it has from this coordinator; 0 if it has none.
    #[serde(default)]
    pub revocations: u64,
    /// Its streams.
    pub streams: Vec<StreamReport>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// The life of the coordinator that answers: its tokens carry it. A heartbeat that is meant for another one has changed nothing.
    #[serde(default)]
    pub coordinator: String,
    /// Streams of this node whose publisher is not the newest any more: that one is at another node.
    #[serde(default)]
    pub superseded: Vec<Superseded>,
    /// Of the stream keys that publishers of this node have, those that are revoked, by their ids.
    #[serde(default)]
    pub revoked_keys: Vec<String>,
    /// The version of what this coordinator knows to be revoked, whichever number that is.
    #[serde(default)]
    pub revocations_version: u64,
    /// All of it, if the node has another version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<Vec<Revocation>>,
}

/// A class that somebody publishes elsewhere by now.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Superseded {
    /// The class.
    pub class: String,
    /// The number of its newest publisher.
    pub epoch: u64,
}

/// `POST /internal/v1/sessions`: what happened to viewers and streams.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SessionEvent {
    /// A viewer was answered.
    ViewerJoined {
        /// The viewer session.
        id: String,
        /// The node.
        node: String,
        /// The session of the stream it watches.
        stream_session: String,
        /// Who.
        user_id: String,
        /// As what.
        user_type: String,
        /// Its browser.
        user_agent: String,
        /// Where it comes from.
        ip_address: String,
        /// Milliseconds since 1970.
        at_ms: u64,
    },
    /// Its media flows.
    ViewerConnected {
        /// The viewer session.
        id: String,
        /// Milliseconds since 1970.
        at_ms: u64,
    },
    /// It is gone.
    ViewerLeft {
        /// The viewer session.
        id: String,
        /// Milliseconds since 1970.
        at_ms: u64,
        /// Why, in a word.
        reason: String,
        /// RTP payload it was sent.
        bytes: u64,
        /// RTP packets it was sent.
        packets: u64,
        /// RTP packets it missed.
        lost: u64,
    },
    /// A stream's grace period is over.
    StreamEnded {
        /// The stream session.
        session: String,
        /// Milliseconds since 1970.
        at_ms: u64,
    },
}
