//! The lab's network: a bridge with a host for each machine of a cluster, of which any may be made deaf for any other.
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, ensure};

use crate::namespace::{Host, run};

/// The bridge, and this program's own address there.
const BRIDGE: &str = "lab";
const OWN: &str = "10.77.0.1/24";
/// Hosts have the addresses from this one on.
const FIRST: u8 = 11;
/// Hosts at most.
const HOSTS_MAX: usize = 100;
/// What a host does with packets before its programs see them: nothing, until somebody is not to be heard.
const RULES: [&str; 2] =
    ["add table ip lab", "add chain ip lab heard { type filter hook input priority 0 ; policy accept ; }"];

/// One machine.
#[derive(Debug)]
struct Machine {
    host: Host,
    address: Ipv4Addr,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Network {
    machines: BTreeMap<String, Machine>,
}

impl Network {
    pub(super) fn open() -> anyhow::Result<Self> {
        // Ports forward from the beginning: there are no loops to be found.
        run("ip", &format!("link add {BRIDGE} type bridge forward_delay 0"))?;
        run("ip", &format!("addr add {OWN} dev {BRIDGE}"))?;
        run("ip", &format!("link set {BRIDGE} up"))?;
        Ok(Self { machines: BTreeMap::new() })
    }

    /// Sets up a machine if there is none of this name, and returns its address.
    pub(super) fn machine(&mut self, name: &str) -> anyhow::Result<Ipv4Addr> {
        if let Some(machine) = self.machines.get(name) {
            return Ok(machine.address);
        }
        let number = self.machines.len();
        ensure!(number < HOSTS_MAX, "{HOSTS_MAX} hosts are the most");
        let address = Ipv4Addr::new(10, 77, 0, FIRST + u8::try_from(number)?);
        let (host, cable) = (Host::open(name)?, format!("to-{name}"));
        host.connect(&cable, "net")?;
        host.ip(&format!("addr add {address}/24 dev net"))?;
        run("ip", &format!("link set {cable} master {BRIDGE}"))?;
        RULES.iter().try_for_each(|rule| host.run("nft", rule).map(drop))?;
        self.machines.insert(name.to_owned(), Machine { host, address });
        Ok(address)
    }

    /// From here on nothing that `from` sends comes to `to`; the way back is free.
    pub(super) fn cut(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let rule = format!("add rule ip lab heard ip saddr {} drop", self.get(from)?.address);
        self.get(to)?.host.run("nft", &rule).map(drop)
    }

    /// Everybody hears everybody again.
    pub(super) fn heal(&self) -> anyhow::Result<()> {
        self.machines
            .values()
            .try_for_each(|machine| machine.host.run("nft", "flush chain ip lab heard").map(drop))
    }

    fn get(&self, name: &str) -> anyhow::Result<&Machine> {
        self.machines.get(name).with_context(|| format!("there is no machine {name}"))
    }
}
