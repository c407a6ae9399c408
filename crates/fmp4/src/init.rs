//! What a track is, ahead of its pictures: `ftyp` and `moov`.
use std::num::{NonZeroU32, TryFromIntError};

use bytes::Bytes;
use media::VideoConfig;
use media::h264::{NalKind, Sps};
use shiguredo_mp4::boxes::{
    Avc1Box, AvccBox, Brand, DinfBox, FtypBox, HdlrBox, MdhdBox, MdiaBox, MediaHeader, MehdBox, MinfBox,
    MoovBox, MvexBox, MvhdBox, SampleEntry, StblBox, StcoBox, StscBox, StsdBox, StszBox, SttsBox, TkhdBox,
    TrakBox, TrexBox, VisualSampleEntryFields, VmhdBox,
};
use shiguredo_mp4::{Either, Encode, FixedPointNumber, LanguageCode, Mp4FileTime, SampleFlags, Uint};

use crate::{Error, TIMESCALE, TRACK};

/// Bytes of the length in front of every NAL unit, less one.
const LENGTH_SIZE_MINUS_ONE: u8 = 3;
/// Profiles whose configuration says nothing of chroma (14496-15, section 5.3.3.1.2): Baseline, Main, Extended.
const WITHOUT_CHROMA: [u8; 3] = [66, 77, 88];

/// The beginning of a file whose pictures follow as fragments, for as long as they come.
pub fn init(parameters: &VideoConfig) -> Result<Bytes, Error> {
    encode(parameters, 0).map(Bytes::from)
}

/// The same for a file that is known to last so long; 0 if that is not known.
pub(crate) fn encode(parameters: &VideoConfig, duration: u64) -> Result<Vec<u8>, Error> {
    let brands = [Brand::ISO6, Brand::AVC1, Brand::MP41];
    let ftyp = FtypBox { major_brand: Brand::ISO6, minor_version: 0, compatible_brands: brands.to_vec() };
    let mut file = ftyp.encode_to_vec()?;
    file.extend_from_slice(&moov(parameters, duration)?.encode_to_vec()?);
    Ok(file)
}

fn moov(parameters: &VideoConfig, duration: u64) -> Result<MoovBox, Error> {
    let timescale = NonZeroU32::new(TIMESCALE).unwrap_or(NonZeroU32::MIN);
    let mvhd_box = MvhdBox {
        creation_time: Mp4FileTime::default(),
        modification_time: Mp4FileTime::default(),
        timescale,
        duration: 0,
        rate: MvhdBox::DEFAULT_RATE,
        volume: MvhdBox::DEFAULT_VOLUME,
        matrix: MvhdBox::DEFAULT_MATRIX,
        next_track_id: TRACK.saturating_add(1),
    };
    let trex = TrexBox {
        track_id: TRACK,
        default_sample_description_index: 1,
        default_sample_duration: 0,
        default_sample_size: 0,
        default_sample_flags: SampleFlags::empty(),
    };
    let mehd_box = (duration > 0).then_some(MehdBox { fragment_duration: duration });
    Ok(MoovBox {
        mvhd_box,
        trak_boxes: vec![trak(parameters, timescale)?],
        mvex_box: Some(MvexBox { mehd_box, trex_boxes: vec![trex], unknown_boxes: Vec::new() }),
        unknown_boxes: Vec::new(),
    })
}

fn trak(parameters: &VideoConfig, timescale: NonZeroU32) -> Result<TrakBox, Error> {
    let side = |pixels: u32| i16::try_from(pixels).map_err(too_large);
    let tkhd_box = TkhdBox {
        flag_track_enabled: true,
        flag_track_in_movie: true,
        flag_track_in_preview: false,
        flag_track_size_is_aspect_ratio: false,
        creation_time: Mp4FileTime::default(),
        modification_time: Mp4FileTime::default(),
        track_id: TRACK,
        duration: 0,
        layer: TkhdBox::DEFAULT_LAYER,
        alternate_group: TkhdBox::DEFAULT_ALTERNATE_GROUP,
        volume: TkhdBox::DEFAULT_VIDEO_VOLUME,
        matrix: TkhdBox::DEFAULT_MATRIX,
        width: FixedPointNumber::new(side(parameters.width)?, 0),
        height: FixedPointNumber::new(side(parameters.height)?, 0),
    };
    let mdhd_box = MdhdBox {
        creation_time: Mp4FileTime::default(),
        modification_time: Mp4FileTime::default(),
        timescale,
        duration: 0,
        language: LanguageCode::UNDEFINED,
    };
    let hdlr_box = HdlrBox { handler_type: HdlrBox::HANDLER_TYPE_VIDE, name: b"\0".to_vec() };
    let vmhd = VmhdBox { graphicsmode: VmhdBox::DEFAULT_GRAPHICSMODE, opcolor: VmhdBox::DEFAULT_OPCOLOR };
    let minf_box = MinfBox {
        media_header: Some(MediaHeader::Vmhd(vmhd)),
        dinf_box: DinfBox::LOCAL_FILE,
        stbl_box: stbl(avc1(parameters)?),
        unknown_boxes: Vec::new(),
    };
    let mdia_box = MdiaBox { mdhd_box, hdlr_box, minf_box, unknown_boxes: Vec::new() };
    Ok(TrakBox { tkhd_box, edts_box: None, mdia_box, unknown_boxes: Vec::new() })
}

/// The tables of pictures, empty: those of fragments stand in the fragments.
fn stbl(entry: Avc1Box) -> StblBox {
    StblBox {
        stsd_box: StsdBox { entries: vec![SampleEntry::Avc1(entry)] },
        stts_box: SttsBox { entries: Vec::new() },
        ctts_box: None,
        cslg_box: None,
        stsc_box: StscBox { entries: Vec::new() },
        stsz_box: StszBox::Variable { entry_sizes: Vec::new() },
        stco_or_co64_box: Either::A(StcoBox { chunk_offsets: Vec::new() }),
        stss_box: None,
        sdtp_box: None,
        unknown_boxes: Vec::new(),
    }
}

fn avc1(parameters: &VideoConfig) -> Result<Avc1Box, Error> {
    let side = |pixels: u32| u16::try_from(pixels).map_err(too_large);
    let visual = VisualSampleEntryFields {
        data_reference_index: VisualSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
        width: side(parameters.width)?,
        height: side(parameters.height)?,
        horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
        vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
        frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
        compressorname: [0; 32],
        depth: VisualSampleEntryFields::DEFAULT_DEPTH,
    };
    Ok(Avc1Box { visual, avcc_box: avcc(parameters)?, unknown_boxes: Vec::new() })
}

/// The parameter sets, and what they say of profile and samples.
fn avcc(parameters: &VideoConfig) -> Result<AvccBox, Error> {
    let VideoConfig { sps, pps, profile_level_id, .. } = parameters;
    if NalKind::of(sps) != Some(NalKind::Sps) {
        return Err(Error::NoParameters("sequence"));
    }
    if pps.is_empty() || pps.iter().any(|set| NalKind::of(set) != Some(NalKind::Pps)) {
        return Err(Error::NoParameters("picture"));
    }
    let [profile, constraints, level] = *profile_level_id;
    let (chroma_format, depth) = if WITHOUT_CHROMA.contains(&profile) {
        (None, None)
    } else {
        let said = Sps::parse(sps)?;
        let bits = |value: u32, max: u32| {
            u8::try_from(value.min(max)).map_err(|_| Error::TooLarge("number of bits"))
        };
        (Some(bits(said.chroma_format_idc, 3)?), Some(bits(said.bit_depth.saturating_sub(8), 7)?))
    };
    Ok(AvccBox {
        avc_profile_indication: profile,
        profile_compatibility: constraints,
        avc_level_indication: level,
        length_size_minus_one: Uint::new(LENGTH_SIZE_MINUS_ONE),
        sps_list: vec![sps.to_vec()],
        pps_list: pps.iter().map(|set| set.to_vec()).collect(),
        chroma_format: chroma_format.map(Uint::new),
        bit_depth_luma_minus8: depth.map(Uint::new),
        bit_depth_chroma_minus8: depth.map(Uint::new),
        sps_ext_list: Vec::new(),
    })
}

fn too_large(_: TryFromIntError) -> Error {
    Error::TooLarge("size of the picture")
}
