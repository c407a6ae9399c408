//! Addresses whose datagrams belong to other shards of the process.
use std::collections::HashMap;

use crate::batch::Path;

/// Addresses remembered, in two halves.
const FOREIGN_MAX: usize = 65_536;

/// Which shard has named an address last. When there are too many, those go from which nothing has come for longest: strangers
/// can name addresses, but those in use stay.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    newer: HashMap<Path, usize>,
    older: HashMap<Path, usize>,
}

impl Foreign {
    /// Returns how many addresses were forgotten for it.
    pub(super) fn insert(&mut self, path: Path, shard: usize) -> u64 {
        self.older.remove(&path);
        let mut forgotten = 0;
        if self.newer.len() >= FOREIGN_MAX / 2 && !self.newer.contains_key(&path) {
            forgotten = self.older.len() as u64;
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(path, shard);
        forgotten
    }

    pub(super) fn get(&mut self, path: Path) -> Option<usize> {
        if let Some(shard) = self.newer.get(&path) {
            return Some(*shard);
        }
        let shard = self.older.remove(&path)?;
        self.insert(path, shard);
        Some(shard)
    }

    pub(super) fn remove(&mut self, path: Path) {
        self.newer.remove(&path);
        self.older.remove(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> Path {
        Path::Tcp(number)
    }

    #[test]
    fn addresses_in_use_outlive_any_number_of_others_and_there_is_a_bound() {
        let mut foreign = Foreign::default();
        foreign.insert(path(0), 3);
        let mut forgotten = 0;
        for other in 1..4 * FOREIGN_MAX {
            forgotten += foreign.insert(path(other), 1);
            if other % 10_000 == 0 {
                assert_eq!(foreign.get(path(0)), Some(3));
            }
            assert!(foreign.newer.len() + foreign.older.len() <= FOREIGN_MAX);
        }
        assert!(forgotten > 2 * FOREIGN_MAX as u64);
        assert_eq!(foreign.get(path(1)), None);
        foreign.remove(path(0));
        assert_eq!(foreign.get(path(0)), None);
    }
}
