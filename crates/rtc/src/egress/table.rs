//! The peers of one shard: found by user name fragment, by path and by number, and woken in time.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::Instant;

use super::peer::Peer;
use crate::batch::{Batch, Path};
use crate::id::ViewerId;
use crate::sdp::Credentials;

/// The maps are bounded by the peers, of which each has at most two user name fragments and a fixed number of paths.
#[derive(Debug, Default)]
pub(crate) struct Table {
    peers: Vec<Option<Entry>>,
    free: Vec<usize>,
    by_viewer: HashMap<ViewerId, usize>,
    by_ufrag: HashMap<String, usize>,
    by_path: HashMap<Path, usize>,
    /// One entry for each peer is true; others are left behind when a peer is driven early, and skipped.
    wakes: BinaryHeap<Reverse<(Instant, usize)>>,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    wake: Option<Instant>,
}

impl Table {
    pub(crate) fn insert(&mut self, peer: Peer) -> usize {
        let slot = self.free.pop().unwrap_or(self.peers.len());
        if slot == self.peers.len() {
            self.peers.push(None);
        }
        self.by_viewer.insert(peer.id, slot);
        for ufrag in peer.agent.ufrags() {
            self.by_ufrag.insert(ufrag.to_owned(), slot);
        }
        if let Some(place) = self.peers.get_mut(slot) {
            *place = Some(Entry { peer, wake: None });
        }
        self.schedule(slot);
        slot
    }

    pub(crate) fn remove(&mut self, slot: usize) -> Option<Peer> {
        let Entry { peer, .. } = self.peers.get_mut(slot)?.take()?;
        self.by_viewer.remove(&peer.id);
        for ufrag in peer.agent.ufrags() {
            self.by_ufrag.remove(ufrag);
        }
        for path in peer.agent.paths() {
            self.release(*path, slot);
        }
        self.free.push(slot);
        Some(peer)
    }

    pub(crate) fn slots(&self) -> Vec<usize> {
        self.by_viewer.values().copied().collect()
    }

    pub(crate) fn slot_of(&self, viewer: ViewerId) -> Option<usize> {
        self.by_viewer.get(&viewer).copied()
    }

    pub(crate) fn slot_with(&self, ufrag: &str) -> Option<usize> {
        self.by_ufrag.get(ufrag).copied()
    }

    pub(crate) fn slot_at(&self, path: Path) -> Option<usize> {
        self.by_path.get(&path).copied()
    }

    pub(crate) fn peer(&self, slot: usize) -> Option<&Peer> {
        self.peers.get(slot)?.as_ref().map(|entry| &entry.peer)
    }

    pub(crate) fn peer_mut(&mut self, slot: usize) -> Option<&mut Peer> {
        self.peers.get_mut(slot)?.as_mut().map(|entry| &mut entry.peer)
    }

    /// Lets `act` work on a peer and sees to it that the peer is woken when it wants to be.
    pub(crate) fn drive(&mut self, slot: usize, act: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peer_mut(slot) {
            act(peer);
            self.schedule(slot);
        }
    }

    /// A connectivity check for `slot`. Returns whether it was authentic.
    pub(crate) fn on_check(
        &mut self,
        now: Instant,
        slot: usize,
        path: Path,
        from: SocketAddr,
        bytes: &[u8],
        batch: &mut Batch,
    ) -> bool {
        let Some(peer) = self.peer_mut(slot) else { return false };
        let before: Vec<String> = peer.agent.replaced_ufrags().map(str::to_owned).collect();
        let Some(answer) = peer.on_check(now, path, from, bytes, batch) else { return false };
        let gone: Vec<String> =
            before.into_iter().filter(|ufrag| !peer.agent.ufrags().any(|known| known == ufrag)).collect();
        for ufrag in gone {
            self.by_ufrag.remove(&ufrag);
        }
        if let Some(forgotten) = answer.forgotten {
            self.release(forgotten, slot);
        }
        // Whoever proved itself last has the path, also if another had it since.
        if self.by_path.get(&path) != Some(&slot) {
            self.by_path.insert(path, slot);
            // With a way out, things are due again.
            self.schedule(slot);
        }
        true
    }

    pub(crate) fn restart(&mut self, viewer: ViewerId, local: Credentials) {
        let Some(slot) = self.slot_of(viewer) else { return };
        let ufrag = local.ufrag.clone();
        let Some(peer) = self.peer_mut(slot) else { return };
        let before: Vec<String> = peer.agent.ufrags().map(str::to_owned).collect();
        peer.agent.restart(local);
        let gone: Vec<String> =
            before.into_iter().filter(|ufrag| !peer.agent.ufrags().any(|known| known == ufrag)).collect();
        for ufrag in gone {
            self.by_ufrag.remove(&ufrag);
        }
        self.by_ufrag.insert(ufrag, slot);
    }

    /// A path is not this peer's any more. Another's it may be: addresses are used again.
    fn release(&mut self, path: Path, slot: usize) {
        if self.by_path.get(&path) == Some(&slot) {
            self.by_path.remove(&path);
        }
    }

    pub(crate) fn forget_path(&mut self, path: Path) {
        if let Some(slot) = self.by_path.remove(&path)
            && let Some(peer) = self.peer_mut(slot)
        {
            peer.agent.forget(path);
        }
    }

    /// When the next peer wants to be driven. May be early, never late.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.wakes.peek().map(|Reverse((wake, _))| *wake)
    }

    /// Takes the next peer that is due.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<usize> {
        while let Some(Reverse((wake, slot))) = self.wakes.peek().copied() {
            if wake > now {
                return None;
            }
            self.wakes.pop();
            let entry = self.peers.get_mut(slot).and_then(Option::as_mut);
            if let Some(entry) = entry.filter(|entry| entry.wake == Some(wake)) {
                entry.wake = None;
                return Some(slot);
            }
        }
        None
    }

    fn schedule(&mut self, slot: usize) {
        let Some(entry) = self.peers.get_mut(slot).and_then(Option::as_mut) else { return };
        let wake = entry.peer.next_wake();
        if entry.wake.is_none_or(|scheduled| wake < scheduled) {
            entry.wake = Some(wake);
            self.wakes.push(Reverse((wake, slot)));
        }
    }
}
