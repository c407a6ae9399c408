//! What to do with B-frames, which browsers do not show over WebRTC: they freeze, or play a tenth of the pictures.
//!
//! Pictures that nothing refers to can be left out without damage. Where that takes all the B-frames away - encoders
//! without a B-pyramid - the stream goes on with fewer pictures a second. Where it does not, only keyframes are passed on,
//! and the teacher is told which setting to change.
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
        // Encoders that set no composition times at all are caught by their slices, others by either.
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
