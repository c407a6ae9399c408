//! What a teacher sees in the terminal.
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::Serialize;

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
#[derive(Clone, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrets<'a> {
    /// A person at a terminal.
    Show,
    /// Whoever reads the journal: the secrets are in this folder.
    KeptIn(&'a Path),
}

/// The text.
pub(crate) fn text(addresses: &Addresses, secrets: Secrets<'_>) -> String {
    let mut text = String::from("\n  Lectern is up.\n\n");
    let is_shown = matches!(secrets, Secrets::Show);
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
    let _ = writeln!(text, "  Students, in a browser          {watch_url}");
    if let Some(pin) = pin {
        let pin = match secrets {
            Secrets::KeptIn(folder) => format!("in {}/class-pin", folder.display()),
            Secrets::Show => pin.clone(),
        };
        let _ = writeln!(text, "                             PIN  {pin}{asked}");
    }
    if !is_shown {
        return text;
    }
    text.push('\n');
    if let Ok(code) = QrCode::new(watch_url) {
        let image = code.render::<Dense1x2>().quiet_zone(true).build();
        for line in image.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text.push_str("\n  No phone at hand?  lectern demo     Ctrl-C ends everything.\n");
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
        let addresses = Addresses { page: Some(page), node: Some(node), admin: address };
        let shown = text(&addresses, Secrets::Show);
        assert!(shown.contains("the-stream-key") && shown.contains("123456"), "{shown}");
        assert!(shown.contains("123456  (asked for from outside"), "{shown}");
        let kept = text(&addresses, Secrets::KeptIn(Path::new("/var/lib/lectern")));
        assert!(!kept.contains("the-stream-key") && !kept.contains("123456"), "{kept}");
        assert!(kept.contains("/var/lib/lectern/stream-key") && kept.contains("rtmp://127.0.0.1:1/live"));
    }
}
