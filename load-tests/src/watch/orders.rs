//! What threads of viewers are told, and what they tell.
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mio::Waker;
use tokio::sync::oneshot;

use super::totals::Totals;
use super::viewer::Beginning;
use crate::stats::Histogram;

/// Orders that wait for a thread; whoever gives one more waits.
const ORDERS_MAX: usize = 4096;

/// Whose figures a viewer's are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Those that the run is about.
    Viewers,
    /// Those that come in a storm while the others watch.
    Joiners,
    Misbehaving,
}

pub(super) const GROUPS: usize = 3;

/// What a thread is told to do.
#[derive(Debug)]
pub(super) enum Order {
    Join {
        id: usize,
        group: Group,
        socket: UdpSocket,
        beginning: Box<Beginning>,
    },
    Leave {
        id: usize,
        left: oneshot::Sender<()>,
    },
    /// Watch for gaps and losses of their own from here, or up to here.
    Window {
        is_open: bool,
    },
    Stop,
}

/// Figures of a thread while it runs.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    pub(super) connected: AtomicU64,
    pub(super) ever_connected: AtomicU64,
    pub(super) packets: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) lost: AtomicU64,
    /// Ended before they were connected.
    pub(super) failed: AtomicU64,
}

/// What a thread has to say at its end.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) groups: [Totals; GROUPS],
    /// How long one pass took; what arrives in the meantime waits, so this spoils delays.
    pub(super) pass: Histogram,
    pub(super) link_lost: u64,
    pub(super) link_overflowed: u64,
}

/// A way to give orders without owning the thread.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    orders: SyncSender<Order>,
    waker: Arc<Waker>,
}

impl Orders {
    /// For the thread whose poll `waker` wakes.
    pub(super) fn channel(waker: Waker) -> (Self, Receiver<Order>) {
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        (Self { orders, waker: Arc::new(waker) }, inbox)
    }

    /// Gives an order; waits while the thread has too many. A thread that has ended takes none.
    pub(super) fn give(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

impl Outcome {
    /// The figures of a group.
    pub(super) fn group(&mut self, group: Group) -> &mut Totals {
        group.of(&mut self.groups)
    }
}

impl Group {
    pub(super) fn of(self, groups: &mut [Totals; GROUPS]) -> &mut Totals {
        let [viewers, joiners, misbehaving] = groups;
        match self {
            Self::Viewers => viewers,
            Self::Joiners => joiners,
            Self::Misbehaving => misbehaving,
        }
    }
}
