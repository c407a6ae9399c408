//! A fixture, taken apart the way ingest does it.
use bytes::Bytes;
use media::VideoConfig;
use media::flv::VideoTag;
use media::flv::file::Tags;
use media::h264::{AvcConfig, NalKind, SliceHeader, SliceType, Sps, avcc};

pub(crate) const BASELINE: &[u8] = include_bytes!("../fixtures/baseline.flv");
pub(crate) const HIGH: &[u8] = include_bytes!("../fixtures/high.flv");
pub(crate) const FOUR_SLICES: &[u8] = include_bytes!("../fixtures/four-slices.flv");
pub(crate) const ONE_B_FRAME: &[u8] = include_bytes!("../fixtures/one-b-frame.flv");
pub(crate) const B_PYRAMID: &[u8] = include_bytes!("../fixtures/b-pyramid.flv");
pub(crate) const ALL: [&[u8]; 5] = [BASELINE, HIGH, FOUR_SLICES, ONE_B_FRAME, B_PYRAMID];

/// Video messages of RTMP, and tags of FLV.
const VIDEO: u8 = 9;

pub(crate) struct Lesson {
    pub(crate) sps: Sps,
    pub(crate) config: VideoConfig,
    pub(crate) length_size: usize,
    pub(crate) pictures: Vec<Picture>,
}

pub(crate) struct Picture {
    pub(crate) display_ms: i64,
    /// As it came.
    pub(crate) unit: Bytes,
    pub(crate) nals: Vec<Bytes>,
    pub(crate) slices: Vec<SliceHeader>,
}

impl Picture {
    pub(crate) fn is_keyframe(&self) -> bool {
        self.nals.iter().any(|nal| NalKind::of(nal) == Some(NalKind::IdrSlice))
    }

    pub(crate) fn is_reference(&self) -> bool {
        self.nals.iter().filter(is_slice).any(|nal| media::h264::nal::is_reference(nal))
    }

    pub(crate) fn is(&self, slice_type: SliceType) -> bool {
        self.slices.iter().all(|slice| slice.slice_type == slice_type)
    }
}

pub(crate) fn is_slice(nal: &&Bytes) -> bool {
    NalKind::of(nal).is_some_and(NalKind::is_slice)
}

pub(crate) fn video_bodies(file: &'static [u8]) -> impl Iterator<Item = (u32, Bytes)> {
    let tags = Tags::parse(Bytes::from_static(file)).unwrap();
    tags.filter(|tag| tag.kind == VIDEO).map(|tag| (tag.timestamp_ms, tag.body))
}

impl Lesson {
    pub(crate) fn open(file: &'static [u8]) -> Self {
        let mut records = Vec::new();
        let mut units = Vec::new();
        for (timestamp_ms, body) in video_bodies(file) {
            match VideoTag::parse(body).unwrap() {
                VideoTag::Config(record) => records.push(record),
                VideoTag::Frame { composition_ms, data } => {
                    units.push((i64::from(timestamp_ms) + i64::from(composition_ms), data));
                }
                VideoTag::Nothing => {}
            }
        }
        let [record] = &records[..] else { panic!("{} sequence headers", records.len()) };
        let avc = AvcConfig::parse(record).unwrap();
        let sps = Sps::parse(&avc.sps[0]).unwrap();
        let config = VideoConfig::parse(&avc.sps[0], &avc.pps).unwrap();
        let picture = |(display_ms, unit)| {
            let nals = avcc::split_access_unit(&unit, avc.length_size).unwrap();
            let header = |nal| SliceHeader::parse(nal, &sps).unwrap();
            let slices = nals.iter().filter(is_slice).map(|nal| header(nal)).collect();
            Picture { display_ms, unit, nals, slices }
        };
        let pictures = units.into_iter().map(picture).collect();
        Self { length_size: avc.length_size, config, pictures, sps }
    }
}
