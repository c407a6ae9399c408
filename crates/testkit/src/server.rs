//! `lectern up` in a folder of its own, on ports that the kernel chose.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
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
        let (process, addresses) = launch(Path::new(program), folder.path(), arguments);
        Self { program: program.into(), folder, process, addresses }
    }

    /// Publishes the bundled lesson until the returned process is dropped.
    pub fn publish_demo(&self) -> Process {
        let url = format!("{}/{}", self.addresses.rtmp_url, self.addresses.key);
        let mut process = Process::start(Command::new(&self.program).args(["demo", &url]));
        process.wait_for("is being published", PUBLISHED);
        process
    }

    /// The folder with the database and the keys.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

fn launch(program: &Path, folder: &Path, arguments: &[&str]) -> (Process, Addresses) {
    let ready_file = folder.join("ready.json");
    let mut command = Command::new(program);
    command.arg("up").args(["--bind", "127.0.0.1"]).current_dir(folder);
    command.arg("--data-dir").arg(folder.join("data")).arg("--ready-file").arg(&ready_file);
    for port in ["--http-port", "--rtmp-port", "--whep-port", "--media-port", "--admin-port"] {
        command.args([port, "0"]);
    }
    command.args(arguments);
    let mut process = Process::start(&mut command);
    process.wait_for("Lectern is up", READY);
    let text = std::fs::read(&ready_file).expect("the ready file is written before the welcome");
    (process, serde_json::from_slice(&text).expect("the ready file is JSON"))
}
