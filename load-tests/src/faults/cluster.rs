//! Coordinators that share a database, nodes and a publisher, each on a machine of the lab.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::database::Database;
use super::network::Network;
use crate::bench::scrape::Metrics;
use crate::compare::group::Group;
use crate::interrupt;
use crate::namespace::{run, within};

/// The coordinators' machines. Whoever asks for [`DOOR`] finds the first that answers, as a name with several addresses has it.
pub(super) const COORDINATORS: [&str; 2] = ["first", "second"];
const DOOR: &str = "lectern";
/// Where the teacher's phones and those who watch are.
const PHONE: &str = "phone";
const VIEWERS: &str = "viewers";
/// How long a process may take until it is ready, or has ended.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// One stream has a tenth of a node before it takes another: that is room for a fifth of those who watch, or for a few.
const PARTS: u32 = 5;
const PART_MIN: u32 = 4;
/// Bits a second of the lesson: small, so that this machine has time for many viewers.
const PACKETS_PER_SECOND: u64 = 40;
const PAYLOAD_BYTES: u64 = 500;

/// What all clusters have in common.
#[derive(Debug)]
pub(super) struct Lab {
    lectern: PathBuf,
    own: PathBuf,
    capacity_mbps: u64,
    pub(super) database: Database,
    pub(super) network: Network,
    _hosts: TempDir,
}

impl Lab {
    /// With room for so many who watch.
    pub(super) fn open(lectern: &Path, viewers: u32) -> anyhow::Result<Self> {
        let lectern = lectern.canonicalize().with_context(|| format!("{} is missing", lectern.display()))?;
        let mut network = Network::open()?;
        let folder = TempDir::new()?;
        let mut hosts = "127.0.0.1 localhost\n".to_owned();
        for name in COORDINATORS {
            hosts.push_str(&format!("{} {DOOR}\n", network.machine(name)?));
        }
        let file = folder.path().join("hosts");
        std::fs::write(&file, hosts)?;
        // Of this program and what it starts: the mounts are its own.
        run("mount", &format!("--bind {} /etc/hosts", file.display()))?;
        for name in [PHONE, VIEWERS] {
            network.machine(name)?;
        }
        let database = Database::start(&mut network)?;
        let part = u64::from((viewers / PARTS).max(PART_MIN));
        let capacity_mbps = part * PACKETS_PER_SECOND * PAYLOAD_BYTES * 8 * 10 / 1_000_000;
        Ok(Self { lectern, own: std::env::current_exe()?, capacity_mbps, database, network, _hosts: folder })
    }

    /// Has this program run on the machine of those who watch.
    pub(super) fn viewers(&self, arguments: &str) -> anyhow::Result<Group> {
        self.own(VIEWERS, arguments)
    }

    fn own(&self, machine: &str, arguments: &str) -> anyhow::Result<Group> {
        let command = within(machine, &format!("{} {arguments}", self.own.display()));
        Group::start(&format!("exec {command}"), &[], None)
    }

    /// What a shell runs to have `command` on the machine of those who watch.
    pub(super) fn at_viewers(command: &str) -> String {
        within(VIEWERS, command)
    }

    /// Where the page is.
    pub(super) fn page() -> String {
        format!("http://{DOOR}:8000/watch/lesson")
    }

    /// Where they ask for tokens, as this kind of people.
    pub(super) fn token_url(kind: &str) -> String {
        format!("http://{DOOR}:8000/api/token?user_type=student&user_id={kind}{{n}}&class_id=lesson")
    }
}

/// A process and where it is.
#[derive(Debug)]
struct Running {
    group: Group,
    ready: Value,
}

impl Running {
    fn field(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_default()
    }
}

/// What runs.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    pub(super) lab: &'a mut Lab,
    folder: TempDir,
    database_url: String,
    coordinators: BTreeMap<String, Running>,
    nodes: BTreeMap<String, Running>,
    publisher: Option<Group>,
}

impl<'a> Cluster<'a> {
    /// Two coordinators with nodes that nobody publishes to.
    pub(super) fn start(lab: &'a mut Lab, nodes: &[&str]) -> anyhow::Result<Self> {
        lab.network.heal()?;
        let mut cluster = Self {
            database_url: lab.database.create()?,
            lab,
            folder: TempDir::new()?,
            coordinators: BTreeMap::new(),
            nodes: BTreeMap::new(),
            publisher: None,
        };
        let [first, second] = COORDINATORS;
        cluster.start_coordinator(first)?;
        // What they share is sealed with this in the database.
        std::fs::create_dir(cluster.path(second))?;
        std::fs::copy(cluster.path(first).join("seal-key"), cluster.path(second).join("seal-key"))?;
        cluster.start_coordinator(second)?;
        cluster.start_nodes(nodes)?;
        Ok(cluster)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn secret(&self, name: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.path(COORDINATORS[0]).join(name))?.trim().to_owned())
    }

    /// Starts a role on a machine, with the ports that it has by default.
    fn launch(&mut self, machine: &str, role: &str) -> anyhow::Result<Group> {
        let address = self.lab.network.machine(machine)?;
        let file = self.path(&format!("{machine}.json"));
        let _ = std::fs::remove_file(&file);
        let limits = "LECTERN__COORDINATOR__TOKENS_AT_ONCE=100000 LECTERN__WHEP__REQUESTS_AT_ONCE=100000 \
                      LECTERN__WHEP__REQUESTS_PER_SECOND=100000";
        let command = format!(
            "env LECTERN_LOG=warn {limits} LECTERN__NODE__CAPACITY_MBPS={} LECTERN__NODE__ADMIN_LISTEN={address}:9090 \
             LECTERN__COORDINATOR__DATABASE_URL={} {} {role} --open --bind {address} --data-dir {} --ready-file {} 2>>{}",
            self.lab.capacity_mbps,
            self.database_url,
            self.lab.lectern.display(),
            self.path(machine).display(),
            file.display(),
            self.log(machine).display(),
        );
        Group::start(&format!("exec {}", within(machine, &command)), &[], None)
    }

    /// Waits until it is ready.
    fn ready(&self, machine: &str, mut group: Group) -> anyhow::Result<Running> {
        let file = self.path(&format!("{machine}.json"));
        let ready = wait(machine, || {
            let log = || std::fs::read_to_string(self.log(machine)).unwrap_or_default();
            ensure!(group.status()?.is_none(), "{machine} has ended:\n{}", log());
            Ok(std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()))
        })?;
        Ok(Running { group, ready })
    }

    fn log(&self, machine: &str) -> PathBuf {
        self.path(&format!("{machine}.log"))
    }

    /// What each machine has logged.
    pub(super) fn logs(&self) -> BTreeMap<String, String> {
        let files =
            std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten().map(|entry| entry.path());
        let log = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_suffix(".log")?.to_owned();
            Some((name, std::fs::read_to_string(&path).ok()?))
        };
        files.filter_map(log).collect()
    }

    pub(super) fn start_coordinator(&mut self, name: &str) -> anyhow::Result<()> {
        let group = self.launch(name, "coordinator")?;
        let running = self.ready(name, group)?;
        self.coordinators.insert(name.to_owned(), running);
        Ok(())
    }

    /// As if its power were cut.
    pub(super) fn kill_coordinator(&mut self, name: &str) -> anyhow::Result<()> {
        self.coordinators.remove(name).context("there is no such coordinator")?.group.kill();
        Ok(())
    }

    /// Waits until every coordinator says that its database works.
    pub(super) fn wait_for_health(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        for running in self.coordinators.values() {
            let url = format!("http://{}/health", running.field("http"));
            let health =
                || runtime.block_on(http.get(&url).send()).is_ok_and(|answer| answer.status().is_success());
            wait("a coordinator's database", || Ok(health().then_some(())))?;
        }
        Ok(())
    }

    /// Nodes that join, or come back.
    pub(super) fn start_nodes(&mut self, names: &[&str]) -> anyhow::Result<()> {
        let urls = self.coordinators.values().map(|running| format!("http://{}", running.field("http")));
        let (urls, secret) = (urls.collect::<Vec<_>>().join(" "), self.secret("node-secret")?);
        let join = |name: &&str| {
            let role = format!("node join {urls} --secret {secret} --name {name}");
            Ok(((*name).to_owned(), self.launch(name, &role)?))
        };
        let joining = names.iter().map(join).collect::<anyhow::Result<Vec<_>>>()?;
        for (name, group) in joining {
            let running = self.ready(&name, group)?;
            self.nodes.insert(name, running);
        }
        Ok(())
    }

    pub(super) fn kill_node(&mut self, name: &str) -> anyhow::Result<()> {
        self.nodes.remove(name).context("there is no such node")?.group.kill();
        Ok(())
    }

    /// Lets a node drain, and returns how long it took to end.
    pub(super) fn drain(&mut self, name: &str) -> anyhow::Result<Duration> {
        let mut node = self.nodes.remove(name).context("there is no such node")?;
        let began = Instant::now();
        node.group.signal("TERM");
        wait("a node that drains", || Ok(node.group.status()?))?;
        Ok(began.elapsed())
    }

    /// A phone publishes to a node; the one that did before ends.
    pub(super) fn publish(&mut self, name: &str) -> anyhow::Result<()> {
        drop(self.publisher.take());
        self.publish_beside(name).map(drop)
    }

    /// A phone publishes to a node, and has sent something when this returns. The one that did before, which is returned, does not
    /// know.
    pub(super) fn publish_beside(&mut self, name: &str) -> anyhow::Result<Option<Group>> {
        let rtmp = self.nodes.get(name).context("there is no such node")?.field("rtmp_url");
        let file = self.path("publishing");
        let _ = std::fs::remove_file(&file);
        let arguments = format!(
            "publish --rtmp {rtmp}/{} --synthetic --packets-per-second {PACKETS_PER_SECOND} --payload {PAYLOAD_BYTES} \
             --keyframe-packets 10 --duration 1h --ready-file {}",
            self.secret("stream-key")?,
            file.display(),
        );
        let mut publisher = self.lab.own(PHONE, &arguments)?;
        wait("the publisher", || {
            ensure!(publisher.status()?.is_none(), "the publisher is not let in");
            Ok(file.exists().then_some(()))
        })?;
        Ok(self.publisher.replace(publisher))
    }

    /// The address of a node's WHEP server.
    pub(super) fn whep(&self, name: &str) -> &str {
        self.nodes.get(name).map_or("", |node| node.field("whep"))
    }

    /// How many watch at each node, by its metrics.
    pub(super) fn viewers(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let count = |(name, node): (&String, &Running)| {
            let metrics = runtime.block_on(Metrics::read(&http, node.field("admin")))?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let viewers = metrics.sum("lectern_rtc_viewers") as u64;
            Ok((name.clone(), viewers))
        };
        self.nodes.iter().map(count).collect()
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // Nobody waits for them to drain.
        let all = [&mut self.nodes, &mut self.coordinators].map(std::mem::take);
        all.into_iter().flat_map(BTreeMap::into_values).for_each(|running| running.group.kill());
    }
}

/// Looks until something is there.
pub(super) fn wait<T>(what: &str, look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    wait_for(what, TIMEOUT, look)
}

/// The same, with a time of its own.
pub(super) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        interrupt::check()?;
        if Instant::now() >= deadline {
            bail!("{what} takes longer than {} s", limit.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}
