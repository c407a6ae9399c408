//! The sockets of one shard and what wakes it.
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Protocol, Type};

use crate::udp::Socket;

pub(crate) const WAKER: Token = Token(usize::MAX);
pub(crate) const UDP: Token = Token(usize::MAX - 1);
pub(crate) const LISTENER: Token = Token(usize::MAX - 2);
/// Events taken from the kernel at once; more come with the next wait.
const EVENTS: usize = 256;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;
/// How often the pair of UDP and TCP port is tried when any free port will do.
const PORT_TRIES: usize = 16;

/// UDP and TCP on the media port.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) udp: Socket,
    listener: TcpListener,
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    address: SocketAddr,
}

/// What a wait brought.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    pub(crate) udp: bool,
    pub(crate) listener: bool,
    pub(crate) connections: Vec<usize>,
}

impl Bound {
    /// Binds both with `SO_REUSEPORT`, so that every shard has its own. Port 0 takes a port that both have free.
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
        let (udp, mut listener, address) = loop {
            tries -= 1;
            let udp = Socket::bind(address)?;
            let taken = udp.local_addr()?;
            match listen(taken) {
                Ok(listener) => break (udp, listener, taken),
                Err(error) if tries == 0 => return Err(error),
                Err(_) => {}
            }
        };
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        poll.registry().register(&mut SourceFd(&udp.fd()), UDP, Interest::READABLE)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { udp, listener, poll, events: Events::with_capacity(EVENTS), waker, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    pub(crate) fn wait(&mut self, timeout: Duration) -> Ready {
        let mut ready = Ready::default();
        if self.poll.poll(&mut self.events, Some(timeout)).is_err() {
            // Interrupted by a signal: there is nothing, and the next pass waits again.
            return ready;
        }
        for event in &self.events {
            match event.token() {
                WAKER => {}
                UDP => ready.udp = true,
                LISTENER => ready.listener = true,
                Token(connection) => ready.connections.push(connection),
            }
        }
        ready
    }

    pub(crate) fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        loop {
            match self.listener.accept() {
                Ok(accepted) => return Some(accepted),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // None left, or no file descriptors left; the latter passes when connections end.
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn watch(&self, stream: &mut TcpStream, connection: usize) -> io::Result<()> {
        self.poll.registry().register(stream, Token(connection), Interest::READABLE | Interest::WRITABLE)
    }

    pub(crate) fn unwatch(&self, stream: &mut TcpStream) {
        let _ = self.poll.registry().deregister(stream);
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
