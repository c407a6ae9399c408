//! The sockets of one shard and what wakes it.
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Protocol, Type};

use crate::batch::Batch;
use crate::bell::Bell;
use crate::udp::{RECEIVE_BATCH, Received, SEND_BUFFER_BYTES, Sent, Socket};

const WAKER: Token = Token(usize::MAX);
const UDP: Token = Token(usize::MAX - 1);
const LISTENER: Token = Token(usize::MAX - 2);
/// Events taken from the kernel at once; more come with the next wait.
const EVENTS: usize = 256;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;
/// How often the pair of UDP and TCP port is tried when any free port will do.
const PORT_TRIES: usize = 16;

/// UDP and TCP on the media port.
///
/// The kernel says once that something became readable, so what is left unread is remembered here for the next pass.
#[derive(Debug)]
pub(crate) struct Sockets {
    udp: Socket,
    listener: TcpListener,
    poll: Poll,
    events: Events,
    bell: Bell,
    address: SocketAddr,
    /// Datagrams may be left in the socket.
    is_readable: bool,
    /// Connections may be left to accept.
    is_acceptable: bool,
    /// The poll reports room in the socket's queue.
    awaits_room: bool,
    /// Connections with something left to read. Bounded by the connections.
    unread: Vec<usize>,
}

/// What a wait brought.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    pub(crate) udp: bool,
    pub(crate) listener: bool,
    pub(crate) connections: Vec<usize>,
}

impl Sockets {
    /// Binds both with `SO_REUSEPORT`, so that every shard has its own. Port 0 takes a port that both have free. `[::]`
    /// takes IPv4 as well, and becomes `0.0.0.0` on a machine without IPv6.
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        let (udp, mut listener, address) = bind_or_v4(address, bind_pair)?;
        let poll = Poll::new()?;
        let bell = Bell::new(Waker::new(poll.registry(), WAKER)?);
        poll.registry().register(&mut SourceFd(&udp.fd()), UDP, Interest::READABLE)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            udp,
            listener,
            poll,
            events: Events::with_capacity(EVENTS),
            bell,
            address,
            is_readable: false,
            is_acceptable: false,
            awaits_room: false,
            unread: Vec::new(),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends a wait.
    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Warns when the kernel queues less than a keyframe to many viewers takes. Once for all shards.
    pub(crate) fn warn_of_small_buffer(&self) {
        if let Some(bytes) = self.udp.small_send_buffer() {
            tracing::warn!(
                bytes,
                wanted = SEND_BUFFER_BYTES,
                "the kernel limits the send buffer of the media port, so keyframes to many viewers wait; \
                 raise it with: sysctl -w net.core.wmem_max={SEND_BUFFER_BYTES}"
            );
        }
    }

    /// Waits until something is ready, `timeout` at most.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Ready {
        let is_left = self.is_readable || !self.unread.is_empty();
        let timeout = if is_left { Duration::ZERO } else { timeout };
        let mut ready = Ready { connections: std::mem::take(&mut self.unread), ..Ready::default() };
        // An error is an interruption by a signal: there is nothing new, and the next pass waits again.
        if self.poll.poll(&mut self.events, Some(timeout)).is_ok() {
            let mut has_room = false;
            for event in &self.events {
                match event.token() {
                    WAKER => {}
                    UDP => {
                        self.is_readable |= event.is_readable();
                        has_room |= event.is_writable();
                    }
                    LISTENER => self.is_acceptable = true,
                    Token(connection) => ready.connections.push(connection),
                }
            }
            if has_room {
                self.on_room();
            }
        }
        ready.udp = self.is_readable;
        ready.listener = self.is_acceptable;
        ready
    }

    /// The kernel's queue is full: what is sent now waits in the batch. Video is better not written at all meanwhile.
    pub(crate) fn is_blocked(&self) -> bool {
        self.udp.is_blocked()
    }

    /// Sends the datagrams of `batch` as far as the kernel takes them; the others stay in it.
    pub(crate) fn send(&mut self, batch: &mut Batch) -> Sent {
        let (arena, messages) = batch.unsent();
        let sent = self.udp.send(arena, messages);
        batch.drop_front(sent.done);
        if self.udp.is_blocked() && !self.awaits_room {
            // Asked for only now: the kernel would wake the shard for every packet that leaves.
            self.awaits_room = self.watch_udp(Interest::READABLE | Interest::WRITABLE).is_ok();
            if !self.awaits_room {
                self.udp.on_writable();
            }
        }
        sent
    }

    fn on_room(&mut self) {
        self.udp.on_writable();
        if std::mem::take(&mut self.awaits_room) {
            let _ = self.watch_udp(Interest::READABLE);
        }
    }

    fn watch_udp(&self, interest: Interest) -> io::Result<()> {
        self.poll.registry().reregister(&mut SourceFd(&self.udp.fd()), UDP, interest)
    }

    /// Takes datagrams that have arrived. Returns whether there may be more.
    pub(crate) fn receive(&mut self, into: &mut Received) -> bool {
        self.is_readable = self.udp.receive(into) == RECEIVE_BATCH;
        self.is_readable
    }

    pub(crate) fn accept(&mut self) -> Option<(TcpStream, SocketAddr)> {
        loop {
            match self.listener.accept() {
                Ok(accepted) => return Some(accepted),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Without file descriptors the next pass tries again: they come back when connections end.
                    self.is_acceptable = error.kind() != io::ErrorKind::WouldBlock;
                    return None;
                }
            }
        }
    }

    pub(crate) fn watch(&self, stream: &mut TcpStream, connection: usize) -> io::Result<()> {
        self.poll.registry().register(stream, Token(connection), Interest::READABLE | Interest::WRITABLE)
    }

    pub(crate) fn unwatch(&self, stream: &mut TcpStream) {
        let _ = self.poll.registry().deregister(stream);
    }

    /// A connection has something left to read: it is ready in the next pass too.
    pub(crate) fn revisit(&mut self, connection: usize) {
        self.unread.push(connection);
    }
}

/// Binds to `[::]`, or to `0.0.0.0` where there is no IPv6. Other addresses are meant as they are.
fn bind_or_v4<T>(address: SocketAddr, mut bind: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(address) {
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
        {
            tracing::info!("this machine has no IPv6; the media port speaks IPv4 only");
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        other => other,
    }
}

fn bind_pair(address: SocketAddr) -> io::Result<(Socket, TcpListener, SocketAddr)> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let udp = Socket::bind(address)?;
        let taken = udp.local_addr()?;
        match listen(taken) {
            Ok(listener) => return Ok((udp, listener, taken)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(test)]
mod tests;
