//! What wakes a shard, and what a full socket does.
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Instant;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;
use crate::batch::{Class, Path};

const LONG: Duration = Duration::from_secs(5);

#[test]
fn datagrams_and_connections_left_unread_are_ready_again_at_once() {
    let mut sockets = Sockets::new("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let count = RECEIVE_BATCH + 1;
    for _ in 0..count {
        client.send_to(b"x", sockets.address()).unwrap();
    }
    let mut received = Received::default();
    assert!(sockets.wait(LONG).udp);
    assert!(sockets.receive(&mut received), "a whole batch: there may be more");
    sockets.revisit(7);
    let began = Instant::now();
    let ready = sockets.wait(LONG);
    assert!(ready.udp && ready.connections == [7]);
    assert!(began.elapsed() < LONG / 2, "the kernel says it once only");
    assert!(!sockets.receive(&mut received));
    assert!(!sockets.wait(Duration::ZERO).udp);
}

#[test]
fn a_machine_without_ipv6_listens_on_ipv4_when_any_address_will_do() {
    for code in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
        let bind = |address: SocketAddr| {
            if address.is_ipv6() { Err(io::Error::from_raw_os_error(code)) } else { Ok(address) }
        };
        assert_eq!(
            bind_or_v4("[::]:8189".parse().unwrap(), bind).unwrap(),
            "0.0.0.0:8189".parse::<SocketAddr>().unwrap()
        );
        assert!(bind_or_v4("[::1]:8189".parse().unwrap(), bind).is_err(), "this one was meant");
    }
    let taken = |_| Err::<(), _>(io::Error::from_raw_os_error(libc::EADDRINUSE));
    assert!(bind_or_v4("[::]:8189".parse().unwrap(), taken).is_err());
}

#[test]
fn a_dual_socket_has_one_port_for_both_families_and_both_protocols() {
    let sockets = Sockets::new("[::]:0".parse().unwrap()).unwrap();
    let port = sockets.address().port();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", ("127.0.0.1", port)).unwrap();
}

/// A network with a slow link to nobody, removed again at the end.
struct SlowNetwork(String);

impl SlowNetwork {
    /// Moves this thread there. Returns why not, if it cannot.
    fn enter() -> Result<Self, String> {
        let name = format!("lectern-test-{}", std::process::id());
        run("ip", &format!("netns add {name}"))?;
        let network = Self(name);
        let link = File::open(format!("/run/netns/{}", network.0)).map_err(|error| error.to_string())?;
        move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| error.to_string())?;
        for arguments in [
            "link add near type veth peer name far",
            "addr add 192.0.2.1/24 dev near",
            "link set near up",
            "link set far up",
            "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev near nud permanent",
        ] {
            run("ip", arguments)?;
        }
        run("tc", "qdisc add dev near root tbf rate 200mbit burst 64kb limit 64mb")?;
        Ok(network)
    }
}

impl Drop for SlowNetwork {
    fn drop(&mut self) {
        let _ = run("ip", &format!("netns del {}", self.0));
    }
}

fn run(program: &str, arguments: &str) -> Result<(), String> {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("{program} {arguments}: {complaint}"))
}

/// Bytes that have left through the slow link.
fn sent_bytes() -> u64 {
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = devices.lines().find_map(|line| line.trim().strip_prefix("near:")).unwrap();
    line.split_whitespace().nth(8).unwrap().parse().unwrap()
}

#[test]
fn nothing_is_lost_when_the_socket_is_fuller_than_the_link_is_fast() {
    // A thread of its own, since it never comes back from that network.
    std::thread::spawn(|| {
        let _network = match SlowNetwork::enter() {
            Ok(network) => network,
            Err(reason) => {
                println!("SKIPPED, since it needs root, ip and tc: {reason}");
                return;
            }
        };
        let mut sockets = Sockets::new("0.0.0.0:0".parse().unwrap()).unwrap();
        sockets.udp.shrink_send_buffer(256 << 10);
        let path = Path::Udp { peer: ([192, 0, 2, 2], 9).into(), local: None };
        let mut batch = Batch::default();
        // A keyframe to 64 viewers: 1.2 MB, which takes the link 49 ms.
        for _ in 0..64 * 16 {
            let start = batch.arena.len();
            batch.arena.resize(start + 1200, 7);
            batch.commit(start, path, Class::Video);
        }
        let before = sent_bytes();
        let (mut blocked, mut dropped, mut wakes) = (0, 0, 0);
        while !batch.is_empty() {
            let sent = sockets.send(&mut batch);
            assert_eq!(sent.refused, 0);
            blocked += sent.blocked;
            dropped += batch.carry();
            if sockets.is_blocked() {
                let began = Instant::now();
                sockets.wait(LONG);
                assert!(!sockets.is_blocked() && began.elapsed() < LONG, "room is reported");
                wakes += 1;
            }
        }
        assert!(blocked > 2, "the link was no bottleneck");
        assert_eq!((dropped, wakes), (0, blocked));
        while sent_bytes() - before < 64 * 16 * 1200 {
            std::thread::yield_now();
        }
    })
    .join()
    .unwrap();
}
