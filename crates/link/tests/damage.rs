//! What a node that is broken or lies may send: an error at most, and no memory for what it only announces.
use std::time::Instant;

use link::{Announcement, Control, ControlReader, GroupReader, WireError};
use media::{MediaTime, Tracks};

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

fn messages() -> Vec<Control> {
    let path = vec!["a".to_owned(), "b".to_owned()];
    let now = MediaTime::from_millis(-5);
    vec![
        Control::Subscribe { subscription: 7, class: "room101".to_owned() },
        Control::Epoch(Announcement { epoch: 3, session: "s".to_owned(), timeline: u64::MAX, now, path }),
        Control::Tracks(Tracks { video: None, audio: true }),
        Control::Paused,
        Control::Refused { reason: "no".to_owned() },
        Control::Ended,
    ]
}

fn read(bytes: &[u8], piece: usize) -> Result<Vec<Control>, WireError> {
    let (mut reader, mut got) = (ControlReader::default(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        reader.push(piece);
        while let Some(message) = reader.message()? {
            got.push(message);
        }
    }
    Ok(got)
}

#[test]
fn messages_come_out_as_they_went_in_however_they_are_cut() {
    let bytes: Vec<u8> = messages().iter().flat_map(Control::encode).collect();
    for piece in [1, 2, 7, bytes.len()] {
        assert_eq!(read(&bytes, piece).unwrap(), messages());
    }
}

#[test]
fn names_that_are_too_long_are_cut_and_not_refused() {
    let long = Control::Refused { reason: "x".repeat(70_000) };
    let got = read(&long.encode(), 1000).unwrap();
    assert!(matches!(&got[..], [Control::Refused { reason }] if reason.len() == 256));
    let wide = Control::Refused { reason: "é".repeat(200) + "x" };
    assert!(
        matches!(&read(&wide.encode(), 1000).unwrap()[..], [Control::Refused { reason }] if reason.len() == 256)
    );
    let odd = Control::Refused { reason: "x".to_owned() + &"é".repeat(200) };
    assert!(
        matches!(&read(&odd.encode(), 1000).unwrap()[..], [Control::Refused { reason }] if reason.len() == 255)
    );
}

#[test]
fn damaged_messages_and_groups_are_errors_and_nothing_else() {
    let (mut dice, clean) = (Dice(1), messages().iter().flat_map(Control::encode).collect::<Vec<u8>>());
    for _ in 0..20_000 {
        let mut bytes = clean.clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(bytes.len());
            bytes[at] = u8::try_from(dice.below(256)).unwrap();
        }
        bytes.truncate(dice.below(bytes.len() + 1));
        let _ = read(&bytes, 64);
    }
    for _ in 0..20_000 {
        let mut reader = GroupReader::default();
        let bytes: Vec<u8> = (0..dice.below(200)).map(|_| u8::try_from(dice.below(4)).unwrap()).collect();
        reader.push(&bytes);
        while let Ok(Some(_)) = reader.frame(Instant::now()) {}
    }
}

#[test]
fn what_is_longer_than_anything_is_refused_before_it_comes() {
    assert_eq!(read(&u32::MAX.to_be_bytes(), 4), Err(WireError::TooLong(4_294_967_295)));
    let mut reader = GroupReader::default();
    // A head of a group of sound, and a frame that is announced with 4 GiB.
    reader.push(&[0, 0, 0, 0, 1]);
    reader.push(&[0; 28]);
    reader.push(&u32::MAX.to_be_bytes());
    assert!(matches!(reader.frame(Instant::now()), Err(WireError::TooLong(_))));
}

#[test]
fn a_node_of_another_version_is_told_so() {
    let mut bytes = Control::Subscribe { subscription: 1, class: "c".to_owned() }.encode().to_vec();
    bytes[5] = 9;
    assert_eq!(read(&bytes, 100), Err(WireError::Version(9)));
}
