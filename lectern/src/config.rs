//! Every setting of the binary; `process::config` reads them.
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

pub(crate) use coordinator::LINK_FOLDER;
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
    pub(crate) link: Link,
}

impl Config {
    /// The node's certificate towards other nodes, its key, and the authority of the cluster.
    pub(crate) fn link_files(&self) -> [PathBuf; 3] {
        let folder = self.coordinator.data_dir.join(LINK_FOLDER);
        let Link { cert, key, authority, .. } = &self.link;
        [(cert, LINK_CERT), (key, LINK_KEY), (authority, LINK_AUTHORITY)]
            .map(|(set, name)| set.clone().unwrap_or_else(|| folder.join(name)))
    }
}

/// Where in the data folder they are if nothing else is said.
pub(crate) const LINK_CERT: &str = "cert.pem";
pub(crate) const LINK_KEY: &str = "key.pem";
pub(crate) const LINK_AUTHORITY: &str = "ca.pem";

/// How nodes reach each other.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Link {
    /// Whether there is one: other machines may join. A node that runs alone always has one.
    pub(crate) enabled: bool,
    /// Where other nodes pull streams, UDP.
    pub(crate) listen: SocketAddr,
    /// The address that they are told. None: the one that the coordinator sees.
    pub(crate) announce: Option<IpAddr>,
    /// This node's certificate, as PEM.
    pub(crate) cert: Option<PathBuf>,
    /// Its key.
    pub(crate) key: Option<PathBuf>,
    /// The certificate of the cluster's authority.
    pub(crate) authority: Option<PathBuf>,
}

impl Default for Link {
    fn default() -> Self {
        let listen = (Ipv6Addr::UNSPECIFIED, 8190).into();
        Self { enabled: false, listen, announce: None, cert: None, key: None, authority: None }
    }
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
    /// What it can send, in Mbit/s. 0: the speed of its fastest interface, or 10,000 if none says.
    pub(crate) capacity_mbps: u64,
    /// Where it is, in a word.
    pub(crate) region: String,
    /// For how many seconds at most it waits for its viewers and publishers to go when it is asked to end.
    pub(crate) drain_seconds: u32,
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
        Self {
            name: "main".to_owned(),
            public_url: None,
            admin_listen: ([127, 0, 0, 1], 9090).into(),
            capacity_mbps: 0,
            region: String::new(),
            drain_seconds: 30,
        }
    }
}
