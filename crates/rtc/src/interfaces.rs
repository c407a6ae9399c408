//! The addresses under which viewers may reach a machine that listens on all of them.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// Addresses that are announced at most: a viewer checks every one of them, over UDP and over TCP.
const ADDRESSES_MAX: usize = 16;
/// How long a list is good for. A change of address is announced to who joins a second later.
const LIST_TIME: Duration = Duration::from_secs(1);

/// The addresses of this machine, read again when they may have changed.
#[derive(Debug)]
pub(crate) struct Interfaces {
    with_v6: bool,
    list: Mutex<Option<(Instant, Arc<[IpAddr]>)>>,
}

impl Interfaces {
    /// IPv6 addresses are left out for a socket that speaks IPv4 only.
    pub(crate) fn new(with_v6: bool) -> Self {
        Self { with_v6, list: Mutex::default() }
    }

    /// Every usable address, the likeliest first and loopback last, for browsers on the same machine.
    pub(crate) fn addresses(&self, now: Instant) -> Arc<[IpAddr]> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, addresses)) = &*list
            && now.saturating_duration_since(*read) < LIST_TIME
        {
            return Arc::clone(addresses);
        }
        let all = getifaddrs().map(|all| all.filter_map(|address| usable(&address)).collect());
        // Without a list there is still the address that the kernel would send from.
        let addresses: Arc<[IpAddr]> = order(all.unwrap_or_default(), &preferred(), self.with_v6).into();
        if list.as_ref().is_some_and(|(_, before)| *before != addresses) {
            tracing::info!(count = addresses.len(), "the addresses of this machine have changed");
        }
        *list = Some((now, Arc::clone(&addresses)));
        addresses
    }
}

/// The address of an interface that is up and has a link.
fn usable(address: &InterfaceAddress) -> Option<IpAddr> {
    if !address.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING) {
        return None;
    }
    let storage = address.address.as_ref()?;
    let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// The addresses that the kernel would use towards the world: no packet is sent.
fn preferred() -> Vec<IpAddr> {
    // Addresses of documentation (RFC 5737, RFC 3849): routed like any other, and nobody's.
    let v4 = source(SocketAddr::from(([192, 0, 2, 1], 9)), Ipv4Addr::UNSPECIFIED.into());
    let v6 = source(SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9)), Ipv6Addr::UNSPECIFIED.into());
    v4.into_iter().chain(v6).collect()
}

fn source(towards: SocketAddr, from: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect(towards).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The preferred ones, then the others in the kernel's order, then loopback. Addresses of one link only are for those who
/// have nothing better.
fn order(all: Vec<IpAddr>, preferred: &[IpAddr], with_v6: bool) -> Vec<IpAddr> {
    let mut wide = Vec::new();
    let mut of_link = Vec::new();
    for ip in preferred.iter().copied().chain(all) {
        if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_ipv6() && !with_v6 {
            continue;
        }
        let is_of_link = match ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let list = if is_of_link { &mut of_link } else { &mut wide };
        if !list.contains(&ip) {
            list.push(ip);
        }
    }
    let mut addresses = if wide.is_empty() { of_link } else { wide };
    if addresses.len() >= ADDRESSES_MAX {
        tracing::debug!(count = addresses.len(), "too many addresses to announce them all");
        addresses.truncate(ADDRESSES_MAX - 1);
    }
    addresses.push(Ipv4Addr::LOCALHOST.into());
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn every_address_is_announced_the_preferred_first_and_loopback_last() {
        let all =
            ips(&["127.0.0.1", "10.0.0.5", "192.168.7.1", "::1", "2001:db8::5", "fe80::1", "169.254.3.4"]);
        let ordered = order(all.clone(), &ips(&["192.168.7.1"]), true);
        assert_eq!(ordered, ips(&["192.168.7.1", "10.0.0.5", "2001:db8::5", "127.0.0.1"]));
        assert_eq!(order(all, &[], false), ips(&["10.0.0.5", "192.168.7.1", "127.0.0.1"]));
    }

    #[test]
    fn without_a_default_route_the_address_of_the_access_point_is_announced() {
        assert_eq!(
            order(ips(&["127.0.0.1", "192.168.43.1"]), &[], true),
            ips(&["192.168.43.1", "127.0.0.1"])
        );
    }

    #[test]
    fn addresses_of_one_link_are_for_those_who_have_no_other() {
        assert_eq!(order(ips(&["127.0.0.1", "fe80::1"]), &[], true), ips(&["fe80::1", "127.0.0.1"]));
        assert_eq!(order(ips(&["127.0.0.1"]), &[], true), ips(&["127.0.0.1"]));
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let all = (0..200).map(|host| IpAddr::from([10, 0, 0, host])).collect();
        let ordered = order(all, &[], true);
        assert_eq!((ordered.len(), ordered.last()), (ADDRESSES_MAX, Some(&Ipv4Addr::LOCALHOST.into())));
    }

    #[test]
    fn the_list_is_read_again_after_a_while_and_not_before() {
        let interfaces = Interfaces::new(true);
        let now = Instant::now();
        let first = interfaces.addresses(now);
        assert!(first.contains(&Ipv4Addr::LOCALHOST.into()));
        assert!(Arc::ptr_eq(&first, &interfaces.addresses(now + LIST_TIME / 2)));
        assert!(!Arc::ptr_eq(&first, &interfaces.addresses(now + LIST_TIME)));
    }
}
