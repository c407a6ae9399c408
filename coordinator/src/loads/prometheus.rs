//! `load_source = "prometheus"`: the coordinator asks a Prometheus server that scrapes the nodes.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use control::{ReadError, read_body};
use reqwest::StatusCode;
use serde::Deserialize;
use thiserror::Error;
use tokio::time::MissedTickBehavior;

use super::series::Gauges;
use crate::app::App;
use crate::registry::NodeReport;

/// How often it is asked.
const INTERVAL: Duration = Duration::from_secs(5);
/// What it has for its answer.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Bytes of an answer: a node has seven series of about 200 bytes, and there are 10,000 nodes at most.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Why it says nothing.
#[derive(Debug, Error)]
enum QueryError {
    #[error("{0}")]
    Read(ReadError),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<reqwest::Error> for QueryError {
    fn from(error: reqwest::Error) -> Self {
        Self::from(ReadError::Http(error))
    }
}

impl From<ReadError> for QueryError {
    /// Without the address, which may hold a password.
    fn from(error: ReadError) -> Self {
        Self::Read(match error {
            ReadError::Http(error) => ReadError::Http(error.without_url()),
            too_long @ ReadError::TooLong(_) => too_long,
        })
    }
}

/// The answer to a query (Prometheus, HTTP API, instant queries).
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

/// An instant vector: what the query asks for is nothing else.
#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    /// When it is from, and what it is, as text.
    value: (f64, String),
}

/// Asks again and again.
pub(super) async fn run(app: &Arc<App>) -> Infallible {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_reachable = true;
    loop {
        interval.tick().await;
        match ask(app).await {
            Ok(reports) => {
                if !is_reachable {
                    is_reachable = true;
                    tracing::info!("Prometheus answers again");
                }
                reports.iter().for_each(|(node, report)| super::take(app, node, report));
            }
            Err(error) if is_reachable => {
                is_reachable = false;
                tracing::warn!(%error, "Prometheus does not say what nodes carry; asked until it does");
            }
            Err(_) => {}
        }
    }
}

async fn ask(app: &App) -> Result<Vec<(String, NodeReport)>, QueryError> {
    let url = format!("{}/api/v1/query", app.prometheus_url.trim_end_matches('/'));
    let request = app.http.get(url).query(&[("query", query(&app.run))]).timeout(TIMEOUT);
    let response = request.send().await?;
    if response.status() != StatusCode::OK {
        return Err(QueryError::Status(response.status()));
    }
    Ok(reports(&read_body(response, ANSWER_BYTES_MAX).await?, &app.run)?)
}

/// The gauges of all nodes in one query, so that those of one node are of one scrape. Without the joins of other coordinators.
fn query(run: &str) -> String {
    const NAMES: &str = "bits_per_second|share|report_seq|start_time_seconds|joins_seen";
    format!(r#"{{__name__=~"lectern_node_({NAMES})",of!="capacity",coordinator=~"|{run}"}}"#)
}

/// The reports in an answer, by node.
fn reports(answer: &[u8], run: &str) -> serde_json::Result<Vec<(String, NodeReport)>> {
    let Answer { data } = serde_json::from_slice(answer)?;
    let mut nodes: BTreeMap<_, (String, Gauges)> = BTreeMap::new();
    for Series { mut metric, value: (_, value) } in data.result {
        let [name, of, coordinator] = ["__name__", "of", "coordinator"].map(|label| metric.remove(label));
        let (Some(name), Some(node), Ok(value)) = (name, metric.get("node").cloned(), value.parse()) else {
            continue;
        };
        let label = |label: &str| if label == "of" { of.as_deref() } else { coordinator.as_deref() };
        // What else labels say is whence Prometheus has it: two jobs that scrape one node do so at different times.
        let (_, gauges) = nodes.entry(metric).or_insert_with(|| (node, Gauges::default()));
        gauges.add(&name, label, value, run);
    }
    let reports = nodes.into_values().filter_map(|(node, gauges)| Some((node, gauges.report()?)));
    Ok(reports.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn series(job: &str, node: &str, seq: u64) -> Vec<Value> {
        let start = "1795338000.123".to_owned();
        let one = |name: &str, label: &str, text: &str, value: String| {
            let name = format!("lectern_node_{name}");
            let mut metric = json!({ "__name__": name, "job": job, "instance": "i:9090", "node": node });
            if !label.is_empty() {
                metric[label] = json!(text);
            }
            json!({ "metric": metric, "value": [1_795_338_100.781, value] })
        };
        vec![
            one("bits_per_second", "of", "load", (seq * 1000).to_string()),
            one("bits_per_second", "of", "egress", "5".to_owned()),
            one("share", "of", "cpu", "0.5".to_owned()),
            one("share", "of", "loss", "0".to_owned()),
            one("report_seq", "", "", seq.to_string()),
            one("start_time_seconds", "", "", start),
            one("joins_seen", "coordinator", "run", "2".to_owned()),
        ]
    }

    fn answer(result: &[Value]) -> Vec<u8> {
        let data = json!({ "resultType": "vector", "result": result });
        json!({ "status": "success", "data": data }).to_string().into_bytes()
    }

    #[test]
    fn gauges_of_one_node_that_come_two_ways_are_not_mixed() {
        let mut result = [series("a", "n1", 17), series("b", "n1", 18), series("a", "n2", 3)].concat();
        // Of the last one there is no load.
        result.remove(14);
        result.reverse();
        let reports = reports(&answer(&result), "run").unwrap();
        let seen: Vec<_> =
            reports.iter().map(|(node, report)| (&**node, report.seq, report.load.load_bps)).collect();
        assert_eq!(seen, [("n1", 17, 17_000), ("n1", 18, 18_000)]);
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_what_is_no_gauge_is_left_out() {
        for text in ["", "[]", "{}", r#"{"data":{"result":[{"metric":{},"value":[1,2]}]}}"#] {
            assert!(reports(text.as_bytes(), "run").is_err(), "{text}");
        }
        let strange = [
            json!({ "metric": {}, "value": [1, "1"] }),
            json!({ "metric": { "__name__": "x", "node": "n" }, "value": [1, "NaN?"] }),
        ];
        assert!(reports(&answer(&strange), "run").unwrap().is_empty());
    }
}
