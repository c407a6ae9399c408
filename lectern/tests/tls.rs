//! TLS with the certificate that `lectern tls init` makes, to real clients.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reqwest::{Certificate, Client, StatusCode, redirect};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Process, Server};

/// From the start of ffmpeg to a stream that can be watched.
const LIVE: Duration = Duration::from_secs(20);
/// The files are looked at every two seconds.
const RELOADED: Duration = Duration::from_secs(10);

struct School {
    server: Server,
    certificates: TempDir,
    http: Client,
}

impl School {
    fn start() -> Self {
        let certificates = TempDir::new().unwrap();
        init(certificates.path());
        let file = |name: &str| certificates.path().join(name);
        let config = file("lectern.toml");
        let text = format!("[tls]\ncert = {:?}\nkey = {:?}\n", file("cert.pem"), file("key.pem"));
        std::fs::write(&config, text).unwrap();
        let arguments = ["--open", "--rtmps-port", "0", "--config", config.to_str().unwrap()];
        let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &arguments);
        let http = client(&file("ca.pem"));
        Self { server, certificates, http }
    }

    /// Asks until the lesson is live.
    async fn token(&self) -> Value {
        let url = format!("https://{}/api/token?user_type=student&user_id=s1", self.server.addresses.http);
        until(LIVE, async || {
            let response = self.http.post(&url).send().await.unwrap();
            (response.status() == StatusCode::OK).then_some(response)
        })
        .await
        .json()
        .await
        .unwrap()
    }

    async fn metric(&self, name: &str) -> i64 {
        let url = format!("http://{}/metrics", self.server.addresses.admin);
        let text = Client::new().get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        line.trim().parse().unwrap()
    }
}

fn init(folder: &Path) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_lectern")).args(["tls", "init", "--data-dir"]).arg(folder).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Trusts the authority in `ca` and nobody else.
fn client(ca: &Path) -> Client {
    let ca = Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap();
    Client::builder().no_proxy().redirect(redirect::Policy::none()).tls_certs_only([ca]).build().unwrap()
}

/// ffmpeg publishes over RTMPS, and checks the certificate.
fn publish(school: &School) -> Process {
    let addresses = &school.server.addresses;
    let lesson: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/lesson.flv");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i"]).arg(lesson);
    ffmpeg.args(["-c", "copy", "-f", "flv", "-tls_verify", "1", "-ca_file"]);
    ffmpeg.arg(school.certificates.path().join("ca.pem"));
    Process::start(ffmpeg.arg(format!("{}/{}", addresses.rtmp_url, addresses.key)))
}

/// Looks again and again until there is something.
async fn until<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, found).await.expect("in time")
}

#[tokio::test]
async fn a_lesson_goes_over_rtmps_and_https_while_its_certificate_is_replaced() {
    let school = School::start();
    assert!(school.server.addresses.rtmp_url.starts_with("rtmps://"));
    let mut publisher = publish(&school);
    let token = school.token().await;
    let whep = token["webrtc_url"].as_str().unwrap().split('?').next().unwrap();
    assert!(whep.starts_with("https://"), "{whep}");
    let join = async |http: &Client| {
        let bearer = token["token"].as_str().unwrap();
        let offer = http.post(whep).bearer_auth(bearer).header("content-type", "application/sdp");
        offer.body(include_str!("offer.sdp")).send().await
    };
    assert_eq!(join(&school.http).await.unwrap().status(), StatusCode::CREATED);

    // A new authority: whoever trusts the old one only is refused, except where he is connected already.
    let folder = school.certificates.path();
    std::fs::rename(folder.join("ca.pem"), folder.join("old-ca.pem")).unwrap();
    std::fs::remove_file(folder.join("ca-key.pem")).unwrap();
    init(folder);
    let page = format!("https://{}/", school.server.addresses.http);
    until(RELOADED, async || client(&folder.join("ca.pem")).get(&page).send().await.ok()).await;
    let newcomer = client(&folder.join("ca.pem"));
    assert!(
        client(&folder.join("old-ca.pem")).get(&page).send().await.is_err(),
        "the old authority's is gone"
    );
    assert_eq!(join(&newcomer).await.unwrap().status(), StatusCode::CREATED);
    let state = format!("https://{}/api/v1/streams/lesson", school.server.addresses.http);
    let state: Value = newcomer.get(state).send().await.unwrap().json().await.unwrap();
    assert_eq!(state["state"], "active", "the publisher's connection stays");
    assert!(publisher.is_running());
}

#[tokio::test]
async fn gstreamer_publishes_over_rtmps() {
    let school = School::start();
    let addresses = &school.server.addresses;
    // Its own client of RTMP, and the TLS library of GLib: they share no code with ffmpeg's. GLib takes authorities from
    // the system only, so it is the other tests that check the certificate.
    let pipeline = "-q videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 \
                    ! openh264enc complexity=low gop-size=60 ! h264parse ! flvmux streamable=true \
                    ! rtmp2sink tls-validation-flags=0";
    let mut gstreamer = Command::new("gst-launch-1.0");
    gstreamer.args(pipeline.split_whitespace());
    let mut publisher =
        Process::start(gstreamer.arg(format!("location={}/{}", addresses.rtmp_url, addresses.key)));
    school.token().await;
    let state = format!("https://{}/api/v1/streams/lesson", addresses.http);
    let state: Value = school.http.get(state).send().await.unwrap().json().await.unwrap();
    assert_eq!((&state["width"], &state["height"]), (&320.into(), &240.into()));
    assert!(publisher.is_running());
    assert!(school.metric("lectern_connections{port=\"rtmps\"} ").await > 0, "it came over TLS");
}

#[tokio::test]
async fn plain_http_is_sent_to_https_and_a_token_in_the_clear_is_refused() {
    let school = School::start();
    let plain = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
    let (http, whep) = (school.server.addresses.http, school.server.addresses.whep);
    let page = plain.get(format!("http://{http}/watch/lesson?pin=1")).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(page.headers()["location"], format!("https://{http}/watch/lesson?pin=1"));
    let token = format!("http://{http}/api/token?user_type=student&user_id=s1");
    let in_the_clear = [
        plain.get(format!("http://{http}/api/v1/classes")).bearer_auth("operator"),
        plain.get(&token).header("X-Class-Pin", "123456"),
        plain.post(&token),
    ];
    for request in in_the_clear {
        let refused = request.send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{}", refused.url());
        assert!(refused.text().await.unwrap().contains("this port speaks https"));
    }
    let head = plain.head(format!("http://{http}/")).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::PERMANENT_REDIRECT);
    let offer =
        plain.post(format!("http://{whep}/live/lesson/whep")).bearer_auth("token").send().await.unwrap();
    assert_eq!(offer.status(), StatusCode::BAD_REQUEST);
    assert!(offer.text().await.unwrap().contains("https"));
    let strangers = Client::builder().no_proxy().build().unwrap();
    assert!(strangers.get(format!("https://{http}/")).send().await.is_err(), "nobody trusts it unasked");
}

#[tokio::test]
async fn a_broken_certificate_leaves_the_old_one_in_force() {
    let mut school = School::start();
    let cert = school.certificates.path().join("cert.pem");
    let expiry = school.metric("lectern_tls_certificate_expiry_timestamp_seconds ").await;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let days = (expiry - i64::try_from(now).unwrap()) / 86_400;
    assert!((390..=397).contains(&days), "{days}");
    std::fs::write(&cert, "no certificate").unwrap();
    school.server.process.wait_for("the new certificate cannot be used", RELOADED);
    assert_eq!(school.metric("lectern_tls_reload_failures_total ").await, 1);
    let page = format!("https://{}/", school.server.addresses.http);
    assert_eq!(school.http.get(page).send().await.unwrap().status(), StatusCode::OK);
}

#[test]
fn a_certificate_is_put_where_the_settings_have_the_data() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("elsewhere");
    let config = folder.path().join("lectern.toml");
    std::fs::write(&config, format!("[coordinator]\ndata_dir = {data:?}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lectern"));
    assert!(command.args(["tls", "init"]).current_dir(&folder).output().unwrap().status.success());
    assert!(data.join("cert.pem").is_file() && !folder.path().join("data").exists());
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_way_to_a_certificate_is_said_where_there_is_none() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("mine");
    let lectern = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lectern"));
        command.args(arguments).arg("--data-dir").arg(&data).current_dir(&folder).output().unwrap()
    };
    let refused = lectern(&["up", "--tls"]);
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("cert.pem") && text.contains("lectern tls init"), "{text}");
    let made = lectern(&["tls", "init"]);
    let text = String::from_utf8_lossy(&made.stdout);
    assert!(text.contains(&format!("lectern up --tls --data-dir {}", data.display())), "{text}");
}

#[test]
fn half_a_setting_is_an_error() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("lectern.toml");
    std::fs::write(&config, "[tls]\ncert = 'cert.pem'\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lectern"));
    command.args(["up", "--config"]).arg(&config).arg("--data-dir").arg(folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("[tls] needs both cert and key"), "{text}");
}
