//! The media socket: batches of datagrams through `sendmmsg`, `recvmmsg` and UDP segmentation offload.
//!
//! The only file of the project that holds unsafe code: these system calls have no safe wrapper that keeps one arena
//! for a whole batch.
#![expect(unsafe_code, reason = "sendmmsg, recvmmsg and their control messages")]

use std::io;
use std::mem::{self, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use socket2::{Domain, Protocol, Type};

/// Messages in one `sendmmsg` call: 16 already halve the cost of a call, beyond 64 nothing is gained.
const SEND_BATCH: usize = 64;
/// Datagrams taken in one `recvmmsg` call.
pub(crate) const RECEIVE_BATCH: usize = 32;
/// Bytes of one received datagram: viewers send STUN, DTLS and RTCP, all below the MTU.
const DATAGRAM_MAX: usize = 2048;
/// Kernel buffers: a keyframe to a thousand viewers must not find the queue full at its first packet.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// How often the kernel may say "not now" within one flush before the rest is given up; NACKs heal what was lost.
const FULL_WAITS_MAX: usize = 3;
/// How long one wait for room in the kernel's queue lasts at most.
const FULL_WAIT_MS: i32 = 1;

/// One UDP socket of the media port, shared with the other shards through `SO_REUSEPORT`.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: UdpSocket,
    /// The socket speaks IPv6, so IPv4 addresses must be given as mapped ones.
    is_v6: bool,
    gso: bool,
}

/// A datagram, or several of one length to one peer, in a batch's arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Where it begins in the arena.
    pub(crate) start: usize,
    /// Bytes in all.
    pub(crate) len: usize,
    /// Bytes of each datagram but the last, which may be shorter.
    pub(crate) segment: u16,
    /// Where it goes.
    pub(crate) to: SocketAddr,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) calls: u64,
    /// Messages that the kernel would not take.
    pub(crate) refused: u64,
}

impl Socket {
    /// Binds with `SO_REUSEPORT`. An unspecified IPv6 address takes IPv4 as well.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        // Best effort: the kernel caps both at net.core.{w,r}mem_max.
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        socket.bind(&address.into())?;
        Ok(Self { inner: socket.into(), is_v6: address.is_ipv6(), gso: true })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }

    /// Sends every message, whose bytes are in `arena`.
    pub(crate) fn send(&mut self, arena: &[u8], messages: &[Message]) -> Sent {
        let mut sent = Sent::default();
        let mut rest = messages;
        let mut waits = 0;
        while !rest.is_empty() {
            sent.calls += 1;
            match self.send_some(arena, rest) {
                Ok(count) => {
                    sent.messages += count as u64;
                    rest = rest.get(count..).unwrap_or(&[]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && waits < FULL_WAITS_MAX => {
                    waits += 1;
                    self.wait_for_room();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sent.refused += rest.len() as u64;
                    return sent;
                }
                // EIO: no segmentation on this device. EINVAL: not in this kernel. Neither concerns a single datagram.
                Err(error)
                    if self.gso
                        && rest.first().is_some_and(Message::is_segmented)
                        && matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) =>
                {
                    tracing::warn!(%error, "the kernel refuses UDP segmentation; sending datagrams one by one");
                    self.gso = false;
                }
                // Unreachable or refused by a filter: this peer's matter, the others go on.
                Err(_) => {
                    sent.refused += 1;
                    rest = rest.get(1..).unwrap_or(&[]);
                }
            }
        }
        sent
    }

    /// One system call. Returns how many of `messages` are done.
    fn send_some(&self, arena: &[u8], messages: &[Message]) -> io::Result<usize> {
        let Some(first) = messages.first() else { return Ok(0) };
        if !self.gso && first.is_segmented() {
            // Without offload a segmented message becomes a call of its own, a datagram for each segment.
            let parts: Vec<Message> = first.segments().collect();
            let mut done = 0;
            while done < parts.len() {
                done += self.send_batch(arena, parts.get(done..).unwrap_or(&[]))?;
            }
            return Ok(1);
        }
        let run = messages.iter().take_while(|message| self.gso || !message.is_segmented()).count();
        self.send_batch(arena, messages.get(..run).unwrap_or(&[]))
    }

    fn send_batch(&self, arena: &[u8], messages: &[Message]) -> io::Result<usize> {
        let count = messages.len().min(SEND_BATCH);
        // SAFETY: all-zero bytes are valid values of these plain C structures; null pointers with zero lengths.
        let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; SEND_BATCH] = unsafe { mem::zeroed() };
        let mut names = [Name::UNSPECIFIED; SEND_BATCH];
        let mut controls = [SegmentControl::new(0); SEND_BATCH];
        let slots = headers.iter_mut().zip(&mut vectors).zip(&mut names).zip(&mut controls);
        for ((((header, vector), name), control), message) in slots.zip(messages) {
            let bytes = arena
                .get(message.start..message.start + message.len)
                .expect("a batch describes its own arena");
            *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            *name = Name::new(message.to, self.is_v6);
            let header = &mut header.msg_hdr;
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = name.len();
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            if message.is_segmented() {
                *control = SegmentControl::new(message.segment);
                header.msg_control = ptr::from_mut(control).cast();
                header.msg_controllen = size_of::<SegmentControl>();
            }
        }
        // SAFETY: `count` headers are filled in; every pointer in them refers to `arena`, `vectors`, `names` or
        // `controls`, which outlive the call, and the kernel only reads through them (but for msg_len).
        let sent = unsafe { libc::sendmmsg(self.fd(), headers.as_mut_ptr(), as_u32(count), 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn wait_for_room(&self) {
        let mut poll = libc::pollfd { fd: self.fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one pollfd, alive for the call.
        let _ = unsafe { libc::poll(&raw mut poll, 1, FULL_WAIT_MS) };
    }

    /// Takes what has arrived, up to the room in `into`. Returns how many datagrams; 0 when there are none.
    pub(crate) fn receive(&self, into: &mut Received) -> usize {
        // SAFETY: all-zero bytes are valid values of these plain C structures.
        let mut headers: [libc::mmsghdr; RECEIVE_BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; RECEIVE_BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut names: [libc::sockaddr_storage; RECEIVE_BATCH] = unsafe { mem::zeroed() };
        let slots = headers.iter_mut().zip(&mut vectors).zip(&mut names);
        for (((header, vector), name), buffer) in slots.zip(into.buffers.iter_mut()) {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = as_u32(size_of::<libc::sockaddr_storage>());
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every pointer refers to `vectors`, `names` or `into.buffers`, which outlive the call, with their true
        // lengths; no timeout is passed.
        let count = unsafe {
            libc::recvmmsg(
                self.fd(),
                headers.as_mut_ptr(),
                as_u32(RECEIVE_BATCH),
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        into.datagrams.clear();
        for (header, name) in headers.iter().zip(&names).take(count) {
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let len = if truncated { 0 } else { (header.msg_len as usize).min(DATAGRAM_MAX) };
            into.datagrams.push((parse_name(name), len));
        }
        count
    }
}

impl Message {
    pub(crate) fn is_segmented(&self) -> bool {
        self.len > usize::from(self.segment)
    }

    fn segments(self) -> impl Iterator<Item = Self> {
        let step = usize::from(self.segment).max(1);
        (0..self.len).step_by(step).map(move |offset| Self {
            start: self.start + offset,
            len: step.min(self.len - offset),
            ..self
        })
    }
}

/// Datagrams that one `recvmmsg` brought.
#[derive(Debug)]
pub(crate) struct Received {
    buffers: Vec<[u8; DATAGRAM_MAX]>,
    datagrams: Vec<(Option<SocketAddr>, usize)>,
}

impl Default for Received {
    fn default() -> Self {
        Self { buffers: vec![[0; DATAGRAM_MAX]; RECEIVE_BATCH], datagrams: Vec::with_capacity(RECEIVE_BATCH) }
    }
}

impl Received {
    /// Calls `on` for each datagram and its sender. Datagrams that were too long are left out.
    pub(crate) fn for_each(&mut self, mut on: impl FnMut(SocketAddr, &mut [u8])) {
        for ((from, len), buffer) in self.datagrams.iter().zip(&mut self.buffers) {
            if let (Some(from), Some(bytes)) = (from, buffer.get_mut(..*len))
                && !bytes.is_empty()
            {
                on(*from, bytes);
            }
        }
    }
}

/// A socket address in the kernel's form. 28 bytes instead of the 128 of `sockaddr_storage`.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    const UNSPECIFIED: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    fn new(address: SocketAddr, as_v6: bool) -> Self {
        match address {
            SocketAddr::V4(v4) if !as_v6 => Self {
                v4: libc::sockaddr_in {
                    sin_family: family(libc::AF_INET),
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V4(v4) => Self::new_v6(v4.ip().to_ipv6_mapped(), v4.port(), 0),
            SocketAddr::V6(v6) => Self::new_v6(*v6.ip(), v6.port(), v6.scope_id()),
        }
    }

    fn new_v6(ip: Ipv6Addr, port: u16, scope_id: u32) -> Self {
        Self {
            v6: libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
                sin6_scope_id: scope_id,
            },
        }
    }

    fn len(&self) -> u32 {
        // SAFETY: the family is the first field of both members.
        let is_v4 = unsafe { self.v4.sin_family } == family(libc::AF_INET);
        as_u32(if is_v4 { size_of::<libc::sockaddr_in>() } else { size_of::<libc::sockaddr_in6>() })
    }
}

/// Mapped IPv4 addresses come back as IPv4, so that one peer has one address whatever socket it reached.
fn parse_name(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which structure the kernel wrote; the storage is large enough for it.
            let v4 = unsafe { ptr::from_ref(name).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { ptr::from_ref(name).cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddrV4::new(v4, port).into(),
                None => SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}

/// A `UDP_SEGMENT` control message (udp(7)): the kernel cuts the message into datagrams of this many bytes.
#[derive(Clone, Copy)]
#[repr(C)]
struct SegmentControl {
    header: libc::cmsghdr,
    segment: u16,
    padding: [u8; 6],
}

impl SegmentControl {
    fn new(segment: u16) -> Self {
        let header = libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        Self { header, segment, padding: [0; 6] }
    }
}

fn family(family: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).expect("address families are small numbers")
}

fn as_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a count or size of a few bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive_all(socket: &Socket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut received = Received::default();
        let mut all = Vec::new();
        while all.len() < count {
            let mut poll = libc::pollfd { fd: socket.fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, alive for the call.
            let ready = unsafe { libc::poll(&raw mut poll, 1, 5000) };
            assert_eq!(ready, 1, "{} of {count} datagrams arrived", all.len());
            socket.receive(&mut received);
            received.for_each(|from, bytes| all.push((from, bytes.to_vec())));
        }
        all
    }

    fn round_trip(from: &str, to: &str, gso: bool) {
        let mut sender = Socket::bind(from.parse().unwrap()).unwrap();
        sender.gso = gso;
        let receiver = Socket::bind(to.parse().unwrap()).unwrap();
        let to = receiver.local_addr().unwrap();
        let arena: Vec<u8> = (0..100_u8).collect();
        let messages = [
            Message { start: 0, len: 10, segment: 10, to },
            Message { start: 10, len: 70, segment: 30, to },
            Message { start: 80, len: 20, segment: 20, to },
        ];
        let sent = sender.send(&arena, &messages);
        assert_eq!((sent.messages, sent.refused), (3, 0));
        let lengths: Vec<_> = receive_all(&receiver, 5).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(lengths.concat(), arena);
        assert_eq!(lengths.iter().map(Vec::len).collect::<Vec<_>>(), [10, 30, 30, 10, 20]);
    }

    #[test]
    fn segmented_messages_arrive_as_datagrams_with_and_without_offload() {
        round_trip("127.0.0.1:0", "127.0.0.1:0", true);
        round_trip("127.0.0.1:0", "127.0.0.1:0", false);
    }

    #[test]
    fn ipv6_works_and_a_dual_socket_speaks_ipv4() {
        round_trip("[::1]:0", "[::1]:0", true);
        let mut dual = Socket::bind("[::]:0".parse().unwrap()).unwrap();
        let v4 = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = v4.local_addr().unwrap();
        dual.send(b"hello", &[Message { start: 0, len: 5, segment: 5, to }]);
        let (from, bytes) = receive_all(&v4, 1).remove(0);
        assert_eq!((from.port(), &bytes[..]), (dual.local_addr().unwrap().port(), &b"hello"[..]));
    }

    #[test]
    fn more_messages_than_one_call_takes_all_arrive() {
        let mut sender = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let receiver = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = receiver.local_addr().unwrap();
        let arena: Vec<u8> = (0..200_u8).collect();
        let messages: Vec<_> = (0..200).map(|start| Message { start, len: 1, segment: 1, to }).collect();
        assert_eq!(sender.send(&arena, &messages).messages, 200);
        let bytes: Vec<u8> = receive_all(&receiver, 200).into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert_eq!(bytes, arena);
    }
}
