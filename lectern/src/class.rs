//! `lectern class`: classes, stream keys and PINs, for whoever may read the data folder.
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use coordinator::Operator;
use serde_json::{Value, json};

use crate::config::Config;

const CLASSES: &str = "/api/v1/classes";
/// The server gives a request 15 s, and then says so itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The command line of `class`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The configuration file [default: lectern.toml, if there is one].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where the database and the keys are [default: data].
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Prints the answer as JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Adds a class and prints its stream key and its PIN, which are shown this once.
    Add {
        /// Its name in addresses: lower-case letters, digits and hyphens.
        class: String,
        /// Its name for people [default: the same].
        #[arg(long)]
        name: Option<String>,
        /// Its PIN, 6 to 64 characters [default: six random digits].
        #[arg(long)]
        pin: Option<String>,
    },
    /// Lists the classes.
    List,
    /// Lists a class's stream keys; adds one, revokes one, or replaces one by doing both.
    ///
    /// `--new` alone adds a key and leaves the others valid. `--revoke ID` alone makes one key invalid: whoever
    /// publishes with it is sent away and refused from then on. Both together replace it: the new key is made first.
    /// The key that `lectern up` prints is in the file `stream-key`; when it is revoked, the file has a new one.
    Key {
        /// The class.
        class: String,
        /// Makes a key and prints it, which is done this once.
        #[arg(long)]
        new: bool,
        /// Makes the key with this id invalid.
        #[arg(long, value_name = "ID")]
        revoke: Option<String>,
    },
    /// Gives a class another PIN and prints it. The old one is invalid at once; nobody who watches is cut off.
    Pin {
        /// The class.
        class: String,
        /// The PIN, 6 to 64 characters [default: six random digits].
        pin: Option<String>,
    },
    /// Removes a class: its keys and its PIN are invalid at once, and whoever publishes with one of them is sent away. What
    /// was recorded of its lessons stays.
    Remove {
        /// The class.
        class: String,
    },
}

/// Does what was asked for, through the server that runs on the data folder or in its place.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut config: Config = process::config::load(arguments.config.as_deref())?;
    if let Some(data_dir) = arguments.data_dir {
        config.coordinator.data_dir = data_dir;
    }
    let folder = config.coordinator.data_dir.display().to_string();
    let operator = Operator::open(config.coordinator).await.with_context(|| {
        format!("cannot manage the classes of {folder} (--data-dir names another folder)")
    })?;
    let outcome = answer(&operator, &arguments.verb).await;
    operator.close().await;
    let answer = outcome?;
    let text = if arguments.json { answer.to_string() } else { words(&arguments.verb, &answer) };
    show(&text);
    Ok(())
}

async fn answer(operator: &Operator, verb: &Verb) -> anyhow::Result<Value> {
    match verb {
        Verb::Add { class, name, pin } => {
            let body = json!({ "slug": class, "name": name, "pin": pin });
            call(operator, "POST", CLASSES, &body).await
        }
        Verb::List => call(operator, "GET", CLASSES, &Value::Null).await,
        Verb::Key { class, new, revoke } => {
            let keys = format!("{}/stream-keys", path(class)?);
            let known = call(operator, "GET", &keys, &Value::Null).await?;
            // Asked first: a key that was made and not shown would be of no use to anybody.
            let is_known = |id: &String| {
                known.as_array().is_some_and(|keys| keys.iter().any(|key| text(key, "id") == id))
            };
            if revoke.as_ref().is_some_and(|id| !is_known(id)) {
                bail!("the class has no such stream key");
            }
            let mut answer = Value::Null;
            if *new {
                answer = call(operator, "POST", &keys, &Value::Null).await?;
            }
            if let Some(id) = revoke {
                call(operator, "DELETE", &format!("{keys}/{}", segment(id)?), &Value::Null).await?;
                if !*new {
                    answer = json!({ "class": class, "revoked": id });
                }
            }
            Ok(if answer.is_null() { known } else { answer })
        }
        Verb::Pin { class, pin } => {
            call(operator, "PUT", &format!("{}/pin", path(class)?), &json!({ "pin": pin })).await
        }
        Verb::Remove { class } => {
            call(operator, "DELETE", &path(class)?, &Value::Null).await?;
            Ok(json!({ "removed": class }))
        }
    }
}

async fn call(operator: &Operator, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, operator.call(method.parse()?, path, body)).await;
    let (status, answer) = answered.context("the server that uses the data folder does not answer")??;
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let detail = text(&answer, "detail");
    bail!("{}", if detail.is_empty() { text(&answer, "title") } else { detail })
}

fn path(class: &str) -> anyhow::Result<String> {
    Ok(format!("{CLASSES}/{}", segment(class)?))
}

/// A word as a part of a path: what has other characters is the name of nothing.
fn segment(word: &str) -> anyhow::Result<&str> {
    let is_plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_plain { Ok(word) } else { bail!("{word:?} is not a name of letters, digits and hyphens") }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The answer for people.
fn words(verb: &Verb, answer: &Value) -> String {
    let list = answer.as_array().map_or(&[] as &[_], Vec::as_slice);
    let mut words = String::new();
    match verb {
        Verb::Add { .. } => {
            let _ = writeln!(words, "class       {}", text(answer, "slug"));
            let _ = writeln!(words, "stream key  {}", text(answer, "stream_key"));
            let _ = write!(words, "PIN         {}", text(answer, "pin"));
        }
        Verb::List => {
            let width = list.iter().map(|class| text(class, "slug").len()).max().unwrap_or_default();
            let lines = list.iter().map(|class| {
                let default = if class["is_default"] == true { "  (default)" } else { "" };
                format!("{:width$}  {}{default}", text(class, "slug"), text(class, "name"))
            });
            words = lines.collect::<Vec<_>>().join("\n");
        }
        Verb::Key { new: true, revoke, .. } => {
            let _ = write!(
                words,
                "id          {}\nstream key  {}",
                text(answer, "id"),
                text(answer, "stream_key")
            );
            if let Some(id) = revoke {
                let _ = write!(words, "\nrevoked     {id}");
            }
        }
        Verb::Key { revoke: Some(id), .. } => {
            let _ = write!(words, "revoked  {id}");
        }
        Verb::Key { .. } if list.is_empty() => words.push_str("no valid stream key; --new makes one"),
        Verb::Key { .. } => {
            let lines = list.iter().map(|key| {
                let days = age_days(key["created_at_ms"].as_u64().unwrap_or_default());
                format!("{}  made {days} days ago", text(key, "id"))
            });
            words = lines.collect::<Vec<_>>().join("\n");
        }
        Verb::Pin { .. } => {
            let _ = write!(words, "PIN  {}", text(answer, "pin"));
        }
        Verb::Remove { class } => {
            let _ = write!(words, "removed  {class}");
        }
    }
    words
}

fn age_days(at_ms: u64) -> u64 {
    process::clock::now_ms().saturating_sub(at_ms) / 86_400_000
}

#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
fn show(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_not_waited_for_for_ever() {
        let folder = tempfile::TempDir::new().unwrap();
        // It holds the folder and its socket, and says nothing.
        let lock = std::fs::File::create(folder.path().join("lock")).unwrap();
        lock.try_lock().unwrap();
        let _socket = tokio::net::UnixListener::bind(folder.path().join("operator.sock")).unwrap();
        let config = coordinator::Config { data_dir: folder.path().to_owned(), ..Default::default() };
        let operator = Operator::open(config).await.unwrap();
        let error = answer(&operator, &Verb::List).await.unwrap_err();
        assert!(error.to_string().contains("does not answer"), "{error:#}");
    }
}
