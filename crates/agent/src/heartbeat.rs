//! What a node tells every coordinator: once a second, and whenever a stream changes.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

use control::api::{Heartbeat, HeartbeatAnswer, LinkAddress};
use control::{Client, TokenVerifier};
use hub::Hub;
use process::drain::Draining;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::beat::{Beat, Reach, obey, reports};
use crate::load::{Audience, Gauges, Meter};
use crate::pulls::Pulls;
use crate::sweep::report_ended;

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
    /// Who is told which tokens are revoked.
    pub verifier: TokenVerifier,
    /// The node's name.
    pub node: String,
    /// The port of its WHEP server.
    pub whep_port: u16,
    /// Those of RTMP and RTMPS.
    pub rtmp_port: Option<u16>,
    /// The second of them.
    pub rtmps_port: Option<u16>,
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
    /// The version of the revocations that it has sent.
    revocations: u64,
    meter: Meter,
    beat: Beat,
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
        let (mut is_warned, mut changes) = (false, self.hub.changes());
        let mut standing = self.draining.subscribe();
        let meter = Meter::new(self.capacity_bps);
        let mut beats = Beats { coordinator: String::new(), revocations: 0, meter, beat: Beat::default() };
        while !drain.is_cancelled() {
            let heartbeat = self.heartbeat(&mut beats, &life);
            beats.beat.on_sent();
            let answer = control.heartbeat(&heartbeat).await;
            match beats.beat.on_outcome(Instant::now(), answer.is_ok()) {
                Some(Reach::Found) => _ = life.coordinators.fetch_add(1, Relaxed),
                Some(Reach::Lost) => _ = life.coordinators.fetch_sub(1, Relaxed),
                None => {}
            }
            match answer {
                Ok(answer) => {
                    if std::mem::take(&mut is_warned) {
                        tracing::info!(coordinator = control.current(), "heartbeat succeeds again");
                    }
                    self.on_answer(&mut beats, &answer);
                }
                Err(error) if !std::mem::replace(&mut is_warned, true) => {
                    tracing::warn!(%error, coordinator = control.current(), "heartbeat failed; repeated until it succeeds");
                }
                Err(_) => {}
            }
            while let Some(due) = beats.beat.due(&self.hub)
                && due > Instant::now()
            {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = changes.next() => beats.beat.on_change(),
                    Ok(()) = standing.changed() => beats.beat.on_change(),
                    () = drain.cancelled() => return,
                }
            }
        }
    }

    fn on_answer(&self, beats: &mut Beats, answer: &HeartbeatAnswer) {
        if beats.coordinator != answer.coordinator {
            let former = std::mem::replace(&mut beats.coordinator, answer.coordinator.clone());
            self.gauges.forget(&self.node, &former);
        }
        if let Some(revocations) = &answer.revocations {
            self.verifier.revoke(revocations, SystemTime::now());
            beats.revocations = answer.revocations_version;
        }
        answer.revoked_keys.iter().for_each(|key| self.hub.revoke(key));
        for class in obey(&self.hub, answer) {
            self.pulls.iter().for_each(|pulls| pulls.on_superseded(&class));
        }
    }

    fn heartbeat(&self, beats: &mut Beats, life: &Life) -> Heartbeat {
        let playbacks = self.audience.playbacks();
        let streams = reports(&self.hub, |class| {
            (self.audience.viewers(class), playbacks.get(class).copied().unwrap_or_default())
        });
        let joins_seen = self.audience.joins_by(&beats.coordinator);
        let rates = streams.iter().map(|stream| (stream.viewers, stream.bitrate_bps));
        let load = beats.meter.measure(self.audience.sent(), joins_seen, rates);
        let seq = life.seq.fetch_add(1, Relaxed);
        self.gauges.show(&self.node, seq, &beats.coordinator, &load);
        Heartbeat {
            node: self.node.clone(),
            boot: life.boot,
            seq,
            coordinator: beats.coordinator.clone(),
            started_at_ms: self.started_at_ms,
            is_draining: self.draining.is_on(),
            coordinators: life.coordinators.load(Relaxed).max(1),
            region: self.region.clone(),
            load,
            // The coordinator knows it from the credential.
            public_url: None,
            whep_port: self.whep_port,
            rtmp_port: self.rtmp_port,
            rtmps_port: self.rtmps_port,
            link: self.link,
            metrics: Some(self.metrics),
            revocations: beats.revocations,
            streams,
        }
    }
}
