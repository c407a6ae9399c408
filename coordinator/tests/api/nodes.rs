//! How machines become nodes, and what they may say then.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::api::{
    Heartbeat, JoinAnswer, JoinRequest, LinkAddress, PublishRequest, SourceRequest, StreamState,
};
use control::{Client, ClientError};
use coordinator::Mode;
use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{NODE_SECRET, Running, heartbeat, next_seq, start};

pub(crate) fn request(name: &str) -> JoinRequest {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["whatever.example".to_owned()]).unwrap();
    let certificate_request = params.serialize_request(&key).unwrap().pem().unwrap();
    JoinRequest { name: name.to_owned(), public_url: None, certificate_request }
}

pub(crate) async fn join(running: &Running, request: &JoinRequest) -> Result<JoinAnswer, ClientError> {
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
    let source = SourceRequest { node: "n1".to_owned(), class: "lesson".to_owned(), failed: None };
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
        let source = SourceRequest { node: "node-2".to_owned(), class: "lesson".to_owned(), failed: None };
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
    assert_eq!(code(running.node.heartbeat(&at_n1).await), "heartbeat_stale", "somebody recorded it");
    let mut at_2 = Heartbeat { node: "node-2".to_owned(), ..running.report("second", StreamState::Active) };
    at_2.streams[0].epoch = 2;
    assert!(node.heartbeat(&at_2).await.unwrap().superseded.is_empty());
    assert_eq!(ask().await, None, "it is here");
    let at_n1 = Heartbeat { seq: next_seq(), ..at_n1 };
    let told = running.node.heartbeat(&at_n1).await.unwrap().superseded;
    assert_eq!(json!(told), json!([{ "class": "lesson", "epoch": 2 }]));
    let streams: Value =
        running.request(Method::GET, "/api/v1/streams/lesson").send().await.unwrap().json().await.unwrap();
    assert_eq!((&streams["node"], &streams["viewers"]), (&json!("node-2"), &json!(6)), "viewers of both");
    let all: Value =
        running.request(Method::GET, "/api/v1/streams").send().await.unwrap().json().await.unwrap();
    assert_eq!(all, json!([streams]), "a class is listed once, wherever it is");
}

#[tokio::test]
async fn viewers_of_several_nodes_are_told_where_to_go_and_operators_why() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let session = running.publish(None, &running.key).await.unwrap();
    for name in ["node-2", "node-3"] {
        let credential = join(&running, &request(name)).await.unwrap().credential;
        Client::new(&running.base, &credential).unwrap().heartbeat(&beat(name)).await.unwrap();
    }
    running.beat(Some((&session, StreamState::Active))).await;
    let token = async |more: &str| {
        let query = format!("user_type=student&user_id=ada&class_id=lesson{more}");
        let (status, answer) = running.token(&query, None).await;
        (status, answer)
    };
    let node = async |more: &str| {
        let (_, answer) = token(more).await;
        claims(answer["token"].as_str().unwrap())["node"].as_str().unwrap().to_owned()
    };
    let first = &*node("").await;
    assert_eq!(node("").await, first, "a viewer stays");
    let second = &*node(&format!("&exclude={first}")).await;
    assert_ne!(first, second);
    assert_eq!(node(&format!("&hint={second}")).await, second, "it was there before");
    let (status, refused) = token("&exclude=n1,node-2,node-3").await;
    assert_eq!((status, &refused["code"]), (503, &json!("no_node")));

    let path = format!("/api/v1/assign/explain?user_id=ada&class_id=lesson&exclude={first}");
    let why: Value = running.operate(Method::GET, &path).send().await.unwrap().json().await.unwrap();
    assert_eq!((&why["node"], &why["how"]), (&json!(second), &json!("preferred")), "{why}");
    let verdict = |node: &str| {
        let candidates = why["candidates"].as_array().unwrap();
        candidates
            .iter()
            .find(|candidate| candidate["node"] == node)
            .map(|candidate| candidate["verdict"].clone())
    };
    assert_eq!(verdict(first), Some(json!("excluded")));
    assert_eq!(running.get(&path).await.status(), 403, "not for everybody");
}

/// What a token says.
pub(crate) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
