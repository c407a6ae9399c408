//! What nodes carry, from the metrics that they really show.
use std::time::Duration;

use tempfile::TempDir;
use testkit::{Server, until};

/// From the start of a node to a report of it.
const REPORTED: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_coordinator_that_scrapes_reads_what_a_node_shows() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("lectern.toml");
    std::fs::write(&file, "[coordinator]\nload_source = \"scrape\"\n").unwrap();
    let arguments = ["--open", "--config", file.to_str().unwrap()];
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &arguments);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let metric = async |name: &str| -> u64 {
        let url = format!("http://{}/metrics", server.addresses.admin);
        let text = http.get(url).send().await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap()
    };
    // The second is of a later heartbeat than the first.
    until("two reports", REPORTED, async || {
        let reports = metric("lectern_coordinator_load_reports_total").await;
        if reports >= 2 { Ok(()) } else { Err(reports) }
    })
    .await;
    assert_eq!(metric("lectern_coordinator_load_source_silent_nodes").await, 0);
}
