//! How machines become nodes, and what they may say then.
use control::api::{
    Heartbeat, JoinAnswer, JoinRequest, LinkAddress, PublishRequest, SourceRequest, StreamState,
};
use control::{Client, ClientError};
use coordinator::Mode;
use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{NODE_SECRET, Running, heartbeat, start};

fn request(name: &str) -> JoinRequest {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["whatever.example".to_owned()]).unwrap();
    let certificate_request = params.serialize_request(&key).unwrap().pem().unwrap();
    JoinRequest { name: name.to_owned(), public_url: None, certificate_request }
}

async fn join(running: &Running, request: &JoinRequest) -> Result<JoinAnswer, ClientError> {
    Client::new(&running.base, NODE_SECRET).unwrap().join(request).await
}

fn code(refused: Result<impl Sized, ClientError>) -> String {
    match refused {
        Err(ClientError::Refused(problem)) => problem.code,
        Err(error) => error.to_string(),
        Ok(_) => "taken".to_owned(),
    }
}

fn beat(node: &str) -> Heartbeat {
    Heartbeat { node: node.to_owned(), ..heartbeat(Vec::new()) }
}

#[tokio::test]
async fn who_knows_the_secret_becomes_a_node_and_speaks_for_itself_only() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let answer = join(&running, &request("node-2")).await.unwrap();
    assert!(
        answer.certificate.contains("BEGIN CERTIFICATE") && answer.authority.contains("BEGIN CERTIFICATE")
    );
    let node = Client::new(&running.base, &answer.credential).unwrap();
    node.heartbeat(&beat("node-2")).await.unwrap();
    assert_eq!(code(node.heartbeat(&beat("n1")).await), "not_this_node");
    let source = SourceRequest { node: "n1".to_owned(), class: "lesson".to_owned() };
    assert_eq!(code(node.source(&source).await), "not_this_node");
    let [name, key, ip, encoder] = ["n1", &*running.key, "192.0.2.7", "phone"].map(str::to_owned);
    let publish = PublishRequest { node: name, name: None, key, peer_ip: ip, encoder };
    assert_eq!(code(node.authorize_publish(&publish).await), "not_this_node");
}

#[tokio::test]
async fn who_does_not_know_it_or_asks_for_what_cannot_be_is_refused() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let stranger = Client::new(&running.base, "sixteen letters or more").unwrap();
    assert!(matches!(stranger.join(&request("node-2")).await, Err(ClientError::Unreachable(_))), "401");
    for name in ["", "Node", "a.b", "-a", "a-", "a b", &"a".repeat(64)] {
        assert_eq!(code(join(&running, &request(name)).await), "bad_request", "{name:?}");
    }
    let ftp = JoinRequest { public_url: Some("ftp://a.example".to_owned()), ..request("a") };
    assert_eq!(code(join(&running, &ftp).await), "bad_request");
    let garbage = JoinRequest { certificate_request: "no certificate".to_owned(), ..request("a") };
    assert_eq!(code(join(&running, &garbage).await), "bad_request");
    running.beat(None).await;
    assert_eq!(code(join(&running, &request("n1")).await), "node_name_taken");
}

#[tokio::test]
async fn a_node_does_not_send_viewers_where_it_did_not_say_that_it_is() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let here = JoinRequest { public_url: Some("https://node-2.example".to_owned()), ..request("node-2") };
    let node = Client::new(&running.base, &join(&running, &here).await.unwrap().credential).unwrap();
    let session = running.publish(None, &running.key).await.unwrap();
    let Heartbeat { streams, .. } = running.report(&session, StreamState::Active);
    let elsewhere = Some("https://evil.example".to_owned());
    node.heartbeat(&Heartbeat { public_url: elsewhere, streams, ..beat("node-2") }).await.unwrap();
    let (_, answer) = running.token("user_type=student&user_id=s1&class_id=lesson", None).await;
    let url = answer["webrtc_url"].as_str().unwrap();
    assert!(url.starts_with("https://node-2.example/live/lesson/whep?jwt="), "{url}");
}

#[tokio::test]
async fn a_node_learns_where_a_stream_is_and_that_its_own_publisher_is_not_the_newest() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let node =
        Client::new(&running.base, &join(&running, &request("node-2")).await.unwrap().credential).unwrap();
    let ask = async || {
        let source = SourceRequest { node: "node-2".to_owned(), class: "lesson".to_owned() };
        node.source(&source).await.unwrap()
    };
    assert_eq!(ask().await, None, "nobody publishes");
    let first = running.publish(None, &running.key).await.unwrap();
    let link = Some(LinkAddress { host: None, port: 8190 });
    let at_n1 = Heartbeat { link, ..running.report(&first, StreamState::Active) };
    running.node.heartbeat(&at_n1).await.unwrap();
    let source = ask().await.unwrap();
    assert_eq!((&*source.node, source.host, source.port, source.epoch), ("n1", None, 8190, 1));
    // The phone comes back at the other node.
    let mut at_2 = Heartbeat { node: "node-2".to_owned(), ..running.report("second", StreamState::Active) };
    at_2.streams[0].epoch = 2;
    assert!(node.heartbeat(&at_2).await.unwrap().superseded.is_empty());
    assert_eq!(ask().await, None, "it is here");
    let told = running.node.heartbeat(&at_n1).await.unwrap().superseded;
    assert_eq!(json!(told), json!([{ "class": "lesson", "epoch": 2 }]));
    let streams: Value =
        running.request(Method::GET, "/api/v1/streams/lesson").send().await.unwrap().json().await.unwrap();
    assert_eq!((&streams["node"], &streams["viewers"]), (&json!("node-2"), &json!(6)), "viewers of both");
    let all: Value =
        running.request(Method::GET, "/api/v1/streams").send().await.unwrap().json().await.unwrap();
    assert_eq!(all, json!([streams]), "a class is listed once, wherever it is");
}
