//! One RTMP connection: read, feed, drain, write.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::api::{PublishRequest as Authorization, SourceRequest};
use control::{Client, ClientError};
use hub::{Hub, Refused, Superseded};
use process::connections::Seat;
use process::drain::Draining;
use rtmp::{Event, Output, PublishRequest, Rejection, Session, StreamAddress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::publish::{Publication, PublishError};
use crate::takeover::{Takeovers, Turn};
use crate::transcode::Redundancy;

/// Bytes taken from the socket at once.
const READ_BYTES: usize = 32 << 10;
/// How long a peer may take to accept the answers that are written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A publisher is looked at this often, also when nothing comes.
const LOOK: Duration = Duration::from_secs(1);
/// How long a connection that we have closed is read on for, so that its peer learns why.
const LINGER: Duration = Duration::from_secs(2);
/// What a publisher hears when its key is revoked, when another one takes its place, when the node goes, and when nobody can say
/// whether it may publish.
const REVOKED: &str = "The stream key was revoked.";
const SUPERSEDED: &str = "Another app publishes this class now.";
const DRAINING: &str = "The server is being shut down; publish again.";
const UNCHECKED: &str = "The server cannot check the stream key now; try again.";

/// The coordinator's code for a key that is wrong or of another class.
const WRONG_KEY: &str = "stream_key_invalid";

/// What every connection shares.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) hub: Hub,
    pub(crate) control: Client,
    pub(crate) node: String,
    pub(crate) limits: rtmp::Limits,
    pub(crate) redundancy: Redundancy,
    pub(crate) pool: Pool,
    pub(crate) metrics: Metrics,
    pub(crate) takeovers: Arc<Takeovers>,
    pub(crate) draining: Draining,
}

impl Context {
    /// Whether somebody publishes a class at another node.
    async fn is_live_elsewhere(&self, class: &str) -> bool {
        let request = SourceRequest { node: self.node.clone(), class: class.to_owned(), failed: None };
        let source = self.control.source(&request).await;
        source.is_ok_and(|source| source.is_some_and(|source| source.is_published))
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the peer closed the connection")]
    Closed,
    #[error("write timeout: the peer did not read its answers")]
    WriteTimeout,
    #[error("the stream was ended")]
    Finished,
    #[error("another connection took over the stream")]
    Superseded,
    #[error("the stream key was revoked")]
    Revoked,
    #[error("{0}")]
    Protocol(#[from] rtmp::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the node is shutting down")]
    Draining,
}

/// What a connection runs over: TCP, or TLS over it.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

struct Connection {
    context: Arc<Context>,
    socket: Box<dyn Socket>,
    peer: SocketAddr,
    seat: Seat,
    session: Session,
    publication: Option<Publication>,
    turn: Option<Turn>,
    /// Its publisher was accepted, and has neither ended its stream nor been refused since.
    is_publishing: bool,
    superseded: CancellationToken,
    /// Cancelled before that if it is for the key.
    revoked: CancellationToken,
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    context: Arc<Context>,
    socket: Box<dyn Socket>,
    peer: SocketAddr,
    seat: Seat,
    drain: CancellationToken,
) {
    let mut connection = Connection {
        session: Session::new(Instant::now(), context.limits),
        context: Arc::clone(&context),
        socket,
        peer,
        seat,
        publication: None,
        turn: None,
        is_publishing: false,
        superseded: CancellationToken::new(),
        revoked: CancellationToken::new(),
    };
    let span = tracing::info_span!("rtmp", %peer, class = tracing::field::Empty);
    let end = connection.run(drain).instrument(span.clone()).await;
    let was_publishing = connection.is_publishing;
    drop(connection);
    let _entered = span.enter();
    let reason = end.as_ref().err().map(ToString::to_string);
    match end {
        Ok(never) => match never {},
        Err(end @ End::Protocol(_)) => {
            context.metrics.protocol_errors.inc();
            tracing::debug!(reason = %end, "connection refused");
        }
        Err(end) => {
            if matches!(end, End::WriteTimeout) {
                context.metrics.write_timeouts.inc();
            }
            tracing::debug!(reason = %end, "connection ended");
        }
    }
    if was_publishing {
        tracing::info!(reason, "publisher gone");
    }
}

impl Connection {
    async fn run(&mut self, drain: CancellationToken) -> Result<Infallible, End> {
        let Err(end) = self.converse(drain).await;
        let reason = match end {
            End::Superseded => SUPERSEDED.to_owned(),
            End::Revoked => REVOKED.to_owned(),
            End::Draining => DRAINING.to_owned(),
            End::Protocol(rtmp::Error::MessageTooLarge { len, max, .. }) => format!(
                "The app sends {len} bytes in one message, and the server takes {max}: choose a smaller picture or a lower bit rate."
            ),
            End::Protocol(rtmp::Error::Timeout(_)) => {
                format!("The app has sent nothing for {} s.", self.context.limits.idle_timeout.as_secs())
            }
            End::Protocol(rtmp::Error::NotReading(_)) => {
                "The app does not read what it is answered.".to_owned()
            }
            End::Protocol(ref error) => format!("What the app sends cannot be read: {error}."),
            _ => return Err(end),
        };
        if let (End::Superseded, Some(turn)) = (&end, &self.turn) {
            turn.displace(Instant::now());
        }
        if let Some(publication) = self.publication.take() {
            if let End::Protocol(_) = end {
                publication.refuse(reason.clone());
            }
            self.session.reject_publish(&Rejection::Failed(reason));
            let _ = self.drain_outputs().await;
        }
        Err(end)
    }

    async fn converse(&mut self, drain: CancellationToken) -> Result<Infallible, End> {
        let mut buffer = vec![0; READ_BYTES];
        let mut look = Instant::now();
        loop {
            let deadline = self.drain_outputs().await?;
            let wake = if self.publication.is_some() { look.min(deadline) } else { deadline };
            let read = tokio::select! {
                read = self.socket.read(&mut buffer) => Some(read?),
                () = tokio::time::sleep_until(wake.into()) => None,
                () = self.superseded.cancelled() => return Err(self.sent_away()),
                () = drain.cancelled() => return Err(End::Draining),
            };
            let now = Instant::now();
            match read {
                Some(0) => return Err(End::Closed),
                Some(count) => {
                    self.context.metrics.bytes.inc_by(count as u64);
                    let outcome = self.session.handle_input(now, buffer.get(..count).unwrap_or(&[]));
                    if outcome.is_err() {
                        // What was understood before the error still counts, and answers explain it.
                        let _ = self.drain_outputs().await;
                    }
                    outcome?;
                }
                None => self.session.handle_timeout(now)?,
            }
            if now >= look {
                look = now + LOOK;
                let looked =
                    self.publication.as_mut().map_or(Ok(()), |publication| publication.on_timeout(now));
                looked.map_err(|Superseded| self.sent_away())?;
            }
        }
    }

    /// Does what the session says until it waits. Returns until when.
    async fn drain_outputs(&mut self) -> Result<Instant, End> {
        loop {
            match self.session.poll_output() {
                Output::Send(bytes) => {
                    let write = tokio::time::timeout(WRITE_TIMEOUT, self.socket.write_all(&bytes));
                    write.await.map_err(|_| End::WriteTimeout)??;
                }
                Output::Event(event) => self.on_event(event).await?,
                Output::Close => {
                    self.linger().await;
                    return Err(End::Finished);
                }
                Output::Timeout(deadline) => return Ok(deadline),
            }
        }
    }

    /// Closes, and reads on until the peer has closed too. With bytes unread the system would reset the connection, and a reset throws away
    /// what the peer has yet to read: the reason.
    async fn linger(&mut self) {
        let mut buffer = vec![0; READ_BYTES];
        let close = async {
            let _ = self.socket.shutdown().await;
            while matches!(self.socket.read(&mut buffer).await, Ok(1..)) {}
        };
        let _ = tokio::time::timeout(LINGER, close).await;
    }

    async fn on_event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::PublishRequested(request) => match self.authorize(&request).await {
                Ok(()) => self.session.accept_publish(Instant::now()),
                Err(rejection) => {
                    self.context.metrics.publishers_refused.inc();
                    tracing::info!(?rejection, "publisher refused");
                    self.session.reject_publish(&rejection);
                }
            },
            Event::Media { kind, timestamp_ms, body } => {
                let Some(publication) = &mut self.publication else { return Ok(()) };
                match publication.on_media(Instant::now(), kind, timestamp_ms, body) {
                    Ok(()) => {}
                    Err(PublishError::Superseded(_)) => return Err(self.sent_away()),
                    Err(PublishError::Unusable(text)) => {
                        self.context.metrics.publishers_refused.inc();
                        tracing::info!(reason = text, "publisher refused");
                        self.session.reject_publish(&Rejection::Failed(text));
                        self.end_publication();
                    }
                }
            }
            Event::Metadata(properties) => tracing::debug!(?properties, "metadata"),
            Event::PublishEnded => {
                tracing::info!("the publisher ended its stream");
                if let Some(publication) = self.publication.take() {
                    publication.end();
                }
                self.end_publication();
                self.seat.wait();
            }
        }
        Ok(())
    }

    /// Why its publisher has to go.
    fn sent_away(&self) -> End {
        if self.revoked.is_cancelled() { End::Revoked } else { End::Superseded }
    }

    /// The class is free for others, also for whom this app has displaced.
    fn end_publication(&mut self) {
        (self.publication, self.turn, self.is_publishing) = (None, None, false);
    }

    async fn authorize(&mut self, request: &PublishRequest) -> Result<(), Rejection> {
        if self.context.draining.is_on() {
            return Err(Rejection::Failed(DRAINING.to_owned()));
        }
        let address = StreamAddress::parse(&request.app, &request.stream_key);
        let Some(key) = address.key else {
            return Err(Rejection::BadName("The address has no stream key.".to_owned()));
        };
        // Before the coordinator opens a session for it, which would end that of the other one.
        let app = match self.context.takeovers.admit(Instant::now(), &key, &request.encoder) {
            Ok(app) => app,
            Err(kept) if kept.is_elsewhere && !self.context.is_live_elsewhere(&kept.class).await => kept.app,
            Err(kept) => {
                return Err(Rejection::BadName(format!(
                    "Another app has taken over this class. End the stream there, or stop this app and start it again after {} s.",
                    kept.wait.as_secs() + 1
                )));
            }
        };
        let authorization = Authorization {
            node: self.context.node.clone(),
            name: address.name,
            key,
            peer_ip: self.peer.ip().to_canonical().to_string(),
            encoder: request.encoder.clone(),
        };
        let grant =
            self.context.control.authorize_publish(&authorization).await.map_err(|error| match error {
                ClientError::Refused(problem) if problem.code == WRONG_KEY => {
                    Rejection::BadName(problem.detail)
                }
                error => {
                    tracing::warn!(%error, "the coordinator does not say whether a publisher may publish");
                    Rejection::Failed(UNCHECKED.to_owned())
                }
            })?;
        let publisher =
            self.context.hub.publish(&grant.class, &grant.session, grant.epoch).map_err(|refused| {
                tracing::info!(%refused, class = grant.class, "a publisher has no place");
                Rejection::Failed(match refused {
                    Refused::Full { .. } => "The server carries as many streams as it may.".to_owned(),
                    Refused::Superseded => SUPERSEDED.to_owned(),
                })
            })?;
        // A publisher keeps its place; until here the connection made room for newcomers.
        self.seat.work();
        tracing::Span::current().record("class", &grant.class);
        tracing::info!(encoder = request.encoder, "publisher accepted");
        self.context.metrics.publishers.inc();
        (self.superseded, self.revoked) = (publisher.superseded(), publisher.revoked());
        // Who has taken over by now has a key of his own.
        let _ = publisher.set_key(&grant.key);
        self.turn = Some(self.context.takeovers.take(Instant::now(), &grant.class, app));
        let Context { pool, redundancy, metrics, .. } = &*self.context;
        self.publication = Some(Publication::new(publisher, pool.handle(), *redundancy, metrics.clone()));
        self.is_publishing = true;
        Ok(())
    }
}
