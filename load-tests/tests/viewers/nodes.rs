//! Two machines: who watches at one of them sees what is published at the other.
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Node, Process, Server};

use crate::program::{LIVE, check, lectern, load, number, token_url};

/// How long viewers may take to leave after their time.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    first: Server,
    second: Node,
    publisher: Option<Process>,
}

impl Cluster {
    /// The lesson is published at the first.
    fn start() -> Self {
        let first = Server::start_cluster(lectern(), &["--open"]);
        let publisher = Some(first.publish_demo());
        let cluster = Self { second: first.start_node("second"), first, publisher };
        let deadline = Instant::now() + LIVE;
        while number(&cluster.watch(cluster.second_whep(), 1, "0s"), "/viewers/connected") == 0 {
            assert!(Instant::now() < deadline, "nobody sees it");
        }
        cluster
    }

    fn first_whep(&self) -> String {
        format!("http://{}/live/{}/whep", self.first.addresses.whep, self.first.addresses.class)
    }

    fn second_whep(&self) -> String {
        format!("http://{}/live/{}/whep", self.second.addresses.whep, self.first.addresses.class)
    }

    /// What an operator says at the second machine.
    fn drain_second(&self, arguments: &[&str]) {
        let admin_port = self.second.addresses.admin.port().to_string();
        let mut command = Command::new(lectern());
        command.args(["node", "drain", "--admin-port", &admin_port]).args(arguments);
        assert!(command.status().unwrap().success());
    }

    fn watch(&self, whep: String, viewers: u32, duration: &str) -> Value {
        let (token_url, viewers) = (token_url(&self.first), viewers.to_string());
        let arguments = ["watch", "--token-url", &token_url, "--whep", &whep, "--viewers", &viewers];
        load(&[&arguments[..], &["--decrypt-every", "1", "--duration", duration]].concat()).0
    }
}

#[test]
fn a_lesson_is_seen_whole_at_a_node_that_does_not_have_it() {
    let cluster = Cluster::start();
    let figures = cluster.watch(cluster.second_whep(), 6, "4s");
    for path in ["/viewers/joined", "/viewers/connected", "/viewers/with_media"] {
        assert_eq!(number(&figures, path), 6, "{path}: {figures:#}");
    }
    check(&figures, |f| number(f, "/viewers/units_complete") > 6 * 60, "pictures");
    check(&figures, |f| number(f, "/viewers/sounds") > 6 * 150, "sounds");
    for path in ["/viewers/units_damaged", "/viewers/video/lost", "/viewers/audio/lost"] {
        assert_eq!(number(&figures, path), 0, "{path}: {figures:#}");
    }
}

/// They are sent to one of the nodes, or their offers are taken there.
#[test]
fn viewers_that_know_the_coordinator_alone_see_the_lesson_whole() {
    let cluster = Cluster::start();
    let addresses = &cluster.first.addresses;
    let whep = format!("http://{}/live/{}/whep", addresses.http, addresses.class);
    let [plain, passed_on] = ["", "?redirect=0"].map(|query| format!("{whep}{query}"));
    let with_token = token_url(&cluster.first);
    for door in
        [&["--whep", &plain][..], &["--whep", &passed_on], &["--whep", &plain, "--token-url", &with_token]]
    {
        let arguments = ["watch", "--viewers", "4", "--decrypt-every", "1", "--duration", "3s"];
        let (figures, _) = load(&[&arguments[..], door].concat());
        for path in ["/viewers/joined", "/viewers/connected", "/viewers/with_media"] {
            assert_eq!(number(&figures, path), 4, "{door:?} {path}: {figures:#}");
        }
        check(&figures, |f| number(f, "/viewers/units_complete") > 4 * 45, "pictures");
        assert_eq!(number(&figures, "/viewers/units_damaged"), 0, "{door:?}: {figures:#}");
    }
}

/// Viewers that watch while something happens.
struct Watching {
    process: Process,
    folder: TempDir,
}

impl Watching {
    /// They are all connected when this returns, and stay for so long.
    fn start(cluster: &Cluster, whep: &str, duration: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lectern-load"));
        command.args(["watch", "--token-url", &token_url(&cluster.first), "--whep", whep, "--viewers", "3"]);
        command.args(["--decrypt-every", "1", "--duration", duration]);
        let mut process = Process::start(command.arg("--json").arg(folder.path().join("figures")));
        process.wait_for("connected 3", LIVE);
        Self { process, folder }
    }

    /// What they saw, once they have left.
    fn figures(mut self) -> Value {
        self.process.wait_for_end(PATIENCE);
        serde_json::from_slice(&std::fs::read(self.folder.path().join("figures")).unwrap()).unwrap()
    }
}

/// That nobody noticed more than a pause.
fn check_all_stayed(figures: &Value) {
    assert_eq!(number(figures, "/viewers/joined"), 3, "nobody joins again: {figures:#}");
    check(figures, |f| f["viewers"]["ended_early"].as_object().unwrap().is_empty(), "nobody left");
    for path in ["/viewers/video/restarts", "/viewers/audio/restarts", "/viewers/undecryptable"] {
        assert_eq!(number(figures, path), 0, "{path}: {figures:#}");
    }
    // Whoever is behind at that moment goes on at the new keyframe, in the middle of a picture.
    check(figures, |f| number(f, "/viewers/units_damaged") <= 3, "one picture each at most");
}

#[test]
fn viewers_of_both_nodes_stay_when_the_publisher_moves_from_one_to_the_other() {
    let mut cluster = Cluster::start();
    let wheps = [cluster.first_whep(), cluster.second_whep()];
    let watching = wheps.map(|whep| Watching::start(&cluster, &whep, "12s"));
    drop(cluster.publisher.take());
    cluster.publisher = Some(cluster.first.publish_demo_to(&cluster.second.addresses));
    for watching in watching {
        let figures = watching.figures();
        check_all_stayed(&figures);
        // Of twelve seconds at 25 a second, all but those in which nobody published.
        check(&figures, |f| number(f, "/viewers/units_complete") > 3 * 200, "pictures before and after");
    }
}

#[test]
fn viewers_stay_when_the_machine_that_their_teacher_publishes_to_is_killed() {
    let mut cluster = Cluster::start();
    let third = cluster.first.start_node("third");
    drop(cluster.publisher.take());
    cluster.publisher = Some(cluster.first.publish_demo_to(&cluster.second.addresses));
    let whep = format!("http://{}/live/{}/whep", third.addresses.whep, cluster.first.addresses.class);
    let watching = Watching::start(&cluster, &whep, "16s");
    cluster.second.process.kill();
    // Its app finds another node.
    cluster.publisher = Some(cluster.first.publish_demo());
    let figures = watching.figures();
    check_all_stayed(&figures);
    // Sixteen seconds at 25 a second, but for the time until the other node counts as gone and the next keyframe.
    check(&figures, |f| number(f, "/viewers/units_complete") > 3 * 200, "pictures before and after");
}

#[test]
fn a_node_that_drains_takes_nobody_goes_on_if_it_may_and_ends_when_its_time_is_over() {
    let mut cluster = Cluster::start();
    // These cannot be told where to go.
    let watching = Watching::start(&cluster, &cluster.second_whep(), "25s");
    cluster.drain_second(&["--seconds", "600"]);
    assert_eq!(number(&cluster.watch(cluster.second_whep(), 1, "0s"), "/viewers/connected"), 0);
    let rtmp = format!("{}/{}", cluster.second.addresses.rtmp_url, cluster.first.addresses.key);
    let mut refused = Process::start(Command::new(lectern()).args(["demo", &rtmp]));
    refused.wait_for("NetStream.Publish.Failed", LIVE);
    cluster.drain_second(&["--undo"]);
    assert_eq!(number(&cluster.watch(cluster.second_whep(), 1, "0s"), "/viewers/connected"), 1);
    cluster.drain_second(&["--seconds", "1"]);
    cluster.second.process.wait_for_end(PATIENCE);
    let figures = watching.figures();
    check(
        &figures,
        |f| f["viewers"]["ended_early"].as_object().unwrap().values().any(|count| *count == 3),
        "all are let go",
    );
    assert_eq!(number(&figures, "/viewers/units_damaged"), 0, "{figures:#}");
}

/// People who go where the coordinator and their nodes send them. With this name the second machine is the one that all of a
/// small class is sent to.
fn followers(cluster: &Cluster, count: u32, duration: &str) -> (Process, TempDir) {
    followers_of(&token_url(&cluster.first), count, duration)
}

/// People who ask there for tokens.
pub(crate) fn followers_of(token_url: &str, count: u32, duration: &str) -> (Process, TempDir) {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lectern-load"));
    command.args(["watch", "--follow", "--token-url", token_url]);
    command.args(["--viewers", &count.to_string(), "--duration", duration]);
    let mut process = Process::start(command.arg("--json").arg(folder.path().join("figures")));
    process.wait_for(&format!("connected {count}"), LIVE);
    (process, folder)
}

pub(crate) fn read((mut process, folder): (Process, TempDir)) -> Value {
    process.wait_for_end(PATIENCE);
    serde_json::from_slice(&std::fs::read(folder.path().join("figures")).unwrap()).unwrap()
}

#[test]
fn viewers_are_carried_over_when_their_node_drains() {
    let mut cluster = Cluster::start();
    let followers = followers(&cluster, 10, "12s");
    cluster.drain_second(&[]);
    cluster.second.process.wait_for_end(PATIENCE);
    let figures = read(followers);
    assert_eq!(number(&figures, "/viewers/moved"), 10, "{figures:#}");
    assert_eq!(number(&figures, "/viewers/rejoined"), 0, "{figures:#}");
    // A picture comes every 40 ms; the machine may be busy.
    check(&figures, |f| f["viewers"]["person_longest_gap_ms"]["max"].as_f64().unwrap() < 1500.0, "no gap");
}

#[test]
fn viewers_find_another_node_when_theirs_is_killed() {
    let mut cluster = Cluster::start();
    let followers = followers(&cluster, 10, "20s");
    cluster.second.process.kill();
    let figures = read(followers);
    assert_eq!(number(&figures, "/viewers/rejoined"), 10, "{figures:#}");
    check(
        &figures,
        |f| f["viewers"]["person_longest_gap_ms"]["max"].as_f64().unwrap() < 10_000.0,
        "all are back",
    );
}
