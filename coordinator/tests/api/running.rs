//! A coordinator that runs in a folder.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use control::api::{Heartbeat, NodeLoad, Playback, PublishRequest, StreamReport, StreamState};
use control::{Client, ClientError};
use coordinator::{Config, Mode, NodeIdentity, bind};
use process::serve::Front;
use prometheus::{Registry, TextEncoder};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(crate) const NODE_SECRET: &str = "the nodes' secret";
pub(crate) const OPERATOR_SECRET: &str = "the operator's secret";

pub(crate) struct Running {
    pub(crate) base: String,
    pub(crate) key: String,
    pub(crate) pin: String,
    pub(crate) secret: String,
    pub(crate) credential: String,
    pub(crate) node: Client,
    metrics: Registry,
    http: reqwest::Client,
    /// The process is about to end, and still serves.
    pub(crate) leaving: CancellationToken,
    end: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub(crate) fn config(folder: &Path, mode: Mode) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: folder.to_owned(),
        mode,
        node_secret: NODE_SECRET.to_owned(),
        operator_secret: OPERATOR_SECRET.to_owned(),
        ..Config::default()
    }
}

pub(crate) async fn start(folder: &Path, mode: Mode) -> Running {
    start_with(config(folder, mode)).await
}

pub(crate) async fn start_with(config: Config) -> Running {
    let metrics = Registry::new();
    let bound = bind(config, &metrics).await.unwrap();
    let base = format!("http://{}", bound.local_addr());
    let class = bound.default_class().clone();
    let credential = credential(bound.node_secret(), None);
    let (leaving, end) = (CancellationToken::new(), CancellationToken::new());
    Running {
        secret: bound.node_secret().to_owned(),
        node: Client::new(&base, &credential).unwrap(),
        credential,
        base,
        key: class.stream_key,
        pin: class.pin,
        metrics,
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        task: tokio::spawn(bound.run(Front::default(), None, leaving.clone(), end.clone())),
        leaving,
        end,
    }
}

fn credential(secret: &str, public_url: Option<&str>) -> String {
    let public_url = public_url.map(str::to_owned);
    NodeIdentity { name: "n1".to_owned(), public_url }.credential(secret)
}

/// The number of the next heartbeat of any node.
pub(crate) fn next_seq() -> u64 {
    static SEQ: AtomicU64 = AtomicU64::new(1);
    SEQ.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn heartbeat(streams: Vec<StreamReport>) -> Heartbeat {
    let load = NodeLoad { capacity_bps: 1_000_000_000, ..NodeLoad::default() };
    let (node, started_at_ms, whep_port) = ("n1".to_owned(), 1, 8889);
    Heartbeat {
        node,
        boot: 1,
        seq: next_seq(),
        started_at_ms,
        whep_port,
        load,
        streams,
        ..Heartbeat::default()
    }
}

fn shown(metrics: &Registry) -> String {
    TextEncoder::new().encode_to_string(&metrics.gather()).unwrap()
}

impl Running {
    /// Ends it, and returns every metric as it was last.
    pub(crate) async fn stop(self) -> String {
        self.end.cancel();
        self.task.await.unwrap().unwrap();
        shown(&self.metrics)
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// The same as an operator.
    pub(crate) fn operate(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(OPERATOR_SECRET)
    }

    /// Every metric, as the admin port shows them.
    pub(crate) fn metrics(&self) -> String {
        shown(&self.metrics)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn beat(&self, state: Option<(&str, StreamState)>) {
        let report = state.map(|(session, state)| self.report(session, state));
        self.node.heartbeat(&report.unwrap_or_else(|| heartbeat(Vec::new()))).await.unwrap();
    }

    /// The node, if it had joined with this address.
    pub(crate) fn node_at(&self, public_url: &str) -> Client {
        Client::new(&self.base, &credential(&self.secret, Some(public_url))).unwrap()
    }

    /// What the node says when it has a session.
    pub(crate) fn report(&self, session: &str, state: StreamState) -> Heartbeat {
        heartbeat(vec![StreamReport {
            class: "lesson".to_owned(),
            session: session.to_owned(),
            epoch: 1,
            key: String::new(),
            is_relayed: false,
            since_ms: 0,
            is_ended: false,
            playback: Playback::default(),
            state,
            viewers: 3,
            has_video: true,
            has_audio: true,
            width: 1280,
            height: 720,
            bitrate_bps: 2_000_000,
            problems: Vec::new(),
        }])
    }

    pub(crate) async fn publish(&self, name: Option<&str>, key: &str) -> Result<String, ClientError> {
        let request = PublishRequest {
            node: "n1".to_owned(),
            name: name.map(str::to_owned),
            key: key.to_owned(),
            peer_ip: "192.0.2.7".to_owned(),
            encoder: "phone".to_owned(),
        };
        self.node.authorize_publish(&request).await.map(|grant| grant.session)
    }

    /// Asks for a token with one header more.
    pub(crate) async fn token(&self, query: &str, header: Option<(&str, &str)>) -> (u16, Value) {
        let mut request = self.request(Method::POST, &format!("/api/token?{query}"));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}
