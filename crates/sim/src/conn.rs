//! A stream that one node pulls from another: both ends of `crates/link`, and QUIC between them as far as it shows: streams arrive
//! in order each, late or never, and who hears nothing for two seconds gives up.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Hub, Subscription};
use link::{Arriving, Control, GroupReader, PullEnd, Sending, ToSend};

use crate::message::Address;
use crate::net::Net;

/// A node that is silent for this long is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Until a handshake is over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long frames wait for older ones.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a process does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Running {
    Yes,
    /// It stands still.
    Paused,
    /// It has ended; somebody else may be there.
    No,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    Fin,
    Reset,
}

/// One QUIC stream on its way.
#[derive(Debug, Default)]
struct Group {
    pieces: VecDeque<(Instant, Piece)>,
    reader: GroupReader,
    has_begun: bool,
    is_over: bool,
}

#[derive(Debug)]
enum State {
    /// The other node answers then, if it does.
    Connecting {
        answers: Instant,
        until: Instant,
    },
    Open,
}

/// One pull. It is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) class: String,
    pub(crate) puller: Address,
    pub(crate) server: Address,
    pub(crate) arriving: Arriving,
    state: State,
    sending: Option<(Sending, Subscription)>,
    control: VecDeque<(Instant, Bytes)>,
    groups: BTreeMap<u64, Group>,
    /// Of these the puller wants no more.
    stopped: BTreeSet<u64>,
    heard_by_puller: Instant,
    heard_by_server: Instant,
    /// The other node has ended it, and its word has come.
    is_closed: bool,
    /// Its puller takes what comes. The one before the present is only held.
    pub(crate) is_run: bool,
}

impl Conn {
    pub(crate) fn new(
        now: Instant,
        net: &mut Net,
        (puller, server): (Address, Address),
        (hub, node): (&Hub, &str),
        class: &str,
    ) -> Self {
        let (there, back) =
            (net.latency(now, puller.host, server.host), net.latency(now, server.host, puller.host));
        Self {
            class: class.to_owned(),
            puller,
            server,
            arriving: Arriving::new(hub, node, class, PATIENCE),
            state: State::Connecting { answers: now + there + back + there, until: now + CONNECT_TIMEOUT },
            sending: None,
            control: VecDeque::new(),
            groups: BTreeMap::new(),
            stopped: BTreeSet::new(),
            heard_by_puller: now,
            heard_by_server: now,
            is_closed: false,
            is_run: true,
        }
    }

    /// What time does to it. `server` is the other node: whether it runs, its streams and its name.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        net: &mut Net,
        puller: Running,
        server: (Running, &Hub, &str),
    ) -> Result<(), PullEnd> {
        let (there, back) = ((self.puller.host, self.server.host), (self.server.host, self.puller.host));
        let (is_there, is_back) = (!net.is_cut(now, there.0, there.1), !net.is_cut(now, back.0, back.1));
        if let State::Connecting { answers, until } = self.state {
            if now >= until {
                return Err(PullEnd::Lost("no answer".to_owned()));
            }
            if now < answers || !is_there || !is_back || server.0 != Running::Yes || puller != Running::Yes {
                return Ok(());
            }
            self.state = State::Open;
            (self.heard_by_puller, self.heard_by_server) = (now, now);
            match server.1.subscribe(&self.class) {
                Some(subscription) => self.sending = Some((Sending::new(0, server.2), subscription)),
                None => {
                    let reason = "it does not have the class".to_owned();
                    self.control.push_back((now, Control::Refused { reason }.encode()));
                }
            }
        }
        if server.0 == Running::Yes && is_back && puller != Running::Paused {
            self.heard_by_puller = now;
        }
        if puller == Running::Yes && is_there && server.0 != Running::Paused {
            self.heard_by_server = now;
        }
        if server.0 == Running::Yes {
            if self.heard_by_server + IDLE_TIMEOUT <= now {
                // It says so, and is heard or not.
                self.sending = None;
                self.is_closed |= is_back;
            }
            self.serve(now, net);
        } else if server.0 == Running::No {
            self.sending = None;
        }
        if puller == Running::Yes && self.is_run {
            if self.is_closed || self.heard_by_puller + IDLE_TIMEOUT <= now {
                return Err(PullEnd::Lost("nothing was heard".to_owned()));
            }
            self.take(now, is_back)?;
        }
        Ok(())
    }

    /// The node that has the stream.
    fn serve(&mut self, now: Instant, net: &mut Net) {
        let Some((sending, subscription)) = &mut self.sending else { return };
        let mut is_over = false;
        loop {
            match subscription.try_next() {
                Poll::Ready(Some(update)) => sending.on_update(now, &update),
                Poll::Pending => break,
                Poll::Ready(None) => {
                    sending.on_end();
                    is_over = true;
                    break;
                }
            }
        }
        if sending.deadline().is_some_and(|deadline| deadline <= now) {
            sending.on_timeout(now);
        }
        let acts: Vec<ToSend> = std::iter::from_fn(|| sending.poll()).collect();
        if is_over {
            self.sending = None;
        }
        for act in acts {
            let due = now + net.latency(now, self.server.host, self.puller.host);
            match act {
                ToSend::Control(bytes) => {
                    let due = self.control.back().map_or(due, |(last, _)| due.max(*last));
                    self.control.push_back((due, bytes));
                }
                ToSend::Open { stream, .. } => _ = self.groups.insert(stream, Group::default()),
                ToSend::Write { stream, bytes } => self.push(stream, due, Piece::Bytes(bytes)),
                ToSend::Finish { stream } if self.stopped.remove(&stream) => self.on_done(stream),
                ToSend::Finish { stream } => self.push(stream, due, Piece::Fin),
                ToSend::Reset { stream } => {
                    if let Some(group) = self.groups.get_mut(&stream) {
                        group.pieces.clear();
                    }
                    self.push(stream, due, Piece::Reset);
                }
            }
        }
    }

    fn on_done(&mut self, stream: u64) {
        if let Some((sending, _)) = &mut self.sending {
            sending.on_done(stream);
        }
    }

    fn push(&mut self, stream: u64, due: Instant, piece: Piece) {
        if let Some(group) = self.groups.get_mut(&stream).filter(|group| !group.is_over) {
            let due = group.pieces.back().map_or(due, |(last, _)| due.max(*last));
            group.pieces.push_back((due, piece));
        }
    }

    /// The node that pulls.
    fn take(&mut self, now: Instant, is_open: bool) -> Result<(), PullEnd> {
        let delay = Duration::from_millis(8);
        if is_open {
            while let Some((_, bytes)) = self.control.pop_front_if(|(due, _)| *due <= now) {
                self.arriving.on_control(now, delay, &bytes)?;
            }
            for (stream, group) in &mut self.groups {
                while let Some((_, piece)) = group.pieces.pop_front_if(|(due, _)| *due <= now) {
                    let Piece::Bytes(bytes) = piece else {
                        group.is_over = true;
                        self.arriving.on_end(now, *stream);
                        continue;
                    };
                    group.reader.push(&bytes);
                    if let Some(header) = group.reader.header()?.filter(|_| !group.has_begun) {
                        group.has_begun = true;
                        self.arriving.on_group(now, *stream, &header);
                    }
                    while let Some((index, frame)) = group.reader.frame(now)? {
                        self.arriving.on_frame(now, *stream, index, frame);
                    }
                }
            }
        }
        let over: Vec<_> = self.groups.extract_if(.., |_, group| group.is_over).collect();
        over.into_iter().for_each(|(stream, _)| self.on_done(stream));
        if self.arriving.deadline().is_some_and(|deadline| deadline <= now) {
            self.arriving.on_timeout(now);
        }
        while let Some(stream) = self.arriving.poll()? {
            self.groups.remove(&stream);
            self.stopped.insert(stream);
        }
        if self.arriving.relay().is_some_and(|relay| relay.superseded().is_cancelled()) {
            return Err(PullEnd::Superseded);
        }
        Ok(())
    }

    /// Pieces that are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.control.len() + self.groups.values().map(|group| group.pieces.len()).sum::<usize>()
    }
}
