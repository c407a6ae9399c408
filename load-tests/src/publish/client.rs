//! An RTMP publisher's connection.
use std::time::Duration;

use anyhow::{Context, bail};
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
    StreamMetadata,
};
use rml_rtmp::time::RtmpTimestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::message::{Kind, Message};
use super::target::Target;

/// How long a server may take for each step of the opening.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may leave a message unread before the publisher gives up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the goodbye may take.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes taken from the socket at a time: servers say little.
const READ_BYTES: usize = 4096;

/// A connection on which a stream is published.
pub(super) struct Client {
    socket: TcpStream,
    session: ClientSession,
}

impl Client {
    /// Connects and asks to publish, up to the server's consent.
    pub(super) async fn open(target: &Target, chunk_size: u32) -> anyhow::Result<Self> {
        let connecting = timeout(OPENING_TIMEOUT, TcpStream::connect(&target.address)).await;
        let mut socket = connecting.context("no answer to a connection")?.context("cannot connect")?;
        let _ = socket.set_nodelay(true);
        let shaking = timeout(OPENING_TIMEOUT, shake_hands(&mut socket)).await;
        let left_over = shaking.context("no answer to the handshake")??;
        let mut config = ClientSessionConfig::new();
        config.flash_version = format!("lectern-load/{}", env!("CARGO_PKG_VERSION"));
        config.chunk_size = chunk_size;
        config.tc_url = Some(format!("rtmp://{}/{}", target.address, target.app));
        let (session, first) = ClientSession::new(config).context("RTMP session")?;
        let mut client = Self { socket, session };
        client.write(first).await?;
        let request = client.session.request_connection(target.app.clone()).context("connect")?;
        client.write(vec![request]).await?;
        client.feed(&left_over).await?;
        client.expect(&ClientSessionEvent::ConnectionRequestAccepted, "connect").await?;
        let request = client.session.request_publishing(target.key.clone(), PublishRequestType::Live);
        client.write(vec![request.context("publish")?]).await?;
        client.expect(&ClientSessionEvent::PublishRequestAccepted, "publish").await?;
        Ok(client)
    }

    /// Reads until the event comes, or one that says it will not.
    async fn expect(&mut self, wanted: &ClientSessionEvent, asked: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + OPENING_TIMEOUT;
        loop {
            let events = timeout_at(deadline, self.read()).await;
            for event in events.with_context(|| format!("no answer to {asked}"))?? {
                if event == *wanted {
                    return Ok(());
                }
                check(&event)?;
            }
        }
    }

    /// Answers the server until then.
    pub(super) async fn listen_until(&mut self, due: Instant) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                biased;
                () = sleep_until(due) => return Ok(()),
                events = self.read() => events?.iter().try_for_each(check)?,
            }
        }
    }

    /// Sends a message and says how many bytes that were on the wire.
    pub(super) async fn send(
        &mut self,
        message: Message,
        metadata: &StreamMetadata,
    ) -> anyhow::Result<usize> {
        let timestamp = RtmpTimestamp::new(message.timestamp_ms());
        let packet = match message.kind {
            Kind::Audio => self.session.publish_audio_data(message.body, timestamp, false),
            Kind::Video => self.session.publish_video_data(message.body, timestamp, false),
            Kind::Metadata => self.session.publish_metadata(metadata),
        };
        let ClientSessionResult::OutboundResponse(packet) = packet.context("a message cannot be written")?
        else {
            return Ok(0);
        };
        self.write_all(&packet.bytes).await?;
        Ok(packet.bytes.len())
    }

    /// Says goodbye, so that the server need not wait for more.
    pub(super) async fn close(mut self) {
        if let Ok(results) = self.session.stop_publishing() {
            let _ = timeout(CLOSING_TIMEOUT, self.write(results)).await;
        }
        let _ = timeout(CLOSING_TIMEOUT, self.socket.shutdown()).await;
    }

    async fn read(&mut self) -> anyhow::Result<Vec<ClientSessionEvent>> {
        let mut buffer = [0; READ_BYTES];
        let count = self.socket.read(&mut buffer).await.context("the connection was lost")?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        self.feed(buffer.get(..count).unwrap_or(&[])).await
    }

    async fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<ClientSessionEvent>> {
        let results = self.session.handle_input(bytes).context("the server's answer makes no sense")?;
        self.write(results).await
    }

    /// Sends what is to be sent and returns what has happened.
    async fn write(&mut self, results: Vec<ClientSessionResult>) -> anyhow::Result<Vec<ClientSessionEvent>> {
        let mut events = Vec::new();
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => self.write_all(&packet.bytes).await?,
                ClientSessionResult::RaisedEvent(event) => events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        Ok(events)
    }

    async fn write_all(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let writing = timeout(WRITE_TIMEOUT, self.socket.write_all(bytes)).await;
        writing.context("the server reads nothing any more")?.context("the connection was lost")
    }
}

/// An event that means no is an error.
fn check(event: &ClientSessionEvent) -> anyhow::Result<()> {
    match event {
        ClientSessionEvent::ConnectionRequestRejected { description } => {
            bail!("the server refuses the connection: {description}")
        }
        // What RTMP servers say when all is well, now and then.
        ClientSessionEvent::UnhandleableOnStatusCode { code } if code.ends_with(".Success") => Ok(()),
        ClientSessionEvent::UnhandleableOnStatusCode { code } => bail!("the server says {code}"),
        _ => Ok(()),
    }
}

/// Returns what came after the handshake.
async fn shake_hands(socket: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Client);
    let opening = handshake.generate_outbound_p0_and_p1().context("handshake")?;
    socket.write_all(&opening).await.context("the connection was lost")?;
    let mut buffer = [0; READ_BYTES];
    loop {
        let count = socket.read(&mut buffer).await.context("the connection was lost")?;
        if count == 0 {
            bail!("the server closed the connection in the handshake");
        }
        match handshake.process_bytes(buffer.get(..count).unwrap_or(&[])).context("handshake")? {
            HandshakeProcessResult::InProgress { response_bytes } => {
                socket.write_all(&response_bytes).await?;
            }
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                socket.write_all(&response_bytes).await?;
                return Ok(remaining_bytes);
            }
        }
    }
}
