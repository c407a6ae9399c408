//! Viewers of a node that is about to end, on their way to other nodes.
use std::convert::Infallible;
use std::time::{Duration, Instant};

use control::Client;
use control::api::{MovingViewer, PlacesRequest};
use process::drain::Draining;

use crate::sessions::{Leaving, Sessions};

/// Viewers are told to go in batches, one every so often.
const INTERVAL: Duration = Duration::from_millis(200);
/// Up to 4,000 within this time, or half of what there is until the deadline: where they come in, a join costs as much as watching for
/// seconds, and those who are there already shall not notice.
const LEAVING: Duration = Duration::from_secs(8);
const BATCH_MIN: usize = 4;
/// 500 a second are fewer than one core lets in.
const BATCH_MAX: usize = 100;

/// Tells viewers where to go for as long as the node drains. Those that cannot be told stay until the end.
pub(crate) async fn run(sessions: Sessions, control: Client, node: String, draining: Draining) -> Infallible {
    loop {
        draining.begun().await;
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut is_asked_in_vain = false;
        let mut batch = 0;
        while let Some(deadline) = draining.deadline() {
            ticks.tick().await;
            // More when the time gets short: nobody may have said for a while where they are to go.
            let time = deadline.saturating_duration_since(Instant::now());
            batch = batch_of(sessions.all(), time).max(batch);
            let leaving = sessions.leaving(Instant::now(), batch);
            if leaving.is_empty() {
                continue;
            }
            match places(&control, &node, &leaving).await {
                Ok(urls) => {
                    let told = leaving.iter().zip(urls).filter_map(|(leaving, url)| Some((leaving, url?)));
                    told.for_each(|(leaving, url)| sessions.send_away(Instant::now(), leaving.viewer, url));
                }
                Err(error) if !is_asked_in_vain => {
                    is_asked_in_vain = true;
                    tracing::warn!(%error, "nobody says where viewers are to go; asked again until somebody does");
                }
                Err(_) => {}
            }
        }
        sessions.nobody_leaves();
    }
}

/// How many of so many viewers go at once, when the node ends in so much time.
fn batch_of(viewers: usize, time: Duration) -> usize {
    let batches = (time / 2).min(LEAVING).as_millis() / INTERVAL.as_millis();
    let batches = usize::try_from(batches).unwrap_or(1).max(1);
    viewers.div_ceil(batches).clamp(BATCH_MIN, BATCH_MAX)
}

async fn places(
    control: &Client,
    node: &str,
    leaving: &[Leaving],
) -> Result<Vec<Option<String>>, control::ClientError> {
    let viewer = |Leaving { class, origin, .. }: &Leaving| MovingViewer {
        class: class.clone(),
        user_id: origin.user_id.clone(),
        scheme: origin.scheme.to_owned(),
        host: origin.host.clone(),
    };
    let request = PlacesRequest { node: node.to_owned(), viewers: leaving.iter().map(viewer).collect() };
    control.places(&request).await.map(|places| places.urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_leave_one_after_the_other_as_far_as_time_allows() {
        let batch = |viewers, seconds| batch_of(viewers, Duration::from_secs(seconds));
        assert_eq!((batch(300, 30), batch(3_000, 30), batch(30_000, 30)), (8, 75, 100));
        // In half of 4 s.
        assert_eq!((batch(300, 4), batch(20, 4), batch(300, 0)), (30, 4, 100));
    }
}
