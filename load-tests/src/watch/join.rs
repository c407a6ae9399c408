//! Getting viewers in and out: tokens, POSTs and DELETEs on tokio, then over to a thread.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use super::answer::Answer;
use super::dtls::Identity;
use super::ice::Credentials;
use super::misbehaviour::Misbehaviour;
use super::options::Client;
use super::orders::{GROUPS, Group, Order, Orders};
use super::person::{People, Showing};
use super::socket;
use super::totals::Totals;
use super::viewer::Beginning;
use super::{offer, second_opinion};
use crate::whep::{Door, Session, Way};

/// A kernel buffer that overflows soon, for those who do not read.
const SMALL_BUFFER_BYTES: usize = 2048;

/// What a newcomer is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer {
    pub(super) number: u64,
    pub(super) group: Group,
    pub(super) misbehaviour: Option<Misbehaviour>,
    /// `None`: until the end of the run.
    pub(super) stay: Option<Duration>,
}

/// Everything that joins share.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) door: Door,
    pub(super) identity: Arc<Identity>,
    pub(super) orders: Vec<Orders>,
    pub(super) from: Vec<IpAddr>,
    /// The address of ours that the server is reached from.
    pub(super) local: IpAddr,
    pub(super) decrypt_every: u64,
    pub(super) client: Client,
    pub(super) reports_arrivals: bool,
    /// Whether viewers go where they are sent, and look for another node when theirs is gone.
    pub(super) follows: bool,
    /// Those people.
    pub(super) people: People,
    /// The next number of a session, of those who have several.
    pub(super) seats: AtomicUsize,
    /// POSTs and DELETEs under way.
    pub(super) places: Semaphore,
    /// Of each group, what is known before a thread has the viewer.
    pub(super) totals: Mutex<[Totals; GROUPS]>,
    pub(super) joined: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Viewers made of the `webrtc` crate that are in.
    pub(super) crate_connected: AtomicU64,
}

impl Entrance {
    /// Takes one viewer in, keeps it as long as it stays, and sees it out.
    pub(super) async fn attend(self: Arc<Self>, newcomer: Newcomer, mut end: watch::Receiver<bool>) {
        if self.client == Client::Webrtc {
            return second_opinion::attend(&self, newcomer, end).await;
        }
        let number = newcomer.number;
        let id = usize::try_from(number).unwrap_or(0);
        let at = id % self.orders.len().max(1);
        let Some(orders) = self.orders.get(at).cloned() else { return };
        if self.follows {
            return self.accompany(newcomer, orders, end).await;
        }
        let joined = tokio::select! {
            joined = self.join(newcomer, id, Way::Usual, None) => joined,
            _ = end.wait_for(|is_over| *is_over) => return,
        };
        let (session, order) = match joined {
            Ok(joined) => joined,
            Err(reason) => {
                self.failed.fetch_add(1, Relaxed);
                self.record(newcomer.group, |totals| totals.failures.add(&reason));
                return;
            }
        };
        self.joined.fetch_add(1, Relaxed);
        give(orders.clone(), order).await;
        match newcomer.stay {
            Some(stay) => {
                let is_over = end.wait_for(|is_over| *is_over);
                if tokio::time::timeout(stay, is_over).await.is_err() {
                    let (left, has_left) = oneshot::channel();
                    give(orders, Order::Leave { id, left }).await;
                    // The DELETE comes after our goodbye, or the server's would look like an end too early. A thread
                    // that has ended drops the order, which ends the wait.
                    let _ = has_left.await;
                }
            }
            None => _ = end.wait_for(|is_over| *is_over).await,
        }
        let _place = self.places.acquire().await;
        self.door.leave(number, &session).await;
    }

    pub(super) async fn join(
        &self,
        newcomer: Newcomer,
        id: usize,
        way: Way<'_>,
        showing: Option<Arc<Showing>>,
    ) -> Result<(Session, Order), String> {
        let Newcomer { number, group, misbehaviour, .. } = newcomer;
        let _place = self.places.acquire().await.map_err(|_| "the run is over".to_owned())?;
        let buffer = (misbehaviour == Some(Misbehaviour::StopReading)).then_some(SMALL_BUFFER_BYTES);
        let open = |ip| socket::open(SocketAddr::new(ip, 0), buffer).map_err(|error| socket_reason(&error));
        let mut socket = open(self.address(number))?;
        let address = socket.local_addr().map_err(|error| socket_reason(&error))?;
        let local = Credentials::generate();
        let text = offer::write(&local, &self.identity.fingerprint(), address, self.reports_arrivals);
        let session = self.door.join(number, &text, way).await.map_err(|error| error.to_string())?;
        self.on_joined(group, &session);
        let answer = Answer::parse(&session.answer).map_err(|error| error.to_string())?;
        let server = answer.candidate(session.server.map(|server| server.ip()));
        let server = server.ok_or("the answer has no candidate")?;
        if connect(&socket, server).is_err() {
            // Another family, or not to be reached from the address that HTTP went from.
            socket = open(unspecified(server))?;
            connect(&socket, server).map_err(|error| socket_reason(&error))?;
        }
        let beginning = Beginning {
            post_began: session.post_began,
            local,
            answer,
            server,
            // Whoever is followed is looked at whole.
            decrypts: self.follows || number.is_multiple_of(self.decrypt_every) && misbehaviour.is_none(),
            misbehaviour,
            showing,
        };
        Ok((session, Order::Join { id, group, socket, beginning: Box::new(beginning) }))
    }

    /// Writes down how long the server took to let somebody in.
    pub(super) fn on_joined(&self, group: Group, session: &Session) {
        self.record(group, |totals| {
            totals.joined += 1;
            totals.post_ms.record_time(session.post_time);
            if let Some(time) = session.token_time {
                totals.token_ms.record_time(time);
            }
        });
    }

    pub(super) fn address(&self, number: u64) -> IpAddr {
        let count = u64::try_from(self.from.len()).unwrap_or(0);
        let at = number.checked_rem(count).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.from.get(at)).copied().unwrap_or(self.local)
    }

    pub(super) fn record(&self, group: Group, write: impl FnOnce(&mut Totals)) {
        let mut groups = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        write(group.of(&mut groups));
    }
}

/// An order may have to wait for a thread, which must not hold up the others here.
pub(super) async fn give(orders: Orders, order: Order) {
    let _ = tokio::task::spawn_blocking(move || orders.give(order)).await;
}

fn connect(socket: &UdpSocket, server: SocketAddr) -> io::Result<()> {
    if socket.local_addr()?.is_ipv4() != server.is_ipv4() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    socket.connect(server)
}

fn unspecified(like: SocketAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// The kind only: errors with numbers in them would each be a reason of its own.
fn socket_reason(error: &io::Error) -> String {
    format!("no socket: {}", error.kind())
}
