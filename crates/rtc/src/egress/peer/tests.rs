//! What one peer does in time.
use rand::SeedableRng;

use super::*;
use crate::sdp::{Credentials, Terms};
use crate::seats::Seats;

fn connected(now: Instant) -> Peer {
    let credentials = || Credentials { ufrag: "0abc".to_owned(), pwd: "password".to_owned() };
    let terms = Terms {
        remote: credentials(),
        remote_fingerprint: Fingerprint::new([0; 32]),
        video: None,
        audio: None,
    };
    let new = NewViewer {
        id: ViewerId { shard: 0, number: 0 },
        stream: StreamId(0),
        local: credentials(),
        terms,
        claim: Seats::new(1).claim().unwrap(),
    };
    let mut peer = Peer::new(now, new, 1, &mut StdRng::seed_from_u64(1));
    peer.srtp = Some(Srtp::new(SrtpProfile::AEAD_AES_128_GCM, &[0; 56]).unwrap());
    peer
}

#[test]
fn a_viewer_whose_connection_broke_is_left_alone_until_its_consent_ends() {
    let now = Instant::now();
    let mut peer = connected(now);
    let mut wake = peer.next_wake();
    assert_eq!(wake, now + CONSENT_TIMEOUT);
    wake = wake.checked_sub(Duration::from_secs(1)).unwrap();
    let clock = Clock { now: wake, ntp: 0 };
    let verdict =
        peer.on_timer(clock, MediaTime::ZERO, &Ring::default(), &mut Vec::new(), &mut Batch::default());
    assert_eq!(verdict, Verdict::Stay);
    assert!(peer.next_wake() > wake, "or its shard would do nothing else");
}
