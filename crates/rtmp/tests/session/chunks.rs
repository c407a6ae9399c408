//! Chunks as publishers really write them.
use std::collections::{HashMap, VecDeque};

use rtmp::chunk::Reader;

use crate::client::{Client, chunks};
use crate::random::Random;

#[test]
fn chunk_streams_interleave() {
    let mut client = Client::publishing();
    let (video, audio) = (vec![0x17; 300], vec![0xaf; 200]);
    let video_chunks = chunks(6, 9, 40, &video, 128);
    let audio_chunks = chunks(4, 8, 41, &audio, 128);
    let (v1, v2) = video_chunks.split_at(12 + 128);
    let (a1, a2) = audio_chunks.split_at(12 + 128);
    client.feed(&[v1, a1, v2, a2].concat()).unwrap();
    assert_eq!(client.media(), [(40, video), (41, audio)]);
}

#[test]
fn bytes_may_arrive_one_by_one() {
    // The last chunk has a whole payload, or less than an extended timestamp has.
    for len in [1000, 3 * 128 + 1, 3 * 128 + 3] {
        let mut client = Client::publishing();
        let body: Vec<u8> = (0..len).map(|i: u32| (i % 256) as u8).collect();
        for byte in chunks(6, 9, 0x0100_0000, &body, 128) {
            client.feed(&[byte]).unwrap();
        }
        assert_eq!(client.media(), [(0x0100_0000, body)]);
    }
}

#[test]
fn extended_timestamps_are_understood_with_and_without_their_repetition() {
    for timestamp in [0xff_fffe, 0xff_ffff, 0x0100_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let body = vec![0xaf; 300];
        let mut client = Client::publishing();
        client.message(8, timestamp, &body).unwrap();
        assert_eq!(client.media(), [(timestamp, body.clone())]);
        // Old librtmp leaves the four bytes out of the chunks that continue.
        let mut client = Client::publishing();
        let whole = chunks(4, 8, timestamp, &body, 128);
        let extra = if timestamp >= 0xff_ffff { 4 } else { 0 };
        let mut old = whole[..12 + extra + 128].to_vec();
        for part in body[128..].chunks(128) {
            old.push(0xc4);
            old.extend_from_slice(part);
        }
        client.feed(&old).unwrap();
        client.message(8, 5, &[0xaf, 1, 2]).unwrap();
        assert_eq!(client.media(), [(timestamp, body), (5, vec![0xaf, 1, 2])]);
    }
}

#[test]
fn a_short_last_chunk_that_looks_like_a_repeated_timestamp_is_decided_by_what_follows() {
    let mut client = Client::publishing();
    let mut old = chunks(4, 8, 0x0100_0000, &[0xaf; 128], 128);
    old[6] = 130;
    client.feed(&[&old[..], &[0xc4, 1, 0]].concat()).unwrap();
    assert!(client.media().is_empty(), "01 00 may be the beginning of the timestamp 01 00 00 00");
    client.message(8, 7, &[0xaf, 1]).unwrap();
    let body = [&[0xaf; 128][..], &[1, 0]].concat();
    assert_eq!(client.media(), [(0x0100_0000, body), (7, vec![0xaf, 1])]);
}

#[test]
fn time_wraps_in_steps_as_well_as_in_full_headers() {
    // 20 ms before 2^32, then a step over it; and ffmpeg's jump from 2^31 - 1 to 0, in a full header.
    let mut client = Client::publishing();
    client.message(8, u32::MAX - 19, &[0xaf, 1, 1]).unwrap();
    client.feed(&[0x84, 0, 0, 23, 0xaf, 1, 2]).unwrap();
    client.message(8, 0x7fff_ffff, &[0xaf, 1, 3]).unwrap();
    client.message(8, 0, &[0xaf, 1, 4]).unwrap();
    let times: Vec<u32> = client.media().into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, [u32::MAX - 19, 3, 0x7fff_ffff, 0]);
}

#[test]
fn a_type_3_chunk_that_begins_a_message_adds_the_step_before() {
    let mut client = Client::publishing();
    client.message(8, 20, &[0xaf, 1, 1]).unwrap();
    client.feed(&[0xc4, 0xaf, 1, 2]).unwrap();
    client.feed(&[0x84, 0, 0, 23, 0xaf, 1, 3]).unwrap();
    client.feed(&[0xc4, 0xaf, 1, 4]).unwrap();
    let times: Vec<u32> = client.media().into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, [20, 40, 63, 86]);
}

#[test]
fn an_aborted_message_is_forgotten_and_the_next_is_read() {
    let mut client = Client::publishing();
    let whole = chunks(6, 9, 0, &[0x27; 300], 128);
    client.feed(&whole[..12 + 128]).unwrap();
    client.feed(&chunks(2, 2, 0, &6_u32.to_be_bytes(), 128)).unwrap();
    assert_eq!(client.session.buffered_bytes(), 0);
    client.feed(&chunks(6, 9, 7, &[0x27; 10], 128)).unwrap();
    assert_eq!(client.media(), [(7, vec![0x27; 10])]);
}

#[test]
fn a_full_header_in_mid_message_begins_another() {
    let mut client = Client::publishing();
    let whole = chunks(6, 9, 0, &[0x27; 300], 128);
    client.feed(&whole[..12 + 128]).unwrap();
    client.feed(&chunks(6, 9, 7, &[0x27; 200], 128)).unwrap();
    assert_eq!(client.media(), [(7, vec![0x27; 200])]);
    assert_eq!(client.session.buffered_bytes(), 0);
}

#[test]
fn a_new_chunk_size_holds_from_the_next_chunk_on() {
    let mut client = Client::publishing();
    let whole = chunks(6, 9, 0, &[0x27; 300], 128);
    let size = chunks(2, 1, 0, &4096_u32.to_be_bytes(), 128);
    let rest = [&[0xc6][..], &[0x27; 300 - 128]].concat();
    client.feed(&[&whole[..12 + 128], &size, &rest].concat()).unwrap();
    client.chunk_size = 4096;
    client.message(8, 1, &[0xaf; 1000]).unwrap();
    assert_eq!(client.media(), [(0, vec![0x27; 300]), (1, vec![0xaf; 1000])]);
}

/// A message as the sender means it.
type Sent = (u32, u8, u32, Vec<u8>);

/// A sender that shortens headers whenever it may (section 5.3.1.2), in either style of extended timestamps.
struct Sender {
    repeats_extended: bool,
    size: usize,
    last: HashMap<u32, (u32, u32, usize, u8)>,
}

impl Sender {
    fn chunks(&mut self, random: &mut Random, (id, kind, time, body): &Sent) -> VecDeque<Vec<u8>> {
        let len = u32::try_from(body.len()).unwrap().to_be_bytes();
        let (format, step) = match self.last.get(id) {
            Some((last, step, last_len, last_kind)) if random.below(4) > 0 => {
                let delta = time.wrapping_sub(*last);
                let is_alike = (*last_len, *last_kind) == (body.len(), *kind);
                (if is_alike && delta == *step { 3 } else { 1 + u8::from(is_alike) }, delta)
            }
            _ => (0, *time),
        };
        self.last.insert(*id, (*time, step, body.len(), *kind));
        let field = step.min(0xff_ffff).to_be_bytes();
        let extended = if step >= 0xff_ffff { step.to_be_bytes().to_vec() } else { Vec::new() };
        let mut chunk = basic(format, *id);
        if format < 3 {
            chunk.extend_from_slice(&field[1..]);
        }
        if format < 2 {
            chunk.extend_from_slice(&[len[1], len[2], len[3], *kind]);
        }
        if format < 1 {
            chunk.extend_from_slice(&[1, 0, 0, 0]);
        }
        if format < 3 || self.repeats_extended {
            chunk.extend_from_slice(&extended);
        }
        let mut chunks = VecDeque::new();
        for (index, part) in body.chunks(self.size).enumerate() {
            if index > 0 {
                chunk = basic(3, *id);
                if self.repeats_extended {
                    chunk.extend_from_slice(&extended);
                }
            }
            chunk.extend_from_slice(part);
            chunks.push_back(std::mem::take(&mut chunk));
        }
        chunks
    }
}

/// Section 5.3.1.1, with the shortest form of each id.
fn basic(format: u8, id: u32) -> Vec<u8> {
    let first = format << 6;
    match id {
        2..64 => vec![first | id as u8],
        64..320 => vec![first, (id - 64) as u8],
        _ => vec![first | 1, ((id - 64) % 256) as u8, ((id - 64) / 256) as u8],
    }
}

#[test]
fn whatever_is_cut_mixed_and_split_is_put_together_again() {
    let mut random = Random(1);
    for round in 0..400 {
        let mut sender =
            Sender { repeats_extended: round % 2 == 0, size: 1 + random.below(300), last: HashMap::new() };
        // Times around every wrap. Bodies have bytes that none of these times begins with, so that the style without
        // repetition is not ambiguous.
        let base = [0, 0xff_fff0, 0x7fff_ffe0, 0xffff_ffe0_u32][random.below(4)];
        let mut ways: Vec<(Vec<Sent>, VecDeque<Vec<u8>>)> = Vec::new();
        for id in [4, 70, 1000] {
            let (mut time, mut messages, mut way) = (base, Vec::new(), VecDeque::new());
            for _ in 0..random.below(12) {
                time = time.wrapping_add([0, 10, 10, 10, 0x0100_0001][random.below(5)]);
                let len = [1, 2, 130, 130, 700][random.below(5)];
                let body = (0..len).map(|_| 0xa0 | random.below(16) as u8).collect();
                let message = (id, 8 + (id % 2) as u8, time, body);
                way.extend(sender.chunks(&mut random, &message));
                messages.push(message);
            }
            ways.push((messages, way));
        }
        let mut wire = Vec::new();
        while ways.iter().any(|(_, way)| !way.is_empty()) {
            let at = random.below(ways.len());
            wire.extend(ways[at].1.pop_front().unwrap_or_default());
        }
        let mut reader = Reader::new(1 << 20, 16, 1 << 20);
        reader.set_size(sender.size);
        let (mut have, mut read) = (Vec::new(), Vec::new());
        for piece in random.pieces(&wire) {
            have.extend_from_slice(piece);
            while let Some((used, message)) = reader.read(&have).unwrap() {
                have.drain(..used);
                read.extend(
                    message.map(|message| (message.kind, message.timestamp_ms, message.body.to_vec())),
                );
            }
        }
        let mut expected: Vec<_> = ways
            .into_iter()
            .flat_map(|(messages, _)| messages)
            .map(|(_, kind, time, body)| (kind, time, body))
            .collect();
        // Order holds within a chunk stream only.
        expected.sort();
        read.sort();
        assert_eq!(read, expected, "round {round}");
        assert!(have.is_empty() && reader.buffered_bytes() == 0, "round {round}");
    }
}
