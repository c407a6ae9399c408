//! The further nodes of `lectern up --nodes N`: processes of the same program, which join as machines do and end with this one.
//!
//! A pipe is all that holds them: each has one as its standard input, and ends when this process lets go of it or is gone. They are process
//! groups of their own, so that Ctrl-C in a terminal is for this process alone.
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use coordinator::Hearing;
use serde::Deserialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, LINK_AUTHORITY, LINK_CERT, LINK_FOLDER, LINK_KEY};
use crate::node::{SECRET_VARIABLE, STATE_FILE, make_folder};
use crate::welcome::{Neighbour, NodePorts, Welcome};

/// Where in the data folder each of them has a folder.
const FOLDER: &str = "nodes";
/// What is in it besides what every node has there.
const LOG_FILE: &str = "log";
const READY_FILE: &str = "ready.json";
/// How long they may take together, also on a machine that is busy.
const READY_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether they are ready.
const LOOK: Duration = Duration::from_millis(50);

/// What nodes of this machine join by.
pub(crate) struct Door {
    /// Where the coordinator is for them: it is plain HTTP over loopback, whatever the public port is.
    pub(crate) coordinator: SocketAddr,
    /// What they join with.
    pub(crate) secret: String,
    /// Whether they are there.
    pub(crate) hearing: Hearing,
}

/// What they have in common with this process besides the settings that they read themselves.
pub(crate) struct Shared {
    /// The configuration file, if one was named.
    pub(crate) file: Option<PathBuf>,
    /// The address that every port listens on, if one was named.
    pub(crate) bind: Option<IpAddr>,
}

/// Nodes that do not run yet.
pub(crate) struct Fleet {
    nodes: Vec<Planned>,
    hearing: Hearing,
    /// This process, the first of them.
    first: Neighbour,
    welcome: Welcome,
}

struct Planned {
    name: String,
    folder: PathBuf,
    command: Command,
}

/// One that runs.
struct Running {
    name: String,
    folder: PathBuf,
    process: u32,
    /// It ends when this is closed.
    _pipe: Option<ChildStdin>,
}

/// One that has ended.
struct Ended {
    name: String,
    process: u32,
    status: std::io::Result<ExitStatus>,
}

/// What the ready file of a node says.
#[derive(Deserialize)]
struct Ready {
    #[serde(flatten)]
    ports: NodePorts,
    admin: SocketAddr,
}

impl Fleet {
    /// So many nodes besides the first, which is this process.
    pub(crate) fn plan(
        count: usize,
        (config, shared): (&Config, &Shared),
        door: Door,
        welcome: Welcome,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program cannot be found again")?;
        let name = &config.node.name;
        let (ports, admin) = (welcome.addresses.node.clone(), welcome.addresses.admin);
        let ports = ports.context("the first node is this process, which is none")?;
        let first = Neighbour { name: name.clone(), process: std::process::id(), admin, ports };
        let nodes = (2..2 + count).map(|number| {
            let name = format!("{name}-{number}");
            let folder = config.coordinator.data_dir.join(FOLDER).join(&name);
            let command = command(&program, (&name, &folder), (config, shared), &door);
            Planned { name, folder, command }
        });
        Ok(Self { nodes: nodes.collect(), hearing: door.hearing, first, welcome })
    }

    /// Starts them, says where they are, and lets them end when drained. One that ends by itself is not started again.
    pub(crate) async fn run(self, drain: CancellationToken) -> anyhow::Result<()> {
        let Self { nodes, hearing, first, welcome } = self;
        let (sender, mut ends) = channel(nodes.len());
        let mut running = Vec::new();
        for node in nodes {
            running.push(node.start(sender.clone())?);
        }
        drop(sender);
        tokio::select! {
            found = gather(&running, &hearing) => {
                let mut nodes = vec![first];
                nodes.extend(found?);
                welcome.give(nodes)?;
            }
            Some(Ended { name, status, .. }) = ends.recv() => {
                let log = running.iter().find(|node| node.name == name).map(|node| node.folder.join(LOG_FILE));
                bail!("the node {name} could not begin ({}): see {}", said(&status), log.unwrap_or_default().display());
            }
            () = drain.cancelled() => {}
        }
        follow(&mut ends, &drain).await;
        // They end as this process does, and report to the coordinator until then.
        drop(running);
        while let Some(Ended { name, .. }) = ends.recv().await {
            tracing::debug!(node = name, "a node of this machine has ended");
        }
        Ok(())
    }
}

/// Tells of those that end, until drained.
async fn follow(ends: &mut Receiver<Ended>, drain: &CancellationToken) {
    loop {
        tokio::select! {
            Some(Ended { name, process, status }) = ends.recv() => {
                let how = said(&status);
                tracing::warn!(node = name, process, how, "a node of this machine has ended; it is not started again");
            }
            () = drain.cancelled() => break,
        }
    }
}

fn said(status: &std::io::Result<ExitStatus>) -> String {
    status.as_ref().map_or_else(ToString::to_string, ToString::to_string)
}

/// How a node is started. What is not said here is in the file and the environment, which it reads as this process has.
fn command(
    program: &Path,
    (name, folder): (&str, &Path),
    (config, shared): (&Config, &Shared),
    door: &Door,
) -> Command {
    let mut command = Command::new(program);
    command.args(["node", "join", &format!("http://{}", door.coordinator), "--name", name]);
    command.env(SECRET_VARIABLE, &door.secret);
    command.arg("--end-with-input").arg("--data-dir").arg(folder);
    command.arg("--ready-file").arg(folder.join(READY_FILE));
    for port in ["--rtmp-port", "--rtmps-port", "--whep-port", "--media-port", "--link-port", "--admin-port"]
    {
        command.args([port, "0"]);
    }
    if let Some(bind) = shared.bind {
        command.args(["--bind", &bind.to_string()]);
    }
    if let Some(file) = &shared.file {
        command.arg("--config").arg(file);
    }
    // What the first node may have been told, but each must have its own.
    let link = folder.join(LINK_FOLDER);
    for (key, file) in [("CERT", LINK_CERT), ("KEY", LINK_KEY), ("AUTHORITY", LINK_AUTHORITY)] {
        command.env(format!("LECTERN__LINK__{key}"), link.join(file));
    }
    if let Some(announce) = config.link.announce {
        command.env("LECTERN__LINK__ANNOUNCE", announce.to_string());
    }
    // `--tls` means a file of the first one's folder.
    for (key, file) in [("CERT", &config.tls.cert), ("KEY", &config.tls.key)] {
        if let Some(file) = file {
            command.env(format!("LECTERN__TLS__{key}"), file);
        }
    }
    command
}

impl Planned {
    fn start(mut self, ends: Sender<Ended>) -> anyhow::Result<Running> {
        let Self { name, folder, .. } = self;
        make_folder(&folder)?;
        // It joins anew: the coordinator's port on loopback is another one each time.
        for file in [STATE_FILE, READY_FILE] {
            match std::fs::remove_file(folder.join(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot use the folder {}", folder.display()));
                }
                _ => {}
            }
        }
        let log = folder.join(LOG_FILE);
        let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let command = self.command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0);
        let mut child = command.spawn().with_context(|| format!("the node {name} cannot be started"))?;
        let (process, pipe) = (child.id(), child.stdin.take());
        let ended = name.clone();
        // It ends with the child, and there is room for what it says.
        thread::Builder::new().name(name.clone()).spawn(move || {
            let status = child.wait();
            let _ = ends.blocking_send(Ended { name: ended, process, status });
        })?;
        Ok(Running { name, folder, process, _pipe: pipe })
    }
}

impl Running {
    /// What it says of itself, once it does and the coordinator hears it.
    fn look(&self, hearing: &Hearing) -> Option<Neighbour> {
        let ready = std::fs::read(self.folder.join(READY_FILE)).ok()?;
        let Ready { ports, admin } = serde_json::from_slice(&ready).ok()?;
        let neighbour = Neighbour { name: self.name.clone(), process: self.process, admin, ports };
        hearing.is_heard(&self.name).then_some(neighbour)
    }
}

/// Waits until all are there.
async fn gather(running: &[Running], hearing: &Hearing) -> anyhow::Result<Vec<Neighbour>> {
    let deadline = tokio::time::Instant::now() + READY_MAX;
    loop {
        let found: Vec<Option<Neighbour>> = running.iter().map(|node| node.look(hearing)).collect();
        if tokio::time::Instant::now() >= deadline
            && let Some((node, _)) = running.iter().zip(&found).find(|(_, found)| found.is_none())
        {
            let log = node.folder.join(LOG_FILE);
            bail!("the node {} is not there after {READY_MAX:?}: see {}", node.name, log.display());
        }
        match found.into_iter().collect() {
            Some(all) => return Ok(all),
            None => tokio::time::sleep(LOOK).await,
        }
    }
}
