//! A file in a loop.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use media::flv::file::{Tag, Tags};

use super::message::{Kind, Message};

/// Bytes of a file at most: it is held in memory, once for all publishers.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Between the last tag of one round and the first of the next: a frame at 25 a second.
const ROUND_GAP: Duration = Duration::from_millis(40);
/// Message types.
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;

/// The sound and pictures of an FLV file.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    tags: Arc<[Tag]>,
}

impl Recording {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("{}", path.display());
        let len = std::fs::metadata(path).with_context(context)?.len();
        ensure!(len <= FILE_BYTES_MAX, "{}: more than {FILE_BYTES_MAX} bytes", path.display());
        let tags = Tags::parse(std::fs::read(path).with_context(context)?.into());
        let Some(tags) = tags else { bail!("{} is no FLV file", path.display()) };
        let tags: Arc<[Tag]> = tags.filter(|tag| matches!(tag.kind, AUDIO | VIDEO)).collect();
        ensure!(!tags.is_empty(), "{} holds neither sound nor pictures", path.display());
        Ok(Self { tags })
    }

    /// The file from its beginning, again and again.
    pub(super) fn rounds(&self) -> Rounds {
        Rounds { recording: self.clone(), next: 0, offset: Duration::ZERO }
    }
}

/// A recording that begins again at its end, its times going on.
#[derive(Debug)]
pub(super) struct Rounds {
    recording: Recording,
    next: usize,
    offset: Duration,
}

impl Rounds {
    pub(super) fn next(&mut self) -> Message {
        let tags = &self.recording.tags;
        let start = tags.first().map_or(0, |tag| tag.timestamp_ms);
        let since_start = |tag: &Tag| Duration::from_millis(tag.timestamp_ms.saturating_sub(start).into());
        if self.next == tags.len() {
            let longest = tags.iter().map(since_start).max().unwrap_or_default();
            self.offset += longest + ROUND_GAP;
            self.next = 0;
        }
        let tag = tags.get(self.next).expect("the end was just looked for, and a recording is never empty");
        self.next += 1;
        let kind = if tag.kind == AUDIO { Kind::Audio } else { Kind::Video };
        Message::new(kind, self.offset + since_start(tag), tag.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn times_go_on_when_the_file_begins_again() {
        let tag = |kind, timestamp_ms| Tag { kind, timestamp_ms, body: Bytes::new() };
        let tags = [tag(VIDEO, 500), tag(AUDIO, 510), tag(VIDEO, 540)].into();
        let mut rounds = Recording { tags }.rounds();
        let times: Vec<u32> = (0..7).map(|_| rounds.next().timestamp_ms()).collect();
        assert_eq!(times, [0, 10, 40, 80, 90, 120, 160]);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(Recording::read(Path::new("Cargo.toml")).is_err());
        assert!(Recording::read(Path::new("no such file")).is_err());
    }
}
