//! Waiting for a condition, with a deadline.
use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often a condition is looked at: short against every deadline, long against one request over loopback.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` finds what it wants, and returns it. An error says what it found instead.
///
/// # Panics
/// When that takes longer than `limit`; the message has the last error.
pub async fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < deadline, "not in {limit:?}: {what}; last: {instead}"),
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(5), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err("too early") }
        });
        assert_eq!(found.await, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "not in 50ms: a wonder; last: none")]
    async fn a_condition_that_stays_false_is_reported_with_what_was_seen_last() {
        let () = until("a wonder", Duration::from_millis(50), async || Err("none")).await;
    }
}
