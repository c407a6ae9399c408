//! What a node tells the coordinator: once a second, and whenever a stream changes.
use std::convert::Infallible;
use std::time::Duration;

use control::Client;
use control::api::{Heartbeat, StreamProblem, StreamReport, StreamState};
use hub::{Hub, State, Status};
use media::Tracks;
use tokio_util::sync::CancellationToken;
use whep_node::Audience;

use crate::sweep::report_ended;

/// How often a node reports when nothing changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// The least time between two reports when much changes.
const PAUSE: Duration = Duration::from_millis(50);

/// Who reports.
pub(crate) struct Reporter {
    pub(crate) hub: Hub,
    pub(crate) audience: Audience,
    pub(crate) control: Client,
    pub(crate) node: String,
    pub(crate) public_url: Option<String>,
    pub(crate) whep_port: u16,
    pub(crate) started_at_ms: u64,
}

impl Reporter {
    /// Reports until drained, and then that every stream has ended.
    pub(crate) async fn run(self, drain: CancellationToken) -> Result<(), Infallible> {
        let (mut is_reachable, mut changes) = (true, self.hub.changes());
        while !drain.is_cancelled() {
            match self.control.heartbeat(&self.heartbeat()).await {
                Ok(()) if is_reachable => {}
                Ok(()) => {
                    is_reachable = true;
                    tracing::info!("heartbeat succeeds again");
                }
                Err(error) if is_reachable => {
                    is_reachable = false;
                    tracing::warn!(%error, "heartbeat failed; repeated until it succeeds");
                }
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = changes.next() => {}
                () = drain.cancelled() => {}
            }
        }
        report_ended(&self.control, &self.hub.statuses()).await;
        Ok(())
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            node: self.node.clone(),
            started_at_ms: self.started_at_ms,
            public_url: self.public_url.clone(),
            whep_port: self.whep_port,
            streams: self.hub.statuses().into_iter().map(|status| self.stream(status)).collect(),
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
