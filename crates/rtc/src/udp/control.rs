//! What travels beside a datagram: how to cut it (`UDP_SEGMENT`, udp(7)), and which address of ours it came to or leaves
//! from (`IP_PKTINFO`, ip(7); `IPV6_PKTINFO`, RFC 3542, section 6.1).
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the kernel's alignment between control messages.
const ALIGN: usize = size_of::<usize>();
const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
/// `struct in_pktinfo`: interface, address to send from, address in the header.
const V4_LEN: usize = 12;
/// `struct in6_pktinfo`: address, interface.
const V6_LEN: usize = 20;
/// Bytes of control messages that are received with one datagram: one `IPV6_PKTINFO` takes 40.
pub(super) const RECEIVED_LEN: usize = 64;

/// Room for what the kernel says of one received datagram.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Received(pub(super) [u8; RECEIVED_LEN]);

/// The control messages of one message that is sent. Both lie in one buffer; what is not needed is left out of it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    segment: Segment,
    source: Source,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Segment {
    header: libc::cmsghdr,
    data: [u8; ALIGN],
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Source {
    header: libc::cmsghdr,
    data: [u8; 24],
}

const NO_HEADER: libc::cmsghdr = libc::cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 };

impl Control {
    pub(super) const EMPTY: Self = Self {
        segment: Segment { header: NO_HEADER, data: [0; ALIGN] },
        source: Source { header: NO_HEADER, data: [0; 24] },
    };

    /// Writes what is asked for. Returns where it begins and how long it is, for the header of the message; nothing
    /// when there is nothing to say.
    pub(super) fn write(
        &mut self,
        segment: Option<u16>,
        source: Option<IpAddr>,
        as_v6: bool,
    ) -> Option<(*mut libc::c_void, usize)> {
        let source_len = source.map_or(0, |source| self.source.write(source, as_v6));
        if let Some(segment) = segment {
            self.segment.write(segment);
            return Some((std::ptr::from_mut(self).cast(), size_of::<Segment>() + source_len));
        }
        (source_len > 0).then(|| (std::ptr::from_mut(&mut self.source).cast(), source_len))
    }
}

impl Segment {
    fn write(&mut self, segment: u16) {
        self.header = libc::cmsghdr {
            cmsg_len: HEADER_LEN + size_of::<u16>(),
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        fill(&mut self.data, 0, &segment.to_ne_bytes());
    }
}

impl Source {
    /// Returns how many bytes it takes. A socket of IPv6 takes IPv4 addresses as mapped ones.
    fn write(&mut self, source: IpAddr, as_v6: bool) -> usize {
        let (level, kind, len) = match source {
            IpAddr::V4(v4) if !as_v6 => {
                fill(&mut self.data, size_of::<libc::c_int>(), &v4.octets());
                (libc::IPPROTO_IP, libc::IP_PKTINFO, V4_LEN)
            }
            IpAddr::V4(v4) => {
                fill(&mut self.data, 0, &v4.to_ipv6_mapped().octets());
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, V6_LEN)
            }
            IpAddr::V6(v6) => {
                fill(&mut self.data, 0, &v6.octets());
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, V6_LEN)
            }
        };
        self.header = libc::cmsghdr { cmsg_len: HEADER_LEN + len, cmsg_level: level, cmsg_type: kind };
        HEADER_LEN + len.next_multiple_of(ALIGN)
    }
}

/// The address of ours that a datagram came to, out of its control messages.
pub(super) fn parse_destination(mut rest: &[u8]) -> Option<IpAddr> {
    loop {
        let (len, after) = rest.split_first_chunk::<{ size_of::<usize>() }>()?;
        let (level, after) = after.split_first_chunk::<4>()?;
        let (kind, _) = after.split_first_chunk::<4>()?;
        let len = usize::from_ne_bytes(*len);
        let data = rest.get(HEADER_LEN..len)?;
        match (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)) {
            // The address to answer from: that in the packet's header may be one of broadcast.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let source = data.get(4..).and_then(<[u8]>::first_chunk::<4>)?;
                return Some(Ipv4Addr::from(*source).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let source = Ipv6Addr::from(*data.first_chunk::<16>()?);
                return Some(source.to_canonical());
            }
            _ => rest = rest.get(len.next_multiple_of(ALIGN)..)?,
        }
    }
}

fn fill(target: &mut [u8], offset: usize, with: &[u8]) {
    for (byte, value) in target.iter_mut().skip(offset).zip(with) {
        *byte = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER_LEN + data.len()).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&level.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes
    }

    #[test]
    fn the_destination_is_found_behind_other_messages() {
        let mut info = vec![7, 0, 0, 0, 192, 0, 2, 1];
        info.extend_from_slice(&[192, 0, 2, 255]);
        let mut bytes = message(libc::SOL_SOCKET, 29, &[1; 16]);
        bytes.extend_from_slice(&message(libc::IPPROTO_IP, libc::IP_PKTINFO, &info));
        assert_eq!(parse_destination(&bytes), Some(Ipv4Addr::new(192, 0, 2, 1).into()));
    }

    #[test]
    fn a_mapped_destination_is_an_ipv4_one() {
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
        let bytes = message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&mapped[..], &[0, 0, 0, 0]].concat());
        assert_eq!(parse_destination(&bytes), Some(Ipv4Addr::new(192, 0, 2, 1).into()));
    }

    #[test]
    fn cut_control_messages_name_no_destination() {
        let bytes = message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[1; V6_LEN]);
        for len in 0..HEADER_LEN + V6_LEN {
            assert_eq!(parse_destination(&bytes[..len]), None);
        }
        assert_eq!(parse_destination(&[0; RECEIVED_LEN]), None);
    }
}
