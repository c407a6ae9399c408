//! What a node tells every coordinator: once a second, and whenever a stream changes.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use control::Client;
use control::api::{
    Heartbeat, HeartbeatAnswer, LinkAddress, StreamProblem, StreamReport, StreamState, Superseded,
};
use hub::{Hub, State, Status};
use media::Tracks;
use process::drain::Draining;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::load::{Audience, Gauges, Meter};
use crate::pulls::Pulls;
use crate::sweep::report_ended;

/// How often a node reports when nothing changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often while somebody watches a lesson whose publisher is gone.
const INTERVAL_WAITING: Duration = Duration::from_millis(200);
/// The least time between two reports when much changes.
const PAUSE: Duration = Duration::from_millis(50);

/// Who reports.
pub struct Reporter<A> {
    /// Whose streams.
    pub hub: Hub,
    /// Who watches here.
    pub audience: A,
    /// What the node can send, bits a second.
    pub capacity_bps: u64,
    /// Where it is.
    pub region: String,
    /// The figures that it reports, for whoever scrapes.
    pub gauges: Gauges,
    /// To whom.
    pub control: Client,
    /// The node's name.
    pub node: String,
    /// The port of its WHEP server.
    pub whep_port: u16,
    /// Where other nodes pull streams from it.
    pub link: Option<LinkAddress>,
    /// Where its metrics are.
    pub metrics: SocketAddr,
    /// When its process began.
    pub started_at_ms: u64,
    /// Whether the node takes no new viewers.
    pub draining: Draining,
    /// What gets streams from other nodes.
    pub pulls: Option<Pulls>,
}

/// What the heartbeats to all coordinators have in common.
#[derive(Debug)]
struct Life {
    boot: u64,
    seq: AtomicU64,
    /// How many coordinators answer.
    coordinators: AtomicU32,
}

/// What changes from one heartbeat to the next, of those to one coordinator.
struct Beats {
    /// The life of the coordinator, as it said last.
    coordinator: String,
    meter: Meter,
}

impl<A: Audience> Reporter<A> {
    /// Reports to every coordinator until drained, and then that every stream has ended.
    pub async fn run(self, drain: CancellationToken) -> Result<(), Infallible> {
        let life = Life { boot: rand::random(), seq: AtomicU64::new(1), coordinators: AtomicU32::new(0) };
        self.gauges.begin(&self.node, self.started_at_ms);
        let (reporter, life) = (Arc::new(self), Arc::new(life));
        let mut tasks = JoinSet::new();
        for coordinator in reporter.control.each() {
            tasks.spawn(Arc::clone(&reporter).report(coordinator, Arc::clone(&life), drain.clone()));
        }
        tasks.join_all().await;
        report_ended(&reporter.control, &reporter.hub.statuses()).await;
        Ok(())
    }

    /// Reports to one of them until drained.
    async fn report(self: Arc<Self>, control: Client, life: Arc<Life>, drain: CancellationToken) {
        let (mut is_reachable, mut is_warned, mut changes) = (false, false, self.hub.changes());
        let mut standing = self.draining.subscribe();
        let mut beats = Beats { coordinator: String::new(), meter: Meter::new(self.capacity_bps) };
        while !drain.is_cancelled() {
            let heartbeat = self.heartbeat(&mut beats, &life);
            match control.heartbeat(&heartbeat).await {
                Ok(answer) => {
                    if !std::mem::replace(&mut is_reachable, true) {
                        life.coordinators.fetch_add(1, Relaxed);
                    }
                    if std::mem::take(&mut is_warned) {
                        tracing::info!("heartbeat succeeds again");
                    }
                    self.on_answer(&mut beats, answer);
                }
                Err(error) => {
                    if std::mem::take(&mut is_reachable) {
                        life.coordinators.fetch_sub(1, Relaxed);
                    }
                    if !std::mem::replace(&mut is_warned, true) {
                        tracing::warn!(%error, "heartbeat failed; repeated until it succeeds");
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(self.interval()) => {}
                () = changes.next() => {}
                Ok(()) = standing.changed() => {}
                () = drain.cancelled() => {}
            }
        }
    }

    /// Who watches a lesson whose teacher is gone waits for a word of where he is.
    fn interval(&self) -> Duration {
        let is_waited_for = |status: &Status| status.state == State::Grace && status.subscribers > 0;
        if self.hub.statuses().iter().any(is_waited_for) { INTERVAL_WAITING } else { INTERVAL }
    }

    fn on_answer(&self, beats: &mut Beats, answer: HeartbeatAnswer) {
        if beats.coordinator != answer.coordinator {
            let former = std::mem::replace(&mut beats.coordinator, answer.coordinator);
            self.gauges.forget(&self.node, &former);
        }
        for Superseded { class, epoch } in &answer.superseded {
            self.hub.supersede(class, *epoch);
            let is_watched = self.hub.status(class).is_some_and(|status| status.subscribers > 0);
            if let Some(pulls) = self.pulls.as_ref().filter(|_| is_watched) {
                pulls.want(class);
            }
        }
    }

    fn heartbeat(&self, beats: &mut Beats, life: &Life) -> Heartbeat {
        let statuses = self.hub.statuses().into_iter();
        let streams: Vec<StreamReport> = statuses.map(|status| self.stream(status)).collect();
        let joins_seen = self.audience.joins_by(&beats.coordinator);
        let rates = streams.iter().map(|stream| (stream.viewers, stream.bitrate_bps));
        let load = beats.meter.measure(self.audience.sent(), joins_seen, rates);
        let seq = life.seq.fetch_add(1, Relaxed);
        self.gauges.show(&self.node, seq, &beats.coordinator, &load);
        Heartbeat {
            node: self.node.clone(),
            boot: life.boot,
            seq,
            started_at_ms: self.started_at_ms,
            is_draining: self.draining.is_on(),
            coordinators: life.coordinators.load(Relaxed).max(1),
            region: self.region.clone(),
            load,
            // The coordinator knows it from the credential.
            public_url: None,
            whep_port: self.whep_port,
            link: self.link,
            metrics: Some(self.metrics),
            streams,
        }
    }

    fn stream(&self, status: Status) -> StreamReport {
        let problems = status.problems.into_iter();
        // Until the publisher's own are known, they are those of the one before.
        let tracks = if status.state == State::Starting { Tracks::default() } else { status.tracks };
        StreamReport {
            viewers: self.audience.viewers(&status.name),
            class: status.name,
            session: status.session,
            epoch: status.epoch,
            is_relayed: status.is_relayed,
            state: match status.state {
                State::Starting => StreamState::Starting,
                State::Active => StreamState::Active,
                State::Grace => StreamState::Grace,
            },
            has_video: tracks.video.is_some(),
            has_audio: tracks.audio,
            width: tracks.video.as_ref().map_or(0, |video| video.width),
            height: tracks.video.as_ref().map_or(0, |video| video.height),
            bitrate_bps: status.bitrate_bps,
            problems: problems
                .map(|problem| StreamProblem { code: problem.code.to_owned(), text: problem.text })
                .collect(),
        }
    }
}
