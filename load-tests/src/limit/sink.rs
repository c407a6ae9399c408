//! Where the datagrams go: sockets of this machine that are read by another core, or by nobody.
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow, bail};

use super::socket;

/// Sockets: enough that a reader and the sender seldom meet at one.
const SOCKETS: usize = 16;
/// The queue of each, which the kernel may make shorter.
const QUEUE_BYTES: usize = 4 << 20;

/// Sockets, and a thread that reads them where one was asked for.
#[derive(Debug)]
pub(super) struct Sink {
    addresses: Vec<SocketAddrV4>,
    _sockets: Arc<[UdpSocket]>,
    is_over: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    reader: Option<JoinHandle<()>>,
}

impl Sink {
    /// Read on that core, or not at all.
    pub(super) fn open(core: Option<usize>) -> anyhow::Result<Self> {
        let sockets: Arc<[UdpSocket]> = (0..SOCKETS)
            .map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0").context("cannot bind to loopback")?;
                let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(QUEUE_BYTES);
                Ok(socket)
            })
            .collect::<anyhow::Result<_>>()?;
        let mut addresses = Vec::with_capacity(SOCKETS);
        for socket in sockets.iter() {
            match socket.local_addr()? {
                SocketAddr::V4(address) => addresses.push(address),
                SocketAddr::V6(address) => bail!("{address} is no loopback address of IPv4"),
            }
        }
        let (is_over, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let reader = core.map(|core| {
            let (sockets, is_over, taken) = (sockets.clone(), is_over.clone(), taken.clone());
            std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
                // Where it may not be pinned it still reads.
                let _ = socket::pin(&[core]);
                read(&sockets, &is_over, &taken);
            })
        });
        let reader = reader.transpose().context("cannot start a thread")?;
        Ok(Self { addresses, _sockets: sockets, is_over, taken, reader })
    }

    /// Where the datagrams of one receiver go.
    pub(super) fn address(&self, receiver: usize) -> SocketAddrV4 {
        *self.addresses.get(receiver % SOCKETS).expect("there are that many sockets")
    }

    /// Ends the reader and says how many datagrams were read.
    pub(super) fn close(mut self) -> anyhow::Result<u64> {
        self.end()?;
        Ok(self.taken.load(Relaxed))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.is_over.store(true, Relaxed);
        self.reader.take().map_or(Ok(()), JoinHandle::join).map_err(|_| anyhow!("the reader broke down"))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Never sleeps: waking it would be the sender's work.
fn read(sockets: &[UdpSocket], is_over: &AtomicBool, taken: &AtomicU64) {
    while !is_over.load(Relaxed) {
        for socket in sockets {
            let count = socket::receive(socket);
            if count > 0 {
                taken.fetch_add(count as u64, Relaxed);
            }
        }
    }
}
