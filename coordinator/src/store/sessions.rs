//! `stream_sessions` and `viewer_sessions`.
use control::api::{PublishRequest, SessionEvent, StreamReport, StreamState};
use sqlx::{AnyConnection, Row};

use super::viewers::Changes;
use super::{Class, Store, StoreError, clamp, without_zero};
use crate::secret;

/// Why a session ended, as the record keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// Its node fell silent. A node that comes back in the same life takes this back.
    NodeLost,
    /// Its node began a new life.
    NodeRestarted,
    /// Another publisher took the class over.
    Superseded,
    /// Its node says that it does not have it.
    Unreported,
    /// Its node reported its end.
    Ended,
}

impl EndReason {
    /// The code in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NodeLost => "node_lost",
            Self::NodeRestarted => "node_restarted",
            Self::Superseded => "superseded",
            Self::Unreported => "unreported",
            Self::Ended => "ended",
        }
    }
}

/// A publisher that was let in.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Its own number.
    pub session: String,
    /// What it publishes.
    pub class_id: String,
    /// The node that it speaks to.
    pub node: String,
    /// Where it comes from.
    pub peer_ip: String,
    /// What it calls itself.
    pub encoder: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The least epoch that it may have, or the one that it has if it was given one already.
    pub epoch: Epoch,
}

/// The number of a publisher among those of its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// The next one, which is greater than this.
    After(u64),
    /// This one, given while the database was away.
    Given(u64),
}

impl Opening {
    /// A session for whoever asks.
    pub(crate) fn new(class: &Class, request: &PublishRequest, epoch: Epoch, at_ms: i64) -> Self {
        Self {
            session: secret::random_id(),
            class_id: class.id.clone(),
            node: request.node.clone(),
            peer_ip: request.peer_ip.clone(),
            encoder: request.encoder.clone(),
            at_ms,
            epoch,
        }
    }
}

/// What `stream_epochs` has of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRow {
    /// The newest epoch.
    pub epoch: u64,
    /// Whose it is.
    pub session: String,
}

impl EpochRow {
    /// The row after an opening, by the rule of the statement in `next_epoch`: for whoever has no database at hand.
    pub fn after(row: Option<Self>, opening: &Opening) -> Self {
        let (floor, given) = opening.epoch.parts();
        match row {
            None => Self { epoch: floor + 1, session: opening.session.clone() },
            Some(row) if given > 0 && given <= row.epoch => row,
            Some(row) if row.session == opening.session => row,
            Some(row) => Self { epoch: floor.max(row.epoch) + 1, session: opening.session.clone() },
        }
    }
}

impl Epoch {
    /// What it must be greater than, and what it is if it was given; else 0.
    fn parts(self) -> (u64, u64) {
        match self {
            Self::After(floor) => (floor, 0),
            Self::Given(given) => (given.saturating_sub(1), given),
        }
    }
}

impl Store {
    /// Opens the session of a publisher, and says which epoch it has; the one it takes over from is over. May be repeated.
    pub(crate) async fn open_stream(&self, opening: &Opening) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // First: it lets one publisher of a class begin at a time, who then sees the one before.
        let epoch = next_epoch(&mut transaction, opening).await?;
        // Only what is older: a session may be written down late, when its successor is already there.
        let query =
            "UPDATE stream_sessions SET status = 'stopped', ended_at = $1, updated_at = $1, end_reason = $2
            WHERE class_id = $3 AND ended_at IS NULL AND created_at <= $1 AND session_id <> $4";
        let query = sqlx::query(query).bind(opening.at_ms).bind(EndReason::Superseded.as_str());
        query.bind(&opening.class_id).bind(&opening.session).execute(&mut *transaction).await?;
        let query = "INSERT INTO stream_sessions
            (session_id, class_id, node_id, kind, status, publisher_ip, encoder, created_at, updated_at)
            VALUES ($1, $2, $3, 'rtmp', 'starting', $4, $5, $6, $6) ON CONFLICT (session_id) DO NOTHING";
        let query = sqlx::query(query).bind(&opening.session).bind(&opening.class_id).bind(&opening.node);
        let query = query.bind(without_zero(&opening.peer_ip)).bind(without_zero(&opening.encoder));
        query.bind(opening.at_ms).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(epoch)
    }

    /// Writes down what a node says of its streams, all of it or nothing.
    pub(crate) async fn update_streams(
        &self,
        reports: &[&StreamReport],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for report in reports {
            let status = match report.state {
                StreamState::Starting => "starting",
                StreamState::Active => "active",
                StreamState::Grace => "stopping",
            };
            let problem = report.problems.first().map(|problem| without_zero(&problem.text));
            let query =
                "UPDATE stream_sessions SET status = $1, updated_at = $2, ended_at = NULL, end_reason = NULL,
                video_codec = $3, audio_codec = $4, width = $5, height = $6, error_message = $7
                WHERE session_id = $8 AND (ended_at IS NULL OR end_reason IN ($9, $10, $11))";
            let query = sqlx::query(query).bind(status).bind(now_ms);
            let query =
                query.bind(report.has_video.then_some("h264")).bind(report.has_audio.then_some("opus"));
            let query = query.bind(i64::from(report.width)).bind(i64::from(report.height)).bind(problem);
            // What only looked like an end: its node has it.
            let seeming = [EndReason::NodeLost, EndReason::NodeRestarted, EndReason::Unreported];
            let query =
                seeming.iter().fold(query.bind(&report.session), |query, end| query.bind(end.as_str()));
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Ends every session of a node that began before a time.
    pub(crate) async fn end_node(
        &self,
        node: &str,
        before_ms: i64,
        reason: EndReason,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for query in [
            "UPDATE viewer_sessions SET disconnected_at = $1, reason = $2
            WHERE node_id = $3 AND disconnected_at IS NULL AND joined_at < $4",
            "UPDATE stream_sessions SET status = 'stopped', ended_at = $1, updated_at = $1, end_reason = $2
            WHERE node_id = $3 AND ended_at IS NULL AND created_at < $4",
        ] {
            let query = sqlx::query(query).bind(now_ms).bind(reason.as_str()).bind(node).bind(before_ms);
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The sessions of a node's publishers that began before a time and are not over.
    pub(crate) async fn open_streams(&self, node: &str, before_ms: i64) -> Result<Vec<String>, StoreError> {
        let query = "SELECT session_id FROM stream_sessions
            WHERE node_id = $1 AND ended_at IS NULL AND created_at < $2";
        let rows = sqlx::query(query).bind(node).bind(before_ms).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Ends the session of one publisher.
    pub(crate) async fn end_stream(
        &self,
        session: &str,
        reason: EndReason,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let query = "UPDATE stream_sessions SET status = 'stopped', ended_at = $1, updated_at = $1,
            end_reason = $2 WHERE session_id = $3 AND ended_at IS NULL";
        sqlx::query(query).bind(now_ms).bind(reason.as_str()).bind(session).execute(&self.pool).await?;
        Ok(())
    }

    /// Writes down what happened to viewers and streams. Returns how many viewers joined streams that it knows nothing of.
    pub async fn record(&self, events: &[SessionEvent]) -> Result<u64, StoreError> {
        let mut changes = Changes::default();
        events.iter().for_each(|event| changes.add(event));
        let mut transaction = self.pool.begin().await?;
        let unknown = changes.write(&mut transaction).await?;
        for event in events {
            if let SessionEvent::StreamEnded { session, at_ms } = event {
                let query = "UPDATE stream_sessions SET status = 'stopped', ended_at = $1, updated_at = $1,
                    end_reason = $2 WHERE session_id = $3 AND ended_at IS NULL";
                let query = sqlx::query(query).bind(clamp(*at_ms)).bind(EndReason::Ended.as_str());
                query.bind(session).execute(&mut *transaction).await?;
            }
        }
        transaction.commit().await?;
        Ok(unknown)
    }

    /// The nodes that have sessions which are not over.
    pub async fn nodes_with_sessions(&self) -> Result<Vec<String>, StoreError> {
        let query = "SELECT DISTINCT node_id FROM stream_sessions WHERE ended_at IS NULL
            UNION SELECT DISTINCT node_id FROM viewer_sessions WHERE disconnected_at IS NULL";
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// How many sessions there are by status: of publishers `starting`, `active`, `stopping` and `stopped`, of viewers
    /// `watching` and `left`.
    pub async fn session_counts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let query = "SELECT status, COUNT(*) FROM stream_sessions GROUP BY status
            UNION ALL SELECT CASE WHEN disconnected_at IS NULL THEN 'watching' ELSE 'left' END, COUNT(*)
            FROM viewer_sessions GROUP BY 1 ORDER BY 1";
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// Two publishers never get the same, whichever coordinators they ask: the row is changed and read in one statement.
async fn next_epoch(connection: &mut AnyConnection, opening: &Opening) -> Result<u64, StoreError> {
    let (floor, given) = opening.epoch.parts();
    let query = "INSERT INTO stream_epochs (class_id, epoch, session_id) VALUES ($1, $2 + 1, $3)
        ON CONFLICT (class_id) DO UPDATE SET session_id = CASE
            WHEN $4 > 0 AND $4 <= stream_epochs.epoch THEN stream_epochs.session_id ELSE $3 END,
        epoch = CASE
            WHEN stream_epochs.session_id = $3 OR ($4 > 0 AND $4 <= stream_epochs.epoch) THEN stream_epochs.epoch
            WHEN $2 > stream_epochs.epoch THEN $2 + 1
            ELSE stream_epochs.epoch + 1 END
        RETURNING epoch";
    let query = sqlx::query_scalar::<_, i64>(query).bind(&opening.class_id).bind(clamp(floor));
    let epoch = query.bind(&opening.session).bind(clamp(given)).fetch_one(connection).await?;
    Ok(u64::try_from(epoch).unwrap_or(0))
}
