//! The connections of strangers: counted, shared out among networks, and closed in favour of newcomers.
//!
//! A connection waits for its client, or works for it. When there are too many, the one that has waited longest makes
//! room: idle sockets cannot keep anybody out, and whoever opens many of them closes his own.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use crate::address::network;

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
    networks: HashMap<IpAddr, Network>,
    /// The networks by their number of connections.
    by_size: BTreeSet<(usize, IpAddr)>,
}

#[derive(Debug, Default)]
struct Network {
    connections: usize,
    /// Those that wait, the longest first.
    waiting: BTreeMap<u64, CancellationToken>,
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
        // A browser keeps up to six, and a school of a thousand is one network; idle ones make room for others.
        Self { connections_max: 8192, per_network_max: 2048 }
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
        table.resize(network, |connections| connections.saturating_add(1));
        let since = table.wait(network, closed.clone());
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

    /// Changes the number of connections of a network.
    fn resize(&mut self, network: IpAddr, change: impl FnOnce(usize) -> usize) {
        let before = self.size(network);
        let after = change(before);
        self.by_size.remove(&(before, network));
        self.connections = self.connections.saturating_sub(before).saturating_add(after);
        if after == 0 {
            self.networks.remove(&network);
        } else {
            self.networks.entry(network).or_default().connections = after;
            self.by_size.insert((after, network));
        }
    }

    fn wait(&mut self, network: IpAddr, closed: CancellationToken) -> Option<u64> {
        self.clock += 1;
        self.networks.get_mut(&network)?.waiting.insert(self.clock, closed);
        Some(self.clock)
    }

    fn close_longest_waiting_of(&mut self, network: IpAddr) -> bool {
        let waiting = self.networks.get_mut(&network).and_then(|network| network.waiting.pop_first());
        let Some((_, closed)) = waiting else { return false };
        closed.cancel();
        self.resize(network, |connections| connections.saturating_sub(1));
        true
    }

    /// Of the network that has most, so that few pay for the many that one opens.
    fn close_longest_waiting(&mut self) -> bool {
        let has_waiting =
            |network: &IpAddr| self.networks.get(network).is_some_and(|network| !network.waiting.is_empty());
        let largest = self.by_size.iter().rev().map(|(_, network)| *network).find(has_waiting);
        largest.is_some_and(|network| self.close_longest_waiting_of(network))
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
        if let Some(since) = self.waiting_since().take()
            && let Some(network) = table.networks.get_mut(&self.network)
        {
            network.waiting.remove(&since);
        }
    }

    /// From now on the client is waited for.
    pub fn wait(&self) {
        let mut table = self.inner.lock();
        let mut since = self.waiting_since();
        if since.is_none() && !self.closed.is_cancelled() {
            *since = table.wait(self.network, self.closed.clone());
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
            table.resize(self.network, |connections| connections.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn connections(connections_max: usize, per_network_max: usize) -> Connections {
        Connections::new(Limits { connections_max, per_network_max })
    }

    #[test]
    fn the_connection_that_has_waited_longest_makes_room() {
        let connections = connections(3, 3);
        let seats: Vec<Seat> = (0..3).map(|_| connections.admit(ip(1)).unwrap().0).collect();
        // The first has asked for something since, and waits again: now the second has waited longest.
        seats[0].work();
        seats[0].wait();
        let (_newcomer, is_in_favour) = connections.admit(ip(2)).unwrap();
        assert!(is_in_favour);
        let closed: Vec<bool> = seats.iter().map(|seat| seat.closed().is_cancelled()).collect();
        assert_eq!(closed, [false, true, false]);
        assert_eq!(connections.len(), 3);
    }

    #[test]
    fn whoever_has_most_connections_makes_room_for_the_others() {
        let connections = connections(10, 10);
        let small = connections.admit(ip(1)).unwrap().0;
        let large: Vec<Seat> = (0..9).map(|_| connections.admit(ip(2)).unwrap().0).collect();
        let newcomers: Vec<Seat> = (3..7).map(|last| connections.admit(ip(last)).unwrap().0).collect();
        assert!(!small.closed().is_cancelled());
        assert_eq!(large.iter().filter(|seat| seat.closed().is_cancelled()).count(), newcomers.len());
    }

    #[test]
    fn a_network_over_its_share_closes_its_own() {
        let connections = connections(100, 2);
        let other = connections.admit(ip(9)).unwrap().0;
        let first = connections.admit(ip(1)).unwrap().0;
        let _second = connections.admit(ip(1)).unwrap().0;
        let _third = connections.admit(ip(1)).unwrap().0;
        assert!(first.closed().is_cancelled() && !other.closed().is_cancelled());
    }

    #[test]
    fn an_ipv6_host_has_one_share_for_all_its_addresses() {
        let connections = connections(100, 2);
        let seats: Vec<Seat> = (1..=3_u16)
            .map(|host| IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, host]))
            .map(|ip| connections.admit(ip).unwrap().0)
            .collect();
        assert!(seats[0].closed().is_cancelled());
        assert!(connections.admit(IpAddr::from([0x2001, 0xdb8, 0, 8, 0, 0, 0, 1])).is_ok());
    }

    #[test]
    fn connections_at_work_are_not_closed_and_newcomers_are_refused() {
        let connections = connections(3, 2);
        let seats: Vec<Seat> =
            [1, 1, 2].into_iter().map(|last| connections.admit(ip(last)).unwrap().0).collect();
        seats.iter().for_each(Seat::work);
        assert_eq!(connections.admit(ip(1)).unwrap_err(), Refused::NetworkFull);
        assert_eq!(connections.admit(ip(3)).unwrap_err(), Refused::Full);
        drop(seats);
        assert!(connections.is_empty());
        assert!(connections.admit(ip(3)).is_ok());
    }

    #[test]
    fn the_count_is_right_whatever_happens() {
        use std::collections::VecDeque;

        let connections = connections(20, 7);
        let mut seats = VecDeque::new();
        // A small linear congruential generator (Knuth's constants): every run does the same.
        let mut random: u64 = 1;
        for _ in 0..2_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (choice, last) = ((random >> 33) % 4, u8::try_from((random >> 40) % 5).unwrap());
            match choice {
                0 | 1 => seats.extend(connections.admit(ip(last)).map(|(seat, _)| seat).ok()),
                2 => seats.iter().skip(usize::from(last)).step_by(3).for_each(Seat::work),
                _ => {
                    seats.iter().skip(usize::from(last)).step_by(2).for_each(Seat::wait);
                    drop(seats.pop_front());
                }
            }
            let open = seats.iter().filter(|seat: &&Seat| !seat.closed().is_cancelled()).count();
            assert_eq!(connections.len(), open);
            assert!(open <= 20);
        }
        drop(seats);
        let table = connections.0.lock();
        assert!(table.networks.is_empty() && table.by_size.is_empty());
    }
}
