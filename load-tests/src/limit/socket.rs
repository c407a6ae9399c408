//! The system calls of this program: batches of datagrams, the cores of a thread and its time.
//!
//! The only file here with unsafe code: none of these calls has a safe wrapper that keeps a batch in one buffer.
#![expect(unsafe_code, reason = "sendmmsg, recvmmsg, sched_setaffinity and clock_gettime")]

use std::io;
use std::mem::{self, size_of};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

/// Messages of one call at most; the kernel takes 1,024.
pub(super) const BATCH_MAX: usize = 64;
/// Datagrams taken by one call.
const RECEIVE_BATCH: usize = 64;
/// Bytes taken of each: what is in them is of no interest.
const RECEIVE_BYTES: usize = 16;

/// Bytes for one receiver, cut by the kernel into datagrams of one length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    /// Where they begin in the arena.
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) to: SocketAddrV4,
}

/// A `UDP_SEGMENT` control message (udp(7)), in the layout of cmsg(3).
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Segment {
    header: libc::cmsghdr,
    len: u16,
}

/// Sends messages that are to be cut every `segment` bytes. Returns how many the kernel took.
pub(super) fn send(
    socket: &UdpSocket,
    arena: &[u8],
    messages: &[Message],
    segment: u16,
) -> io::Result<usize> {
    let count = messages.len().min(BATCH_MAX);
    // SAFETY: these are plain C structures, for which zeros are valid.
    let (mut headers, mut vectors, mut names): (
        [libc::mmsghdr; BATCH_MAX],
        [libc::iovec; BATCH_MAX],
        [libc::sockaddr_in; BATCH_MAX],
    ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
    // One for all: the kernel only reads it.
    let mut control = Segment {
        header: libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        },
        len: segment,
    };
    let slots = headers.iter_mut().zip(&mut vectors).zip(&mut names);
    for (((header, vector), name), message) in slots.zip(messages) {
        let bytes = arena.get(message.start..).and_then(|rest| rest.get(..message.len));
        let bytes = bytes.expect("messages lie in their arena");
        vector.iov_base = bytes.as_ptr().cast_mut().cast();
        vector.iov_len = bytes.len();
        name.sin_family = libc::sa_family_t::try_from(libc::AF_INET).expect("a small number");
        name.sin_port = message.to.port().to_be();
        name.sin_addr.s_addr = u32::from(*message.to.ip()).to_be();
        let header = &mut header.msg_hdr;
        header.msg_name = ptr::from_mut(name).cast();
        header.msg_namelen = small(size_of::<libc::sockaddr_in>());
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_control = ptr::from_mut(&mut control).cast();
        header.msg_controllen = size_of::<Segment>();
    }
    // SAFETY: the first `count` headers are filled in; what they point to (`arena`, `vectors`, `names`, `control`)
    // outlives the call, with the lengths given; the kernel writes nothing but `msg_len`.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), small(count), 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Takes what has arrived, without waiting, and says how many datagrams that were.
pub(super) fn receive(socket: &UdpSocket) -> usize {
    let mut buffers = [[0_u8; RECEIVE_BYTES]; RECEIVE_BATCH];
    // SAFETY: these are plain C structures, for which zeros are valid.
    let (mut headers, mut vectors): ([libc::mmsghdr; RECEIVE_BATCH], [libc::iovec; RECEIVE_BATCH]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    for ((header, vector), buffer) in headers.iter_mut().zip(&mut vectors).zip(&mut buffers) {
        vector.iov_base = buffer.as_mut_ptr().cast();
        vector.iov_len = buffer.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: every header points to a vector and that to a buffer of its length; both outlive the call. No time limit
    // is given, and none needed: the call does not wait.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            small(RECEIVE_BATCH),
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    usize::try_from(count).unwrap_or(0)
}

/// Lets this thread, and what it starts from now on, run on these cores alone.
pub(crate) fn pin(cores: &[usize]) -> io::Result<()> {
    // SAFETY: a set of cores is an array of bits, for which zeros are valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &core in cores {
        if core >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the core is within the set, as just checked.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the set is alive and of the size given; 0 is the calling thread.
    let outcome = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cores that this thread may run on.
pub(crate) fn cores() -> io::Result<Vec<usize>> {
    // SAFETY: a set of cores is an array of bits, for which zeros are valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is alive and of the size given; 0 is the calling thread.
    let outcome = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every core asked for is within the set.
    Ok((0..8 * size_of::<libc::cpu_set_t>()).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect())
}

/// For how long this thread has run, in this program and in the kernel on its behalf.
pub(super) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is alive, and the clock is one that every Linux has.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

fn small(value: usize) -> u32 {
    u32::try_from(value).expect("a size or count of a few")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn bound() -> (UdpSocket, SocketAddrV4) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { unreachable!() };
        (socket, address)
    }

    #[test]
    fn messages_arrive_in_pieces() {
        let ((sender, _), (one, to_one), (two, to_two)) = (bound(), bound(), bound());
        let arena: Vec<u8> = (0..250).collect();
        let messages =
            [Message { start: 0, len: 200, to: to_one }, Message { start: 200, len: 50, to: to_two }];
        assert_eq!(send(&sender, &arena, &messages, 100).unwrap(), 2);
        let mut buffer = [0; 300];
        for (socket, expected) in [(&one, &arena[..100]), (&one, &arena[100..200]), (&two, &arena[200..])] {
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected);
        }
        send(&sender, &arena, &messages, 50).unwrap();
        assert_eq!((receive(&one), receive(&two), receive(&two)), (4, 1, 0));
    }

    #[test]
    fn a_thread_stays_where_it_is_put() {
        std::thread::spawn(|| {
            let last = *cores().unwrap().last().unwrap();
            pin(&[last]).unwrap();
            assert_eq!(cores().unwrap(), [last]);
            assert!(pin(&[]).is_err() && pin(&[1 << 20]).is_err());
            let before = thread_time();
            while thread_time() == before {}
        })
        .join()
        .unwrap();
    }
}
