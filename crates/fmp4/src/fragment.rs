//! Some pictures that follow each other: `moof` and `mdat`.
use bytes::Bytes;
use shiguredo_mp4::boxes::{MfhdBox, MoofBox, TfdtBox, TfhdBox, TrafBox, TrunBox, TrunSample};
use shiguredo_mp4::{Encode, SampleFlags};

use crate::{Error, TRACK};

/// Bytes of the header of a box, and of the length in front of a NAL unit.
const BOX_HEADER: u32 = 8;
const LENGTH: u32 = 4;

/// One picture of a fragment.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Its NAL units, without start codes and parameter sets: [`media::VideoFrame::nals`].
    pub nals: &'a [Bytes],
    /// Whether a player may begin here.
    pub is_keyframe: bool,
    /// How long it is shown, in ticks of [`crate::TIMESCALE`].
    pub duration: u32,
}

/// The fragment of this number, from 1, whose first picture is due at `begins`, in ticks of [`crate::TIMESCALE`].
pub fn fragment(number: u32, begins: u64, pictures: &[Picture<'_>]) -> Result<Bytes, Error> {
    append(Vec::new(), number, begins, pictures).map(Bytes::from)
}

/// A fragment at the end of what there is of a file.
pub(crate) fn append(
    mut file: Vec<u8>,
    number: u32,
    begins: u64,
    pictures: &[Picture<'_>],
) -> Result<Vec<u8>, Error> {
    if pictures.is_empty() {
        return Err(Error::Empty);
    }
    let sizes = pictures.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let data = sizes.iter().try_fold(BOX_HEADER, |sum: u32, size| sum.checked_add(*size));
    let data = data.ok_or(Error::TooLarge("fragment"))?;
    let samples: Vec<_> = pictures.iter().zip(&sizes).map(|(picture, size)| sample(picture, *size)).collect();
    // Where the pictures begin is written in the box before them, whose size does not depend on it.
    let mut moof = moof(number, begins, samples);
    let head = moof.encode_to_vec()?.len();
    let offset = i32::try_from(head).ok().and_then(|head| head.checked_add_unsigned(BOX_HEADER));
    let offset = offset.ok_or(Error::TooLarge("fragment"))?;
    for trun in moof.traf_boxes.iter_mut().flat_map(|traf| &mut traf.trun_boxes) {
        trun.data_offset = Some(offset);
    }
    file.reserve_exact(head.saturating_add(usize::try_from(data).unwrap_or(0)));
    file.extend_from_slice(&moof.encode_to_vec()?);
    file.extend_from_slice(&data.to_be_bytes());
    file.extend_from_slice(b"mdat");
    for nal in pictures.iter().flat_map(|picture| picture.nals) {
        let len = u32::try_from(nal.len()).map_err(|_| Error::TooLarge("picture"))?;
        file.extend_from_slice(&len.to_be_bytes());
        file.extend_from_slice(nal);
    }
    Ok(file)
}

/// Bytes of a picture, its lengths included.
fn size(picture: &Picture<'_>) -> Result<u32, Error> {
    if picture.nals.is_empty() || picture.nals.iter().any(Bytes::is_empty) {
        return Err(Error::Empty);
    }
    let add = |sum: u32, nal: &Bytes| sum.checked_add(LENGTH)?.checked_add(u32::try_from(nal.len()).ok()?);
    picture.nals.iter().try_fold(0, add).ok_or(Error::TooLarge("picture"))
}

fn sample(picture: &Picture<'_>, size: u32) -> TrunSample {
    // Section 8.8.3.1: whether it depends on others.
    let depends_on = if picture.is_keyframe { 2 } else { 1 };
    TrunSample {
        duration: Some(picture.duration),
        size: Some(size),
        flags: Some(SampleFlags::from_fields(0, depends_on, 0, 0, 0, !picture.is_keyframe, 0)),
        composition_time_offset: None,
    }
}

fn moof(number: u32, begins: u64, samples: Vec<TrunSample>) -> MoofBox {
    let tfhd_box = TfhdBox {
        track_id: TRACK,
        base_data_offset: None,
        sample_description_index: None,
        default_sample_duration: None,
        default_sample_size: None,
        default_sample_flags: None,
        duration_is_empty: false,
        default_base_is_moof: true,
    };
    let traf = TrafBox {
        tfhd_box,
        tfdt_box: Some(TfdtBox { version: 1, base_media_decode_time: begins }),
        trun_boxes: vec![TrunBox { data_offset: Some(0), first_sample_flags: None, samples }],
        unknown_boxes: Vec::new(),
    };
    MoofBox {
        mfhd_box: MfhdBox { sequence_number: number },
        traf_boxes: vec![traf],
        unknown_boxes: Vec::new(),
    }
}
