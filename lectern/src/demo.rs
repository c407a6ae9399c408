//! `lectern demo`: a short lesson in a loop, published like any phone would.
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use media::flv::file::{Tag, Tags};
use process::address::reachable;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
};
use rml_rtmp::time::RtmpTimestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Drawn by `assets/make-lesson.sh`.
const LESSON: &[u8] = include_bytes!("../assets/lesson.flv");
/// Between the last tag of one round and the first of the next: a frame at 25 a second.
const ROUND_GAP_MS: u32 = 40;
/// How long a server may take for each step of the opening.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries when the connection is lost.
const RETRY: Duration = Duration::from_secs(2);

/// The command line of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to publish: rtmp://host[:port]/live/KEY [default: this machine's server with the settings and the key of this folder].
    url: Option<String>,
    /// Where that server keeps its keys [default: data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// That server's configuration file [default: lectern.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Arguments {
    /// The address that was given, or that of the server with these settings.
    fn url(self) -> anyhow::Result<String> {
        if let Some(url) = self.url {
            return Ok(url);
        }
        let settings: Config = process::config::load(self.config.as_deref())?;
        let file = self.data_dir.unwrap_or(settings.coordinator.data_dir).join("stream-key");
        let key = std::fs::read_to_string(&file).with_context(|| {
            format!("{} cannot be read; give the address: lectern demo rtmp://host/live/KEY", file.display())
        })?;
        Ok(format!("rtmp://{}/live/{}", reachable(settings.ingest.listen), key.trim()))
    }
}

/// Publishes until Ctrl-C.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let target = Target::parse(&arguments.url()?)?;
    let drain = process::drain::on_signal()?;
    let mut has_published = false;
    loop {
        let outcome = tokio::select! {
            outcome = publish(&target, &mut has_published) => outcome,
            () = drain.cancelled() => return Ok(()),
        };
        // What never worked will not; what worked once is tried again.
        match outcome {
            Err(error) if has_published => tracing::warn!("{error:#}; trying again"),
            outcome => return outcome,
        }
        wait(RETRY, &drain).await;
    }
}

async fn wait(duration: Duration, drain: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = drain.cancelled() => {}
    }
}

/// An RTMP address.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: String,
    app: String,
    key: String,
}

impl Target {
    fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("rtmp://").context("the address must begin with rtmp://")?;
        let mut parts = rest.splitn(3, '/');
        let (host, app, key) = (parts.next(), parts.next(), parts.next());
        let (Some(host), Some(app), Some(key)) = (host, app, key.filter(|key| !key.is_empty())) else {
            bail!("the address must look like rtmp://host/live/KEY");
        };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:1935") };
        Ok(Self { address, app: app.to_owned(), key: key.to_owned() })
    }
}

/// One connection, from its beginning to its loss.
async fn publish(target: &Target, has_published: &mut bool) -> anyhow::Result<()> {
    let tags: Vec<Tag> =
        Tags::parse(Bytes::from_static(LESSON)).context("the bundled lesson is damaged")?.collect();
    let connect = tokio::time::timeout(OPENING_TIMEOUT, TcpStream::connect(&target.address)).await;
    let socket = connect
        .context("no answer")?
        .with_context(|| format!("cannot connect to {}; is `lectern up` running?", target.address))?;
    let mut client = Client::open(socket, target).await?;
    *has_published = true;
    tracing::info!("the demo lesson is being published; Ctrl-C ends it");
    let started = Instant::now();
    let mut offset_ms = 0_u32;
    loop {
        let mut last_ms = 0;
        for tag in &tags {
            last_ms = tag.timestamp_ms;
            let timestamp_ms = offset_ms.wrapping_add(tag.timestamp_ms);
            let due = started + Duration::from_millis(timestamp_ms.into());
            client.listen_until(due).await?;
            client.send(tag, timestamp_ms).await?;
        }
        offset_ms = offset_ms.wrapping_add(last_ms).wrapping_add(ROUND_GAP_MS);
    }
}

/// An open connection.
struct Client {
    socket: TcpStream,
    session: ClientSession,
}

impl Client {
    async fn open(mut socket: TcpStream, target: &Target) -> anyhow::Result<Self> {
        let _ = socket.set_nodelay(true);
        let left_over = tokio::time::timeout(OPENING_TIMEOUT, shake_hands(&mut socket))
            .await
            .context("the server does not answer the handshake")??;
        let mut config = ClientSessionConfig::new();
        config.flash_version = format!("lectern-demo/{}", env!("CARGO_PKG_VERSION"));
        // The smallest chunks that any app sends: what the server must cope with is what the demo shows.
        config.chunk_size = 128;
        config.tc_url = Some(format!("rtmp://{}/{}", target.address, target.app));
        let (session, first) = ClientSession::new(config).context("RTMP session")?;
        let mut client = Self { socket, session };
        client.write(first).await?;
        let request = client.session.request_connection(target.app.clone()).context("connect")?;
        client.write(vec![request]).await?;
        client.feed(&left_over).await?;
        client.expect(|event| *event == ClientSessionEvent::ConnectionRequestAccepted).await?;
        let request = client.session.request_publishing(target.key.clone(), PublishRequestType::Live);
        let request = request.context("publish")?;
        client.write(vec![request]).await?;
        client.expect(|event| *event == ClientSessionEvent::PublishRequestAccepted).await?;
        Ok(client)
    }

    /// Reads until the event comes, or one that says it will not.
    async fn expect(&mut self, is_wanted: impl Fn(&ClientSessionEvent) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + OPENING_TIMEOUT;
        loop {
            let events = tokio::time::timeout_at(deadline, self.read()).await;
            for event in events.context("the server does not answer")?? {
                match event {
                    event if is_wanted(&event) => return Ok(()),
                    ClientSessionEvent::ConnectionRequestRejected { description } => {
                        bail!("the server refuses: {description}");
                    }
                    // The sentence that comes with it is not told to us.
                    ClientSessionEvent::UnhandleableOnStatusCode { code } => match &*code {
                        "NetStream.Publish.BadName" => {
                            bail!("the server refuses: {code} (is the stream key right?)")
                        }
                        _ => bail!("the server refuses: {code} (its log says why)"),
                    },
                    _ => {}
                }
            }
        }
    }

    async fn listen_until(&mut self, due: Instant) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = sleep_until(due) => return Ok(()),
                events = self.read() => {
                    for event in events? {
                        if let ClientSessionEvent::UnhandleableOnStatusCode { code } = event {
                            bail!("the server says {code}");
                        }
                    }
                }
            }
        }
    }

    async fn send(&mut self, tag: &Tag, timestamp_ms: u32) -> anyhow::Result<()> {
        let (body, timestamp) = (tag.body.clone(), RtmpTimestamp::new(timestamp_ms));
        let packet = match tag.kind {
            8 => self.session.publish_audio_data(body, timestamp, false),
            9 => self.session.publish_video_data(body, timestamp, false),
            _ => return Ok(()),
        };
        self.write(vec![packet.context("media")?]).await?;
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<Vec<ClientSessionEvent>> {
        let mut buffer = [0; 4096];
        let count = self.socket.read(&mut buffer).await.context("the connection was lost")?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        self.feed(buffer.get(..count).unwrap_or(&[])).await
    }

    async fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<ClientSessionEvent>> {
        let results = self.session.handle_input(bytes).context("the server's answer")?;
        self.write(results).await
    }

    /// Sends what is to be sent and returns what has happened.
    async fn write(&mut self, results: Vec<ClientSessionResult>) -> anyhow::Result<Vec<ClientSessionEvent>> {
        let mut events = Vec::new();
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    self.socket.write_all(&packet.bytes).await.context("the connection was lost")?;
                }
                ClientSessionResult::RaisedEvent(event) => events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        Ok(events)
    }
}

/// Returns what came after the handshake.
async fn shake_hands(socket: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Client);
    socket.write_all(&handshake.generate_outbound_p0_and_p1().context("handshake")?).await?;
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            bail!("the server closed the connection; is this an RTMP port?");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let target = Target::parse("rtmp://host/live/room?k=S").unwrap();
        assert_eq!((&*target.address, &*target.app, &*target.key), ("host:1935", "live", "room?k=S"));
        assert_eq!(Target::parse("rtmp://127.0.0.1:19350/live/S").unwrap().address, "127.0.0.1:19350");
        for bad in ["http://host/live/S", "rtmp://host", "rtmp://host/live", "rtmp://host/live/"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_server_is_where_its_settings_say() {
        let folder = tempfile::TempDir::new().unwrap();
        let (config, data) = (folder.path().join("mine.toml"), folder.path().join("keys"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("stream-key"), "S\n").unwrap();
        let text = format!("[ingest]\nlisten = '[::]:2935'\n[coordinator]\ndata_dir = {data:?}\n");
        std::fs::write(&config, text).unwrap();
        let arguments = Arguments { url: None, data_dir: None, config: Some(config) };
        assert_eq!(arguments.url().unwrap(), "rtmp://127.0.0.1:2935/live/S");
    }

    #[test]
    fn the_bundled_lesson_begins_with_what_decoders_need() {
        let tags: Vec<Tag> = Tags::parse(Bytes::from_static(LESSON)).unwrap().collect();
        assert!(tags.len() > 500);
        assert!(tags.iter().take(6).any(|tag| tag.kind == 9) && tags.iter().take(6).any(|tag| tag.kind == 8));
    }
}
