//! The media socket: batches of datagrams through `sendmmsg`, `recvmmsg` and UDP segmentation offload.
//!
//! The only file of the product that holds unsafe code: these system calls have no safe wrapper that keeps one arena for a
//! whole batch.
#![expect(unsafe_code, reason = "sendmmsg, recvmmsg and options that no safe wrapper knows")]

mod control;
mod sender;

use std::io;
use std::mem::{self, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::time::Instant;

use socket2::{Domain, Protocol, Type};

use self::control::Control;
use self::sender::Sender;
pub(crate) use self::sender::Sent;
use crate::batch::{Class, Path};

/// Messages in one `sendmmsg` call: 16 already halve the cost of a call, beyond 64 nothing is gained.
const SEND_BATCH: usize = 64;
/// Datagrams taken in one `recvmmsg` call.
pub(crate) const RECEIVE_BATCH: usize = 32;
/// Bytes of one received datagram: viewers send STUN, DTLS and RTCP, all below the MTU.
const DATAGRAM_MAX: usize = 2048;
/// What the kernel queues for sending, 8 ms at 1 Gbit/s: audio waits behind it, and the card's queue drops what it has no
/// room for, while what finds this one full waits here and is sent later.
pub(crate) const SEND_BUFFER_BYTES: usize = 1 << 20;
/// What it queues of what viewers send: feedback of thousands, while a keyframe is written.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// One UDP socket of the media port, shared with the other shards through `SO_REUSEPORT`.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: UdpSocket,
    /// The socket speaks IPv6, so IPv4 addresses must be given as mapped ones.
    is_v6: bool,
    sender: Sender,
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
    /// The address of ours that it leaves from; none is for the kernel to choose.
    pub(crate) from: Option<IpAddr>,
    /// What it carries.
    pub(crate) class: Class,
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
        let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        socket.bind(&address.into())?;
        let inner: UdpSocket = socket.into();
        if address.ip().is_unspecified() {
            let (level, option) = if address.is_ipv6() {
                (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
            } else {
                (libc::IPPROTO_IP, libc::IP_PKTINFO)
            };
            enable(&inner, level, option)?;
        }
        let sender = Sender::new(knows_segmentation(&inner));
        Ok(Self { inner, is_v6: address.is_ipv6(), sender })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }

    /// Says how much less the kernel queues for sending than a node wants; nothing when it is enough.
    pub(crate) fn small_send_buffer(&self) -> Option<usize> {
        // The kernel doubles what is asked for, to make room for its own bookkeeping (socket(7)).
        let bytes = socket2::SockRef::from(&self.inner).send_buffer_size().ok()? / 2;
        (bytes < SEND_BUFFER_BYTES).then_some(bytes)
    }

    /// A socket that is full sooner.
    #[cfg(test)]
    pub(crate) fn shrink_send_buffer(&self, bytes: usize) {
        socket2::SockRef::from(&self.inner).set_send_buffer_size(bytes).expect("the kernel takes any size");
    }

    /// The kernel's queue was full, and [`Socket::on_writable`] has not been called since: nothing can be sent.
    pub(crate) fn is_blocked(&self) -> bool {
        self.sender.is_blocked()
    }

    /// There is room in the kernel's queue again.
    pub(crate) fn on_writable(&mut self) {
        self.sender.on_writable();
    }

    /// Sends `messages`, whose bytes are in `arena`, as far as the kernel takes them. Those after [`Sent::done`] are to
    /// be sent when there is room again.
    pub(crate) fn send(&mut self, arena: &[u8], messages: &mut [Message]) -> Sent {
        let (fd, is_v6) = (self.fd(), self.is_v6);
        self.sender.send(messages, Instant::now, |some| send_batch(fd, is_v6, arena, some))
    }

    /// Takes what has arrived, up to the room in `into`. Returns how many datagrams; 0 when there are none.
    pub(crate) fn receive(&self, into: &mut Received) -> usize {
        // SAFETY: all-zero bytes are valid values of these plain C structures.
        let mut headers: [libc::mmsghdr; RECEIVE_BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; RECEIVE_BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut names: [libc::sockaddr_storage; RECEIVE_BATCH] = unsafe { mem::zeroed() };
        let mut controls = [control::Received([0; control::RECEIVED_LEN]); RECEIVE_BATCH];
        let slots = headers.iter_mut().zip(&mut vectors).zip(&mut names).zip(&mut controls);
        for ((((header, vector), name), control), buffer) in slots.zip(into.buffers.iter_mut()) {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = control::RECEIVED_LEN;
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = as_u32(size_of::<libc::sockaddr_storage>());
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every pointer refers to `vectors`, `names`, `controls` or `into.buffers`, which outlive the call, with
        // their true lengths; no timeout is passed.
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
        for ((header, name), control) in headers.iter().zip(&names).zip(&controls).take(count) {
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let len = if truncated { 0 } else { (header.msg_len as usize).min(DATAGRAM_MAX) };
            let said = control.0.get(..header.msg_hdr.msg_controllen).unwrap_or(&[]);
            let local = control::parse_destination(said);
            into.datagrams.push((parse_name(name).map(|peer| Path::Udp { peer, local }), len));
        }
        count
    }
}

/// One system call. Returns how many of `messages` the kernel took.
fn send_batch(fd: RawFd, is_v6: bool, arena: &[u8], messages: &[Message]) -> io::Result<usize> {
    let count = messages.len().min(SEND_BATCH);
    // SAFETY: all-zero bytes are valid values of these plain C structures; null pointers with zero lengths.
    let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut vectors: [libc::iovec; SEND_BATCH] = unsafe { mem::zeroed() };
    let mut names = [Name::UNSPECIFIED; SEND_BATCH];
    let mut controls = [Control::EMPTY; SEND_BATCH];
    let slots = headers.iter_mut().zip(&mut vectors).zip(&mut names).zip(&mut controls);
    for ((((header, vector), name), control), message) in slots.zip(messages) {
        let bytes =
            arena.get(message.start..message.start + message.len).expect("a batch describes its own arena");
        *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        *name = Name::new(message.to, is_v6);
        let header = &mut header.msg_hdr;
        header.msg_name = ptr::from_mut(name).cast();
        header.msg_namelen = name.len();
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        let segment = message.is_segmented().then_some(message.segment);
        if let Some((control, len)) = control.write(segment, message.from, is_v6) {
            header.msg_control = control;
            header.msg_controllen = len;
        }
    }
    // SAFETY: `count` headers are filled in; every pointer in them refers to `arena`, `vectors`, `names` or `controls`,
    // which outlive the call, and the kernel only reads through them (but for msg_len).
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), as_u32(count), 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn enable(socket: &UdpSocket, level: i32, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, alive for the call, with its true length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            as_u32(size_of::<libc::c_int>()),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel has segmentation offload for UDP at all (Linux 4.18).
fn knows_segmentation(socket: &UdpSocket) -> bool {
    let mut value: libc::c_int = 0;
    let mut len = as_u32(size_of::<libc::c_int>());
    // SAFETY: the option's value is an int; it and its length are alive for the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    result == 0
}

/// Datagrams that one `recvmmsg` brought.
#[derive(Debug)]
pub(crate) struct Received {
    buffers: Vec<[u8; DATAGRAM_MAX]>,
    datagrams: Vec<(Option<Path>, usize)>,
}

impl Default for Received {
    fn default() -> Self {
        Self { buffers: vec![[0; DATAGRAM_MAX]; RECEIVE_BATCH], datagrams: Vec::with_capacity(RECEIVE_BATCH) }
    }
}

impl Received {
    /// Calls `on` for each datagram with the way it came. Datagrams that were too long are left out.
    pub(crate) fn for_each(&mut self, mut on: impl FnMut(Path, SocketAddr, &mut [u8])) {
        for ((path, len), buffer) in self.datagrams.iter().zip(&mut self.buffers) {
            if let (Some(path @ Path::Udp { peer, .. }), Some(bytes)) = (*path, buffer.get_mut(..*len))
                && !bytes.is_empty()
            {
                on(path, peer, bytes);
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

fn family(family: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).expect("address families are small numbers")
}

fn as_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a count or size of a few bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for_datagrams(socket: &Socket) -> bool {
        let mut poll = libc::pollfd { fd: socket.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive for the call.
        unsafe { libc::poll(&raw mut poll, 1, 5000) == 1 }
    }

    fn receive_all(socket: &Socket, count: usize) -> Vec<(Path, Vec<u8>)> {
        let mut received = Received::default();
        let mut all = Vec::new();
        while all.len() < count {
            assert!(wait_for_datagrams(socket), "{} of {count} datagrams arrived", all.len());
            socket.receive(&mut received);
            received.for_each(|path, _, bytes| all.push((path, bytes.to_vec())));
        }
        all
    }

    fn bind(address: &str) -> Socket {
        Socket::bind(address.parse().unwrap()).unwrap()
    }

    fn message(start: usize, len: usize, segment: u16, to: SocketAddr) -> Message {
        Message { start, len, segment, to, from: None, class: Class::Control }
    }

    fn round_trip(from: &str, to: &str, gso: bool) {
        let mut sender = bind(from);
        sender.sender = Sender::new(gso);
        let receiver = bind(to);
        let to = receiver.local_addr().unwrap();
        let arena: Vec<u8> = (0..100_u8).collect();
        let mut messages = [message(0, 10, 10, to), message(10, 70, 30, to), message(80, 20, 20, to)];
        let sent = sender.send(&arena, &mut messages);
        assert_eq!((sent.done, sent.messages, sent.refused), (3, 3, 0));
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
        let mut dual = bind("[::]:0");
        let v4 = bind("127.0.0.1:0");
        let to = v4.local_addr().unwrap();
        dual.send(b"hello", &mut [message(0, 5, 5, to)]);
        let (path, bytes) = receive_all(&v4, 1).remove(0);
        let port = dual.local_addr().unwrap().port();
        assert_eq!(path, Path::Udp { peer: ([127, 0, 0, 1], port).into(), local: None });
        assert_eq!(bytes, b"hello");
    }

    /// Linux takes everything in 127.0.0.0/8 for local: an address that no route would choose as source.
    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        for (listen, asked, from) in [
            ("0.0.0.0:0", IpAddr::from([127, 0, 0, 77]), "127.0.0.1:0"),
            ("[::]:0", IpAddr::from([127, 0, 0, 77]), "127.0.0.1:0"),
            ("[::]:0", IpAddr::from(Ipv6Addr::LOCALHOST), "[::1]:0"),
        ] {
            let (mut server, mut client) = (bind(listen), bind(from));
            let server_at = SocketAddr::new(asked, server.local_addr().unwrap().port());
            client.send(b"question", &mut [message(0, 8, 8, server_at)]);
            let (path, _) = receive_all(&server, 1).remove(0);
            let peer = client.local_addr().unwrap();
            assert_eq!(path, Path::Udp { peer, local: Some(asked) }, "{listen}");
            // One datagram, and several in one message: the two control messages share a buffer.
            for (len, segment, count) in [(5, 5, 1), (9, 3, 3)] {
                let answer = Message { from: Some(asked), ..message(0, len, segment, peer) };
                let sent = server.send(b"an answer", &mut [answer]);
                assert_eq!((sent.messages, sent.refused, sent.unsegmented), (1, 0, 0));
                for (path, _) in receive_all(&client, count) {
                    assert_eq!(path, Path::Udp { peer: server_at, local: None }, "{listen}");
                }
            }
        }
    }

    #[test]
    fn more_messages_than_one_call_takes_all_arrive() {
        let mut sender = bind("127.0.0.1:0");
        let receiver = bind("127.0.0.1:0");
        let to = receiver.local_addr().unwrap();
        let arena: Vec<u8> = (0..200_u8).collect();
        let mut messages: Vec<_> = (0..200).map(|start| message(start, 1, 1, to)).collect();
        assert_eq!(sender.send(&arena, &mut messages).messages, 200);
        let bytes: Vec<u8> = receive_all(&receiver, 200).into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert_eq!(bytes, arena);
    }
}
