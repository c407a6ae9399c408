//! Two nodes in virtual time: QUIC itself, both machines around it, and between them a network that loses, delays, repeats and
//! reorders from a seed.
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hub::Place;
use link::{Control, ControlReader, GroupReader, Received, Receiving, Sending, ToSend, Window, transport};
use media::{Frame, Track};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event,
    ServerConfig, StreamEvent, StreamId, VarInt,
};

use crate::identities::identities;
use crate::road::{Dice, Road};

/// One end.
struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    address: SocketAddr,
}

/// One subscription at the node that has the stream.
struct Origin {
    sending: Sending,
    control: StreamId,
    streams: HashMap<u64, StreamId>,
    /// What QUIC has not taken yet.
    waiting: VecDeque<(StreamId, Bytes, bool)>,
}

/// The same at the node that pulls.
struct Edge {
    receiving: Receiving,
    reader: ControlReader,
    got: Vec<(Instant, Place, Frame)>,
}

/// Everything.
pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    road: Road,
    dice: Dice,
    ends: [End; 2],
    /// On its way: when it is there, to whom, what.
    network: BTreeMap<(Instant, u64), (usize, BytesMut)>,
    sent: u64,
    /// When the bottleneck of each direction is free again.
    free: [Instant; 2],
    origins: Vec<Origin>,
    edges: Vec<Edge>,
    groups: HashMap<StreamId, (GroupReader, Option<usize>)>,
    /// Bytes that were put on the road towards the edge.
    pub(crate) bytes: u64,
}

const PULLS: usize = 0;
const HAS: usize = 1;

impl World {
    /// The edge has pulled `subscriptions` streams, of which nothing was said yet.
    pub(crate) fn new(seed: u64, road: Road, subscriptions: u32, rate_bps: u64) -> Self {
        let identities = identities();
        let start = Instant::now();
        let window = Window::default();
        // For as long as the world lasts.
        let mut need = window.need();
        need.set(rate_bps);
        std::mem::forget(need);
        let mut server = ServerConfig::with_crypto(identities[HAS].server());
        server.transport_config(Arc::new(transport(&window)));
        let end = |index: u8, server| End {
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), server, true, Some([index; 32])),
            connection: None,
            address: ([192, 0, 2, index], 8190).into(),
        };
        let mut client = ClientConfig::new(identities[PULLS].client());
        client.transport_config(Arc::new(transport(&Window::default())));
        let mut ends = [end(1, None), end(2, Some(Arc::new(server)))];
        let name = control::certificate_name("origin").expect("a name");
        let to = ends[HAS].address;
        let connected = ends[PULLS].endpoint.connect(start, client, to, &name);
        ends[PULLS].connection = Some(connected.expect("a connection"));
        let mut world = Self {
            start,
            now: start,
            road,
            dice: Dice(seed),
            ends,
            network: BTreeMap::new(),
            sent: 0,
            free: [start; 2],
            origins: Vec::new(),
            edges: Vec::new(),
            groups: HashMap::new(),
            bytes: 0,
        };
        world.run_until(start + Duration::from_secs(1));
        for number in 0..subscriptions {
            let (_, connection) = world.ends[PULLS].connection.as_mut().expect("it is connected");
            let control = connection.streams().open(Dir::Bi).expect("room for a stream");
            let asked = Control::Subscribe { subscription: number, class: format!("class{number}") };
            connection.send_stream(control).write(&asked.encode()).expect("room for its first message");
            let receiving = Receiving::new(Duration::from_millis(200).max(road.delay * 8));
            world.edges.push(Edge { receiving, reader: ControlReader::default(), got: Vec::new() });
            let sending = Sending::new(number, "origin");
            world.origins.push(Origin {
                sending,
                control,
                streams: HashMap::new(),
                waiting: VecDeque::new(),
            });
        }
        world.run_until(world.now + Duration::from_secs(1));
        world
    }

    /// The stream of a subscription goes on.
    pub(crate) fn update(&mut self, subscription: usize, update: &hub::Update) {
        self.origins[subscription].sending.on_update(self.now, update);
        self.send(subscription);
    }

    /// What the edge had in order, and when.
    pub(crate) fn got(&self, subscription: usize) -> &[(Instant, Place, Frame)] {
        &self.edges[subscription].got
    }

    /// Everything that happens until then.
    pub(crate) fn run_until(&mut self, end: Instant) {
        loop {
            self.transmit();
            let timers = self.ends.iter_mut().filter_map(|end| end.connection.as_mut()?.1.poll_timeout());
            let machines = self.origins.iter().filter_map(|origin| origin.sending.deadline());
            let machines = machines.chain(self.edges.iter().filter_map(|edge| edge.receiving.deadline()));
            let network = self.network.keys().next().map(|(due, _)| *due);
            let next = timers.chain(machines).chain(network).min().filter(|next| *next <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= now) {
            let (to, datagram) = entry.remove();
            self.arrive(to, datagram);
        }
        for end in &mut self.ends {
            if let Some((_, connection)) = &mut end.connection
                && connection.poll_timeout().is_some_and(|due| due <= now)
            {
                connection.handle_timeout(now);
            }
        }
        for index in 0..self.origins.len() {
            self.origins[index].sending.on_timeout(now);
            self.send(index);
            self.edges[index].receiving.on_timeout(now);
            self.take(index);
        }
        self.events(PULLS);
        self.events(HAS);
    }

    fn arrive(&mut self, to: usize, datagram: BytesMut) {
        let (now, from) = (self.now, self.ends[1 - to].address);
        let end = &mut self.ends[to];
        let mut buffer = Vec::new();
        match end.endpoint.handle(now, from, None, None, datagram, &mut buffer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut end.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = end.endpoint.accept(incoming, now, &mut buffer, None);
                end.connection =
                    Some(accepted.unwrap_or_else(|error| panic!("not accepted: {:?}", error.cause)));
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
    }

    /// Puts what both ends have to say on the road.
    fn transmit(&mut self) {
        for from in [PULLS, HAS] {
            loop {
                let (now, end) = (self.now, &mut self.ends[from]);
                let Some((handle, connection)) = &mut end.connection else { break };
                while let Some(event) = connection.poll_endpoint_events() {
                    if let Some(event) = end.endpoint.handle_event(*handle, event) {
                        connection.handle_event(event);
                    }
                }
                let mut buffer = Vec::new();
                let Some(transmit) = connection.poll_transmit(now, 1, &mut buffer) else { break };
                buffer.truncate(transmit.size);
                self.put(1 - from, BytesMut::from(&buffer[..]));
            }
        }
    }

    fn put(&mut self, to: usize, datagram: BytesMut) {
        let elapsed = self.now - self.start;
        if to == PULLS {
            self.bytes += u64::try_from(datagram.len()).unwrap_or(0);
        }
        if self.road.blackout.is_some_and(|(from, until)| (from..until).contains(&elapsed)) {
            return;
        }
        if self.dice.is_below(self.road.loss) {
            return;
        }
        let mut leaves = self.now;
        if let Some((bytes_per_second, queue)) = self.road.bottleneck {
            let waits = self.free[to].saturating_duration_since(self.now);
            if waits.as_secs_f64() * bytes_per_second as f64 > queue as f64 {
                return;
            }
            let takes = Duration::from_secs_f64(datagram.len() as f64 / bytes_per_second as f64);
            self.free[to] = self.free[to].max(self.now) + takes;
            leaves = self.free[to];
        }
        let copies = 1 + u64::from(self.dice.is_below(self.road.duplicated));
        for _ in 0..copies {
            let jitter_us = u64::try_from(self.road.jitter.as_micros()).unwrap_or(0);
            let jitter = Duration::from_micros(self.dice.next().checked_rem(jitter_us).unwrap_or(0));
            self.sent += 1;
            self.network.insert((leaves + self.road.delay + jitter, self.sent), (to, datagram.clone()));
        }
    }

    /// Does what the machine at the origin asks for, as far as QUIC takes it.
    fn send(&mut self, index: usize) {
        let Some((_, connection)) = &mut self.ends[HAS].connection else { return };
        let origin = &mut self.origins[index];
        while let Some(next) = origin.sending.poll() {
            match next {
                ToSend::Control(bytes) => origin.waiting.push_back((origin.control, bytes, false)),
                ToSend::Open { stream, track } => {
                    let opened = connection.streams().open(Dir::Uni).expect("room for a group");
                    let priority = if track == Track::Audio { 2 } else { 1 };
                    connection.send_stream(opened).set_priority(priority).expect("it is open");
                    origin.streams.insert(stream, opened);
                }
                ToSend::Write { stream, bytes } => {
                    origin.waiting.push_back((origin.streams[&stream], bytes, false));
                }
                ToSend::Finish { stream } => {
                    origin.waiting.push_back((origin.streams[&stream], Bytes::new(), true));
                }
                ToSend::Reset { stream } => {
                    if let Some(stream) = origin.streams.remove(&stream) {
                        origin.waiting.retain(|(waiting, ..)| *waiting != stream);
                        let _ = connection.send_stream(stream).reset(VarInt::from_u32(1));
                    }
                }
            }
        }
        // In their order for each stream; one that is full holds back none but itself.
        let mut full = Vec::new();
        let mut kept = VecDeque::new();
        for (stream, mut bytes, is_end) in std::mem::take(&mut origin.waiting) {
            if full.contains(&stream) {
                kept.push_back((stream, bytes, is_end));
                continue;
            }
            let mut send = connection.send_stream(stream);
            if is_end {
                let _ = send.finish();
                continue;
            }
            let written = send.write(&bytes).unwrap_or(0);
            let _ = bytes.split_to(written);
            if !bytes.is_empty() {
                full.push(stream);
                kept.push_back((stream, bytes, is_end));
            }
        }
        origin.waiting = kept;
    }

    fn events(&mut self, end: usize) {
        loop {
            let Some((_, connection)) = &mut self.ends[end].connection else { return };
            let Some(event) = connection.poll() else { return };
            match event {
                Event::Stream(StreamEvent::Opened { dir }) => {
                    while let Some(stream) = self.ends[end]
                        .connection
                        .as_mut()
                        .and_then(|(_, connection)| connection.streams().accept(dir))
                    {
                        self.read(end, stream);
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(end, id),
                Event::Stream(StreamEvent::Finished { id }) if end == HAS => {
                    for origin in &mut self.origins {
                        let found = origin
                            .streams
                            .iter()
                            .find(|(_, stream)| **stream == id)
                            .map(|(number, _)| *number);
                        if let Some(number) = found {
                            origin.streams.remove(&number);
                            origin.sending.on_done(number);
                        }
                    }
                }
                Event::Stream(StreamEvent::Writable { .. }) if end == HAS => {
                    (0..self.origins.len()).for_each(|index| self.send(index));
                }
                Event::ConnectionLost { reason } => panic!("the connection is lost: {reason}"),
                _ => {}
            }
        }
    }

    fn read(&mut self, end: usize, stream: StreamId) {
        let now = self.now;
        let Some((_, connection)) = &mut self.ends[end].connection else { return };
        let mut bytes = BytesMut::new();
        let mut has_ended = false;
        {
            let mut receive = connection.recv_stream(stream);
            let Ok(mut chunks) = receive.read(true) else { return };
            loop {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
                    Ok(None) | Err(quinn_proto::ReadError::Reset(_)) => {
                        has_ended = true;
                        break;
                    }
                    Err(quinn_proto::ReadError::Blocked) => break,
                }
            }
            let _ = chunks.finalize();
        }
        if end == HAS {
            return;
        }
        if stream.dir() == Dir::Bi {
            let index = usize::try_from(stream.index()).expect("a small number");
            let edge = &mut self.edges[index];
            edge.reader.push(&bytes);
            while let Some(control) = edge.reader.message().expect("what we sent") {
                if let Control::Epoch(announcement) = control {
                    edge.receiving.on_epoch(now, announcement.epoch);
                }
            }
            return self.take(index);
        }
        let (reader, of) = self.groups.entry(stream).or_default();
        reader.push(&bytes);
        let Some(header) = reader.header().expect("what we sent") else { return };
        let index = usize::try_from(header.subscription).expect("a small number");
        let receiving = &mut self.edges[index].receiving;
        if of.replace(index).is_none() {
            receiving.on_group(now, stream.index(), &header);
        }
        while let Some((place, frame)) = reader.frame(now).expect("what we sent") {
            receiving.on_frame(now, stream.index(), place, frame);
        }
        if has_ended {
            self.groups.remove(&stream);
            receiving.on_end(now, stream.index());
        }
        self.take(index);
    }

    fn take(&mut self, index: usize) {
        let (now, edge) = (self.now, &mut self.edges[index]);
        while let Some(received) = edge.receiving.poll() {
            if let Received::Frame(place, frame) = received {
                edge.got.push((now, place, frame));
            }
        }
    }
}
