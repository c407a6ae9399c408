//! Every setting of the binary; `process::config` reads them.
use std::net::SocketAddr;

use process::connections::Limits;
use serde::Deserialize;

/// Every setting, by role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) node: Node,
    pub(crate) http: Http,
    pub(crate) tls: process::tls::Config,
    pub(crate) ingest: ingest::Config,
    pub(crate) whep: whep_node::Config,
    pub(crate) coordinator: coordinator::Config,
}

/// What concerns the process as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// Its name among the nodes.
    pub(crate) name: String,
    /// Where browsers reach its WHEP server, if not under the host of the web page.
    pub(crate) public_url: Option<String>,
    /// Where operators read metrics.
    pub(crate) admin_listen: SocketAddr,
}

/// What the page's port and WHEP's have in common.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// Connections to both at once. Fewer if the process may not open as many files.
    pub(crate) connections_max: usize,
    /// The same from one IPv4 address or IPv6 /64.
    pub(crate) connections_per_address_max: usize,
}

impl Default for Http {
    fn default() -> Self {
        let Limits { connections_max, per_network_max } = Limits::default();
        Self { connections_max, connections_per_address_max: per_network_max }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { name: "main".to_owned(), public_url: None, admin_listen: ([127, 0, 0, 1], 9090).into() }
    }
}
