//! Being let into the lesson of a server.
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use testkit::{Server, until};

/// From the first message of a publisher to a stream that can be watched.
pub(crate) const LIVE: Duration = Duration::from_secs(30);

/// The address of the live lesson's WHEP endpoint, and a token for it and this user.
pub(crate) async fn admission(server: &Server, user: &str) -> (String, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/token?{user}", server.addresses.http);
    let body: Value = until("a token", LIVE, async || {
        let response = http.post(&url).send().await.unwrap();
        match response.status() {
            StatusCode::OK => Ok(response.json().await.unwrap()),
            status => Err(status),
        }
    })
    .await;
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("webrtc_url"), text("token"))
}
