//! How many viewers each shard has, and which shards live.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The seats of all shards; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Seats(Arc<[Row]>);

#[derive(Debug)]
struct Row {
    taken: AtomicUsize,
    is_alive: AtomicBool,
}

/// Counts a viewer of a shard for as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim {
    seats: Seats,
    shard: usize,
}

/// Takes a shard out of the choice when its thread ends, however it ends.
#[derive(Debug)]
pub(crate) struct Alive {
    seats: Seats,
    shard: usize,
}

impl Seats {
    pub(crate) fn new(shards: usize) -> Self {
        let row = |_| Row { taken: AtomicUsize::new(0), is_alive: AtomicBool::new(true) };
        Self((0..shards).map(row).collect())
    }

    /// A seat on the living shard that has the fewest viewers; `None` when every shard has ended.
    pub(crate) fn claim(&self) -> Option<Claim> {
        let living = self.0.iter().enumerate().filter(|(_, row)| row.is_alive.load(Ordering::Relaxed));
        let (shard, row) = living.min_by_key(|(_, row)| row.taken.load(Ordering::Relaxed))?;
        row.taken.fetch_add(1, Ordering::Relaxed);
        Some(Claim { seats: self.clone(), shard })
    }

    /// Seats taken on the first shard, on the second, and so on.
    pub(crate) fn taken(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|row| row.taken.load(Ordering::Relaxed))
    }

    pub(crate) fn alive(&self, shard: usize) -> Alive {
        Alive { seats: self.clone(), shard }
    }
}

impl Claim {
    pub(crate) fn shard(&self) -> usize {
        self.shard
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(row) = self.seats.0.get(self.shard) {
            row.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(row) = self.seats.0.get(self.shard) {
            row.is_alive.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_ended_takes_no_viewers_though_it_is_the_emptiest() {
        let seats = Seats::new(2);
        let (first, second) = (seats.alive(0), seats.alive(1));
        let claims: Vec<Claim> = (0..4).filter_map(|_| seats.claim()).collect();
        assert_eq!(seats.taken().collect::<Vec<_>>(), [2, 2]);
        drop(first);
        let more: Vec<Claim> = (0..3).filter_map(|_| seats.claim()).collect();
        assert_eq!(seats.taken().collect::<Vec<_>>(), [2, 5]);
        drop((claims, more));
        assert_eq!(seats.taken().collect::<Vec<_>>(), [0, 0]);
        drop(second);
        assert!(seats.claim().is_none());
    }
}
