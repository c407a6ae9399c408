//! Right PINs and wrong ones, from one address and from many.
use coordinator::store::Store;
use coordinator::{Config, Mode};
use reqwest::Method;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::running::{Running, config, start, start_with};

const QUERY: &str = "user_type=student&user_id=s&wait=1";

/// A coordinator behind a proxy, so that requests come from any address.
async fn behind_a_proxy(folder: &TempDir) -> Running {
    let trusted_proxies = vec!["127.0.0.1".to_owned()].try_into().unwrap();
    let running = start_with(Config { trusted_proxies, ..config(folder.path(), Mode::Guarded) }).await;
    running.beat(None).await;
    running
}

async fn from(running: &Running, ip: &str, pin: &str) -> u16 {
    let request = running.request(Method::POST, &format!("/api/token?{QUERY}"));
    let request = request.header("X-Forwarded-For", ip).header("X-Class-Pin", pin);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_school_behind_one_address_comes_in_all_at_once() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let mut asking = JoinSet::new();
    for _ in 0..200 {
        let request = running.request(Method::POST, &format!("/api/token?{QUERY}"));
        let request = request.header("X-Class-Pin", &running.pin);
        asking.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    assert_eq!(asking.join_all().await, [200; 200]);
}

#[tokio::test]
async fn many_addresses_cannot_guess_a_pin_and_the_class_goes_on() {
    let folder = TempDir::new().unwrap();
    let running = behind_a_proxy(&folder).await;
    assert_eq!(from(&running, "8.8.8.8", &running.pin).await, 200);
    let mut statuses = Vec::new();
    for n in 0..110 {
        statuses.push(from(&running, &format!("2a00:0:0:{n:x}::1"), "000-000").await);
    }
    assert_eq!(statuses, [vec![401; 100], vec![429; 10]].concat());
    let limited = running.request(Method::POST, &format!("/api/token?{QUERY}"));
    let limited = limited.header("X-Forwarded-For", "9.9.9.9").header("X-Class-Pin", &running.pin);
    let limited = limited.send().await.unwrap();
    assert_eq!(limited.status(), 429, "a newcomer waits, and is not told that it is right");
    let wait: u32 = limited.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
    assert_eq!(limited.json::<serde_json::Value>().await.unwrap()["code"], "pin_attempts");
    for _ in 0..50 {
        assert_eq!(from(&running, "8.8.8.8", &running.pin).await, 200, "it was right before");
    }
    let counted = "lectern_coordinator_pins_refused_total{outcome=\"wrong\"} 100\n";
    assert!(running.metrics().contains(counted), "{}", running.metrics());
}

#[tokio::test]
async fn one_address_runs_out_of_guesses_also_with_a_whole_network_of_addresses() {
    let folder = TempDir::new().unwrap();
    let running = behind_a_proxy(&folder).await;
    // It has been right, so that the class's own budget is not the one that ends it.
    assert_eq!(from(&running, "2a00::1", &running.pin).await, 200);
    let mut statuses = Vec::new();
    for n in 0..130 {
        statuses.push(from(&running, &format!("2a00::{n:x}:7"), "000-000").await);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 120, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429));
}

/// A network that has been right is told so whenever it is right again: what is left against guessing is the limit.
#[tokio::test]
async fn every_door_that_takes_a_pin_takes_no_more_than_the_one_for_tokens() {
    let folder = TempDir::new().unwrap();
    let few = Config { tokens_at_once: 30, tokens_per_second: 0, ..config(folder.path(), Mode::Guarded) };
    let running = start_with(few).await;
    running.beat(None).await;
    let mut statuses = vec![running.token(QUERY, Some(("X-Class-Pin", &running.pin))).await.0];
    for n in 0..40 {
        let pin = if n % 2 == 0 { "000-000" } else { &running.pin };
        let asked = running.request(Method::GET, "/api/v1/streams/lesson").header("X-Class-Pin", pin);
        statuses.push(asked.send().await.unwrap().status().as_u16());
    }
    let expected = [vec![200], [401, 404].repeat(15)[..29].to_vec(), vec![429; 11]].concat();
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn a_stolen_database_does_not_tell_the_pins() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let database = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
    let query = "SELECT pin_hash FROM classes";
    let kept: String = sqlx::query_scalar(query).fetch_one(&database).await.unwrap();
    let plain = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, running.pin.as_bytes());
    let plain: String = plain.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(kept.starts_with("hmac:") && !kept.contains(&plain), "{kept}");
    // As an older version kept it.
    let old = "UPDATE classes SET pin_hash = $1, slug = 'older'";
    sqlx::query(old).bind(&plain).execute(&database).await.unwrap();
    let pin = running.pin.clone();
    running.stop().await;
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let kept: Vec<String> = sqlx::query_scalar(query).fetch_all(&database).await.unwrap();
    assert!(kept.len() == 2 && kept.iter().all(|kept| kept.starts_with("hmac:")), "{kept:?}");
    let query = format!("{QUERY}&class_id=older");
    assert_eq!(running.token(&query, Some(("X-Class-Pin", &pin))).await.0, 200, "nobody enters it anew");
}
