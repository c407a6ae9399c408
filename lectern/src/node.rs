//! `lectern node`: a machine that joins a cluster, and a node that has joined.
use std::path::Path;

use anyhow::{Context, bail};
use control::Client;
use control::api::JoinRequest;
use coordinator::authority::host_name;
use process::address::reachable;
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};

use crate::config::{Config, LINK_AUTHORITY, LINK_CERT, LINK_FOLDER, LINK_KEY};
use crate::roles::Roles;
use crate::up::{self, Arguments};

/// Where in the data folder it is written down that a machine is a node.
pub(crate) const STATE_FILE: &str = "node.json";
/// The variable that may hold the secret, so that no list of processes shows it.
pub(crate) const SECRET_VARIABLE: &str = "LECTERN_JOIN_SECRET";

/// The command line of `node`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NodeArguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Arguments,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Joins the cluster of a coordinator, and runs.
    Join(Box<JoinArguments>),
    /// Lets the node of this machine end: its viewers go to other nodes, and its publishers have time to end.
    Drain(DrainArguments),
}

#[derive(Debug, clap::Args)]
struct DrainArguments {
    /// For how long at most [default: drain_seconds].
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
    /// Lets it go on instead.
    #[arg(long, conflicts_with = "seconds")]
    undo: bool,
    #[command(flatten)]
    common: Arguments,
}

#[derive(Debug, clap::Args)]
struct JoinArguments {
    /// Where the coordinators are: http://192.168.1.7:8000.
    #[arg(value_name = "URL", required = true, num_args = 1..)]
    coordinators: Vec<String>,
    /// The secret that nodes join with, which a coordinator keeps in data/node-secret [default:
    /// LECTERN_JOIN_SECRET in the environment].
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// What this node is to be called [default: the name of the machine].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where browsers reach this node's WHEP server, if not at the address that the coordinator sees.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    #[command(flatten)]
    common: Arguments,
}

/// What a node knows of its cluster.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// Where the coordinators are.
    pub(crate) coordinators: Vec<String>,
    /// What the node proves itself with there.
    pub(crate) credential: String,
    /// Its name.
    pub(crate) name: String,
}

impl Membership {
    /// What is written down in a data folder.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let file = folder.join(STATE_FILE);
        match std::fs::read(&file) {
            Ok(text) => {
                let read = serde_json::from_slice(&text);
                Ok(Some(read.with_context(|| format!("{} cannot be read", file.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
        }
    }
}

/// Runs a node until Ctrl-C; before, it joins if it is told to.
pub(crate) async fn run(arguments: NodeArguments) -> anyhow::Result<()> {
    let roles = Roles { coordinator: false, node: true };
    match arguments.command {
        None => up::run_roles(&arguments.common, roles, 0).await,
        Some(Command::Join(join)) => {
            let config = up::load(&join.common)?;
            join_cluster(&join, &config).await?;
            up::run_roles(&join.common, roles, 0).await
        }
        Some(Command::Drain(arguments)) => drain(&arguments).await,
    }
}

/// Tells the process that has the operators' port of this machine.
#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
async fn drain(arguments: &DrainArguments) -> anyhow::Result<()> {
    let admin = reachable(up::load(&arguments.common)?.node.admin_listen);
    let url = format!("http://{admin}/drain");
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = match (arguments.undo, arguments.seconds) {
        (true, _) => client.delete(url),
        (false, Some(seconds)) => client.post(format!("{url}?seconds={seconds}")),
        (false, None) => client.post(url),
    };
    let answer =
        request.send().await.with_context(|| format!("no node has its operators' port on {admin}"))?;
    let status = answer.status();
    let text = answer.text().await?;
    if !status.is_success() {
        bail!("the node refuses: {status} {}", text.trim_end());
    }
    print!("{text}");
    Ok(())
}

/// Becomes a node, unless this machine is one of the same cluster already.
async fn join_cluster(arguments: &JoinArguments, config: &Config) -> anyhow::Result<()> {
    let folder = &config.coordinator.data_dir;
    let coordinators = arguments.coordinators.iter().map(|url| url.trim_end_matches('/').to_owned());
    let coordinators: Vec<String> = coordinators.collect();
    if let Some(known) = Membership::read(folder)? {
        let is_of_cluster = known.coordinators.iter().any(|known| coordinators.contains(known));
        if !is_of_cluster || arguments.name.as_ref().is_some_and(|name| *name != known.name) {
            bail!(
                "this machine is the node {} of {}; another data folder makes another node",
                known.name,
                known.coordinators.join(", ")
            );
        }
        // There may be more of them by now.
        let membership = Membership { coordinators, ..known };
        return write(&folder.join(STATE_FILE), &serde_json::to_vec(&membership)?, 0o600);
    }
    let secret = arguments.secret.clone().or_else(|| std::env::var(SECRET_VARIABLE).ok());
    let secret = secret.context("--secret is missing; the coordinator keeps it in data/node-secret")?;
    let name =
        arguments.name.clone().or_else(own_name).context("this machine has no name; --name gives one")?;
    let known_as = control::certificate_name(&name)
        .with_context(|| format!("{name:?}: a node's name has lower-case letters, digits and hyphens"))?;
    let key = KeyPair::generate()?;
    let certificate_request = CertificateParams::new(vec![known_as])?.serialize_request(&key)?.pem()?;
    let request =
        JoinRequest { name: name.clone(), public_url: arguments.public_url.clone(), certificate_request };
    let answer = Client::of(&coordinators, &secret)?.join(&request).await;
    let answer = answer
        .with_context(|| format!("{} does not take this machine as a node", coordinators.join(", ")))?;
    let link = folder.join(LINK_FOLDER);
    make_folder(&link)?;
    write(&link.join(LINK_KEY), key.serialize_pem().as_bytes(), 0o600)?;
    write(&link.join(LINK_CERT), answer.certificate.as_bytes(), 0o644)?;
    write(&link.join(LINK_AUTHORITY), answer.authority.as_bytes(), 0o644)?;
    // Last: with it this machine is a node.
    let membership = Membership { coordinators, credential: answer.credential, name };
    write(&folder.join(STATE_FILE), &serde_json::to_vec(&membership)?, 0o600)
}

/// The machine's name as a node may have it.
fn own_name() -> Option<String> {
    let host = host_name()?.to_ascii_lowercase();
    let label = host.split('.').next()?.trim_matches('-');
    control::certificate_name(label).map(|_| label.to_owned())
}

pub(crate) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot use the folder {}", folder.display()))
}

fn write(file: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    process::file::replace(file, bytes, mode).with_context(|| format!("cannot write {}", file.display()))
}
