//! Viewers of a node that is about to end, on their way to other nodes.
use std::convert::Infallible;
use std::time::{Duration, Instant};

use control::Client;
use control::api::{MovingViewer, PlacesRequest};
use process::drain::Draining;

use crate::sessions::{Leaving, Sessions};

/// Viewers who are told to go at once, and how often: 500 a second are fewer than one core lets in.
const BATCH: usize = 100;
const INTERVAL: Duration = Duration::from_millis(200);

/// Tells viewers where to go for as long as the node drains. Those that cannot be told stay until the end.
pub(crate) async fn run(sessions: Sessions, control: Client, node: String, draining: Draining) -> Infallible {
    loop {
        draining.begun().await;
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut is_asked_in_vain = false;
        while draining.is_on() {
            ticks.tick().await;
            let leaving = sessions.leaving(Instant::now(), BATCH);
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
