//! What a teacher sees in the terminal.
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::Serialize;

/// Where everything is, for people and for programs (`--ready-file`).
#[derive(Clone, Serialize)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    /// That of RTMPS when nobody may come without TLS.
    pub(crate) rtmp: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtmps: Option<SocketAddr>,
    pub(crate) whep: SocketAddr,
    pub(crate) media: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) class: String,
    pub(crate) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pin: Option<String>,
    pub(crate) rtmp_url: String,
    pub(crate) watch_url: String,
}

/// The address that people are told for a port: the one bound, or the one that the network knows this machine by.
pub(crate) fn host(bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() { SocketAddr::new(own_address(), bound.port()) } else { bound }
}

/// The address the kernel would use towards the network. No packet is sent: the target is an address of documentation.
fn own_address() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    ask().filter(|ip| !ip.is_unspecified()).unwrap_or(Ipv4Addr::LOCALHOST.into())
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
    let Addresses { rtmp_url, key, watch_url, pin, .. } = addresses;
    let mut text = String::from("\n  Lectern is up.\n\n");
    if let Secrets::KeptIn(folder) = secrets {
        let folder = folder.display();
        let _ = writeln!(text, "  Teacher, in the RTMP app   URL  {rtmp_url}");
        let _ = writeln!(text, "                             key  in {folder}/stream-key");
        let _ = writeln!(text, "  Students, in a browser          {watch_url}");
        if pin.is_some() {
            let _ = writeln!(text, "                             PIN  in {folder}/class-pin");
        }
        return text;
    }
    let _ = writeln!(
        text,
        "  Teacher, in the RTMP app   URL  {rtmp_url}\n                             key  {key}"
    );
    let _ = writeln!(text, "                      or one  {rtmp_url}/{key}\n");
    let _ = writeln!(text, "  Students, in a browser          {watch_url}");
    if let Some(pin) = pin {
        let _ = writeln!(text, "                             PIN  {pin}");
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
        let addresses = Addresses {
            http: address,
            rtmp: address,
            rtmps: None,
            whep: address,
            media: address,
            admin: address,
            class: "lesson".to_owned(),
            key: "the-stream-key".to_owned(),
            pin: Some("123456".to_owned()),
            rtmp_url: "rtmp://127.0.0.1:1/live".to_owned(),
            watch_url: "http://127.0.0.1:1/watch/lesson".to_owned(),
        };
        let shown = text(&addresses, Secrets::Show);
        assert!(shown.contains("the-stream-key") && shown.contains("123456"), "{shown}");
        let kept = text(&addresses, Secrets::KeptIn(Path::new("/var/lib/lectern")));
        assert!(!kept.contains("the-stream-key") && !kept.contains("123456"), "{kept}");
        assert!(kept.contains("/var/lib/lectern/stream-key") && kept.contains("rtmp://127.0.0.1:1/live"));
    }
}
