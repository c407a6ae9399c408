//! `lectern-load publish`: many teachers at once.
mod client;
mod message;
mod pacing;
mod picture;
pub(crate) mod quantity;
pub(crate) mod recorded;
pub(crate) mod stamp;
mod synthetic;
mod tally;
mod target;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use rml_rtmp::sessions::StreamMetadata;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use self::client::Client;
use self::message::{Kind, Message};
use self::pacing::{Pacer, Pacing};
use self::quantity::{parse_bitrate, parse_duration};
use self::recorded::{Recording, Rounds};
use self::stamp::{Stamp, Stamper};
use self::synthetic::{Rate, Shape, Synthetic};
use self::tally::{Counts, Tally};
use self::target::Target;
use crate::report;

/// Publishers of one process at most: each has a connection, and most systems let a process have 1,024 files.
const PUBLISHERS_MAX: usize = 1000;
/// Threads: one carries some hundred publishers of 1 Mbit/s.
const WORKERS: usize = 2;
/// Publishers begin one after the other within this time, so that their keyframes do not come all at once.
const SPREAD: Duration = Duration::from_secs(2);
/// How long publishers may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(3);
/// Bits per second where nothing else is said: 720p of a phone on a mobile network.
const BITRATE_BPS: f64 = 1.1e6;

/// The command line of `publish`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to publish. The publisher's number, from 1, takes the place of an n in braces, its line of --keys that of
    /// {key}.
    #[arg(long, value_name = "rtmp://HOST[:PORT]/APP/KEY{n}")]
    rtmp: String,
    /// How many publish.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// A file with a stream key in each line, for servers that choose the keys.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// An FLV file, in a loop.
    #[arg(long, value_name = "FLV", conflicts_with = "synthetic")]
    file: Option<PathBuf>,
    /// Pictures made up to the sizes below, and silence; so unless a file is given.
    #[arg(long)]
    synthetic: bool,
    /// Pictures per second.
    #[arg(long, default_value_t = 30.0, conflicts_with = "file")]
    fps: f64,
    /// Bits of video per second, such as 1.1M [default: 1.1M].
    #[arg(long, value_parser = parse_bitrate, conflicts_with_all = ["file", "packets_per_second"])]
    bitrate: Option<f64>,
    /// RTP packets of video per second that a WebRTC server makes of the stream, instead of a bit rate. Sound adds 50.
    #[arg(long, value_name = "N", conflicts_with = "file")]
    packets_per_second: Option<f64>,
    /// Bytes of those packets' payload: what the server puts into one at most. The default is Lectern's; servers with
    /// room for 1200 make the same number of packets, but for a keyframe's.
    #[arg(long, value_name = "BYTES", default_value_t = 1160, conflicts_with = "file")]
    payload: usize,
    /// RTP packets of a keyframe.
    #[arg(long, value_name = "N", default_value_t = 40, conflicts_with = "file")]
    keyframe_packets: usize,
    /// From one keyframe to the next.
    #[arg(long, value_parser = parse_duration, default_value = "2s", conflicts_with = "file")]
    gop: Duration,
    /// Sound: AAC-LC, 48 kHz, stereo, silent.
    #[arg(long, value_enum, default_value_t = Audio::Aac, conflicts_with = "file")]
    audio: Audio,
    /// Bytes of an RTMP chunk.
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(128..=1 << 24))]
    chunk_size: u32,
    /// How evenly to send.
    #[arg(long, value_enum, default_value_t = Pacing::Real)]
    pacing: Pacing,
    /// Mark each picture with the time it was sent [default: tail for synthetic pictures, none for a file].
    ///
    /// A mark is the UUID 4c656374-6572-6e4c-6f61-6453746d7001 as 16 bytes, then the UNIX time in microseconds as 16
    /// lower-case hexadecimal digits.
    #[arg(long, value_enum)]
    stamp: Option<Stamp>,
    /// How long, such as 30s or 5m [default: until Ctrl-C].
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Write the figures there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the time at which the first publisher began there, in UNIX microseconds, once it has sent something.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Audio {
    Aac,
    None,
}

/// Publishes until the time is over, or Ctrl-C.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(publish(arguments))
}

async fn publish(arguments: Arguments) -> anyhow::Result<()> {
    let plan = Plan::new(&arguments)?;
    let targets = Target::all(&arguments.rtmp, arguments.count, arguments.keys.as_deref())?;
    let publishers = targets.len();
    let (plan, tally, (end, ended)) = (Arc::new(plan), Arc::new(Tally::default()), watch::channel(false));
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for (index, target) in targets.into_iter().enumerate() {
        let begin = started + SPREAD * u32::try_from(index)? / u32::try_from(publishers)?;
        let publisher = Publisher { target, seed: index as u64, plan: plan.clone(), tally: tally.clone() };
        tasks.spawn(publisher.run(begin, ended.clone()));
    }
    drop(ended);
    watch_over(&mut tasks, &tally, publishers, started, arguments.duration).await?;
    let seconds = started.elapsed().as_secs_f64();
    end.send_replace(true);
    let goodbyes = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GOODBYE, goodbyes).await;
    let outcome = tally.outcome(publishers, seconds);
    report::result(&outcome.table());
    if let Some(file) = &arguments.json {
        report::write_json(file, &outcome)?;
    }
    if outcome.admitted == 0 {
        bail!("the server let nobody in");
    }
    ensure!(outcome.failed == 0, "{} of {publishers} publishers failed", outcome.failed);
    Ok(())
}

/// Tells how it goes, until the time is over, all have ended or somebody asks for the end.
async fn watch_over(
    tasks: &mut JoinSet<()>,
    tally: &Tally,
    publishers: usize,
    started: Instant,
    duration: Option<Duration>,
) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let second = Duration::from_secs(1);
    let mut ticks = interval_at(started + second, second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Counts::default();
    let over = async {
        match duration {
            Some(duration) => sleep_until(started + duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = &mut over => return Ok(()),
            joined = tasks.join_next() => match joined {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(error).context("a publisher broke down"),
                None => return Ok(()),
            },
            now = ticks.tick() => {
                let counts = tally.counts();
                report::progress(&counts.line(before, publishers, (now - started).as_secs()));
                before = counts;
            }
        }
    }
}

/// What every publisher does.
struct Plan {
    source: Source,
    stamp: Stamp,
    pacing: Pacing,
    chunk_size: u32,
    metadata: StreamMetadata,
    ready_file: Option<PathBuf>,
}

/// Where the messages come from.
enum Source {
    File(Recording),
    Synthetic(Shape),
}

/// The messages of one publisher.
enum Stream {
    File(Rounds),
    Synthetic(Synthetic),
}

impl Plan {
    fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let count = arguments.count;
        ensure!((1..=PUBLISHERS_MAX).contains(&count), "--count must be 1 to {PUBLISHERS_MAX}");
        let mut metadata = StreamMetadata::new();
        metadata.encoder = Some(format!("lectern-load {}", env!("CARGO_PKG_VERSION")));
        let default_stamp = if arguments.file.is_some() { Stamp::None } else { Stamp::Tail };
        let stamp = arguments.stamp.unwrap_or(default_stamp);
        let source = match &arguments.file {
            Some(file) => Source::File(Recording::read(file)?),
            None => {
                let shape = arguments.shape(stamp);
                Synthetic::new(shape)?;
                (metadata.video_width, metadata.video_height) = (Some(picture::WIDTH), Some(picture::HEIGHT));
                metadata.video_codec_id = Some(7);
                metadata.audio_codec_id = shape.has_audio.then_some(10);
                Source::Synthetic(shape)
            }
        };
        Ok(Self {
            source,
            stamp,
            pacing: arguments.pacing,
            chunk_size: arguments.chunk_size,
            metadata,
            ready_file: arguments.ready_file.clone(),
        })
    }

    fn stream(&self) -> anyhow::Result<Stream> {
        Ok(match &self.source {
            Source::File(recording) => Stream::File(recording.rounds()),
            Source::Synthetic(shape) => Stream::Synthetic(Synthetic::new(*shape)?),
        })
    }
}

impl Arguments {
    fn shape(&self, stamp: Stamp) -> Shape {
        Shape {
            fps: self.fps,
            gop: self.gop,
            keyframe_packets: self.keyframe_packets,
            payload: self.payload,
            rate: match self.packets_per_second {
                Some(packets) => Rate::Packets(packets),
                None => Rate::Bitrate(self.bitrate.unwrap_or(BITRATE_BPS)),
            },
            has_audio: self.audio == Audio::Aac,
            leaves_room: stamp == Stamp::Tail,
        }
    }
}

impl Stream {
    fn next(&mut self) -> Message {
        match self {
            Self::File(rounds) => rounds.next(),
            Self::Synthetic(synthetic) => synthetic.next(),
        }
    }
}

/// One teacher.
struct Publisher {
    target: Target,
    seed: u64,
    plan: Arc<Plan>,
    tally: Arc<Tally>,
}

impl Publisher {
    async fn run(self, begin: Instant, mut ended: watch::Receiver<bool>) {
        tokio::select! {
            () = sleep_until(begin) => {}
            _ = ended.wait_for(|is_over| *is_over) => return,
        }
        let opening = Instant::now();
        let mut client = match Client::open(&self.target, self.plan.chunk_size).await {
            Ok(client) => client,
            Err(error) => return self.tally.on_error(&error),
        };
        self.tally.on_open(opening.elapsed());
        let outcome = self.send(&mut client, ended).await;
        self.tally.on_close();
        match outcome {
            Ok(()) => client.close().await,
            Err(error) => self.tally.on_error(&error),
        }
    }

    /// Sends until it is over or the connection fails. The end never comes in the middle of a message.
    async fn send(&self, client: &mut Client, mut ended: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut stream = self.plan.stream()?;
        let mut pacer = Pacer::new(self.plan.pacing, self.seed);
        let mut stamper = Stamper::new(self.plan.stamp);
        let (started, started_us) = (Instant::now(), unix_us());
        let mut ready_file = self.plan.ready_file.as_deref().filter(|_| self.seed == 0);
        loop {
            let mut message = stream.next();
            let due = started + pacer.release(message.due);
            tokio::select! {
                waited = client.listen_until(due) => waited?,
                _ = ended.wait_for(|is_over| *is_over) => return Ok(()),
            }
            if message.kind == Kind::Video {
                message.body = stamper.stamp(message.body, unix_us());
            }
            let kind = message.kind;
            let bytes = client.send(message, &self.plan.metadata).await?;
            self.tally.on_sent(kind, bytes, due.elapsed());
            if let Some(file) = ready_file.take() {
                std::fs::write(file, started_us.to_string())
                    .with_context(|| format!("{}", file.display()))?;
            }
        }
    }
}

fn unix_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}
