//! A viewer's UDP socket: whole trains of datagrams in one call, through `recvmmsg` and UDP receive offload.
//!
//! The only file of this crate with unsafe code: these calls have no safe wrapper that reuses its buffers.
#![expect(unsafe_code, reason = "recvmmsg, its control messages, and the limit of open files")]

use std::io;
use std::mem::{self, size_of};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::{Duration, SystemTime};

use socket2::{Domain, Protocol, Type};

/// Messages taken in one call. With receive offload each may hold a whole train, so a few are enough.
pub(super) const BATCH: usize = 8;
/// Bytes of one message: the largest train that the kernel puts together.
const MESSAGE_BYTES: usize = 1 << 16;
/// Kernel buffer of a viewer: a keyframe of some hundred packets must fit while the thread serves others.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// Opens a socket for one viewer.
pub(super) fn open(local: SocketAddr, receive_buffer: Option<usize>) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Best effort: the kernel caps it at net.core.rmem_max.
    let _ = socket.set_recv_buffer_size(receive_buffer.unwrap_or(RECEIVE_BUFFER_BYTES));
    socket.bind(&local.into())?;
    let on: libc::c_int = 1;
    // A kernel without these options says so: then every datagram arrives by itself, or when it is taken.
    for (level, option) in [(libc::SOL_UDP, libc::UDP_GRO), (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)] {
        // SAFETY: the option's value is one int, which lives through the call.
        let _ = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const on).cast(),
                as_u32(size_of::<libc::c_int>()),
            )
        };
    }
    Ok(socket.into())
}

/// Raises the limit of open files as far as the system lets us, and returns it.
pub(super) fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: one rlimit, alive for the call, which only writes to it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: one rlimit, alive for the call, which only reads it.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
    if raised { limit.rlim_cur } else { before }
}

/// CPU time that this process has used, user and system, in microseconds.
pub(super) fn cpu_time_us() -> u64 {
    // SAFETY: all-zero bytes are a valid value of this plain C structure.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: one rusage, alive for the call, which only writes to it.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return 0;
    }
    let micros = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    micros(usage.ru_utime) + micros(usage.ru_stime)
}

/// Buffers for what arrives, shared by all viewers of a thread.
#[derive(Debug)]
pub(super) struct Received {
    buffers: Vec<Vec<u8>>,
    messages: Vec<Message>,
}

/// Datagrams of one length that came together.
#[derive(Clone, Copy, Debug)]
struct Message {
    len: usize,
    /// Bytes of each datagram in it.
    segment: usize,
    /// When it came, on the system's clock.
    came: Option<SystemTime>,
}

impl Default for Received {
    fn default() -> Self {
        Self { buffers: vec![vec![0; MESSAGE_BYTES]; BATCH], messages: Vec::with_capacity(BATCH) }
    }
}

/// Room for the control messages that carry the length of a train's datagrams and the time at which it came.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

impl Received {
    /// Takes what has arrived, one batch at most. Returns the number of messages; fewer than [`BATCH`] means that the
    /// socket is empty.
    pub(super) fn receive(&mut self, socket: &impl AsRawFd) -> usize {
        // SAFETY: all-zero bytes are valid values of these plain C structures.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        let mut controls = [Control([0; 64]); BATCH];
        let slots = headers.iter_mut().zip(&mut vectors).zip(&mut controls).zip(&mut self.buffers);
        for (((header, vector), control), buffer) in slots {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = ptr::from_mut(control).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>();
        }
        // SAFETY: every pointer refers to `vectors`, `controls` or `self.buffers`, which outlive the call, with their
        // true lengths; no timeout is passed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                as_u32(BATCH),
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        self.messages.clear();
        let count = usize::try_from(count).unwrap_or(0).min(BATCH);
        for header in headers.iter().take(count) {
            let len = (header.msg_len as usize).min(MESSAGE_BYTES);
            let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let (segment, came) = told_of(&header.msg_hdr);
            let segment = segment.filter(|segment| *segment > 0).unwrap_or(len);
            self.messages.push(Message { len: if is_cut { 0 } else { len }, segment, came });
        }
        count
    }

    /// Calls `take` with every datagram of the last batch, and with how long ago it came.
    pub(super) fn for_each(&mut self, wall: SystemTime, mut take: impl FnMut(&mut [u8], Duration)) {
        for (buffer, Message { len, segment, came }) in self.buffers.iter_mut().zip(&self.messages) {
            let waited = came.and_then(|came| wall.duration_since(came).ok()).unwrap_or_default();
            let bytes = buffer.get_mut(..*len).unwrap_or(&mut []);
            for datagram in bytes.chunks_mut((*segment).max(1)) {
                take(datagram, waited);
            }
        }
    }
}

/// What the control messages `UDP_GRO` (udp(7)) and `SCM_TIMESTAMPNS` (socket(7)) say, where there are any.
fn told_of(header: &libc::msghdr) -> (Option<usize>, Option<SystemTime>) {
    let (mut segment, mut came) = (None, None);
    // SAFETY: the kernel has filled in the control buffer that `header` points to, and its length.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: not null, so it points to a whole cmsghdr within the control buffer.
        let (level, kind) = unsafe { ((*control).cmsg_level, (*control).cmsg_type) };
        if level == libc::SOL_UDP && kind == libc::UDP_GRO {
            // SAFETY: the data of this message is one int, which need not be aligned.
            let bytes = unsafe { libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned() };
            segment = usize::try_from(bytes).ok();
        } else if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS {
            // SAFETY: the data of this message is one timespec, which need not be aligned.
            let time = unsafe { libc::CMSG_DATA(control).cast::<libc::timespec>().read_unaligned() };
            let whole = u64::try_from(time.tv_sec).ok();
            let time = whole.zip(u32::try_from(time.tv_nsec).ok());
            came = time.map(|(whole, nanos)| SystemTime::UNIX_EPOCH + Duration::new(whole, nanos));
        }
        // SAFETY: both refer to the same control buffer.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    (segment, came)
}

fn as_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a size of a few bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_arrive_one_by_one_however_the_kernel_hands_them_over() {
        let receiver = open("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        for n in 0..30_u8 {
            sender.send(&vec![n; 100 + usize::from(n)]).unwrap();
        }
        let mut received = Received::default();
        let mut lengths = Vec::new();
        // Loopback delivers before `send` returns.
        while received.receive(&receiver) > 0 {
            received.for_each(SystemTime::now(), |datagram, waited| {
                lengths.push((datagram.first().copied(), datagram.len()));
                assert!(
                    !waited.is_zero() && waited < Duration::from_secs(10),
                    "the kernel says when it came"
                );
            });
        }
        assert_eq!(lengths, (0..30).map(|n| (Some(n), 100 + usize::from(n))).collect::<Vec<_>>());
    }

    #[test]
    fn the_limit_of_open_files_is_known() {
        assert!(raise_open_files() > 0);
    }
}
