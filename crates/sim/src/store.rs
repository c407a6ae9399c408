//! The database, as far as it decides: which epoch a publisher has.
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use coordinator::store::{EpochRow, Opening};

use crate::Plant;
use crate::coordinator::STORE;
use crate::message::{Address, Body};
use crate::net::Net;

/// From reading the row to writing it, where that is not one statement.
const READ_TO_WRITE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) is_up: bool,
    pub(crate) rows: BTreeMap<String, EpochRow>,
    plant: Option<Plant>,
    /// Rows that are about to be written, with a compare-and-set that was lost.
    writing: VecDeque<(Instant, String, EpochRow)>,
}

impl Store {
    pub(crate) fn new(plant: Option<Plant>) -> Self {
        Self { is_up: true, rows: BTreeMap::new(), plant, writing: VecDeque::new() }
    }

    pub(crate) fn on_message(&mut self, now: Instant, net: &mut Net, from: Address, body: Body) {
        let Body::Open { call, opening } = body else { return };
        let epoch = self.open(now, *opening);
        net.send(now, STORE, from, Body::Opened { call, epoch });
    }

    fn open(&mut self, now: Instant, opening: Opening) -> u64 {
        let row = EpochRow::after(self.rows.get(&opening.class_id).cloned(), &opening);
        let epoch = row.epoch;
        if self.plant == Some(Plant::LostCompareAndSet) {
            self.writing.push_back((now + READ_TO_WRITE, opening.class_id, row));
        } else {
            self.rows.insert(opening.class_id, row);
        }
        epoch
    }

    pub(crate) fn poll(&mut self, now: Instant) {
        while let Some((_, class, row)) = self.writing.pop_front_if(|(due, ..)| *due <= now) {
            self.rows.insert(class, row);
        }
    }
}
