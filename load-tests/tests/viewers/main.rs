//! The program against the real server: what it counts is what was published.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod coordinators;
mod fleet;
mod nodes;
mod program;
mod revocations;

use std::process::Command;

use program::{LIVE, check, lectern, lesson, load, number, token_url};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Process, Server};

const LESSON: &[u8] = include_bytes!("../../../crates/media/tests/fixtures/baseline.flv");

#[test]
fn viewers_see_whole_pictures_and_lose_nothing() {
    let (server, _publisher) = lesson();
    let url = token_url(&server);
    let (figures, _) =
        load(&["watch", "--token-url", &url, "--viewers", "12", "--decrypt-every", "2", "--duration", "4s"]);
    for path in ["/viewers/joined", "/viewers/connected", "/viewers/with_media"] {
        assert_eq!(number(&figures, path), 12, "{path}: {figures:#}");
    }
    check(&figures, |f| number(f, "/viewers/units_complete") > 6 * 60, "pictures");
    check(&figures, |f| number(f, "/viewers/sounds") > 6 * 150, "sounds");
    check(&figures, |f| number(f, "/viewers/keyframes") >= 6, "keyframes");
    for path in ["/viewers/units_damaged", "/viewers/undecryptable", "/viewers/sounds_malformed"] {
        assert_eq!(number(&figures, path), 0, "{path}: {figures:#}");
    }
    for path in ["/viewers/video/missed", "/viewers/video/lost", "/viewers/audio/lost"] {
        assert_eq!(number(&figures, path), 0, "{path}: {figures:#}");
    }
    check(&figures, |f| f["viewers"]["ended_early"].as_object().unwrap().is_empty(), "nobody left early");
}

#[test]
fn what_a_bad_link_loses_is_asked_for_and_healed() {
    let (server, _publisher) = lesson();
    let url = token_url(&server);
    let arguments = ["watch", "--token-url", &url, "--viewers", "10", "--decrypt-every", "2"];
    let (figures, _) =
        load(&[&arguments[..], &["--loss", "3", "--delay", "50", "--duration", "8s"]].concat());
    assert_eq!(number(&figures, "/viewers/connected"), 10, "{figures:#}");
    let nacked = number(&figures, "/viewers/video/nacked");
    let healed = number(&figures, "/viewers/video/healed");
    assert!(nacked > 30, "{figures:#}");
    // Those that were asked for last are still under way. A request and its answer are lost together 6 times in 100, and a packet
    // just before a keyframe is asked for once or twice only until the keyframe makes it useless.
    assert!(healed * 100 >= nacked * 90, "{healed} of {nacked}: {figures:#}");
    let lost = number(&figures, "/viewers/video/lost");
    assert!(lost * 100 <= nacked * 4, "{lost} of {nacked}: {figures:#}");
    let (damaged, whole) =
        (number(&figures, "/viewers/units_damaged"), number(&figures, "/viewers/units_complete"));
    assert!(damaged * 100 <= whole * 5, "{damaged} beside {whole}: {figures:#}");
    let round_trip = figures["viewers"]["round_trip_ms"]["p50"].as_f64().unwrap();
    assert!((100.0..400.0).contains(&round_trip), "{figures:#}");
}

#[test]
fn viewers_of_the_old_cipher_see_the_same_and_heal_too() {
    let (server, _publisher) = lesson();
    let url = token_url(&server);
    let arguments = ["watch", "--token-url", &url, "--viewers", "6", "--decrypt-every", "1", "--sha1"];
    let (figures, _) =
        load(&[&arguments[..], &["--loss", "2", "--delay", "20", "--duration", "5s"]].concat());
    assert_eq!(number(&figures, "/viewers/srtp_profiles/AES128_CM_HMAC_SHA1_80"), 6, "{figures:#}");
    check(&figures, |f| number(f, "/viewers/units_complete") > 6 * 60, "pictures");
    check(&figures, |f| number(f, "/viewers/video/healed") > 10, "healed");
    for path in ["/viewers/units_damaged", "/viewers/undecryptable", "/viewers/video/lost"] {
        assert_eq!(number(&figures, path), 0, "{path}: {figures:#}");
    }
}

#[test]
fn viewers_come_and_go() {
    let (server, _publisher) = lesson();
    let url = token_url(&server);
    // They stay for longer than it takes to connect on a machine that does other things.
    let arguments = ["churn", "--token-url", &url, "--viewers", "24", "--rate", "6"];
    let (figures, _) = load(&[&arguments[..], &["--stay", "4s", "--duration", "5s"]].concat());
    let joined = number(&figures, "/viewers/joined");
    assert!((25..=31).contains(&joined), "{figures:#}");
    assert_eq!(number(&figures, "/viewers/connected"), joined, "{figures:#}");
    assert_eq!(figures["every_session_deleted"], true);
    check(&figures, |f| f["viewers"]["ended_early"].as_object().unwrap().is_empty(), "nobody left early");
}

#[test]
fn a_storm_of_joins_takes_nothing_from_those_who_watch() {
    let (server, _publisher) = lesson();
    let url = token_url(&server);
    let arguments = ["storm", "--token-url", &url, "--watchers", "5", "--viewers", "20"];
    let (figures, _) = load(&[&arguments[..], &["--within", "2s", "--duration", "1s"]].concat());
    assert_eq!(number(&figures, "/joiners/connected"), 20, "{figures:#}");
    assert_eq!(figures["viewers"]["window_lost_per_viewer"]["max"], 0.0, "{figures:#}");
    assert_eq!(figures["viewers"]["window_longest_gap_ms"]["count"], 5, "{figures:#}");
}

#[test]
fn misbehaving_viewers_harm_nobody_else() {
    let (server, _publisher) = lesson();
    let url = token_url(&server);
    for how in ["stop-reading", "garbage", "nack-flood"] {
        let arguments = ["watch", "--token-url", &url, "--viewers", "5", "--duration", "2s"];
        let (figures, _) = load(&[&arguments[..], &["--misbehave", how, "--misbehaving", "2"]].concat());
        assert_eq!(number(&figures, "/misbehaving/connected"), 2, "{how}: {figures:#}");
        assert_eq!(number(&figures, "/viewers/video/lost"), 0, "{how}: {figures:#}");
        assert_eq!(number(&figures, "/viewers/units_damaged"), 0, "{how}: {figures:#}");
    }
}

#[test]
fn the_webrtc_crate_is_of_the_same_opinion() {
    let (server, _publisher) = lesson();
    let url = token_url(&server);
    let arguments = ["watch", "--token-url", &url, "--viewers", "5", "--client", "webrtc"];
    let (figures, _) = load(&[&arguments[..], &["--duration", "3s"]].concat());
    assert_eq!(number(&figures, "/viewers/connected"), 5, "{figures:#}");
    assert_eq!(number(&figures, "/viewers/video/lost"), 0, "{figures:#}");
    check(&figures, |f| number(f, "/viewers/units_complete") > 5 * 45, "pictures");
    // The crate may drop what comes before its track is announced, so the first picture may lack its beginning.
    check(&figures, |f| number(f, "/viewers/units_damaged") <= 5, "damage at the beginning only");
}

/// The lesson, with a keyframe of more than 4 MiB before its last tag.
fn with_a_large_picture(lesson: &[u8]) -> Vec<u8> {
    let (before, last_len) = lesson.split_last_chunk::<4>().unwrap();
    let (before, last) = before.split_at(before.len() - u32::from_be_bytes(*last_len) as usize);
    let nal_len = (4_u32 << 20) + 1000;
    let body = [&[0x17, 1, 0, 0, 0], &nal_len.to_be_bytes()[..], &[0x65], &vec![0x55; nal_len as usize - 1]]
        .concat();
    let [_, l0, l1, l2] = u32::try_from(body.len()).unwrap().to_be_bytes();
    let tag = [&[9, l0, l1, l2], &last[4..8], &[0, 0, 0], &body].concat();
    let tag_len = u32::try_from(tag.len()).unwrap().to_be_bytes();
    [before, &tag, &tag_len, last, last_len].concat()
}

#[tokio::test]
async fn a_publisher_of_a_picture_that_is_too_large_reads_why() {
    let server = Server::start(lectern(), &["--open"]);
    let url = format!("{}/{}", server.addresses.rtmp_url, server.addresses.key);
    let mut publish = Command::new(env!("CARGO_BIN_EXE_lectern-load"));
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("lesson.flv");
    std::fs::write(&file, with_a_large_picture(LESSON)).unwrap();
    publish.args(["publish", "--rtmp", &url, "--file"]).arg(&file);
    Process::start(&mut publish).wait_for("NetStream.Publish.Failed", LIVE);
    let url = format!("http://{}/api/v1/streams/{}", server.addresses.http, server.addresses.class);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    testkit::until("the reason", LIVE, async || {
        let stream: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
        let found = &stream["problems"][0];
        let is_told = found["text"].as_str().is_some_and(|text| text.contains("choose a smaller picture"));
        if found["code"] == "cut_off" && is_told { Ok(()) } else { Err(stream) }
    })
    .await;
}

#[test]
fn refusals_are_counted_by_their_reason() {
    let (server, _publisher) = lesson();
    let whep = format!("http://{}/live/{}/whep", server.addresses.whep, server.addresses.class);
    let arguments = ["watch", "--whep", &whep, "--token", "of{n}", "--viewers", "3", "--duration", "0s"];
    let (figures, text) = load(&arguments);
    assert_eq!(number(&figures, "/viewers/failures/POST: 401 Unauthorized"), 3, "{figures:#}");
    assert!(text.contains("no viewer got in"), "{text}");
}
