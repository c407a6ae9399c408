//! The same request over and over, on connections that stay open: on each, one after the other.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::conversation::{Answer, Conversation};
use crate::publish::quantity::parse_duration;
use crate::report;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What is asked for: http://IP:PORT/PATH. An n in braces is replaced by the number of the request.
    url: String,
    /// How.
    #[arg(long, default_value = "POST")]
    method: String,
    /// A token.
    #[arg(long, value_name = "TEXT")]
    bearer: Option<String>,
    /// Connections: all but one always wait for an answer.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Look for answers all the time: who sleeps must be woken, which costs the server more than the answer of a bare handler
    #[arg(long)]
    never_sleep: bool,
    /// For how long.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// Write the figures there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is asked, but for its number.
struct Question {
    before: String,
    /// Behind the number, if there is one.
    after: Option<String>,
}

impl Question {
    fn text(&self, number: u64) -> String {
        match &self.after {
            Some(after) => format!("{}{number}{after}", self.before),
            None => self.before.clone(),
        }
    }
}

/// Asks until the time is over.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (address, path) = split(&arguments.url)?;
    let token = arguments.bearer.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
    let (method, token) = (&arguments.method, token.unwrap_or_default());
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{token}Content-Length: 0\r\n\r\n");
    let (before, after) = match request.split_once("{n}") {
        Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
        None => (request, None),
    };
    let question = Question { before, after };

    let mut open = Vec::new();
    for number in 0..u64::from(arguments.connections) {
        let mut conversation = Conversation::open(address, arguments.never_sleep)?;
        conversation.ask(question.text(number).as_bytes())?;
        open.push(conversation);
    }
    let (mut number, mut bytes) = (u64::from(arguments.connections), 0);
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    let mut count = |Answer { status, body }: Answer<'_>| {
        bytes = body.len();
        *statuses.entry(status).or_default() += 1;
    };
    let began = Instant::now();
    while began.elapsed() < arguments.duration {
        for conversation in &mut open {
            count(conversation.answer()?);
            conversation.ask(question.text(number).as_bytes())?;
            number += 1;
        }
    }
    for conversation in &mut open {
        count(conversation.answer()?);
    }
    let seconds = began.elapsed().as_secs_f64();
    let failed: u64 = statuses.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum();
    let figures = json!({
        "requests": number, "failed": failed, "seconds": seconds, "body_bytes": bytes, "statuses": statuses,
    });
    report::result(&figures.to_string());
    arguments.json.as_ref().map_or(Ok(()), |file| report::write_json(file, &figures))
}

/// The address and the path of a URL. Names are not looked up, and nothing is escaped.
pub(super) fn split(url: &str) -> anyhow::Result<(SocketAddr, String)> {
    let parts = url.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    let (address, path) = parts.with_context(|| format!("{url:?} must be http://IP:PORT/PATH"))?;
    let address = address.parse().with_context(|| format!("{address:?} is no IP address with a port"))?;
    Ok((address, format!("/{path}")))
}
