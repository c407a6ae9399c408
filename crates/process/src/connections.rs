//! The connections of strangers: counted, shared out among networks, and closed in favour of newcomers.
//!
//! A connection waits for its client, or works for it. When there are too many, the one that has waited longest makes
//! room: idle sockets cannot keep anybody out, however many networks they come from. If all of them are new, it is one of
//! the network that has most: whoever opens many closes his own.
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::address::network;

/// Whoever connects to ask something does so within this time; what has waited longer is idle, and soon opened anew.
const WAITED_LONG: Duration = Duration::from_secs(2);

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub connections_max: usize,
    /// From one IPv4 address or IPv6 /64.
    pub per_network_max: usize,
}

/// Why a connection is refused: there are too many, and all of them work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many in all.
    Full,
    /// Too many from this network.
    NetworkFull,
}

/// Who is connected; clones share it.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    table: Mutex<Table>,
}

/// Grows with the connections, which `limits` bounds.
#[derive(Debug, Default)]
struct Table {
    /// Counts the times that a connection began to wait, so that the order of these numbers is the order of time.
    clock: u64,
    connections: usize,
    /// Those that wait, the longest first.
    waiting: BTreeMap<u64, Waiting>,
    networks: HashMap<IpAddr, Group>,
    /// What one customer may have: many networks, if it is IPv6.
    sites: HashMap<IpAddr, Group>,
    /// The sites by their number of connections.
    by_size: BTreeSet<(usize, IpAddr)>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    network: IpAddr,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Group {
    connections: usize,
    /// Those that wait, the longest first.
    waiting: BTreeSet<u64>,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    inner: Arc<Inner>,
    network: IpAddr,
    /// Since when it waits, if it does.
    waiting_since: Mutex<Option<u64>>,
    closed: CancellationToken,
    gauge: Option<IntGauge>,
}

impl Default for Limits {
    fn default() -> Self {
        // A page listens to its coordinator and to its node, and a school of a thousand is one network; idle ones make room for
        // others.
        Self { connections_max: 16_384, per_network_max: 4_096 }
    }
}

impl Connections {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, table: Mutex::default() }))
    }

    /// Makes room for one more connection, which waits at first. True if another was closed in its favour.
    pub fn admit(&self, peer: IpAddr) -> Result<(Seat, bool), Refused> {
        let network = network(peer);
        let Limits { connections_max, per_network_max } = self.0.limits;
        let mut table = self.0.lock();
        let mut is_in_favour = false;
        if table.size(network) >= per_network_max {
            is_in_favour = table.close_longest_waiting_of(network);
            if !is_in_favour {
                return Err(Refused::NetworkFull);
            }
        } else if table.connections >= connections_max {
            is_in_favour = table.close_longest_waiting();
            if !is_in_favour {
                return Err(Refused::Full);
            }
        }
        let closed = CancellationToken::new();
        table.add(network);
        let since = Some(table.wait(network, closed.clone()));
        drop(table);
        let seat = Seat {
            inner: Arc::clone(&self.0),
            network,
            waiting_since: Mutex::new(since),
            closed,
            gauge: None,
        };
        Ok((seat, is_in_favour))
    }

    /// Closes a connection that waits, if there is one: its descriptor is needed.
    pub fn close_one(&self) -> bool {
        self.0.lock().close_longest_waiting()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().connections
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn size(&self, network: IpAddr) -> usize {
        self.networks.get(&network).map_or(0, |network| network.connections)
    }

    /// One more connection.
    fn add(&mut self, network: IpAddr) {
        self.connections += 1;
        self.networks.entry(network).or_default().connections += 1;
        let site = site(network);
        let group = self.sites.entry(site).or_default();
        self.by_size.remove(&(group.connections, site));
        group.connections += 1;
        self.by_size.insert((group.connections, site));
    }

    /// One less; it does not wait any more.
    fn remove(&mut self, network: IpAddr) {
        self.connections = self.connections.saturating_sub(1);
        let site = site(network);
        if let Some(group) = self.sites.get(&site) {
            let before = group.connections;
            self.by_size.remove(&(before, site));
            if before > 1 {
                self.by_size.insert((before - 1, site));
            }
        }
        for (groups, name) in [(&mut self.networks, network), (&mut self.sites, site)] {
            let Some(group) = groups.get_mut(&name) else { continue };
            group.connections = group.connections.saturating_sub(1);
            if group.connections == 0 {
                groups.remove(&name);
            }
        }
    }

    fn wait(&mut self, network: IpAddr, closed: CancellationToken) -> u64 {
        self.clock += 1;
        let since = Instant::now();
        self.waiting.insert(self.clock, Waiting { since, network, closed });
        let groups = [self.networks.get_mut(&network), self.sites.get_mut(&site(network))];
        for group in groups.into_iter().flatten() {
            group.waiting.insert(self.clock);
        }
        self.clock
    }

    /// Ends the wait that began at `number`.
    fn work(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        let groups = [self.networks.get_mut(&waiting.network), self.sites.get_mut(&site(waiting.network))];
        for group in groups.into_iter().flatten() {
            group.waiting.remove(&number);
        }
        Some(waiting)
    }

    fn close(&mut self, number: Option<u64>) -> bool {
        let Some(waiting) = number.and_then(|number| self.work(number)) else { return false };
        waiting.closed.cancel();
        self.remove(waiting.network);
        true
    }

    fn close_longest_waiting_of(&mut self, network: IpAddr) -> bool {
        let longest = self.networks.get(&network).and_then(|group| group.waiting.first().copied());
        self.close(longest)
    }

    /// Whoever has waited long, wherever from: a crowd of networks with a connection each would never be the largest, and
    /// a school behind one address always is. If nobody has, one of the site that has most, so that few pay for the many
    /// that one opens.
    fn close_longest_waiting(&mut self) -> bool {
        let longest = self.waiting.first_key_value();
        let idle = longest.filter(|(_, waiting)| waiting.since.elapsed() >= WAITED_LONG);
        let of_largest = || {
            let by_size = self.by_size.iter().rev();
            by_size.filter_map(|(_, site)| self.sites.get(site)?.waiting.first().copied()).next()
        };
        let number = idle.map(|(number, _)| *number).or_else(of_largest);
        self.close(number)
    }
}

/// What one customer of a provider has, as far as an address tells: an IPv4 address, or the IPv6 /48 that RFC 6177 takes
/// for the largest. Within it a new /64 for each connection costs nothing.
fn site(network: IpAddr) -> IpAddr {
    match network {
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Seat {
    /// The same, counted by a gauge for as long as it is there.
    pub fn counted_by(mut self, gauge: IntGauge) -> Self {
        gauge.inc();
        self.gauge = Some(gauge);
        self
    }

    /// From now on something is done for the client: this connection makes room for nobody.
    pub fn work(&self) {
        let mut table = self.inner.lock();
        if let Some(since) = self.waiting_since().take() {
            table.work(since);
        }
    }

    /// From now on the client is waited for.
    pub fn wait(&self) {
        let mut table = self.inner.lock();
        let mut since = self.waiting_since();
        if since.is_none() && !self.closed.is_cancelled() {
            *since = Some(table.wait(self.network, self.closed.clone()));
        }
    }

    /// Cancelled when the connection has to make room. Its place has been given away by then.
    pub fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }

    /// Only ever held inside the table's lock.
    fn waiting_since(&self) -> MutexGuard<'_, Option<u64>> {
        self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(gauge) = &self.gauge {
            gauge.dec();
        }
        self.work();
        let mut table = self.inner.lock();
        if !self.closed.is_cancelled() {
            table.remove(self.network);
        }
    }
}
