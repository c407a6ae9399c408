//! What a teacher sees in the terminal.
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use process::address::shown;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::{Deserialize, Serialize};

/// What people and programs are told once everything is there.
pub(crate) struct Welcome {
    pub(crate) addresses: Addresses,
    pub(crate) secrets: Secrets,
    pub(crate) ready_file: Option<PathBuf>,
}

impl Welcome {
    /// Tells them, and of the nodes of this machine, if it has several.
    #[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
    pub(crate) fn give(self, nodes: Vec<Neighbour>) -> anyhow::Result<()> {
        let addresses = Addresses { nodes, ..self.addresses };
        if let Some(file) = &self.ready_file {
            // It holds the key, so only its owner reads it.
            process::file::replace(file, &serde_json::to_vec(&addresses)?, 0o600)
                .with_context(|| format!("cannot write the ready file {}", file.display()))?;
        }
        println!("{}", text(&addresses, &self.secrets));
        Ok(())
    }
}

/// Where everything is, for people and for programs (`--ready-file`).
#[derive(Clone, Serialize)]
pub(crate) struct Addresses {
    /// Of a coordinator.
    #[serde(flatten)]
    pub(crate) page: Option<Page>,
    /// Of a node.
    #[serde(flatten)]
    pub(crate) node: Option<NodePorts>,
    pub(crate) admin: SocketAddr,
    /// The nodes of this machine, this process first, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nodes: Vec<Neighbour>,
}

/// A node of this machine.
#[derive(Clone, Serialize)]
pub(crate) struct Neighbour {
    pub(crate) name: String,
    #[serde(rename = "pid")]
    pub(crate) process: u32,
    pub(crate) admin: SocketAddr,
    #[serde(flatten)]
    pub(crate) ports: NodePorts,
}

/// What a coordinator has.
#[derive(Clone, Serialize)]
pub(crate) struct Page {
    pub(crate) http: SocketAddr,
    pub(crate) class: String,
    pub(crate) key: String,
    /// None where nobody is asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pin: Option<String>,
    /// Who has to know the PIN.
    #[serde(skip)]
    pub(crate) asked: Asked,
    pub(crate) watch_url: String,
}

/// What a node has.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct NodePorts {
    /// That of RTMPS when nobody may come without TLS.
    pub(crate) rtmp: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtmps: Option<SocketAddr>,
    pub(crate) whep: SocketAddr,
    pub(crate) media: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<SocketAddr>,
    pub(crate) rtmp_url: String,
}

/// Who is asked for the PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Every student.
    All,
    /// Students whose request does not come from the local network.
    FromOutside,
}

impl Asked {
    fn words(self) -> &'static str {
        match self {
            Self::All => "",
            Self::FromOutside => "  (asked for from outside the local network)",
        }
    }
}

/// How much of it a reader may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// A person at a terminal.
    Show,
    /// Whoever reads the journal: the secrets are in this folder.
    KeptIn(PathBuf),
}

/// The text.
fn text(addresses: &Addresses, secrets: &Secrets) -> String {
    let mut text = String::from("\n  Lectern is up.\n\n");
    let is_shown = *secrets == Secrets::Show;
    if let Some(node) = &addresses.node {
        let _ = writeln!(text, "  Teacher, in the RTMP app   URL  {}", node.rtmp_url);
    }
    let Some(Page { key, pin, asked, watch_url, .. }) = &addresses.page else { return text };
    let asked = asked.words();
    match (secrets, &addresses.node) {
        (Secrets::KeptIn(folder), _) => {
            let _ = writeln!(text, "                             key  in {}/stream-key", folder.display());
        }
        (Secrets::Show, Some(node)) => {
            let _ = writeln!(text, "                             key  {key}");
            let _ = writeln!(text, "                      or one  {}/{key}\n", node.rtmp_url);
        }
        (Secrets::Show, None) => {
            let _ = writeln!(text, "  Teacher, in the RTMP app   key  {key}\n");
        }
    }
    if is_shown {
        // Behind the # it stays in the browser.
        let teach_url = watch_url.replacen("/watch/", "/teach/", 1);
        let _ = writeln!(text, "  or what to set, and what comes  {teach_url}#key={key}\n");
    }
    let _ = writeln!(text, "  Students, in a browser          {watch_url}");
    if let Some(pin) = pin {
        let pin = match secrets {
            Secrets::KeptIn(folder) => format!("in {}/class-pin", folder.display()),
            Secrets::Show => pin.clone(),
        };
        let _ = writeln!(text, "                             PIN  {pin}{asked}");
    }
    let nodes = nodes_text(&addresses.nodes, key, secrets);
    if !is_shown {
        return text + &nodes;
    }
    text.push('\n');
    if let Ok(code) = QrCode::new(watch_url) {
        let image = code.render::<Dense1x2>().quiet_zone(true).build();
        for line in image.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text.push_str(&nodes);
    let _ = writeln!(text, "\n  No phone at hand?  {} demo     Ctrl-C ends everything.", program());
    text
}

/// This program, as whoever started it called it.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "lectern".to_owned())
}

/// The nodes of this machine, and what can be tried with them.
fn nodes_text(nodes: &[Neighbour], key: &str, secrets: &Secrets) -> String {
    let mut text = String::new();
    let [_, one, others @ ..] = nodes else { return text };
    let _ =
        writeln!(text, "\n  {:20}  {:>5}  {:>5}  {:>5}  {:>7}", "Node", "RTMP", "WHEP", "admin", "process");
    for Neighbour { name, process, admin, ports } in nodes {
        let [rtmp, whep, admin] = [ports.rtmp, ports.whep, *admin].map(|address| address.port());
        let _ = writeln!(text, "  {name:20}  {rtmp:>5}  {whep:>5}  {admin:>5}  {process:>7}");
    }
    let key = match secrets {
        Secrets::Show => key.to_owned(),
        Secrets::KeptIn(folder) => format!("$(cat '{}/stream-key')", folder.display()),
    };
    let other = others.first().unwrap_or(one);
    let _ = writeln!(text, "\n  To try: publish to any of them with the same key, and then");
    if one.ports.rtmps != Some(one.ports.rtmp) {
        let _ = writeln!(text, "    {} demo rtmp://{}/live/{key}", program(), shown(one.ports.rtmp));
    }
    let (drain, kill) = (
        format!("{} node drain --admin-port {}", program(), one.admin.port()),
        format!("kill -9 {}", other.process),
    );
    let _ = writeln!(text, "    {drain:38} # {} ends, its viewers go on elsewhere", one.name);
    let _ = writeln!(text, "    {kill:38} # {} is gone, its viewers find another node", other.name);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_told_where_the_secrets_are_and_a_person_what_they_are() {
        let address: SocketAddr = ([127, 0, 0, 1], 1).into();
        let page = Page {
            http: address,
            class: "lesson".to_owned(),
            key: "the-stream-key".to_owned(),
            pin: Some("123456".to_owned()),
            asked: Asked::FromOutside,
            watch_url: "http://127.0.0.1:1/watch/lesson".to_owned(),
        };
        let node = NodePorts {
            rtmp: address,
            rtmps: None,
            whep: address,
            media: address,
            link: None,
            rtmp_url: "rtmp://127.0.0.1:1/live".to_owned(),
        };
        let nodes = ["main", "main-2", "main-3"].map(|name| Neighbour {
            name: name.to_owned(),
            process: 4711,
            admin: address,
            ports: node.clone(),
        });
        let addresses =
            Addresses { page: Some(page), node: Some(node), admin: address, nodes: nodes.to_vec() };
        let shown = text(&addresses, &Secrets::Show);
        assert!(shown.contains("the-stream-key") && shown.contains("123456"), "{shown}");
        assert!(shown.contains("123456  (asked for from outside"), "{shown}");
        assert!(shown.contains("http://127.0.0.1:1/teach/lesson#key=the-stream-key"), "{shown}");
        assert!(shown.contains("main-3") && shown.contains(" demo rtmp://127.0.0.1:1/live/the-stream-key"));
        let kept = text(&addresses, &Secrets::KeptIn("/var/lib/lectern".into()));
        assert!(!kept.contains("the-stream-key") && !kept.contains("123456"), "{kept}");
        assert!(kept.contains("/var/lib/lectern/stream-key") && kept.contains("rtmp://127.0.0.1:1/live"));
        assert!(kept.contains("$(cat '/var/lib/lectern/stream-key')") && kept.contains("4711"), "{kept}");
    }
}
