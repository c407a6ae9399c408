//! Several nodes of one machine: processes that come with `lectern up --nodes` and go with it.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Process, launch, until};

/// For whatever happens on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the ready file says.
#[derive(Deserialize)]
struct Ready {
    http: SocketAddr,
    nodes: Vec<Neighbour>,
}

#[derive(Deserialize)]
struct Neighbour {
    name: String,
    pid: u32,
    admin: SocketAddr,
    whep: SocketAddr,
}

struct Fleet {
    process: Process,
    ready: Ready,
    folder: TempDir,
}

impl Fleet {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let (process, ready) =
            launch(Path::new(env!("CARGO_BIN_EXE_lectern")), folder.path(), &["up"], &["--nodes", "3"]);
        Self { process, ready, folder }
    }

    /// The node that a viewer would be sent to who cannot reach any of these.
    async fn place_without(&self, http: &reqwest::Client, excluded: &[&str]) -> Value {
        let secret = std::fs::read_to_string(self.folder.path().join("data/operator-secret")).unwrap();
        let (address, excluded) = (self.ready.http, excluded.join(","));
        let url = format!("http://{address}/api/v1/assign/explain?user_id=ada&exclude={excluded}");
        let answer = http.get(url).bearer_auth(secret.trim()).send().await.unwrap();
        let explained: Value = answer.error_for_status().unwrap().json().await.unwrap();
        explained["node"].clone()
    }
}

/// Whether a process runs: one that has ended and that nobody has asked about is still listed.
fn runs(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).map(str::trim_start);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

async fn until_gone(processes: &[u32]) {
    until("every node has ended", PATIENCE, async || {
        let left: Vec<u32> = processes.iter().copied().filter(|process| runs(*process)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run")) }
    })
    .await;
}

#[tokio::test]
async fn they_are_there_when_it_says_so_one_that_dies_is_told_of_and_the_others_end_with_it() {
    let mut fleet = Fleet::start();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let names: Vec<&String> = fleet.ready.nodes.iter().map(|node| &node.name).collect();
    assert_eq!(names, ["main", "main-2", "main-3"]);
    for node in &fleet.ready.nodes {
        // A line of the welcome has them all.
        let line = fleet.process.wait_for(&format!("  {} ", node.name), PATIENCE);
        for number in [node.whep.port().to_string(), node.admin.port().to_string(), node.pid.to_string()] {
            assert!(line.contains(&number), "{number}: {line}");
        }
        let ready = http.get(format!("http://{}/readyz", node.admin)).send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::OK, "{}", node.name);
    }
    for excluded in [["main", "main-2"], ["main-2", "main-3"], ["main-3", "main"]] {
        let [left] =
            fleet.ready.nodes.iter().filter(|node| !excluded.contains(&&*node.name)).collect::<Vec<_>>()[..]
        else {
            panic!("one is left")
        };
        assert_eq!(fleet.place_without(&http, &excluded).await, *left.name, "it is registered");
    }
    let [main, second, third] = [0, 1, 2].map(|at| fleet.ready.nodes[at].pid);
    assert_eq!(main, fleet.process.id());

    assert!(Command::new("kill").args(["-KILL", &second.to_string()]).status().unwrap().success());
    let line = fleet.process.wait_for("it is not started again", PATIENCE);
    assert!(line.contains("main-2") && line.contains(&second.to_string()), "{line}");
    assert!(fleet.process.is_running() && runs(third));

    fleet.process.interrupt();
    until_gone(&[third]).await;
}

#[tokio::test]
async fn they_end_when_nobody_can_tell_them_to() {
    let mut fleet = Fleet::start();
    let others: Vec<u32> = fleet.ready.nodes.iter().skip(1).map(|node| node.pid).collect();
    assert!(others.len() == 2 && others.iter().all(|process| runs(*process)));
    fleet.process.kill();
    until_gone(&others).await;
}

#[tokio::test]
async fn they_come_again_in_the_same_folders() {
    let Fleet { mut process, ready, folder } = Fleet::start();
    process.interrupt();
    let program = Path::new(env!("CARGO_BIN_EXE_lectern"));
    let (_process, again): (_, Ready) = launch(program, folder.path(), &["up"], &["--nodes", "3"]);
    let names = |ready: &Ready| ready.nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&again), names(&ready));
}

#[test]
fn a_node_that_cannot_begin_ends_everything_and_is_named() {
    let folder = TempDir::new().unwrap();
    // Where the third would have its folder there is a file.
    let nodes = folder.path().join("data/nodes");
    std::fs::create_dir_all(&nodes).unwrap();
    std::fs::write(nodes.join("main-3"), "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lectern"));
    command.args(["up", "--nodes", "3", "--bind", "127.0.0.1"]).current_dir(folder.path());
    for port in ["--http-port", "--rtmp-port", "--whep-port", "--media-port", "--admin-port", "--link-port"] {
        command.args([port, "0"]);
    }
    let mut process = Process::start(&mut command);
    process.wait_for("data/nodes/main-3", PATIENCE);
    process.wait_for_end(PATIENCE);
}

#[test]
fn there_is_one_at_least_and_not_more_than_show_something() {
    for nodes in ["0", "17"] {
        let mut process =
            Process::start(Command::new(env!("CARGO_BIN_EXE_lectern")).args(["up", "--nodes", nodes]));
        process.wait_for("1..=16", PATIENCE);
    }
}
