//! What nodes do about the streams that they follow.
use agent::{Act, Seen};
use link::PullEnd;

use crate::conn::{Conn, Running};
use crate::message::{Address, Host};
use crate::names::{class_index, class_name, node_index};
use crate::world::World;

impl World {
    /// Lets the machines of one node do what they want to.
    pub(crate) fn follow(&mut self, node: usize) {
        let now = self.now;
        let Some(known) = self.nodes.get_mut(node) else { return };
        for (class, source) in std::mem::take(&mut known.found) {
            self.with_follow(node, class, |follow, seen| follow.on_found(now, source, seen));
        }
        let classes: Vec<usize> =
            self.nodes.get(node).map(|node| node.follows.keys().copied().collect()).unwrap_or_default();
        for class in classes {
            self.with_follow(node, class, |follow, seen| {
                if follow.deadline().is_some_and(|deadline| deadline <= now) {
                    follow.on_timeout(now, seen);
                }
            });
            self.act(node, class);
        }
    }

    fn with_follow(&mut self, node: usize, class: usize, tell: impl FnOnce(&mut agent::Follow, &Seen)) {
        let Some(known) = self.nodes.get_mut(node) else { return };
        let status = known.hub.status(&class_name(class));
        let Some(following) = known.follows.get_mut(&class) else { return };
        let present = following.present.and_then(|conn| self.conns.get(&conn));
        let is_passing = present.is_some_and(|conn| conn.arriving.relay().is_some());
        tell(&mut following.follow, &Seen { status, is_passing });
    }

    fn act(&mut self, node: usize, class: usize) {
        let now = self.now;
        loop {
            let Self { nodes, conns, net, conns_begun, lives, .. } = self;
            let Some(known) = nodes.get_mut(node) else { return };
            let (address, name) = (known.address(), known.name());
            let Some(following) = known.follows.get_mut(&class) else { return };
            match following.follow.poll() {
                None => return,
                Some(Act::Find(failed)) => known.find(now, net, class, failed),
                Some(Act::Pull(source)) => {
                    let Some(index) = node_index(&source.node) else { continue };
                    let life = lives.get(index).copied().unwrap_or_default();
                    let server = Address { host: Host::Node(index), life };
                    let class = class_name(class);
                    let conn = Conn::new(now, net, (address, server), (&known.hub, &name), &class);
                    *conns_begun += 1;
                    conns.insert(*conns_begun, conn);
                    following.present = Some(*conns_begun);
                }
                Some(Act::Keep) => {
                    if let Some(conn) = following.present.and_then(|present| conns.get_mut(&present)) {
                        conn.is_run = false;
                    }
                    let former = std::mem::replace(&mut following.former, following.present.take());
                    former.map(|former| conns.remove(&former));
                }
                Some(Act::Drop) => _ = following.present.take().map(|present| conns.remove(&present)),
                Some(Act::DropFormer) => _ = following.former.take().map(|former| conns.remove(&former)),
                Some(Act::Pause) => {
                    let former = following.former.and_then(|former| conns.get(&former));
                    let relay = former.and_then(|conn| conn.arriving.relay());
                    if relay.is_none_or(|relay| relay.pause().is_err()) {
                        following.follow.on_gone();
                    }
                }
                Some(Act::Release) => {
                    let present = following.present.and_then(|present| conns.get(&present));
                    let relay = present.and_then(|conn| conn.arriving.relay());
                    if relay.is_some_and(|relay| known.hub.release(relay)) {
                        following.follow.on_gone();
                    }
                }
                Some(Act::End) => {
                    let (present, former) = (following.present, following.former);
                    present.into_iter().chain(former).for_each(|conn| drop(conns.remove(&conn)));
                    known.follows.remove(&class);
                    return;
                }
            }
        }
    }

    /// Lets time pass on the connections between nodes.
    pub(crate) fn poll_conns(&mut self) {
        let now = self.now;
        let numbers: Vec<u64> = self.conns.keys().copied().collect();
        for number in numbers {
            let Some(mut conn) = self.conns.remove(&number) else { continue };
            let puller = self.running(conn.puller);
            let (Host::Node(at), Host::Node(from)) = (conn.puller.host, conn.server.host) else { continue };
            let server = self.running(conn.server);
            let Some(node) = self.nodes.get(from) else { continue };
            let (hub, name) = (node.hub.clone(), node.name());
            let end = conn.poll(now, &mut self.net, puller, (server, &hub, &name));
            if puller == Running::No {
                continue;
            }
            let class: Option<usize> = class_index(&conn.class);
            self.conns.insert(number, conn);
            if let (Err(end), Some(class)) = (end, class) {
                self.on_pull_end(at, class, number, &end);
            }
        }
    }

    fn on_pull_end(&mut self, node: usize, class: usize, number: u64, end: &PullEnd) {
        let following = self.nodes.get(node).and_then(|node| node.follows.get(&class));
        let Some(following) = following else { return };
        if following.present != Some(number) {
            // The one before, which nobody runs any more.
            return;
        }
        let now = self.now;
        self.with_follow(node, class, |follow, seen| follow.on_pull_end(now, end, seen));
        self.act(node, class);
    }

    /// What the process at an address does now.
    pub(crate) fn running(&self, address: Address) -> Running {
        let Host::Node(index) = address.host else { return Running::No };
        let node = self.nodes.get(index).filter(|node| node.is_up && address.is(node.life));
        match node {
            None => Running::No,
            Some(node) if node.paused_until.is_some_and(|until| self.now < until) => Running::Paused,
            Some(_) => Running::Yes,
        }
    }
}
