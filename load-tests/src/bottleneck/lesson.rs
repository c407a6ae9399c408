//! What is published: a lesson encoded once as phones do, and when its keyframes come.
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};

use crate::publish::recorded::Recording;
use crate::report;

/// Seconds of a lesson; then it begins again. A multiple of every GOP.
const SECONDS: u64 = 20;
const FRAMES_PER_SECOND: u64 = 30;
/// Of video alone. Sound adds 128 kbit/s.
const BITRATE: &str = "2500k";

/// A file with a keyframe every so many seconds.
#[derive(Debug)]
pub(super) struct Lesson {
    pub(super) gop_s: u64,
    pub(super) file: PathBuf,
    keyframes: Vec<Duration>,
    round: Duration,
}

impl Lesson {
    /// Encodes it into `folder`, unless that was done before.
    pub(super) fn prepare(folder: &Path, gop_s: u64) -> anyhow::Result<Self> {
        ensure!(gop_s > 0 && SECONDS.is_multiple_of(gop_s), "a GOP must divide {SECONDS} s");
        let file = folder.join(format!("lesson-gop{gop_s}.flv"));
        if !file.exists() {
            report::progress(&format!("encoding a lesson with a keyframe every {gop_s} s"));
            let part = file.with_extension("part");
            encode(&part, gop_s)?;
            std::fs::rename(&part, &file)?;
        }
        let recording = Recording::read(&file)?;
        let (keyframes, round) = (recording.keyframes(), recording.round());
        ensure!(!keyframes.is_empty(), "{} has no keyframe", file.display());
        Ok(Self { gop_s, file, keyframes, round })
    }

    /// The next keyframe of a publisher that began at `began`.
    pub(super) fn next_keyframe(&self, began: SystemTime, now: SystemTime) -> SystemTime {
        let elapsed = now.duration_since(began).unwrap_or_default();
        let rounds = u32::try_from(elapsed.as_nanos() / self.round.as_nanos().max(1)).unwrap_or(0);
        let dues = [rounds, rounds.saturating_add(1)].map(|round| self.round * round);
        let mut times =
            dues.iter().flat_map(|due| self.keyframes.iter().map(move |keyframe| *due + *keyframe));
        began + times.find(|time| *time >= elapsed).unwrap_or(elapsed)
    }

    /// What of a link's queue the stream needs by itself.
    pub(super) fn queue_ms(&self, link_kbps: u64) -> anyhow::Result<f64> {
        Ok(Recording::read(&self.file)?.queue_ms(link_kbps))
    }

    /// A point of the GOP as a time after its keyframe.
    pub(super) fn place(&self, index: u32, of: u32) -> Duration {
        Duration::from_secs(self.gop_s) * index / of.max(1)
    }
}

/// A zoom into the Mandelbrot set, which moves everywhere, under noise as of a camera.
fn encode(file: &Path, gop_s: u64) -> anyhow::Result<()> {
    let frames = SECONDS * FRAMES_PER_SECOND;
    let gop = (gop_s * FRAMES_PER_SECOND).to_string();
    let scene = format!(
        "mandelbrot=size=1280x720:rate={FRAMES_PER_SECOND}:maxiter=500:end_scale=0.02:end_pts={frames}"
    );
    let status = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", &scene])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", &SECONDS.to_string()])
        .args(["-vf", "noise=alls=5:allf=t,format=yuv420p", "-c:v", "libx264", "-preset", "veryfast"])
        .args(["-tune", "zerolatency", "-profile:v", "baseline", "-x264-params", "slices=1:threads=2"])
        .args(["-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0"])
        .args(["-b:v", BITRATE, "-maxrate", BITRATE, "-bufsize", BITRATE])
        .args(["-c:a", "aac", "-b:a", "128k", "-ac", "2", "-f", "flv"])
        .arg(file)
        .stdin(Stdio::null())
        .status()
        .context("ffmpeg")?;
    ensure!(status.success(), "ffmpeg: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_keyframe_is_found_in_every_round() {
        let s = Duration::from_secs;
        let lesson = Lesson {
            gop_s: 2,
            file: PathBuf::new(),
            keyframes: vec![s(0), s(2)],
            round: s(4) + Duration::from_millis(40),
        };
        let began = SystemTime::UNIX_EPOCH + s(100);
        let next = |ms| lesson.next_keyframe(began, began + Duration::from_millis(ms));
        let after = |ms| began + Duration::from_millis(ms);
        assert_eq!([next(0), next(1), next(2000)], [after(0), after(2000), after(2000)]);
        assert_eq!([next(2001), next(4039), next(4041)], [after(4040), after(4040), after(6040)]);
        assert_eq!(lesson.place(3, 10), Duration::from_millis(600));
    }
}
