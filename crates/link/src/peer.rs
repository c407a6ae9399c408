//! A connection to a node that streams are pulled from.
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use media::Frame;
use quinn::{Connection, RecvStream};
use tokio::sync::{mpsc, oneshot};

use crate::serve::GIVEN_UP;
use crate::wire::{GroupHeader, GroupReader};

/// Frames that were read and not yet put in order, of one subscription. Then QUIC's flow control holds the other node back.
const READ_MAX: usize = 256;

/// What a connection's other side sends, for one subscription.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A group begins. Who wants no more of it drops `wanted`.
    Group { stream: u64, header: GroupHeader, wanted: oneshot::Sender<()> },
    /// One of its frames.
    Frame { stream: u64, index: u32, frame: Frame },
    /// There is no more of it.
    End { stream: u64 },
}

/// A connection to a node that streams are pulled from; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    connection: Connection,
    routes: Arc<Routes>,
}

#[derive(Debug, Default)]
struct Routes {
    next: AtomicU32,
    inbound: Mutex<HashMap<u32, mpsc::Sender<Inbound>>>,
}

impl Routes {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, mpsc::Sender<Inbound>>> {
        self.inbound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    pub(crate) fn new(connection: Connection) -> Self {
        let peer = Self { connection, routes: Arc::default() };
        tokio::spawn(accept(peer.connection.clone(), Arc::clone(&peer.routes)));
        peer
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// A number for one more subscription, and where what is sent for it comes out.
    pub(crate) fn route(&self) -> Route {
        let number = self.routes.next.fetch_add(1, Ordering::Relaxed);
        let (send, inbound) = mpsc::channel(READ_MAX);
        self.routes.lock().insert(number, send);
        Route { number, inbound, routes: Arc::clone(&self.routes) }
    }
}

/// One subscription of a connection.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) number: u32,
    pub(crate) inbound: mpsc::Receiver<Inbound>,
    routes: Arc<Routes>,
}

impl Drop for Route {
    fn drop(&mut self) {
        self.routes.lock().remove(&self.number);
    }
}

/// Takes the streams of groups as they come.
async fn accept(connection: Connection, routes: Arc<Routes>) {
    while let Ok(receive) = connection.accept_uni().await {
        tokio::spawn(read_group(receive, Arc::clone(&routes)));
    }
}

/// Reads one group to its end. What makes no sense ends it.
async fn read_group(mut receive: RecvStream, routes: Arc<Routes>) {
    let stream = receive.id().index();
    let mut reader = GroupReader::default();
    let head = read_head(&mut receive, &mut reader).await;
    let inbound = match &head {
        Some(header) => routes.lock().get(&header.subscription).cloned(),
        None => None,
    };
    if let (Some(header), Some(inbound)) = (head, inbound) {
        let (wanted, mut unwanted) = oneshot::channel();
        let is_begun = inbound.send(Inbound::Group { stream, header, wanted }).await.is_ok();
        tokio::select! {
            _ = read_frames(&mut receive, &mut reader, &inbound), if is_begun => {}
            _ = &mut unwanted => {}
        }
        // If nobody hears it, nobody needs to.
        let _ = inbound.send(Inbound::End { stream }).await;
    }
    let _ = receive.stop(GIVEN_UP);
}

async fn read_head(receive: &mut RecvStream, reader: &mut GroupReader) -> Option<GroupHeader> {
    loop {
        let chunk = receive.read_chunk(usize::MAX, true).await.ok()??;
        reader.push(&chunk.bytes);
        if let Some(header) = reader.header().ok()? {
            return Some(header);
        }
    }
}

/// Ends when there is no more, or nobody who wants it.
async fn read_frames(receive: &mut RecvStream, reader: &mut GroupReader, inbound: &mpsc::Sender<Inbound>) {
    let stream = receive.id().index();
    loop {
        loop {
            match reader.frame(Instant::now()) {
                Ok(Some((index, frame))) => {
                    if inbound.send(Inbound::Frame { stream, index, frame }).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a node sends what cannot be read");
                    return;
                }
            }
        }
        match receive.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => reader.push(&chunk.bytes),
            Ok(None) | Err(_) => return,
        }
    }
}
