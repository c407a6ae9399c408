//! Two coordinators on one database, two nodes: whatever ends, viewers stay, and phones and newcomers come in.
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Postgres, Process, launch};

use crate::nodes::{followers_of, read};
use crate::program::{LIVE, lectern, load, number};

/// A role that runs, and what its ready file says.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) ready: Value,
    folder: TempDir,
}

impl Running {
    pub(crate) fn start(folder: TempDir, role: &[&str], arguments: &[&str]) -> Self {
        let (process, ready) = launch(Path::new(lectern()), folder.path(), role, arguments);
        Self { process, ready, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.ready["http"].as_str().unwrap())
    }

    pub(crate) fn secret(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join("data").join(name)).unwrap().trim().to_owned()
    }

    /// A teacher publishes to this node, until the process is dropped.
    pub(crate) fn publish(&self, key: &str) -> Process {
        let rtmp = format!("{}/{key}", self.ready["rtmp_url"].as_str().unwrap());
        let mut process = Process::start(Command::new(lectern()).args(["demo", &rtmp]));
        process.wait_for("is being published", LIVE);
        process
    }
}

/// A coordinator that shares a database; with the seal key of the first.
fn coordinator(database_url: &str, seal_key: Option<&str>) -> Running {
    let folder = TempDir::new().unwrap();
    if let Some(key) = seal_key {
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data/seal-key"), key).unwrap();
    }
    let config = folder.path().join("lectern.toml");
    fs::write(&config, format!("[coordinator]\ndatabase_url = {database_url:?}\n")).unwrap();
    let config = config.to_str().unwrap().to_owned();
    Running::start(folder, &["coordinator"], &["--open", "--config", &config])
}

#[test]
fn a_coordinator_and_the_database_end_and_nobody_who_watches_or_teaches_is_concerned() {
    let mut postgres = Postgres::start();
    let url = postgres.create_database();
    let mut first = coordinator(&url, None);
    let second = coordinator(&url, Some(&first.secret("seal-key")));
    let secret = first.secret("node-secret");
    let nodes = ["n1", "n2"].map(|name| {
        let role = ["node", "join", &first.url(), &second.url(), "--secret", &secret, "--name", name];
        Running::start(TempDir::new().unwrap(), &role, &[])
    });
    let key = first.secret("stream-key");
    let token_url = format!("{}/api/token?user_type=student&user_id=s{{n}}&class_id=lesson", second.url());
    let newcomers = || {
        let arguments =
            ["watch", "--retries", "10", "--token-url", &token_url, "--viewers", "2", "--duration", "0s"];
        number(&load(&arguments).0, "/viewers/connected")
    };
    let publisher = nodes[0].publish(&key);
    assert_eq!(newcomers(), 2);
    let mut watching = followers_of(&token_url, 4, "10m");

    first.process.kill();
    assert_eq!(newcomers(), 2, "without one of the coordinators");
    // The phone comes back at the other node.
    drop(publisher);
    let publisher = nodes[1].publish(&key);
    assert_eq!(newcomers(), 2);
    postgres.kill();
    assert_eq!(newcomers(), 2, "without the database");
    drop(publisher);
    let _publisher = nodes[0].publish(&key);
    assert_eq!(newcomers(), 2, "the phone came in without a database");

    watching.0.interrupt();
    let figures = read(watching);
    assert_eq!(number(&figures, "/viewers/joined"), 4, "nobody had to join again: {figures:#}");
    assert_eq!(number(&figures, "/viewers/not_back"), 0, "{figures:#}");
}
