//! The addresses under which viewers may reach a machine that listens on all of them.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Asks the kernel which source address it would use towards the world, for each family: no packet is sent. Loopback
/// comes last, for browsers on the same machine.
pub(crate) fn addresses(with_v6: bool) -> io::Result<Vec<IpAddr>> {
    // Addresses of documentation (RFC 5737, RFC 3849): routed like any other, and nobody's.
    let v4 = source(SocketAddr::from(([192, 0, 2, 1], 9)), Ipv4Addr::UNSPECIFIED.into());
    let v6 = source(SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9)), Ipv6Addr::UNSPECIFIED.into());
    let mut all: Vec<IpAddr> = v4.into_iter().chain(v6.filter(|_| with_v6)).collect();
    all.retain(|ip| !ip.is_loopback() && !ip.is_unspecified());
    all.push(Ipv4Addr::LOCALHOST.into());
    Ok(all)
}

fn source(towards: SocketAddr, from: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect(towards).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
