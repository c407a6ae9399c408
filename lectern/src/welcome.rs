//! What a teacher sees in the terminal.
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::Serialize;

/// Where everything is, for people and for programs (`--ready-file`).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) rtmp: SocketAddr,
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

/// The text.
pub(crate) fn text(addresses: &Addresses) -> String {
    let Addresses { rtmp_url, key, watch_url, pin, .. } = addresses;
    let mut text = String::from("\n  Lectern is up.\n\n");
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
