//! Who says what to whom.
use control::api::{Heartbeat, HeartbeatAnswer, Source};
use coordinator::store::Opening;

/// A machine, or all of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// The database.
    Store,
    Coordinator(usize),
    Node(usize),
    Phone(usize),
    /// All of them: their network is not what is tried here.
    Viewers,
}

/// A process: what was sent to one that has ended, nobody hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: Host,
    /// Which of its processes.
    pub(crate) life: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) body: Body,
}

impl Address {
    /// Whoever is at that host.
    pub(crate) fn whoever(host: Host) -> Self {
        Self { host, life: ANY }
    }

    /// Whether what is sent there reaches this process.
    pub(crate) fn is(self, life: u64) -> bool {
        self.life == ANY || self.life == life
    }
}

const ANY: u64 = u64::MAX;

/// `call` is what the one who asks knows the answer by.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Heartbeat {
        call: u64,
        heartbeat: Box<Heartbeat>,
    },
    HeartbeatAnswer {
        call: u64,
        answer: Option<HeartbeatAnswer>,
    },
    /// A publisher of a class wants to begin.
    Authorize {
        call: u64,
        class: usize,
    },
    Granted {
        call: u64,
        session: String,
        epoch: u64,
    },
    Find {
        call: u64,
        class: usize,
        failed: Option<String>,
    },
    Found {
        call: u64,
        source: Option<Source>,
    },
    /// Where viewers of a node that drains are to go.
    Places {
        call: u64,
        viewers: Vec<(u64, usize)>,
    },
    PlacesAre {
        call: u64,
        nodes: Vec<(u64, Option<usize>)>,
    },
    Open {
        call: u64,
        opening: Box<Opening>,
    },
    Opened {
        call: u64,
        epoch: u64,
    },
    Token {
        viewer: usize,
        attempt: u64,
        class: usize,
        hint: Option<usize>,
        excluded: Option<usize>,
    },
    TokenIs {
        viewer: usize,
        attempt: u64,
        node: Option<usize>,
        by: String,
    },
    Join {
        viewer: usize,
        attempt: u64,
        class: usize,
        by: String,
    },
    Joined {
        viewer: usize,
        attempt: u64,
        outcome: Result<u64, Denied>,
    },
    /// A viewer asks whether its session is there.
    IsKnown {
        viewer: usize,
        session: u64,
    },
    Known {
        viewer: usize,
        session: u64,
        is_known: bool,
    },
    Leave {
        session: u64,
    },
    /// A session is over: its stream is.
    Closed {
        viewer: usize,
        session: u64,
    },
    /// A viewer is to go on at another node.
    Move {
        viewer: usize,
        session: u64,
        to: usize,
    },
    /// A phone connects. What it sends comes directly.
    Connect {
        connection: u64,
    },
    /// It is let in, or not.
    Accepted {
        connection: u64,
        is_accepted: bool,
    },
    /// Nobody listens there.
    Refused {
        asked: Box<Self>,
    },
}

/// Why a viewer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    NotLive,
    Draining,
}
