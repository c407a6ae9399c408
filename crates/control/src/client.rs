//! A node's way to the coordinator.
use std::fmt;
use std::net::{IpAddr, SocketAddr};
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
/// Bytes of an answer: a grant has about 100, a problem a few sentences.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Speaks to one coordinator; clones share its connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    secret: String,
}

impl fmt::Debug for Client {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// It was refused, and would be again; the text is for people.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The coordinator cannot be reached or does not answer as it should: nothing is decided.
    #[error("the coordinator does not answer: {0}")]
    Unreachable(#[from] Outage),
}

/// What is wrong with a coordinator that does not answer as it should.
#[derive(Debug, Error)]
pub enum Outage {
    /// It cannot be reached, or the connection broke.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// It has troubles of its own, or does not know this node.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// Its answer is longer than any that is expected.
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    /// Its answer says something else than what was asked for.
    #[error("its answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
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
    /// For the coordinator at `base`, such as `http://127.0.0.1:8000`, with the nodes' shared secret.
    pub fn new(base: &str, secret: &str) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(Outage::Http)?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), secret: secret.to_owned() })
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
        let base = reqwest::Url::parse(&self.base).ok()?;
        let host = base.host_str()?.trim_matches(['[', ']']).to_owned();
        tokio::net::lookup_host((host, port)).await.ok()?.next()
    }

    /// Reports the node's streams.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatAnswer, ClientError> {
        self.post("/internal/v1/heartbeat", heartbeat).await
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
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.secret).json(body);
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

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", Client::new("http://127.0.0.1:8000/", "node secret").unwrap());
        assert!(shown.contains("127.0.0.1:8000") && !shown.contains("node secret"), "{shown}");
    }
}
