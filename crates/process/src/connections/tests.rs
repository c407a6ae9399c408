//! Who makes room for whom.
use super::*;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn connections(connections_max: usize, per_network_max: usize) -> Connections {
    Connections::new(Limits { connections_max, per_network_max })
}

#[test]
fn the_connection_that_has_waited_longest_makes_room() {
    let connections = connections(3, 3);
    let seats: Vec<Seat> = (0..3).map(|_| connections.admit(ip(1)).unwrap().0).collect();
    // The first has asked for something since, and waits again: now the second has waited longest.
    seats[0].work();
    seats[0].wait();
    let (_newcomer, is_in_favour) = connections.admit(ip(2)).unwrap();
    assert!(is_in_favour);
    let closed: Vec<bool> = seats.iter().map(|seat| seat.closed().is_cancelled()).collect();
    assert_eq!(closed, [false, true, false]);
    assert_eq!(connections.len(), 3);
}

#[test]
fn whoever_has_most_connections_makes_room_for_the_others() {
    let connections = connections(10, 10);
    let small = connections.admit(ip(1)).unwrap().0;
    let large: Vec<Seat> = (0..9).map(|_| connections.admit(ip(2)).unwrap().0).collect();
    let newcomers: Vec<Seat> = (3..7).map(|last| connections.admit(ip(last)).unwrap().0).collect();
    assert!(!small.closed().is_cancelled());
    assert_eq!(large.iter().filter(|seat| seat.closed().is_cancelled()).count(), newcomers.len());
}

/// One connection of each network of a /48.
fn crowd(connections: &Connections, count: u16) -> Vec<Seat> {
    let ips = (0..count).map(|subnet| IpAddr::from([0x2a00, 1, 2, subnet, 0, 0, 0, 1]));
    ips.map(|ip| connections.admit(ip).unwrap().0).collect()
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_networks_that_idle_does_not_push_a_school_out() {
    let connections = connections(10, 10);
    let mut idle: Vec<Seat> = (10..15).map(|last| connections.admit(ip(last)).unwrap().0).collect();
    tokio::time::advance(WAITED_LONG).await;
    // More than any of the others has, and not a second old.
    let school: Vec<Seat> = (0..8).map(|_| connections.admit(ip(1)).unwrap().0).collect();
    assert!(school.iter().all(|seat| !seat.closed().is_cancelled()));
    idle.retain(|seat| !seat.closed().is_cancelled());
    assert_eq!((idle.len(), connections.len()), (2, 10));
}

#[test]
fn networks_of_one_customer_are_counted_together_when_room_is_made() {
    let connections = connections(10, 10);
    let school: Vec<Seat> = (0..4).map(|_| connections.admit(ip(1)).unwrap().0).collect();
    let crowd = crowd(&connections, 6);
    let _newcomer = connections.admit(ip(2)).unwrap();
    assert!(crowd[0].closed().is_cancelled(), "the one that has waited longest of the largest");
    assert!(school.iter().all(|seat| !seat.closed().is_cancelled()));
    drop(crowd);
    assert_eq!(connections.len(), 5);
}

#[test]
fn a_network_over_its_share_closes_its_own() {
    let connections = connections(100, 2);
    let other = connections.admit(ip(9)).unwrap().0;
    let first = connections.admit(ip(1)).unwrap().0;
    let _second = connections.admit(ip(1)).unwrap().0;
    let _third = connections.admit(ip(1)).unwrap().0;
    assert!(first.closed().is_cancelled() && !other.closed().is_cancelled());
}

#[test]
fn an_ipv6_host_has_one_share_for_all_its_addresses() {
    let connections = connections(100, 2);
    let seats: Vec<Seat> = (1..=3_u16)
        .map(|host| IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, host]))
        .map(|ip| connections.admit(ip).unwrap().0)
        .collect();
    assert!(seats[0].closed().is_cancelled());
    assert!(connections.admit(IpAddr::from([0x2001, 0xdb8, 0, 8, 0, 0, 0, 1])).is_ok());
}

#[test]
fn connections_at_work_are_not_closed_and_newcomers_are_refused() {
    let connections = connections(3, 2);
    let seats: Vec<Seat> = [1, 1, 2].into_iter().map(|last| connections.admit(ip(last)).unwrap().0).collect();
    seats.iter().for_each(Seat::work);
    assert_eq!(connections.admit(ip(1)).unwrap_err(), Refused::NetworkFull);
    assert_eq!(connections.admit(ip(3)).unwrap_err(), Refused::Full);
    drop(seats);
    assert!(connections.is_empty());
    assert!(connections.admit(ip(3)).is_ok());
}

#[test]
fn the_count_is_right_whatever_happens() {
    use std::collections::VecDeque;

    let connections = connections(20, 7);
    let mut seats = VecDeque::new();
    // A small linear congruential generator (Knuth's constants): every run does the same.
    let mut random: u64 = 1;
    for _ in 0..2_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (choice, last) = ((random >> 33) % 4, u8::try_from((random >> 40) % 5).unwrap());
        match choice {
            0 | 1 => seats.extend(connections.admit(ip(last)).map(|(seat, _)| seat).ok()),
            2 => seats.iter().skip(usize::from(last)).step_by(3).for_each(Seat::work),
            _ => {
                seats.iter().skip(usize::from(last)).step_by(2).for_each(Seat::wait);
                drop(seats.pop_front());
            }
        }
        let open = seats.iter().filter(|seat: &&Seat| !seat.closed().is_cancelled()).count();
        assert_eq!(connections.len(), open);
        assert!(open <= 20);
    }
    drop(seats);
    let table = connections.0.lock();
    assert!(table.networks.is_empty() && table.sites.is_empty() && table.by_size.is_empty());
    assert!(table.waiting.is_empty() && table.connections == 0);
}
