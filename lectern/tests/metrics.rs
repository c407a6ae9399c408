//! What operators read about the metrics, beside what the program shows.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use testkit::{Server, until};

/// From the first message of a publisher to a token for its lesson.
const LIVE: Duration = Duration::from_secs(20);

/// The names that the tables of the document have in their first column, without labels.
fn documented() -> BTreeSet<String> {
    let document = include_str!("../../docs/metrics.md");
    let names = document.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let names = names.flat_map(|cell| cell.split('`')).filter(|name| name.starts_with("lectern_"));
    names.filter_map(|name| name.split('{').next()).map(str::to_owned).collect()
}

/// The names that the program shows, from lines such as `# TYPE lectern_rtc_viewers gauge`.
fn shown(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    names.map(str::to_owned).collect()
}

/// A server with a certificate and a link to other nodes, which is kept as long as the folder.
fn with_tls() -> (Server, TempDir) {
    let folder = TempDir::new().unwrap();
    let program = env!("CARGO_BIN_EXE_lectern");
    let made = Command::new(program).args(["tls", "init", "--data-dir"]).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let file = |name: &str| folder.path().join(name);
    let config = format!("[tls]\ncert = {:?}\nkey = {:?}\n", file("cert.pem"), file("key.pem"));
    std::fs::write(file("lectern.toml"), config).unwrap();
    let config = file("lectern.toml");
    let config = config.to_str().unwrap();
    let server = Server::start(program, &["--open", "--cluster", "--rtmps-port", "0", "--config", config]);
    (server, folder)
}

#[tokio::test]
async fn the_document_names_every_metric_and_no_other() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let _publisher = server.publish_demo();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (page, whep, admin) = (server.addresses.http, server.addresses.whep, server.addresses.admin);
    // What has labels is shown once it was counted: a token and a request for WHEP are.
    until("a token", LIVE, async || {
        let url = format!("http://{page}/api/token?user_type=student&user_id=s1");
        let status = http.post(url).send().await.unwrap().status();
        if status.is_success() { Ok(()) } else { Err(status) }
    })
    .await;
    http.post(format!("http://{whep}/live/lesson/whep")).send().await.unwrap();
    let metrics = async |admin| {
        shown(&http.get(format!("http://{admin}/metrics")).send().await.unwrap().text().await.unwrap())
    };
    let secure = with_tls();
    let (documented, mut shown) = (documented(), metrics(admin).await);
    shown.extend(metrics(secure.0.addresses.admin).await);
    assert!(documented.len() > 20, "the table is where this test looks for it");
    let missing: Vec<_> = shown.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not name {missing:?}");
    let gone: Vec<_> = documented.difference(&shown).collect();
    assert!(gone.is_empty(), "docs/metrics.md names what the program does not show: {gone:?}");
}
