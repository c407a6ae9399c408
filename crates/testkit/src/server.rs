//! `lectern up` in a folder of its own, on ports that the kernel chose.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::Process;

/// How long the program may take to hold its ports.
const READY: Duration = Duration::from_secs(20);
/// How long a publisher may take to be let in.
const PUBLISHED: Duration = Duration::from_secs(20);

/// Where everything is.
#[derive(Clone, Debug, Deserialize)]
pub struct Addresses {
    /// Web page and API.
    pub http: SocketAddr,
    /// RTMP.
    pub rtmp: SocketAddr,
    /// WHEP.
    pub whep: SocketAddr,
    /// Media.
    pub media: SocketAddr,
    /// Metrics.
    pub admin: SocketAddr,
    /// The default class.
    pub class: String,
    /// Its stream key.
    pub key: String,
    /// Its PIN, in guarded mode.
    pub pin: Option<String>,
    /// Where to publish.
    pub rtmp_url: String,
}

/// Where everything of a node is.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeAddresses {
    /// RTMP.
    pub rtmp: SocketAddr,
    /// WHEP.
    pub whep: SocketAddr,
    /// Metrics.
    pub admin: SocketAddr,
    /// Streams for other nodes.
    pub link: SocketAddr,
    /// Where to publish.
    pub rtmp_url: String,
}

/// A further node of a cluster.
#[derive(Debug)]
pub struct Node {
    _folder: TempDir,
    /// The process.
    pub process: Process,
    /// Where everything is.
    pub addresses: NodeAddresses,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    folder: TempDir,
    /// The process.
    pub process: Process,
    /// Where everything is.
    pub addresses: Addresses,
}

impl Server {
    /// Starts `program`, which is `env!("CARGO_BIN_EXE_lectern")` in a test, with further arguments.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self::start_in(folder, program, arguments)
    }

    /// The same as the first machine of a cluster, whose other nodes are [`Self::start_node`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_cluster(program: &str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self::start_in(folder, program, &[arguments, &["--cluster"]].concat())
    }

    fn start_in(folder: TempDir, program: &str, arguments: &[&str]) -> Self {
        let (process, addresses) = launch(Path::new(program), folder.path(), &["up"], arguments);
        Self { program: program.into(), folder, process, addresses }
    }

    /// Starts it after it has ended, with what it had, on other ports.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self, arguments: &[&str]) {
        (self.process, self.addresses) = launch(&self.program, self.folder.path(), &["up"], arguments);
    }

    /// Starts one more node of the cluster.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_node(&self, name: &str) -> Node {
        let folder = TempDir::new().expect("a temporary folder");
        let secret = std::fs::read_to_string(self.data_dir().join("node-secret")).expect("a secret");
        let coordinator = format!("http://{}", self.addresses.http);
        let role = ["node", "join", &coordinator, "--secret", &secret, "--name", name];
        let (process, addresses) = launch(&self.program, folder.path(), &role, &[]);
        Node { _folder: folder, process, addresses }
    }

    /// Publishes the bundled lesson to a node, until the returned process is dropped.
    pub fn publish_demo_to(&self, node: &NodeAddresses) -> Process {
        publish(&self.program, &format!("{}/{}", node.rtmp_url, self.addresses.key))
    }

    /// Publishes the bundled lesson until the returned process is dropped.
    pub fn publish_demo(&self) -> Process {
        publish(&self.program, &format!("{}/{}", self.addresses.rtmp_url, self.addresses.key))
    }

    /// The folder with the database and the keys.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// The server's program beside another one of the workspace; built if only the crate of that one was.
///
/// # Panics
/// When it cannot be built.
pub fn lectern_beside(program: &str) -> PathBuf {
    let path = Path::new(program).with_file_name("lectern");
    if !path.exists() {
        let is_release = path.parent().is_some_and(|folder| folder.ends_with("release"));
        let profile = if is_release { "release" } else { "dev" };
        let built =
            Command::new(env!("CARGO")).args(["build", "-p", "lectern", "--profile", profile]).status();
        assert!(built.is_ok_and(|status| status.success()), "lectern cannot be built");
    }
    path
}

fn publish(program: &Path, url: &str) -> Process {
    let mut process = Process::start(Command::new(program).args(["demo", url]));
    process.wait_for("is being published", PUBLISHED);
    process
}

/// Starts one role of the program in a folder, and returns what its ready file says.
///
/// # Panics
/// When it does not start.
pub fn launch<A: DeserializeOwned>(
    program: &Path,
    folder: &Path,
    role: &[&str],
    arguments: &[&str],
) -> (Process, A) {
    let ready_file = folder.join("ready.json");
    let mut command = Command::new(program);
    command.args(role).args(["--bind", "127.0.0.1"]).current_dir(folder);
    command.arg("--data-dir").arg(folder.join("data")).arg("--ready-file").arg(&ready_file);
    for port in ["--http-port", "--rtmp-port", "--whep-port", "--media-port", "--admin-port", "--link-port"] {
        command.args([port, "0"]);
    }
    command.args(arguments);
    let mut process = Process::start(&mut command);
    process.wait_for("Lectern is up", READY);
    let text = std::fs::read(&ready_file).expect("the ready file is written before the welcome");
    (process, serde_json::from_slice(&text).expect("the ready file is JSON"))
}
