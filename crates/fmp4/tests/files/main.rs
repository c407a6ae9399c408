//! Files of pictures: what other programs show of them, what stands in them, and what is refused.
#[expect(clippy::unwrap_used, reason = "what cannot be encoded fails its test")]
mod encoder;

use bytes::Bytes;
use fmp4::{Error, Picture, TIMESCALE, fragment, init, snapshot};
use media::VideoConfig;
use media::h264::H264Error;
use shiguredo_mp4::Decode;
use shiguredo_mp4::boxes::{FtypBox, MdatBox, MoofBox, MoovBox, SampleEntry};

use self::encoder::{Lesson, SIZE, pixels, probe, times};

/// Bytes of all boxes around a picture.
const HEADERS_MAX: usize = 1024;

fn keyframe(options: &[&str]) -> Lesson {
    Lesson::encode(SIZE, 1, options)
}

#[test]
fn a_snapshot_shows_exactly_the_picture_that_was_encoded() {
    for options in [
        &["-profile:v", "baseline"][..],
        &["-profile:v", "main"],
        &["-profile:v", "high"],
        &["-profile:v", "high", "-pix_fmt", "gray"],
        &["-profile:v", "high", "-color_range", "pc", "-colorspace", "bt709"],
        &["-profile:v", "main", "-x264-params", "slices=4"],
    ] {
        let lesson = keyframe(options);
        let file = snapshot(&lesson.parameters, &lesson.pictures[0]).unwrap();
        let shown = pixels(&file, "mp4");
        assert!(shown.len() >= 320 * 180 && shown == lesson.pixels(), "{options:?}: {} bytes", shown.len());
        let said = "codec_name=h264\ncodec_tag_string=avc1\nwidth=320\nheight=180\nnb_read_frames=1\nduration=1.000000\n";
        assert_eq!(probe(&file), said, "{options:?}");
    }
}

#[test]
fn a_picture_of_a_hundred_slices_is_whole() {
    let lesson = Lesson::encode((64, 1600), 1, &["-profile:v", "main", "-x264-params", "slices=100"]);
    let slices = &lesson.pictures[0];
    assert_eq!(slices.len(), 100);
    let file = snapshot(&lesson.parameters, slices).unwrap();
    assert_eq!(pixels(&file, "mp4"), lesson.pixels());
    let bytes: usize = slices.iter().map(|slice| slice.len() + 4).sum();
    assert!(file.len() > bytes && file.len() <= bytes + HEADERS_MAX, "{} of {bytes} bytes", file.len());
}

#[test]
fn fragments_one_after_the_other_show_every_picture_in_its_time() {
    let lesson = Lesson::encode(SIZE, 7, &["-profile:v", "high"]);
    let of = |nals, is_keyframe| Picture { nals, is_keyframe, duration: 3000 };
    let pictures: Vec<_> =
        lesson.pictures.iter().enumerate().map(|(index, nals)| of(nals, index == 0)).collect();
    // The second begins later than the first ends.
    let mut file = init(&lesson.parameters).unwrap().to_vec();
    file.extend_from_slice(&fragment(1, 0, &pictures[..4]).unwrap());
    file.extend_from_slice(&fragment(2, 90_000, &pictures[4..]).unwrap());
    assert_eq!(pixels(&file, "mp4"), lesson.pixels());
    assert_eq!(times(&file), [0, 3000, 6000, 9000, 90_000, 93_000, 96_000]);
}

#[test]
fn a_fragment_begins_anywhere_in_a_long_lesson() {
    let lesson = keyframe(&[]);
    let picture = Picture { nals: &lesson.pictures[0], is_keyframe: true, duration: 3000 };
    // A day, which 32 bits of ticks do not hold.
    let begins = u64::from(TIMESCALE) * 86_400;
    let mut file = init(&lesson.parameters).unwrap().to_vec();
    file.extend_from_slice(&fragment(1, begins, &[picture]).unwrap());
    assert_eq!(times(&file), [i64::try_from(begins).unwrap()]);
}

#[test]
fn the_boxes_say_what_the_stream_is() {
    let lesson = keyframe(&["-profile:v", "high"]);
    let picture = &lesson.pictures[0];
    let file = snapshot(&lesson.parameters, picture).unwrap();
    let (_, ftyp) = FtypBox::decode(&file).unwrap();
    let (moov, size) = MoovBox::decode(&file[ftyp..]).unwrap();
    let moof_at = ftyp + size;
    let (moof, size) = MoofBox::decode(&file[moof_at..]).unwrap();
    let (mdat, rest) = MdatBox::decode(&file[moof_at + size..]).unwrap();
    assert_eq!(moof_at + size + rest, file.len(), "and nothing after them");

    assert_eq!(moov.mvex_box.unwrap().mehd_box.unwrap().fragment_duration, 90_000);
    let SampleEntry::Avc1(entry) = &moov.trak_boxes[0].mdia_box.minf_box.stbl_box.stsd_box.entries[0] else {
        panic!("another codec")
    };
    assert_eq!((entry.visual.width, entry.visual.height), (320, 180));
    let avcc = &entry.avcc_box;
    let [profile, constraints, level] = lesson.parameters.profile_level_id;
    assert_eq!((avcc.avc_profile_indication, avcc.avc_level_indication), (profile, level));
    assert_eq!(avcc.profile_compatibility, constraints);
    assert_eq!(avcc.sps_list, [lesson.parameters.sps.to_vec()]);
    assert_eq!(avcc.pps_list, lesson.parameters.pps);
    assert_eq!(avcc.chroma_format.map(|format| format.get()), Some(1));
    assert_eq!(avcc.bit_depth_luma_minus8.map(|depth| depth.get()), Some(0));

    let run = &moof.traf_boxes[0].trun_boxes[0];
    assert_eq!(run.data_offset, Some(i32::try_from(size + 8).unwrap()), "from the beginning of the fragment");
    assert_eq!(run.samples.len(), 1);
    let sample = &run.samples[0];
    assert_eq!(sample.size.map(|size| size as usize), Some(mdat.payload.len()));
    assert!(sample.flags.is_some_and(|flags| !flags.sample_is_non_sync_sample()));
    let expected: Vec<u8> = picture
        .iter()
        .flat_map(|nal| [&u32::try_from(nal.len()).unwrap().to_be_bytes()[..], nal].concat())
        .collect();
    assert_eq!(mdat.payload, expected);
}

#[test]
fn pictures_after_the_first_are_told_from_keyframes() {
    let nals = [Bytes::from_static(&[0x41, 0x9a])];
    let of = |is_keyframe| Picture { nals: &nals, is_keyframe, duration: 1 };
    let bytes = fragment(1, 0, &[of(true), of(false)]).unwrap();
    let (moof, _) = MoofBox::decode(&bytes).unwrap();
    let samples = &moof.traf_boxes[0].trun_boxes[0].samples;
    let flags: Vec<_> = samples.iter().filter_map(|sample| sample.flags).collect();
    assert_eq!(
        flags
            .iter()
            .map(|flags| (flags.sample_depends_on(), flags.sample_is_non_sync_sample()))
            .collect::<Vec<_>>(),
        [(2, false), (1, true)]
    );
}

#[test]
fn without_parameter_sets_there_is_no_file() {
    let lesson = keyframe(&[]);
    let picture = &lesson.pictures[0];
    let without = |change: fn(&mut VideoConfig)| {
        let mut parameters = lesson.parameters.clone();
        change(&mut parameters);
        (snapshot(&parameters, picture).unwrap_err(), init(&parameters).unwrap_err())
    };
    for (error, of_init) in [
        without(|parameters| parameters.sps = Bytes::new()),
        without(|parameters| parameters.sps = parameters.pps[0].clone()),
    ] {
        assert_eq!((error, of_init), (Error::NoParameters("sequence"), Error::NoParameters("sequence")));
    }
    for (error, of_init) in [
        without(|parameters| parameters.pps.clear()),
        without(|parameters| parameters.pps.push(Bytes::new())),
        without(|parameters| parameters.pps = vec![parameters.sps.clone()]),
    ] {
        assert_eq!((error, of_init), (Error::NoParameters("picture"), Error::NoParameters("picture")));
    }
    let (error, _) = without(|parameters| parameters.sps.truncate(5));
    assert_eq!(error, Error::Parameters(H264Error::Damaged("sequence parameter set")));
}

#[test]
fn what_is_no_keyframe_or_has_nothing_in_it_is_refused() {
    let lesson = Lesson::encode(SIZE, 2, &[]);
    let [first, second] = &lesson.pictures[..] else { panic!("two pictures") };
    let try_with = |nals: &[Bytes]| snapshot(&lesson.parameters, nals).unwrap_err();
    assert_eq!(try_with(&[]), Error::Empty);
    assert_eq!(try_with(&[Bytes::new()]), Error::Empty);
    assert_eq!(try_with(&[first[0].clone(), Bytes::new()]), Error::Empty);
    assert_eq!(try_with(second), Error::NotKeyframe);
    assert_eq!(try_with(&[first[0].clone(), second[0].clone()]), Error::NotKeyframe);
    assert_eq!(fragment(1, 0, &[]), Err(Error::Empty));
    let empty = Picture { nals: &[], is_keyframe: true, duration: 1 };
    assert_eq!(fragment(1, 0, &[empty]), Err(Error::Empty));
}

#[test]
fn numbers_that_do_not_fit_their_fields_are_refused() {
    let lesson = keyframe(&[]);
    let sized = |width, height| VideoConfig { width, height, ..lesson.parameters.clone() };
    for parameters in [sized(32_768, 180), sized(320, 65_536), sized(u32::MAX, 1)] {
        assert_eq!(init(&parameters), Err(Error::TooLarge("size of the picture")));
    }
    // 17 times 256 MiB, of which there is one, and that one is memory that nobody touches.
    let mut picture = vec![Bytes::from(vec![0; 256 << 20]); 17];
    picture.insert(0, lesson.pictures[0][0].clone());
    assert_eq!(snapshot(&lesson.parameters, &picture), Err(Error::TooLarge("picture")));
    let picture = Picture { nals: &picture[..10], is_keyframe: true, duration: 1 };
    assert_eq!(fragment(1, 0, &[picture, picture]), Err(Error::TooLarge("fragment")));
}
