//! A node's way to its coordinators. Any of them answers any question.
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::Problem;
use crate::api::{
    Admission, AdmitRequest, Heartbeat, HeartbeatAnswer, JoinAnswer, JoinRequest, Places, PlacesRequest,
    PublishGrant, PublishRequest, SessionEvent, Source, SourceRequest,
};
use crate::body::{self, ReadError};

/// The coordinator answers from memory and a local database; what takes longer is an outage.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of an answer: a grant has about 100, a problem a few sentences, and each of a thousand revocations 300 at most.
const ANSWER_BYTES_MAX: usize = 512 << 10;

/// Speaks to the first coordinator that answers; clones share the connections, and which one that is.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    bases: Arc<[String]>,
    /// The one that answered last.
    current: Arc<AtomicUsize>,
    secret: String,
}

impl fmt::Debug for Client {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("bases", &self.bases).finish_non_exhaustive()
    }
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// It was refused, and would be again; the text is for people.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The coordinator cannot be reached or does not answer as it should: nothing is decided.
    #[error("the coordinator cannot be used: {0}")]
    Unreachable(#[from] Outage),
}

/// What is wrong with a coordinator that does not answer as it should.
#[derive(Debug, Error)]
pub enum Outage {
    /// It cannot be reached, or the connection broke.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// It has troubles of its own, or does not know this node.
    #[error("it answers {status}{}", remedy(*.0), status = .0)]
    Status(StatusCode),
    /// Its answer is longer than any that is expected.
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    /// Its answer says something else than what was asked for.
    #[error("its answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// What helps, in words.
fn remedy(status: StatusCode) -> &'static str {
    if status == StatusCode::UNAUTHORIZED {
        ": it does not know this node; delete node.json in its data folder and join anew"
    } else {
        ""
    }
}

impl From<ReadError> for Outage {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Http(error) => Self::Http(error),
            ReadError::TooLong(bytes_max) => Self::TooLong(bytes_max),
        }
    }
}

impl Client {
    /// For the coordinator at `base`, such as `http://127.0.0.1:8000`, with what proves who asks.
    pub fn new(base: &str, secret: &str) -> Result<Self, ClientError> {
        Self::of(&[base.to_owned()], secret)
    }

    /// For several coordinators of one system.
    pub fn of(bases: &[String], secret: &str) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(Outage::Http)?;
        let bases = bases.iter().map(|base| base.trim_end_matches('/').to_owned()).collect();
        Ok(Self { http, bases, current: Arc::default(), secret: secret.to_owned() })
    }

    /// One for each of the coordinators, that asks no other.
    pub fn each(&self) -> Vec<Self> {
        let only =
            |base: &String| Self { bases: [base.clone()].into(), current: Arc::default(), ..self.clone() };
        self.bases.iter().map(only).collect()
    }

    /// The coordinator that answered last.
    pub fn current(&self) -> &str {
        self.bases.get(self.current.load(Ordering::Relaxed)).map_or("", String::as_str)
    }

    /// Joins the cluster. The client has the secret that nodes join with.
    pub async fn join(&self, request: &JoinRequest) -> Result<JoinAnswer, ClientError> {
        self.post("/internal/v1/join", request).await
    }

    /// Asks whether somebody may publish.
    pub async fn authorize_publish(&self, request: &PublishRequest) -> Result<PublishGrant, ClientError> {
        self.post("/internal/v1/publish/authorize", request).await
    }

    /// Asks whether somebody may watch without a token.
    pub async fn admit(&self, request: &AdmitRequest) -> Result<Admission, ClientError> {
        self.post("/internal/v1/admit", request).await
    }

    /// Asks where the stream of a class can be pulled from.
    pub async fn source(&self, request: &SourceRequest) -> Result<Option<Source>, ClientError> {
        self.post("/internal/v1/source", request).await
    }

    /// The address of a port at a host that the coordinator has named; without a name it is on the coordinator's machine.
    pub async fn resolve(&self, host: Option<IpAddr>, port: u16) -> Option<SocketAddr> {
        if let Some(host) = host {
            return Some((host, port).into());
        }
        let base = reqwest::Url::parse(self.current()).ok()?;
        let host = base.host_str()?.trim_matches(['[', ']']).to_owned();
        tokio::net::lookup_host((host, port)).await.ok()?.next()
    }

    /// Reports the node's streams, anew if the coordinator has begun another life since.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatAnswer, ClientError> {
        const PATH: &str = "/internal/v1/heartbeat";
        let answer: HeartbeatAnswer = self.post(PATH, heartbeat).await?;
        if answer.coordinator == heartbeat.coordinator {
            return Ok(answer);
        }
        let heartbeat = Heartbeat { coordinator: answer.coordinator, ..heartbeat.clone() };
        self.post(PATH, &heartbeat).await
    }

    /// Asks where viewers are to go.
    pub async fn places(&self, request: &PlacesRequest) -> Result<Places, ClientError> {
        self.post("/internal/v1/places", request).await
    }

    /// Reports what happened to sessions, in the order in which it did.
    pub async fn session_events(&self, events: &[SessionEvent]) -> Result<(), ClientError> {
        self.post::<_, serde_json::Value>("/internal/v1/sessions", events).await.map(drop)
    }

    async fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut outcome = Err(Outage::Status(StatusCode::SERVICE_UNAVAILABLE).into());
        for at in (0..self.bases.len()).map(|step| (first + step) % self.bases.len()) {
            let Some(base) = self.bases.get(at) else { break };
            outcome = self.post_to(base, path, body).await;
            if !matches!(outcome, Err(ClientError::Unreachable(_))) {
                self.current.store(at, Ordering::Relaxed);
                break;
            }
        }
        outcome
    }

    async fn post_to<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        base: &str,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let request = self.http.post(format!("{base}{path}")).bearer_auth(&self.secret).json(body);
        read(request.send().await.map_err(Outage::Http)?).await
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let status = response.status();
    if status.is_server_error() || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS)
    {
        // Not a word about what was asked: a phone must not be told that its key is wrong because a disk is full.
        return Err(Outage::Status(status).into());
    }
    let answer = body::read(response, ANSWER_BYTES_MAX).await.map_err(Outage::from)?;
    if status.is_success() {
        return Ok(serde_json::from_slice(&answer).map_err(Outage::Json)?);
    }
    let unexplained = || Problem::new(status.as_u16(), "Refused", status.to_string());
    Err(ClientError::Refused(serde_json::from_slice(&answer).unwrap_or_else(|_| unexplained())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_several_coordinators_the_first_that_answers_is_asked() {
        // Nobody listens there any more.
        let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let answering = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bases = [format!("http://{refusing}"), format!("http://{}/", answering.local_addr().unwrap())];
        let answer = async || {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = answering.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnull";
            stream.write_all(answer).await.unwrap();
        };
        let client = Client::of(&bases, "secret").unwrap();
        let request = SourceRequest { node: "n1".to_owned(), class: "room".to_owned(), failed: None };
        let (answered, ()) = tokio::join!(client.source(&request), answer());
        assert_eq!(answered.unwrap(), None);
        assert_eq!(client.current(), bases[1].trim_end_matches('/'), "it is asked first from now on");
        let each: Vec<_> = client.each().iter().map(|client| client.current().to_owned()).collect();
        assert_eq!(each, bases.map(|base| base.trim_end_matches('/').to_owned()));
        assert!(client.each()[0].source(&request).await.is_err(), "it asks no other");
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", Client::new("http://127.0.0.1:8000/", "node secret").unwrap());
        assert!(shown.contains("127.0.0.1:8000") && !shown.contains("node secret"), "{shown}");
    }
}
