//! Which of a node's heartbeats are news: those of its present life, in their order. A heartbeat that was recorded and is sent
//! again, or that a slow connection held up, says nothing.
use std::collections::{BTreeMap, VecDeque};

use control::api::Heartbeat;
use thiserror::Error;

/// Lives of one node that are remembered: what was sent in them is refused.
const LIVES_MAX: usize = 16;
/// Nodes whose lives are remembered, those that are gone included.
const REMEMBERED_MAX: usize = 40_000;

/// A heartbeat says less than is known.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Stale {
    /// It is not later than the last one.
    #[error("this heartbeat is not newer than the last one")]
    Repeated,
    /// The node has begun a new life since.
    #[error("this heartbeat is from before the node began anew")]
    FormerLife,
}

#[derive(Debug)]
struct Life {
    /// Counts the lives of this node.
    number: u64,
    boot: u64,
    seq: u64,
    former: VecDeque<u64>,
}

/// The lives of all nodes.
#[derive(Debug, Default)]
pub(super) struct Lives(BTreeMap<String, Life>);

impl Lives {
    /// Returns the number of the node's life, which rises.
    pub(super) fn on_heartbeat(&mut self, heartbeat: &Heartbeat) -> Result<u64, Stale> {
        let Heartbeat { boot, seq, .. } = *heartbeat;
        let Some(life) = self.0.get_mut(&heartbeat.node) else {
            if self.0.len() >= REMEMBERED_MAX {
                self.0.pop_first();
            }
            self.0.insert(heartbeat.node.clone(), Life { number: 1, boot, seq, former: VecDeque::new() });
            return Ok(1);
        };
        if life.boot == boot {
            if seq <= life.seq {
                return Err(Stale::Repeated);
            }
        } else if life.former.contains(&boot) {
            return Err(Stale::FormerLife);
        } else {
            life.former.push_back(std::mem::replace(&mut life.boot, boot));
            life.former.drain(..life.former.len().saturating_sub(LIVES_MAX));
            life.number += 1;
        }
        life.seq = seq;
        Ok(life.number)
    }
}
