//! `viewer_sessions`: a lesson begins with everybody at once, so that many rows go into one statement.
use std::collections::HashMap;

use control::api::SessionEvent;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::{StoreError, without_zero};

/// Rows of one statement at most, a power of two: 14 values each, and PostgreSQL takes 65,535, SQLite 32,766.
const ROWS_MAX: usize = 64;

/// What is written into one column.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
}

/// Changes of many viewers' sessions, by their kind. Of one viewer they come in their order: who has not joined before
/// cannot be connected.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    joined: Vec<[Value; 14]>,
    /// Where in `joined` a viewer is.
    places: HashMap<&'a str, usize>,
    connected: Vec<[Value; 2]>,
    left: Vec<[Value; 6]>,
}

impl<'a> Changes<'a> {
    /// Takes what an event says of a viewer; events of streams say nothing of one.
    pub(super) fn add(&mut self, event: &'a SessionEvent) {
        match event {
            SessionEvent::ViewerJoined {
                id,
                node,
                stream_session,
                user_id,
                user_type,
                user_agent,
                ip_address,
                at_ms,
            } => {
                if self.places.contains_key(id.as_str()) {
                    return;
                }
                self.places.insert(id, self.joined.len());
                let [id, node, stream_session] = [id, node, stream_session].map(|value| text(value));
                let [user_id, user_type] = [user_id, user_type].map(|value| text(value));
                let [user_agent, ip_address] = [user_agent, ip_address].map(|value| text(value));
                let not_yet = || Value::Number(None);
                self.joined.push([
                    id,
                    stream_session,
                    node,
                    user_id,
                    user_type,
                    user_agent,
                    ip_address,
                    number(*at_ms),
                    not_yet(),
                    not_yet(),
                    Value::Text(None),
                    not_yet(),
                    not_yet(),
                    not_yet(),
                ]);
            }
            SessionEvent::ViewerConnected { id, at_ms } => match self.row(id) {
                Some([.., connected_at, _, _, _, _, _]) => *connected_at = number(*at_ms),
                None => self.connected.push([text(id), number(*at_ms)]),
            },
            SessionEvent::ViewerLeft { id, at_ms, reason, bytes, packets, lost } => {
                let end = [number(*at_ms), text(reason), number(*bytes), number(*packets), number(*lost)];
                match self.row(id) {
                    Some([.., at, why, bytes, packets, lost]) => [*at, *why, *bytes, *packets, *lost] = end,
                    None => {
                        let [at, why, bytes, packets, lost] = end;
                        self.left.push([text(id), at, why, bytes, packets, lost]);
                    }
                }
            }
            SessionEvent::StreamEnded { .. } => {}
        }
    }

    /// The row of a viewer that has joined with these changes.
    fn row(&mut self, id: &str) -> Option<&mut [Value; 14]> {
        self.joined.get_mut(*self.places.get(id)?)
    }

    /// Writes everything. Returns how many viewers it could not write down, because the session of their stream is not
    /// there: a node may be older than the database, or the session was lost.
    pub(super) async fn write(&self, transaction: &mut Transaction<'_, Any>) -> Result<u64, StoreError> {
        const COLUMNS: &str = "viewer_id, stream_session_id, node_id, user_id, role, user_agent, ip_address,
            joined_at, connected_at, disconnected_at, reason, bytes, packets, packets_lost";
        // A viewer that is told again is written again as it is, so that it counts as written.
        let insert = format!(
            "INSERT INTO viewer_sessions ({COLUMNS}) SELECT {COLUMNS} FROM new
            WHERE stream_session_id IN (SELECT session_id FROM stream_sessions)
            ON CONFLICT (viewer_id) DO UPDATE SET viewer_id = excluded.viewer_id"
        );
        let written = execute(transaction, COLUMNS, &insert, &self.joined).await?;
        let update = "UPDATE viewer_sessions SET connected_at = new.at FROM new WHERE viewer_id = new.id";
        execute(transaction, "id, at", update, &self.connected).await?;
        let update =
            "UPDATE viewer_sessions SET disconnected_at = new.at, reason = new.why, bytes = new.sent,
            packets = new.count, packets_lost = new.lost FROM new WHERE viewer_id = new.id";
        execute(transaction, "id, at, why, sent, count, lost", update, &self.left).await?;
        Ok(u64::try_from(self.joined.len()).unwrap_or(u64::MAX).saturating_sub(written))
    }
}

/// Runs a statement over `rows`, which it knows as the table `new`. Returns how many rows it wrote.
pub(super) async fn execute<const COLUMNS: usize>(
    transaction: &mut Transaction<'_, Any>,
    columns: &str,
    statement: &str,
    mut rows: &[[Value; COLUMNS]],
) -> Result<u64, StoreError> {
    let mut written = 0;
    while let Some(count) = rows.len().min(ROWS_MAX).checked_ilog2() {
        // Powers of two: each length is a statement that the database prepares once.
        let (now, later) = rows.split_at(1 << count);
        rows = later;
        let places: Vec<String> = (0..now.len())
            .map(|row| {
                let places: Vec<String> =
                    (1..=COLUMNS).map(|column| format!("${}", row * COLUMNS + column)).collect();
                format!("({})", places.join(", "))
            })
            .collect();
        let text = format!("WITH new ({columns}) AS (VALUES {}) {statement}", places.join(", "));
        // Nothing in it comes from outside: names, and the numbers of the values.
        let mut query = sqlx::query(AssertSqlSafe(text));
        for value in now.iter().flatten() {
            query = match value {
                Value::Text(text) => query.bind(text.as_deref()),
                Value::Number(number) => query.bind(*number),
            };
        }
        written += query.execute(&mut **transaction).await?.rows_affected();
    }
    Ok(written)
}

pub(super) fn text(value: &str) -> Value {
    Value::Text(Some(without_zero(value)))
}

fn number(value: u64) -> Value {
    Value::Number(Some(i64::try_from(value).unwrap_or(i64::MAX)))
}
