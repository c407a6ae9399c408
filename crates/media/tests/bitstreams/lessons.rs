//! What x264 was asked for is what is found. `fixtures/README.md` says what that was.
use bytes::Bytes;
use media::h264::sps::PictureOrder;
use media::h264::{NalKind, SliceType, avcc};

use super::lesson::{self, Lesson, Picture};

const PICTURES: usize = 45;
const KEYFRAMES: [usize; 3] = [0, 15, 30];

#[test]
fn every_picture_of_a_file_is_found_with_its_size_and_keyframes() {
    for file in lesson::ALL {
        let lesson = Lesson::open(file);
        assert_eq!((lesson.config.width, lesson.config.height), (160, 120));
        assert_eq!(lesson.pictures.len(), PICTURES);
        let keyframes: Vec<usize> = (0..PICTURES).filter(|at| lesson.pictures[*at].is_keyframe()).collect();
        assert_eq!(keyframes, KEYFRAMES);
        assert!(lesson.pictures.iter().filter(|picture| picture.is_keyframe()).all(|p| p.is(SliceType::I)));
    }
}

#[test]
fn profiles_and_orders_are_as_the_encoder_was_told() {
    for (file, profile_idc, is_reordered) in [
        (lesson::BASELINE, 66, false),
        (lesson::HIGH, 100, false),
        (lesson::FOUR_SLICES, 100, false),
        (lesson::ONE_B_FRAME, 100, true),
        (lesson::B_PYRAMID, 100, true),
    ] {
        let sps = Lesson::open(file).sps;
        assert_eq!((sps.profile_idc, sps.order != PictureOrder::AsDecoded), (profile_idc, is_reordered));
    }
}

#[test]
fn pictures_of_four_slices_have_four() {
    for (file, slices) in [(lesson::FOUR_SLICES, 4), (lesson::HIGH, 1)] {
        assert!(Lesson::open(file).pictures.iter().all(|picture| picture.slices.len() == slices));
    }
}

#[test]
fn b_frames_are_told_from_others_and_a_pyramid_refers_to_some() {
    for (file, b_frames, references) in [
        (lesson::BASELINE, 0, 0),
        (lesson::HIGH, 0, 0),
        (lesson::ONE_B_FRAME, 21, 0),
        (lesson::B_PYRAMID, 30, 9),
    ] {
        let lesson = Lesson::open(file);
        let found = lesson.pictures.iter().filter(|picture| picture.is(SliceType::B));
        let is_reference: Vec<bool> = found.map(Picture::is_reference).collect();
        let of_references = is_reference.iter().filter(|is_reference| **is_reference).count();
        assert_eq!((is_reference.len(), of_references), (b_frames, references));
    }
}

/// The order of display is coded twice, by the encoder in the slices and by the muxer in the composition times.
#[test]
fn slice_headers_and_composition_times_agree_on_the_order_of_display() {
    for file in [lesson::ONE_B_FRAME, lesson::B_PYRAMID] {
        let lesson = Lesson::open(file);
        let PictureOrder::Counted { lsb_bits } = lesson.sps.order else { panic!("B-frames are counted") };
        let modulus = 1_i64 << lsb_bits;
        for group in lesson.pictures.chunk_by(|_, next| !next.is_keyframe()) {
            let mut latest = 0;
            for picture in group {
                let lsb = i64::from(picture.slices[0].pic_order_cnt_lsb.unwrap());
                // Section 8.2.1.1: the nearest number with these low bits.
                latest += (lsb - latest + modulus / 2).rem_euclid(modulus) - modulus / 2;
                // Two fields a picture; 15 pictures a second, rounded to milliseconds.
                let expected_ms = group[0].display_ms * 15 + latest / 2 * 1000;
                assert!((picture.display_ms * 15 - expected_ms).abs() <= 30, "{latest}");
            }
        }
    }
}

#[test]
fn reference_pictures_are_counted_by_their_slices() {
    for file in lesson::ALL {
        let lesson = Lesson::open(file);
        let modulus = 1 << lesson.sps.frame_num_bits;
        for group in lesson.pictures.chunk_by(|_, next| !next.is_keyframe()) {
            let mut references_before = 0;
            for picture in group {
                assert!(picture.slices.iter().all(|slice| slice.frame_num == references_before % modulus));
                references_before += u32::from(picture.is_reference());
            }
        }
    }
}

#[test]
fn start_codes_in_place_of_lengths_give_the_same_nal_units() {
    for file in lesson::ALL {
        let lesson = Lesson::open(file);
        for picture in &lesson.pictures {
            let mut unit = vec![0];
            unit.extend(picture.nals.iter().flat_map(|nal| [&[0, 0, 1], &nal[..]].concat()));
            let nals = avcc::split_access_unit(&Bytes::from(unit), lesson.length_size).unwrap();
            assert_eq!(nals, picture.nals);
        }
    }
}

#[test]
fn nal_units_are_slices_of_the_message_and_not_copies() {
    let lesson = Lesson::open(lesson::FOUR_SLICES);
    for picture in &lesson.pictures {
        let range = picture.unit.as_ptr_range();
        assert!(picture.nals.iter().all(|nal| range.contains(&nal.as_ptr())));
    }
}

#[test]
fn the_encoder_s_signature_is_dispensable() {
    let lesson = Lesson::open(lesson::HIGH);
    let kinds: Vec<_> = lesson.pictures[0].nals.iter().filter_map(|nal| NalKind::of(nal)).collect();
    assert_eq!(kinds, [NalKind::Dispensable, NalKind::IdrSlice]);
}
