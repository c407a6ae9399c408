//! A node's way to the coordinator.
use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::Problem;
use crate::api::{Heartbeat, PublishGrant, PublishRequest, SessionEvent};

/// The coordinator answers from memory and a local database; what takes longer is an outage.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Speaks to one coordinator; clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    secret: String,
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// It was refused; the text is for people.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The coordinator cannot be reached or does not answer as it should.
    #[error("the coordinator does not answer: {0}")]
    Unreachable(#[from] reqwest::Error),
}

impl Client {
    /// For the coordinator at `base`, such as `http://127.0.0.1:8000`, with the nodes' shared secret.
    pub fn new(base: &str, secret: &str) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), secret: secret.to_owned() })
    }

    /// Asks whether somebody may publish.
    pub async fn authorize_publish(&self, request: &PublishRequest) -> Result<PublishGrant, ClientError> {
        self.post("/internal/v1/publish/authorize", request).await
    }

    /// Reports the node's streams.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), ClientError> {
        self.post::<_, serde_json::Value>("/internal/v1/heartbeat", heartbeat).await.map(drop)
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
        read(request.send().await?).await
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response.json().await?);
    }
    let fallback = || Problem::new(status.as_u16(), "Refused", status.to_string());
    Err(ClientError::Refused(response.json().await.unwrap_or_else(|_| fallback())))
}
