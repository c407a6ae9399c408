//! Several nodes of one machine: what is published to any of them is seen at each.
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Process, launch};

use crate::program::{LIVE, lectern, load, number};

#[test]
fn a_lesson_at_one_node_of_a_machine_is_seen_whole_at_all_of_them() {
    let folder = TempDir::new().unwrap();
    let (_process, ready): (_, Value) =
        launch(lectern().as_ref(), folder.path(), &["up"], &["--nodes", "3", "--open"]);
    let text = |of: &Value, name: &str| of[name].as_str().unwrap().to_owned();
    let nodes = ready["nodes"].as_array().unwrap();
    let rtmp = format!("{}/{}", text(&nodes[2], "rtmp_url"), text(&ready, "key"));
    let mut publisher = Process::start(Command::new(lectern()).args(["demo", &rtmp]));
    publisher.wait_for("is being published", LIVE);
    let (http, class) = (text(&ready, "http"), text(&ready, "class"));
    let token_url = format!("http://{http}/api/token?user_type=student&user_id=s{{n}}&class_id={class}");
    for node in nodes {
        let whep = format!("http://{}/live/{class}/whep", text(node, "whep"));
        let arguments = ["watch", "--retries", "10", "--token-url", &token_url, "--whep", &whep];
        let (figures, _) =
            load(&[&arguments[..], &["--viewers", "2", "--decrypt-every", "1", "--duration", "2s"]].concat());
        assert_eq!(number(&figures, "/viewers/with_media"), 2, "{node}: {figures:#}");
        assert_eq!(number(&figures, "/viewers/units_damaged"), 0, "{node}: {figures:#}");
    }
}
