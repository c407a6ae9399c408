//! What a node tells the coordinator: once a second, and whenever a stream changes.
use std::convert::Infallible;
use std::time::Duration;

use control::Client;
use control::api::{
    Heartbeat, HeartbeatAnswer, LinkAddress, StreamProblem, StreamReport, StreamState, Superseded,
};
use hub::{Hub, State, Status};
use media::Tracks;
use tokio_util::sync::CancellationToken;

use crate::pulls::Pulls;
use crate::sweep::report_ended;

/// How often a node reports when nothing changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often while somebody watches a lesson whose publisher is gone.
const INTERVAL_WAITING: Duration = Duration::from_millis(200);
/// The least time between two reports when much changes.
const PAUSE: Duration = Duration::from_millis(50);

/// Who reports.
pub struct Reporter<V> {
    /// Whose streams.
    pub hub: Hub,
    /// How many watch a class here.
    pub viewers: V,
    /// To whom.
    pub control: Client,
    /// The node's name.
    pub node: String,
    /// The port of its WHEP server.
    pub whep_port: u16,
    /// Where other nodes pull streams from it.
    pub link: Option<LinkAddress>,
    /// When its process began.
    pub started_at_ms: u64,
    /// What gets streams from other nodes.
    pub pulls: Option<Pulls>,
}

impl<V: Fn(&str) -> u32> Reporter<V> {
    /// Reports until drained, and then that every stream has ended.
    pub async fn run(self, drain: CancellationToken) -> Result<(), Infallible> {
        let (mut is_reachable, mut changes) = (true, self.hub.changes());
        while !drain.is_cancelled() {
            match self.control.heartbeat(&self.heartbeat()).await {
                Ok(answer) => {
                    if !is_reachable {
                        is_reachable = true;
                        tracing::info!("heartbeat succeeds again");
                    }
                    self.on_answer(&answer);
                }
                Err(error) if is_reachable => {
                    is_reachable = false;
                    tracing::warn!(%error, "heartbeat failed; repeated until it succeeds");
                }
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(self.interval()) => {}
                () = changes.next() => {}
                () = drain.cancelled() => {}
            }
        }
        let statuses = self.hub.statuses();
        report_ended(&self.control, &statuses).await;
        Ok(())
    }

    /// Who watches a lesson whose teacher is gone waits for a word of where he is.
    fn interval(&self) -> Duration {
        let is_waited_for = |status: &Status| status.state == State::Grace && status.subscribers > 0;
        if self.hub.statuses().iter().any(is_waited_for) { INTERVAL_WAITING } else { INTERVAL }
    }

    fn on_answer(&self, answer: &HeartbeatAnswer) {
        for Superseded { class, epoch } in &answer.superseded {
            self.hub.supersede(class, *epoch);
            let is_watched = self.hub.status(class).is_some_and(|status| status.subscribers > 0);
            if let Some(pulls) = self.pulls.as_ref().filter(|_| is_watched) {
                pulls.want(class);
            }
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            node: self.node.clone(),
            started_at_ms: self.started_at_ms,
            // The coordinator knows it from the credential.
            public_url: None,
            whep_port: self.whep_port,
            link: self.link,
            streams: self.hub.statuses().into_iter().map(|status| self.stream(status)).collect(),
        }
    }

    fn stream(&self, status: Status) -> StreamReport {
        let problems = status.problems.into_iter();
        // Until the publisher's own are known, they are those of the one before.
        let tracks = if status.state == State::Starting { Tracks::default() } else { status.tracks };
        StreamReport {
            viewers: (self.viewers)(&status.name),
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
