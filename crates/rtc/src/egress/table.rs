//! The peers of one shard: found by user name fragment, by path and by number, and woken in time.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::Instant;

use super::peer::Peer;
use crate::batch::{Batch, Path};
use crate::ice::Answer;
use crate::id::ViewerId;
use crate::sdp::Credentials;

/// The maps are bounded by the peers, of which each has a few user name fragments and paths at most.
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
            self.disown(slot, path);
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

    /// Whether a viewer of this shard uses the path.
    pub(crate) fn is_in_use(&self, now: Instant, path: Path) -> bool {
        let peer = self.slot_at(path).and_then(|slot| self.peer(slot));
        peer.is_some_and(|peer| peer.agent.is_in_use(now, path))
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

    /// A connectivity check for `slot`. Returns what it led to if it was authentic.
    pub(crate) fn on_check(
        &mut self,
        now: Instant,
        slot: usize,
        path: Path,
        from: SocketAddr,
        bytes: &[u8],
        batch: &mut Batch,
    ) -> Option<Answer> {
        let answer = self.peer_mut(slot)?.on_check(now, path, from, bytes, batch)?;
        for ufrag in &answer.retired {
            self.by_ufrag.remove(ufrag);
        }
        if let Some(forgotten) = answer.forgotten {
            self.disown(slot, forgotten);
        }
        self.claim(now, slot, path);
        // With a way out, things are due again.
        self.schedule(slot);
        Some(answer)
    }

    /// What comes on `path` is for `slot` from now on, unless another viewer has it in use: an address alone can be
    /// forged, and one that changed hands falls silent.
    fn claim(&mut self, now: Instant, slot: usize, path: Path) {
        let owner = self.slot_at(path).filter(|owner| *owner != slot);
        if let Some(peer) = owner.and_then(|owner| self.peer_mut(owner)) {
            if peer.agent.is_in_use(now, path) {
                return;
            }
            peer.agent.forget(path);
        }
        self.by_path.insert(path, slot);
    }

    /// What comes on `path` is no longer for `slot`, if it was.
    fn disown(&mut self, slot: usize, path: Path) {
        if self.slot_at(path) == Some(slot) {
            self.by_path.remove(&path);
        }
    }

    pub(crate) fn restart(&mut self, viewer: ViewerId, local: Credentials, remote: Credentials) {
        let Some(slot) = self.slot_of(viewer) else { return };
        let ufrag = local.ufrag.clone();
        let Some(peer) = self.peer_mut(slot) else { return };
        if let Some(retired) = peer.agent.restart(local, remote) {
            self.by_ufrag.remove(&retired);
        }
        self.by_ufrag.insert(ufrag, slot);
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

#[cfg(test)]
mod tests;
