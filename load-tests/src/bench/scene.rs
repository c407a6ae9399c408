//! What every scene needs: a server, a publisher, viewers, each on its cores.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::scrape::Metrics;
use crate::compare::group::Group;
use crate::process::Usage;
use crate::report::plot::Plot;

/// How long a program may take to be ready, and viewers to be in.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// From the first picture to the moment at which everything is warm.
const WARM: Duration = Duration::from_secs(2);
/// Neither the limits of one address nor the node's own are what is measured here.
const SETTINGS: &str = "requests_at_once = 1000000\nrequests_per_second = 1000000\n\
    [coordinator]\ntokens_at_once = 1000000\ntokens_per_second = 1000000\n[node]\ncapacity_mbps = 10000000\n";

/// The programs and the cores.
#[derive(Debug)]
pub(super) struct Place {
    server: PathBuf,
    own: PathBuf,
    cores: Vec<usize>,
    pub(super) churn_seconds: u64,
    plots: Option<PathBuf>,
    http: reqwest::Client,
}

/// What publishes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lesson {
    /// 128 packets of 1,160 bytes of payload a second, and no sound.
    Pictures,
    /// The same with 50 packets of sound.
    WithSound,
}

/// A server that somebody publishes to.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    place: &'a Place,
    work_cores: Vec<usize>,
    folder: TempDir,
    pub(super) server: Group,
    /// The publisher, and what else it takes.
    _others: Vec<Group>,
    ready: Value,
    token_query: String,
}

/// The server over a stretch of time.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) cpu: Duration,
    pub(super) packets: f64,
    pub(super) rss_bytes: u64,
    pub(super) before: Metrics,
    pub(super) after: Metrics,
}

impl Place {
    pub(super) fn new(
        server: PathBuf,
        cores: &[usize],
        churn_seconds: u64,
        plots: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        // Nothing leaves this machine, whatever proxy its environment names.
        // A server ends connections that were idle; one that is just being ended is no answer.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        Ok(Self { server, own: std::env::current_exe()?, cores: cores.to_vec(), churn_seconds, plots, http })
    }

    /// Draws a picture, if pictures are wanted.
    pub(super) fn draw(&self, name: &str, plot: Value) -> anyhow::Result<()> {
        let Some(folder) = &self.plots else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let plot: Plot = serde_json::from_value(plot)?;
        std::fs::write(folder.join(name), plot.draw()?).with_context(|| format!("{name} cannot be written"))
    }

    /// Starts a server with `shards` shards on as many cores, and a publisher on the others.
    pub(super) async fn set(&self, shards: usize, lesson: Lesson) -> anyhow::Result<Scene<'_>> {
        let (server_cores, work_cores) = self.cores.split_at(shards);
        let folder = TempDir::new()?;
        let (server, ready) = self.start(folder.path(), ("server", "up"), shards, server_cores).await?;
        let publisher = self.publish((&ready, field(&ready, "key")), lesson, work_cores)?;
        self.wait_for_lesson(&ready).await?;
        let (work_cores, others) = (work_cores.to_vec(), vec![publisher]);
        Ok(Scene {
            place: self,
            work_cores,
            folder,
            server,
            _others: others,
            ready,
            token_query: String::new(),
        })
    }

    /// Starts a node on one core that has to pull the stream from another, to which somebody publishes; that one, the coordinator
    /// and the publisher are on the other cores.
    pub(super) async fn set_pulling(&self, lesson: Lesson) -> anyhow::Result<Scene<'_>> {
        let (server_cores, work_cores) = self.cores.split_at(1);
        let folder = TempDir::new()?;
        let path = folder.path();
        let (coordinator, at) = self.start(path, ("coordinator", "coordinator"), 1, work_cores).await?;
        let http = field(&at, "http").to_owned();
        let secret = std::fs::read_to_string(path.join("coordinator/data/node-secret"))?;
        let key = std::fs::read_to_string(path.join("coordinator/data/stream-key"))?;
        let role = |name: &str| format!("node join http://{http} --secret {} --name {name}", secret.trim());
        let (origin, published) = self.start(path, ("origin", &role("origin")), 1, work_cores).await?;
        let (server, edge) = self.start(path, ("edge", &role("edge")), 1, server_cores).await?;
        let publisher = self.publish((&published, key.trim()), lesson, work_cores)?;
        self.wait_for_lesson(&at).await?;
        let (work_cores, others) = (work_cores.to_vec(), vec![publisher, origin, coordinator]);
        let ready = json!({ "http": http, "admin": field(&edge, "admin") });
        let token_query = "&exclude=origin".to_owned();
        Ok(Scene { place: self, work_cores, folder, server, _others: others, ready, token_query })
    }

    /// Starts one process in a folder of its own, and waits until it is ready.
    async fn start(
        &self,
        folder: &Path,
        (name, role): (&str, &str),
        shards: usize,
        cores: &[usize],
    ) -> anyhow::Result<(Group, Value)> {
        let folder = folder.join(name);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("lectern.toml"), format!("[whep]\nshards = {shards}\n{SETTINGS}"))?;
        let link = if role == "up" { "" } else { "--link-port 0" };
        let command = format!(
            "cd {} && exec env LECTERN_LOG=warn {} {role} --open --bind 127.0.0.1 --data-dir data --http-port 0 \
             --rtmp-port 0 --whep-port 0 --media-port 0 --admin-port 0 {link} --ready-file ready.json",
            folder.display(),
            self.server.display()
        );
        let mut group = Group::start(&command, cores, None)?;
        let file = folder.join("ready.json");
        wait_for(&mut group, "the server", || Ok(file.exists())).await?;
        Ok((group, serde_json::from_slice(&std::fs::read(&file)?)?))
    }

    fn publish(
        &self,
        (ready, key): (&Value, &str),
        lesson: Lesson,
        cores: &[usize],
    ) -> anyhow::Result<Group> {
        let sound = if matches!(lesson, Lesson::WithSound) { "aac" } else { "none" };
        let command = format!(
            "exec {} publish --rtmp {}/{key} --packets-per-second 128 --payload 1160 --audio {sound} --duration 1h",
            self.own.display(),
            field(ready, "rtmp_url"),
        );
        Group::start(&command, cores, None)
    }

    /// Waits until somebody publishes, as the coordinator sees it.
    async fn wait_for_lesson(&self, ready: &Value) -> anyhow::Result<()> {
        let streams = format!("http://{}/api/v1/streams", field(ready, "http"));
        let deadline = Instant::now() + READY_TIMEOUT;
        while !self.http.get(&streams).send().await?.text().await?.contains("\"active\"") {
            ensure!(Instant::now() < deadline, "nobody publishes");
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(WARM).await;
        Ok(())
    }

    /// Runs one of our own commands to its end on `cores` and returns its figures.
    pub(super) async fn measure(&self, arguments: &str, cores: &[usize]) -> anyhow::Result<Value> {
        let folder = TempDir::new()?;
        let file = folder.path().join("figures.json");
        let command = self.own_command(&format!("{arguments} --json {}", file.display()));
        let mut group = Group::start(&command, cores, None)?;
        while group.status()?.is_none() {
            tokio::time::sleep(LOOK).await;
        }
        let figures = std::fs::read(&file).with_context(|| format!("{arguments} came to nothing"))?;
        Ok(serde_json::from_slice(&figures)?)
    }

    /// How the shell runs one of our own commands.
    pub(super) fn own_command(&self, arguments: &str) -> String {
        format!("exec {} {arguments}", self.own.display())
    }

    /// The core of the first shard.
    pub(super) fn server_core(&self) -> usize {
        self.cores.first().copied().unwrap_or(0)
    }
}

impl Scene<'_> {
    fn command(&self, what: &str) -> String {
        let (http, query) = (self.field("http"), &self.token_query);
        let threads = self.work_cores.len();
        format!(
            "{what} --threads {threads} --token-url \
             'http://{http}/api/token?user_type=student&user_id=s{{n}}&class_id=lesson{query}'"
        )
    }

    /// What the server's ready file says.
    pub(super) fn field(&self, name: &str) -> &str {
        field(&self.ready, name)
    }

    /// A file in the server's folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("server").join(name)
    }

    /// Asks the server for something, beside what is measured.
    pub(super) async fn ask_once(&self, url: &str) -> anyhow::Result<Value> {
        let answer = self.place.http.post(url).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    /// Starts one of our own commands on the cores that the server does not have.
    pub(super) fn start(&self, arguments: &str) -> anyhow::Result<Group> {
        Group::start(&self.place.own_command(arguments), &self.work_cores, None)
    }

    /// Runs one of our own commands there to its end and returns its figures.
    pub(super) async fn work(&self, arguments: &str) -> anyhow::Result<Value> {
        self.place.measure(arguments, &self.work_cores).await
    }

    pub(super) async fn metrics(&self) -> anyhow::Result<Metrics> {
        Metrics::read(&self.place.http, self.field("admin")).await
    }

    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        Ok(self.server.usage()?)
    }

    /// Runs viewers to their end and returns their figures.
    pub(super) async fn view(&self, what: &str) -> anyhow::Result<Value> {
        self.work(&self.command(what)).await
    }

    /// The same, and what the server does from when all are in, for `stretch`.
    pub(super) async fn view_steadily(
        &self,
        what: &str,
        stretch: Duration,
    ) -> anyhow::Result<(Value, Stretch)> {
        let ready = self.folder.path().join("viewers");
        let seconds = (stretch + 2 * WARM).as_secs();
        let what = format!("{what} --duration {seconds}s --ready-file {}", ready.display());
        let observe = async {
            let deadline = Instant::now() + READY_TIMEOUT;
            while !ready.exists() {
                ensure!(Instant::now() < deadline, "the viewers are not in");
                tokio::time::sleep(LOOK).await;
            }
            tokio::time::sleep(WARM).await;
            let (began, before) = (self.usage()?, self.metrics().await?);
            tokio::time::sleep(stretch).await;
            let (ended, after) = (self.usage()?, self.metrics().await?);
            Ok(Stretch {
                cpu: ended.cpu.saturating_sub(began.cpu),
                packets: after.grown(&before, "lectern_rtc_packets_total")?,
                rss_bytes: ended.rss_bytes,
                before,
                after,
            })
        };
        let (figures, stretch) = tokio::try_join!(self.view(&what), observe)?;
        std::fs::remove_file(&ready)?;
        Ok((figures, stretch))
    }
}

impl Stretch {
    pub(super) fn us_per_packet(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.packets.max(1.0)
    }
}

/// A number of viewers' figures; nothing counted is 0.
pub(super) fn number(figures: &Value, path: &str) -> f64 {
    figures.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
}

fn field<'a>(ready: &'a Value, name: &str) -> &'a str {
    ready[name].as_str().unwrap_or_default()
}

/// Waits until a program is ready.
pub(super) async fn wait_for(
    group: &mut Group,
    what: &str,
    mut is_ready: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    while !is_ready()? {
        if let Some(status) = group.status()? {
            bail!("{what} has ended: {status}");
        }
        ensure!(Instant::now() < deadline, "{what} is not ready");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
