//! Every setting of the binary; `process::config` reads them.
use std::net::SocketAddr;

use serde::Deserialize;

/// Every setting, by role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) node: Node,
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

impl Default for Node {
    fn default() -> Self {
        Self { name: "main".to_owned(), public_url: None, admin_listen: ([127, 0, 0, 1], 9090).into() }
    }
}
