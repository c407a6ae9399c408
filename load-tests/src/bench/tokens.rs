//! What tokens, looks at a stream and heartbeats cost a coordinator, beside what the framework costs alone.
//!
//! Compared is the processor time of one request: it is the same whether or not those who ask keep the server's core busy all the time, for
//! they never sleep. To wake them would cost the server more than an answer of the bare handler, which is asked by who never has time to sleep.
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::scene::{Lesson, Place, Scene, number, wait_for};
use super::{Row, with_unit};
use crate::compare::group::Group;
use crate::report::figure;

/// How long the server is asked.
const ASKED_SECONDS: u64 = 5;
/// How long it is looked at when it is not asked, and how long it is reported to.
const IDLE: Duration = Duration::from_secs(3);
const REPORTED: Duration = Duration::from_secs(5);
/// From the first heartbeats to the moment at which everything is as it stays.
const WARM: Duration = Duration::from_secs(2);
/// Nodes, and streams of each.
const NODES: u16 = 1000;
const STREAMS: u16 = 20;
/// Of the requests that the bare handler answers, as many as there are to be tokens.
const SHARE_PERCENT: f64 = 25.0;
const HEARTBEATS: &str = r#"lectern_coordinator_requests_total{route="/internal/v1/heartbeat",status="200"}"#;

/// What asking has cost a server.
#[derive(Debug)]
struct Asked {
    per_second: f64,
    /// Of its core.
    percent: f64,
    /// Processor time of one request.
    us: f64,
    /// Bytes of an answer's body.
    bytes: f64,
}

impl Asked {
    fn per_core(&self) -> f64 {
        1e6 / self.us.max(f64::MIN_POSITIVE)
    }

    fn said(&self) -> String {
        format!(
            "{} a second and core: {}, {} were answered a second with {} % of the core",
            figure(self.per_core().floor()),
            with_unit(self.us, "µs each"),
            figure(self.per_second.floor()),
            figure(self.percent.round())
        )
    }

    /// The same, and what that is of another.
    fn beside(&self, bare: &Self) -> (String, bool) {
        let percent = self.per_core() / bare.per_core() * 100.0;
        (format!("{}; {} % of the bare handler", self.said(), figure(percent)), percent >= SHARE_PERCENT)
    }
}

/// Tokens and looks of one node's cluster and of a large one, and the heartbeats of the large one.
pub(super) async fn tokens(place: &Place) -> anyhow::Result<Vec<Row>> {
    let scene = place.set(1, Lesson::Pictures).await?;
    let http = scene.field("http").to_owned();
    let question = format!("http://{http}/api/token?user_type=student&user_id=s{{n}}&class_id=lesson");
    let one = ask(&scene, &scene.server, &format!("'{question}'")).await?;
    let (folder, bare) = bare(place, one.bytes).await?;
    let address: Value = serde_json::from_slice(&std::fs::read(folder.path().join("ready.json"))?)?;
    let path = question.split_once("/api").map(|(_, path)| path).unwrap_or_default();
    let url = format!("'http://{}/api{path}'", address["http"].as_str().unwrap_or_default());
    let bare = ask(&scene, &bare, &url).await?;
    ensure!((bare.bytes - one.bytes).abs() < 1.0, "the answers differ in size");

    let token = scene.ask_once(&question.replace("{n}", "")).await?;
    let token = token["token"].as_str().context("no token")?.to_owned();
    let look = format!("http://{http}/api/v1/streams/lesson --method GET --bearer {token}");
    let looks = ask(&scene, &scene.server, &look).await?;

    let (nodes, apart) = report(&scene, "").await?;
    let many = ask(&scene, &scene.server, &format!("'{question}'")).await?;
    drop((nodes, scene));
    let scene = place.set(1, Lesson::Pictures).await?;
    let (nodes, together) = report(&scene, "--crowd").await?;
    drop((nodes, scene));

    let bytes = format!("axum alone, {} bytes of JSON", figure(bare.bytes));
    let mut rows = vec![Row::new("a bare handler", format!("{bytes}: {}", bare.said()), "", true)];
    for (name, asked, target) in [
        ("tokens, a cluster of one node", &one, "25 %"),
        ("tokens, a cluster of 1,001 nodes that report meanwhile", &many, "25 %"),
        ("looks at a class's stream, with a token", &looks, ""),
    ] {
        let (said, is_met) = asked.beside(&bare);
        rows.push(Row::new(name, said, target, is_met || target.is_empty()));
    }
    rows.push(Row::new("heartbeats of 1,000 nodes, 20 streams each", apart, "", true));
    rows.push(Row::new("the same with one class more, which all of them have", together, "", true));
    Ok(rows)
}

/// Starts the bare handler on the server's core.
async fn bare(place: &Place, bytes: f64) -> anyhow::Result<(TempDir, Group)> {
    let folder = TempDir::new()?;
    let file = folder.path().join("ready.json");
    let command = place.own_command(&format!("bare --bytes {bytes} --ready-file {}", file.display()));
    let mut bare = Group::start(&command, &[place.server_core()], None)?;
    wait_for(&mut bare, "the bare handler", || Ok(file.exists())).await?;
    Ok((folder, bare))
}

/// Asks a server for a while.
async fn ask(scene: &Scene<'_>, server: &Group, what: &str) -> anyhow::Result<Asked> {
    let idle = share(server, IDLE).await?;
    let (before, began) = (server.usage()?.cpu, Instant::now());
    let figures = scene.work(&format!("requests {what} --never-sleep --duration {ASKED_SECONDS}s")).await?;
    let spent =
        server.usage()?.cpu.saturating_sub(before).as_secs_f64() - idle * began.elapsed().as_secs_f64();
    let (requests, seconds) = (number(&figures, "/requests"), number(&figures, "/seconds"));
    ensure!(number(&figures, "/failed") == 0.0 && requests > 0.0, "not answered: {}", figures["statuses"]);
    Ok(Asked {
        per_second: requests / seconds,
        percent: (spent / seconds + idle) * 100.0,
        us: spent * 1e6 / requests,
        bytes: number(&figures, "/body_bytes"),
    })
}

/// Has many nodes join and report, and says what a heartbeat costs. They report until the group is dropped.
async fn report(scene: &Scene<'_>, how: &str) -> anyhow::Result<(Group, String)> {
    let idle = share(&scene.server, IDLE).await?;
    let empty = scene.usage()?.rss_bytes;
    let file = scene.path("nodes.json");
    let mut nodes = scene.start(&format!(
        "nodes http://{}/ --secret-file {} --nodes {NODES} --streams {STREAMS} {how} --duration 1h --ready-file {}",
        scene.field("http"),
        scene.path("data/node-secret").display(),
        file.display()
    ))?;
    wait_for(&mut nodes, "the nodes", || Ok(file.exists())).await?;
    tokio::time::sleep(WARM).await;
    let (before, began, counted) = (scene.server.usage()?.cpu, Instant::now(), scene.metrics().await?);
    tokio::time::sleep(REPORTED).await;
    let (spent, seconds) = (scene.server.usage()?.cpu.saturating_sub(before), began.elapsed().as_secs_f64());
    let count = scene.metrics().await?.grown(&counted, HEARTBEATS)?;
    let us = (spent.as_secs_f64() - idle * seconds) * 1e6 / count.max(1.0);
    let said: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let text = format!(
        "{} each, of {} bytes: {} came a second, {} % of the core; {} MiB of memory more",
        with_unit(us, "µs"),
        figure(number(&said, "/body_bytes")),
        figure((count / seconds).round()),
        figure((spent.as_secs_f64() / seconds * 100.0).round()),
        scene.usage()?.rss_bytes.saturating_sub(empty) >> 20
    );
    Ok((nodes, text))
}

/// The share of its core that a server takes.
async fn share(server: &Group, stretch: Duration) -> anyhow::Result<f64> {
    let (before, began) = (server.usage()?.cpu, Instant::now());
    tokio::time::sleep(stretch).await;
    Ok(server.usage()?.cpu.saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64())
}
