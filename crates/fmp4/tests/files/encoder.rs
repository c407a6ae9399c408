//! Pictures as an encoder makes them, and what a decoder shows of files: both are ffmpeg.
use std::io::Write;
use std::process::{Command, Output};

use bytes::Bytes;
use media::VideoConfig;
use media::h264::{NalKind, avcc};
use tempfile::NamedTempFile;

/// Width and height of every lesson here, but for the tall one.
pub(crate) const SIZE: (u32, u32) = (320, 180);

/// A lesson as it came out of the encoder, and as our crates pass it on.
pub(crate) struct Lesson {
    /// With start codes.
    pub(crate) stream: Vec<u8>,
    pub(crate) parameters: VideoConfig,
    /// The slices of each picture.
    pub(crate) pictures: Vec<Vec<Bytes>>,
}

impl Lesson {
    /// So many pictures of a test card, of which the first is a keyframe.
    pub(crate) fn encode((width, height): (u32, u32), count: usize, options: &[&str]) -> Self {
        let card = format!("testsrc2=size={width}x{height}:rate=30");
        let frames = count.to_string();
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", &card])
            .args([
                "-frames:v",
                &frames,
                "-c:v",
                "libx264",
                "-preset",
                "fast",
                "-bf",
                "0",
                "-pix_fmt",
                "yuv420p",
            ])
            .args(options)
            .args(["-f", "h264", "-"])
            .output()
            .unwrap();
        let stream = said(output);
        let units = avcc::split_access_unit(&Bytes::from(stream.clone()), 4).unwrap();
        let of = |kind| units.iter().filter(move |unit| NalKind::of(unit) == Some(kind)).cloned();
        let sps = of(NalKind::Sps).next().unwrap();
        let parameters = VideoConfig::parse(&sps, &of(NalKind::Pps).collect::<Vec<_>>()).unwrap();
        let mut pictures: Vec<Vec<Bytes>> = Vec::new();
        for slice in units.iter().filter(|unit| NalKind::of(unit).is_some_and(NalKind::is_slice)) {
            // `first_mb_in_slice` is 0: one bit (H.264, section 9.1).
            if slice[1] & 0x80 != 0 {
                pictures.push(Vec::new());
            }
            pictures.last_mut().unwrap().push(slice.clone());
        }
        assert_eq!(pictures.len(), count);
        Self { stream, parameters, pictures }
    }

    /// Every picture as a decoder shows it that gets the encoder's own stream.
    pub(crate) fn pixels(&self) -> Vec<u8> {
        pixels(&self.stream, "h264")
    }
}

/// Every picture of a file of this format, as a decoder shows it that is told nothing else.
pub(crate) fn pixels(file: &[u8], format: &str) -> Vec<u8> {
    let file = on_disk(file);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-loglevel", "warning", "-xerror", "-f", format, "-i"]);
    let output =
        ffmpeg.arg(file.path()).args(["-fps_mode", "passthrough", "-f", "rawvideo", "-"]).output().unwrap();
    if format == "mp4" {
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "nothing to complain of");
    }
    said(output)
}

/// What ffprobe says of the one track and of the file: `name=value`, a line each.
pub(crate) fn probe(file: &[u8]) -> String {
    let file = on_disk(file);
    let entries = "stream=codec_name,codec_tag_string,width,height,nb_read_frames:format=duration";
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args([
        "-loglevel",
        "error",
        "-count_frames",
        "-show_entries",
        entries,
        "-of",
        "default=noprint_wrappers=1",
    ]);
    String::from_utf8(said(ffprobe.arg(file.path()).output().unwrap())).unwrap()
}

/// When each picture of a file is shown, in ticks.
pub(crate) fn times(file: &[u8]) -> Vec<i64> {
    let file = on_disk(file);
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args([
        "-loglevel",
        "error",
        "-show_entries",
        "frame=pts",
        "-of",
        "default=noprint_wrappers=1:nokey=1",
    ]);
    let text = String::from_utf8(said(ffprobe.arg(file.path()).output().unwrap())).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn on_disk(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn said(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
