//! The engine: its setting up, its threads and their end.
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use crate::command::Event;
use crate::counters::Counters;
use crate::dtls::Identity;
use crate::egress::Egress;
use crate::handle::EngineHandle;
use crate::handshake::Handshaker;
use crate::id::SHARDS_MAX;
use crate::mailbox::mailbox;
use crate::seats::Seats;
use crate::shard::Shard;
use crate::sockets::Sockets;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The media port's address, UDP and TCP. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// The addresses that viewers are told, without port. Empty: `listen`, or every address of this machine.
    pub announce: Vec<IpAddr>,
    /// Threads that send. 0: one for each core.
    pub shards: usize,
    /// Viewers at most.
    pub viewers_max: usize,
    /// ICE-TCP connections at most, viewers' and strangers' together; each shard has its part.
    pub connections_max: usize,
    /// How many times faster than its stream a viewer may be sent what it starts from.
    pub burst_multiple: u32,
}

/// The engine with its sockets held and nothing running.
#[derive(Debug)]
pub struct Engine {
    shards: Vec<(Shard, Handshaker)>,
    seats: Seats,
    handle: EngineHandle,
    address: SocketAddr,
}

impl Engine {
    /// Takes the media port, once for each shard. The events end when the engine does; they are two for each viewer, so
    /// their queue is bounded by the viewers.
    pub fn bind(config: &Config) -> io::Result<(Self, UnboundedReceiver<Event>)> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = if config.shards == 0 { cores } else { config.shards }.clamp(1, SHARDS_MAX);
        let identity =
            Identity::generate().ok_or_else(|| io::Error::other("no DTLS certificate could be made"))?;
        let (identity, counters) = (Arc::new(identity), Arc::<Counters>::default());
        let seats = Seats::new(count);
        let (events, events_in) = unbounded_channel();
        let mut listen = config.listen;
        let (mut ends, mut mailboxes) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let sockets = Sockets::new(listen)?;
            listen = sockets.address();
            let (mailbox, inbox) = mailbox(sockets.bell());
            mailboxes.push(mailbox);
            ends.push((sockets, inbox));
        }
        if let Some((sockets, _)) = ends.first() {
            sockets.warn_of_small_buffer();
        }
        // A machine with few descriptors still lets each shard have one.
        let connections_max = (config.connections_max / count).max(1);
        let shards = ends.into_iter().enumerate().map(|(index, (sockets, inbox))| {
            let (handshaker, desk) = Handshaker::new(Arc::clone(&identity), sockets.bell());
            let egress =
                Egress::new((index, count), Arc::clone(&counters), config.burst_multiple, rand::random());
            let neighbours = mailboxes.clone();
            let ends = (sockets, inbox, neighbours, desk);
            let shard = Shard::new(index, ends, egress, connections_max, events.clone());
            (shard, handshaker)
        });
        let shards = shards.collect();
        let announced = (listen, config.announce.clone());
        let handle = EngineHandle::new(
            mailboxes,
            (identity, counters),
            announced,
            (seats.clone(), config.viewers_max),
        );
        Ok((Self { shards, seats, handle, address: listen }, events_in))
    }

    /// The media port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A handle.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Runs the shards on threads of their own until [`EngineHandle::drain`]; returns when all have ended, or as soon as
    /// one has panicked.
    pub async fn run(self) -> io::Result<()> {
        let Self { shards, seats, handle, .. } = self;
        drop(handle);
        let (panicked, mut first_panic) = tokio::sync::mpsc::channel::<usize>(1);
        let mut threads = Vec::new();
        for (shard, handshaker) in shards {
            let index = shard.index();
            let alive = seats.alive(index);
            // It ends when its shard does; when it panics, its shard cannot go on.
            let beside = thread::Builder::new().name(format!("handshake-{index}"));
            beside.spawn(move || handshaker.run())?;
            let (done, ended) = oneshot::channel();
            let panicked = panicked.clone();
            thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shard.run()));
                drop(alive);
                match outcome {
                    Ok(()) => drop(done.send(())),
                    Err(_) => drop(panicked.try_send(index)),
                }
            })?;
            threads.push(ended);
        }
        drop(panicked);
        let all = async {
            for ended in threads {
                // One that panicked is reported below.
                let _ = ended.await;
            }
        };
        let failed = |index: usize| Err(io::Error::other(format!("shard {index} panicked")));
        tokio::select! {
            biased;
            Some(index) = first_panic.recv() => failed(index),
            () = all => first_panic.try_recv().map_or(Ok(()), failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::{Full, Seat};

    fn config(shards: usize, viewers_max: usize) -> Config {
        let listen = ([127, 0, 0, 1], 0).into();
        Config { listen, announce: vec![], shards, viewers_max, connections_max: 8, burst_multiple: 1 }
    }

    #[test]
    fn seats_are_given_where_the_fewest_sit_and_no_more_than_there_are() {
        let (engine, _events) = Engine::bind(&config(3, 7)).unwrap();
        let handle = engine.handle();
        let mut seats: Vec<Seat> = (0..6).map(|_| handle.reserve().unwrap()).collect();
        assert_eq!(handle.viewers_of_shards().collect::<Vec<_>>(), [2, 2, 2]);
        seats.retain(|seat| seat.viewer.shard != 1);
        assert_eq!(handle.reserve().unwrap().viewer.shard, 1);
        seats.extend((0..3).map(|_| handle.reserve().unwrap()));
        assert_eq!(handle.viewers(), 7);
        assert_eq!(handle.reserve().err(), Some(Full));
        assert_eq!(handle.viewers(), 7, "a refusal takes no seat");
        drop(seats);
        assert_eq!(handle.viewers(), 0);
    }

    #[tokio::test]
    async fn a_shard_that_panics_ends_the_run_and_takes_no_joins() {
        let (engine, _events) = Engine::bind(&config(2, 100)).unwrap();
        let handle = engine.handle();
        let run = tokio::spawn(engine.run());
        handle.panic_shard(0);
        let error = run.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "shard 0 panicked");
        for _ in 0..4 {
            let seat = handle.reserve().unwrap();
            assert_eq!(seat.viewer.shard, 1, "though the other is the emptiest");
            std::mem::forget(seat);
        }
    }

    #[tokio::test]
    async fn a_drain_ends_every_shard() {
        let (engine, _events) = Engine::bind(&config(3, 100)).unwrap();
        let handle = engine.handle();
        let run = tokio::spawn(engine.run());
        handle.drain();
        run.await.unwrap().unwrap();
        assert_eq!(handle.reserve().err(), Some(Full));
    }
}
