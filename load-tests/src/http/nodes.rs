//! Nodes that do nothing but join and report, by the hundred: what they cost a coordinator.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::conversation::Conversation;
use super::requests::split;
use crate::publish::quantity::parse_duration;
use crate::report;

/// Between two heartbeats of a node.
const INTERVAL: Duration = Duration::from_secs(1);
/// What each can send, bits a second: so much that none is ever full.
const CAPACITY_BPS: u64 = 10_000_000_000_000;
/// Viewers of each stream, and its rate.
const VIEWERS: u64 = 35;
const STREAM_BPS: u64 = 2_650_000;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the coordinator is: http://IP:PORT/.
    url: String,
    /// The file with the secret that nodes join with.
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// How many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    nodes: u16,
    /// Streams that are published at each.
    #[arg(long, value_name = "N", default_value_t = 20)]
    streams: u16,
    /// One class more, which is published at the first node and relayed by all others.
    #[arg(long)]
    crowd: bool,
    /// For how long they report.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Duration,
    /// Write this file once all have reported.
    #[arg(long, value_name = "FILE")]
    ready_file: PathBuf,
    /// Write the figures there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One of them.
struct Node {
    address: SocketAddr,
    /// From its first heartbeat on: the others may be a long time joining.
    conversation: Option<Conversation>,
    heartbeat: Value,
    credential: String,
    seq: u64,
    /// The coordinator has taken nothing: it did not know yet that its present life is meant.
    is_new_to_it: bool,
}

impl Node {
    /// Joins as a machine does, but for its certificate, which it does not use.
    fn join(arguments: &Arguments, number: u16, (secret, request): (&str, &str)) -> anyhow::Result<Self> {
        let (address, _) = split(&arguments.url)?;
        let mut conversation = Conversation::open(address, false)?;
        let name = format!("load-{number:05}");
        let body = json!({ "name": name, "public_url": null, "certificate_request": request });
        conversation.ask(post("/internal/v1/join", secret, &body.to_string()).as_bytes())?;
        let answer = conversation.answer()?;
        ensure!(answer.status == 200, "{name} may not join: {}", String::from_utf8_lossy(answer.body));
        let answer: Value = serde_json::from_slice(answer.body)?;
        let credential = answer["credential"].as_str().context("no credential")?.to_owned();
        let own =
            (0..arguments.streams).map(|stream| stream_of(&format!("class-{number:05}-{stream:04}"), false));
        let mut streams: Vec<Value> = own.collect();
        if arguments.crowd {
            streams.push(stream_of("crowd", number > 0));
        }
        let viewers = VIEWERS * streams.len() as u64;
        let heartbeat = json!({
            "node": name, "boot": u64::from(number) + 1, "seq": 0, "started_at_ms": 1_795_338_000_123_u64,
            "is_draining": false, "coordinators": 1, "region": "region-001",
            "load": {
                "capacity_bps": CAPACITY_BPS, "load_bps": viewers * STREAM_BPS, "egress_bps": viewers * STREAM_BPS,
                "viewers": viewers, "cpu": 0.41, "loss": 0.0, "joins_seen": 0,
            },
            "public_url": null, "whep_port": 8889, "link": { "host": null, "port": 8190 },
            "metrics": "127.0.0.1:9090", "streams": streams,
        });
        Ok(Self { address, conversation: None, heartbeat, credential, seq: 0, is_new_to_it: false })
    }

    /// Reports, and returns how many bytes that were, without the head. What a coordinator takes names the life that it is in.
    fn report(&mut self) -> anyhow::Result<usize> {
        let bytes = self.say()?;
        if self.is_new_to_it { self.say() } else { Ok(bytes) }
    }

    fn say(&mut self) -> anyhow::Result<usize> {
        self.seq += 1;
        self.heartbeat["seq"] = self.seq.into();
        let body = self.heartbeat.to_string();
        let request = post("/internal/v1/heartbeat", &self.credential, &body);
        // A server closes what has idled for 10 s, as these do where this program has no time.
        let known = self.conversation.take().and_then(|known| say(known, &request).ok());
        let (conversation, (status, answer)) = match known {
            Some(said) => said,
            None => say(Conversation::open(self.address, false)?, &request)?,
        };
        ensure!(status == 200, "a heartbeat is refused: {}", String::from_utf8_lossy(&answer));
        let mut answer: Value = serde_json::from_slice(&answer)?;
        let coordinator = answer["coordinator"].take();
        self.is_new_to_it = self.heartbeat["coordinator"] != coordinator;
        self.heartbeat["coordinator"] = coordinator;
        self.conversation = Some(conversation);
        Ok(body.len())
    }
}

/// Sends a heartbeat. Returns what is answered.
fn say(mut conversation: Conversation, request: &str) -> anyhow::Result<(Conversation, (u16, Vec<u8>))> {
    conversation.ask(request.as_bytes())?;
    let answer = conversation.answer()?;
    let said = (answer.status, answer.body.to_vec());
    Ok((conversation, said))
}

/// Joins and reports until the time is over.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let secret = std::fs::read_to_string(&arguments.secret_file)
        .with_context(|| format!("{}", arguments.secret_file.display()))?;
    let key = KeyPair::generate()?;
    // The name in it is not the one that is signed.
    let request = CertificateParams::new(vec!["node".to_owned()])?.serialize_request(&key)?.pem()?;
    let join = |number| Node::join(arguments, number, (secret.trim(), &request));
    let mut nodes = (0..arguments.nodes).map(join).collect::<anyhow::Result<Vec<Node>>>()?;
    let apart = INTERVAL / u32::from(arguments.nodes);
    let mut heartbeats = 0_u64;
    let mut bytes = 0;
    let began = Instant::now();
    let mut due = began;
    while began.elapsed() < arguments.duration {
        for node in &mut nodes {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += apart;
            bytes = node.report()?;
            heartbeats += 1;
        }
        if heartbeats == u64::from(arguments.nodes) {
            report::write_json(&arguments.ready_file, &json!({ "body_bytes": bytes }))?;
        }
    }
    let figures = json!({
        "heartbeats": heartbeats, "body_bytes": bytes, "seconds": began.elapsed().as_secs_f64(),
    });
    report::result(&figures.to_string());
    arguments.json.as_ref().map_or(Ok(()), |file| report::write_json(file, &figures))
}

fn stream_of(class: &str, is_relayed: bool) -> Value {
    json!({
        "class": class, "session": "abcdefghjkmnpqrstuvw", "epoch": 1, "is_relayed": is_relayed, "state": "active",
        "viewers": VIEWERS, "has_video": true, "has_audio": true, "width": 1280, "height": 720,
        "bitrate_bps": STREAM_BPS, "problems": [],
    })
}

fn post(path: &str, secret: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: coordinator\r\nAuthorization: Bearer {secret}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
