//! What to do with B-frames, which browsers do not show over WebRTC: they freeze, or play a tenth of the pictures.
//!
//! Pictures that nothing refers to can be left out without damage. Where that takes all the B-frames away - encoders
//! without a B-pyramid - the stream goes on with fewer pictures a second. Where it does not, only keyframes are passed on,
//! and the teacher is told which setting to change.
//!
//! What is passed on is in display order, so its decoding time serves as its time, which rises across every change of
//! policy. The price is that pictures come ahead of the sound by their composition offsets: by a frame more, at most,
//! than there are B-frames in a row.
use media::h264::SliceType;

/// Groups of pictures without a B-frame after which a stream is believed to have none any more.
const CLEAN_GROUPS: u32 = 2;

/// What is known of one picture.
#[derive(Clone, Copy, Debug)]
pub struct Picture {
    /// It can be decoded by itself.
    pub is_keyframe: bool,
    /// One of its slices is a B slice.
    pub has_b_slice: bool,
    /// Others may refer to it.
    pub is_reference: bool,
    /// When it is shown, in milliseconds: decoding time and composition offset.
    pub display_ms: i64,
}

impl Picture {
    /// From the slices of an access unit.
    pub fn new<'a>(is_keyframe: bool, display_ms: i64, slices: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut picture = Self { is_keyframe, has_b_slice: false, is_reference: false, display_ms };
        for slice in slices {
            picture.has_b_slice |= SliceType::parse(slice) == Some(SliceType::B);
            picture.is_reference |= media::h264::nal::is_reference(slice);
        }
        picture
    }
}

/// How a stream's pictures are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// All of them.
    #[default]
    All,
    /// Those that others may refer to.
    References,
    /// Keyframes.
    Keyframes,
}

/// The policy of one stream and what led to it.
#[derive(Debug, Default)]
pub struct Reorder {
    policy: Policy,
    /// The latest time at which a picture that was passed on is shown.
    shown_ms: Option<i64>,
    is_clean: bool,
    clean_groups: u32,
}

impl Reorder {
    /// The policy now.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Whether this picture, the next in decoding order, is passed on.
    pub fn admit(&mut self, picture: Picture) -> bool {
        if picture.is_keyframe {
            self.on_keyframe();
        }
        // Some encoders set no composition times: their slices give them away. Others reorder P slices, which is allowed
        // and does the same harm: their times give them away.
        let is_inverted = self.shown_ms.is_some_and(|shown| picture.display_ms < shown);
        if picture.has_b_slice || is_inverted {
            self.is_clean = false;
            let needed = if picture.is_reference { Policy::Keyframes } else { Policy::References };
            if self.policy == Policy::All || needed == Policy::Keyframes {
                self.policy = needed;
            }
        }
        let is_admitted = match self.policy {
            Policy::All => true,
            Policy::References => picture.is_reference,
            Policy::Keyframes => picture.is_keyframe,
        };
        if is_admitted {
            self.shown_ms = Some(picture.display_ms);
        }
        is_admitted
    }

    fn on_keyframe(&mut self) {
        self.clean_groups = if self.is_clean { self.clean_groups.saturating_add(1) } else { 0 };
        self.is_clean = true;
        self.shown_ms = None;
        if self.clean_groups >= CLEAN_GROUPS {
            self.policy = Policy::All;
        }
    }
}

#[cfg(test)]
mod tests {
    use media::flv::VideoTag;
    use media::flv::file::Tags;
    use media::h264::{AvcConfig, NalKind, SliceHeader, Sps, avcc};

    use super::*;

    /// `I`, `P`, `b` (nothing refers to it), `B` (something does), in decoding order, with their display times.
    fn admitted(pictures: &str, times: &[i64]) -> (String, Policy) {
        let mut reorder = Reorder::default();
        let kept = pictures.chars().zip(times).filter(|(kind, display_ms)| {
            reorder.admit(Picture {
                is_keyframe: *kind == 'I',
                has_b_slice: matches!(kind, 'b' | 'B'),
                is_reference: *kind != 'b',
                display_ms: **display_ms,
            })
        });
        (kept.map(|(kind, _)| kind).collect(), reorder.policy())
    }

    /// A lesson's pictures as x264 made them, and how it counts them in display order.
    struct Lesson {
        pictures: Vec<Picture>,
        orders: Vec<Option<u32>>,
    }

    impl Lesson {
        /// One of the files that `crates/media/tests/fixtures/README.md` describes: three groups of 15 pictures.
        fn open(name: &str) -> Self {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/media/tests/fixtures/");
            let file = std::fs::read(format!("{folder}{name}.flv")).unwrap();
            let (mut avc, mut pictures, mut orders) = (None, Vec::new(), Vec::new());
            for tag in Tags::parse(file.into()).unwrap().filter(|tag| tag.kind == 9) {
                match VideoTag::parse(tag.body).unwrap() {
                    VideoTag::Config(record) => {
                        let config = AvcConfig::parse(&record).unwrap();
                        avc = Some((config.length_size, Sps::parse(&config.sps[0]).unwrap()));
                    }
                    VideoTag::Frame { composition_ms, data } => {
                        let (length_size, sps) = avc.as_ref().unwrap();
                        let mut nals = avcc::split_access_unit(&data, *length_size).unwrap();
                        nals.retain(|nal| NalKind::of(nal).unwrap().is_slice());
                        let is_keyframe = NalKind::of(&nals[0]) == Some(NalKind::IdrSlice);
                        let display_ms = i64::from(tag.timestamp_ms) + i64::from(composition_ms);
                        orders.push(SliceHeader::parse(&nals[0], sps).unwrap().pic_order_cnt_lsb);
                        pictures.push(Picture::new(is_keyframe, display_ms, nals.iter().map(|nal| &nal[..])));
                    }
                    VideoTag::Nothing => {}
                }
            }
            Self { pictures, orders }
        }

        /// As RootEncoder sends it: display times that say nothing but the order of decoding.
        fn without_composition_times(mut self) -> Self {
            let in_order = |(at, picture): (i64, Picture)| Picture { display_ms: at * 66, ..picture };
            self.pictures = (0..).zip(self.pictures).map(in_order).collect();
            self
        }

        /// The numbers of the pictures that are passed on, and the policy at the end.
        fn admitted(&self) -> (Vec<usize>, Policy) {
            let mut reorder = Reorder::default();
            let kept = (0..self.pictures.len()).filter(|at| reorder.admit(self.pictures[*at])).collect();
            (kept, reorder.policy())
        }
    }

    #[test]
    fn lessons_without_b_frames_pass_whole() {
        for name in ["baseline", "high", "four-slices"] {
            assert_eq!(Lesson::open(name).admitted(), ((0..45).collect(), Policy::All), "{name}");
        }
    }

    #[test]
    fn a_lesson_with_single_b_frames_keeps_every_reference_in_display_order() {
        for lesson in [Lesson::open("one-b-frame"), Lesson::open("one-b-frame").without_composition_times()] {
            let (kept, policy) = lesson.admitted();
            assert_eq!((kept.len(), policy), (24, Policy::References));
            assert!((0..45).all(|at| kept.contains(&at) == lesson.pictures[at].is_reference));
            // By the encoder's own count, which has four bits and begins anew with each keyframe.
            for pair in kept.windows(2).filter(|pair| !lesson.pictures[pair[1]].is_keyframe) {
                let step = lesson.orders[pair[1]].unwrap().wrapping_sub(lesson.orders[pair[0]].unwrap()) & 15;
                assert!((1..8).contains(&step), "{pair:?} are {step} fields apart");
            }
        }
    }

    #[test]
    fn a_lesson_with_a_pyramid_keeps_what_came_before_it_and_the_keyframes() {
        for lesson in [Lesson::open("b-pyramid"), Lesson::open("b-pyramid").without_composition_times()] {
            assert_eq!(lesson.admitted(), (vec![0, 1, 15, 30], Policy::Keyframes));
        }
    }

    #[test]
    fn a_lesson_passes_whole_again_after_two_groups_without_b_frames() {
        for (name, kept_before) in [("one-b-frame", 24), ("b-pyramid", 4)] {
            let mut lesson = Lesson::open(name);
            for start_ms in [10_000, 20_000] {
                let clean = Lesson::open("high").pictures;
                lesson.pictures.extend(
                    clean
                        .into_iter()
                        .map(|picture| Picture { display_ms: picture.display_ms + start_ms, ..picture }),
                );
            }
            let (kept, policy) = lesson.admitted();
            assert_eq!(policy, Policy::All, "{name}");
            assert_eq!(kept.iter().filter(|at| **at < 45).count(), kept_before, "{name}");
            // The clean groups begin at 45, 60, 75 and so on.
            assert!((75..135).all(|at| kept.contains(&at)), "{name}: {kept:?}");
            assert_eq!(kept.contains(&61), name == "one-b-frame", "{name}");
        }
    }

    #[test]
    fn a_stream_without_b_frames_passes_whole() {
        assert_eq!(admitted("IPPPIPPP", &[0, 1, 2, 3, 4, 5, 6, 7]), ("IPPPIPPP".to_owned(), Policy::All));
    }

    #[test]
    fn single_b_frames_are_left_out() {
        assert_eq!(admitted("IPbPbIPb", &[0, 2, 1, 4, 3, 5, 7, 6]), ("IPPIP".to_owned(), Policy::References));
    }

    #[test]
    fn a_pyramid_leaves_the_keyframes() {
        let (kept, policy) = admitted("IPBbbPBbbIPBbb", &[0, 4, 2, 1, 3, 8, 6, 5, 7, 9, 13, 11, 10, 12]);
        assert_eq!((kept.as_str(), policy), ("IPI", Policy::Keyframes));
    }

    #[test]
    fn b_frames_are_found_without_composition_times() {
        assert_eq!(admitted("IPbPb", &[0, 1, 2, 3, 4]), ("IPP".to_owned(), Policy::References));
    }

    #[test]
    fn a_stream_that_stops_making_b_frames_passes_whole_again() {
        let (kept, policy) = admitted("IPBPIPPIPPIPP", &[0, 2, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!((kept.as_str(), policy), ("IPIIIPP", Policy::All), "whole again after two clean groups");
    }
}
