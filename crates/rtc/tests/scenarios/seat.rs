//! How a viewer that has keys already gets its seat.
use rtc::StreamId;
use rtc::sdp::{AudioTerms, Credentials, Fingerprint, Rtx, Terms, VideoTerms};
use rtc::testing::{KEYING_LEN, Node};

use crate::keyed::{AUDIO_PT, Abilities, Keyed, RTX_PT, VIDEO_PT};
use crate::network::Link;
use crate::wire::TRANSPORT_CC_ID;
use crate::world::World;

impl World {
    /// A viewer joins that has keys already.
    pub(crate) fn join_keyed(
        &mut self,
        stream: StreamId,
        (up, down): (Link, Link),
        abilities: Abilities,
    ) -> usize {
        let address = self.next_address();
        let seat = self.node.handle.reserve().expect("there is room");
        let (viewer, ssrcs, local) = (seat.viewer, seat.ssrcs, seat.credentials.clone());
        let terms = Terms {
            remote: Credentials { ufrag: "remote".to_owned(), pwd: "password of the viewer".to_owned() },
            remote_fingerprint: Fingerprint::new([0; 32]),
            video: Some(VideoTerms {
                mid: "0".to_owned(),
                pt: VIDEO_PT,
                ssrc: ssrcs.video,
                rtx: abilities.rtx.then_some(Rtx { pt: RTX_PT, ssrc: ssrcs.video_rtx }),
                nack: abilities.nack,
                playout_delay_id: None,
                transport_cc_id: abilities.arrivals.map(|_| TRANSPORT_CC_ID),
            }),
            audio: Some(AudioTerms { mid: "1".to_owned(), pt: AUDIO_PT, ssrc: ssrcs.audio }),
        };
        self.node.handle.add(seat, stream, terms).expect("its shard lives");
        self.node.pass(self.now);
        let mut keying = [0; KEYING_LEN];
        let number = u8::try_from(self.viewers.len() % 251).unwrap();
        keying.iter_mut().zip(number..=255).for_each(|(byte, value)| *byte = value);
        let mut client = Keyed::new(self.now, abilities, local, ssrcs, &keying);
        let check = client.check(true);
        let shard = Node::shard_of(viewer);
        self.node.datagram(self.now, shard, address, &check);
        self.node.admit(self.now, viewer, &keying);
        let viewer = self.seat(viewer, address, (up, down), Box::new(client));
        self.deliver();
        viewer
    }

    pub(crate) fn keyed(&mut self, viewer: usize) -> &mut Keyed {
        self.viewers[viewer].client.keyed().expect("it was seated as one")
    }
}
