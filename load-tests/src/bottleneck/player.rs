//! Those who watch, each behind a link of its own: this program's viewer, or Chromium.
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::lesson::Lesson;
use super::link::{Bottleneck, Quality};
use super::outcome::Join;
use super::server::{Door, Scene};
use crate::compare::group::Group;
use crate::{chromium, interrupt};

/// From now to the first join: as long as the programs take to start.
const LEAD: Duration = Duration::from_millis(500);
/// What joins may take beside the time that they watch: Chromium's start and the page's bundle, on a busy machine.
const SLACK: Duration = Duration::from_secs(120);
/// How often it is looked whether they are done.
const LOOK: Duration = Duration::from_millis(50);

/// Whose WebRTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Player {
    Load,
    Chromium,
}

impl Player {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Load => "lectern-load",
            Self::Chromium => "Chromium",
        }
    }
}

/// What is watched, how often and for how long.
#[derive(Debug)]
pub(super) struct Watching<'a> {
    pub(super) scene: &'a Scene,
    pub(super) lesson: &'a Lesson,
    pub(super) quality: Quality,
    pub(super) joins: u8,
    pub(super) seconds: u64,
    pub(super) own: &'a Path,
    /// Where Chromium's harness is.
    pub(super) frontend: &'a Path,
}

impl Watching<'_> {
    pub(super) fn play(&self, player: Player) -> anyhow::Result<Vec<Join>> {
        match player {
            Player::Load => self.play_load(),
            Player::Chromium => self.play_chromium(),
        }
    }

    /// All in one GOP, each in a namespace of its own.
    fn play_load(&self) -> anyhow::Result<Vec<Join>> {
        let folder = TempDir::new()?;
        let links = (0..self.joins)
            .map(|number| Bottleneck::open(number, self.quality))
            .collect::<Result<Vec<_>, _>>()?;
        let first = self.lesson.next_keyframe(self.scene.began, SystemTime::now() + LEAD);
        let mut viewers = Vec::new();
        for (number, link) in (0_u32..).zip(&links) {
            let file = folder.path().join(format!("{number}.json"));
            interrupt::sleep_until(first + self.place(number))?;
            let command = format!(
                "exec {} watch --viewers 1 --decrypt-every 1 --duration {}s --json {} {}",
                link.within(&self.own.display().to_string()),
                self.seconds,
                file.display(),
                match &self.scene.door {
                    Door::Token(url) => format!("--token-url '{}'", url.replace("{n}", &number.to_string())),
                    Door::Whep(url) => format!("--whep '{url}'"),
                }
            );
            viewers.push((Group::start(&command, &[], None)?, file));
        }
        let mut joins = Vec::new();
        for (number, ((mut viewer, file), link)) in (0_u32..).zip(viewers.into_iter().zip(&links)) {
            wait(&mut viewer, self.watched(1))?;
            let place = self.place(number).as_secs_f64();
            joins.push(match std::fs::read(&file) {
                Ok(bytes) => Join::of_load(place, &serde_json::from_slice(&bytes)?, link.dropped()?),
                Err(_) => Join::failed(place),
            });
        }
        Ok(joins)
    }

    /// One after the other in one browser, because a machine decodes few pictures of 720p at a time.
    fn play_chromium(&self) -> anyhow::Result<Vec<Join>> {
        let folder = TempDir::new()?;
        let file = folder.path().join("joins.json");
        let link = Bottleneck::open(0, self.quality)?;
        let (token_url, whep) = match &self.scene.door {
            Door::Token(url) => (Some(url.replace("{n}", "0")), None),
            Door::Whep(url) => (None, Some(url.clone())),
        };
        let places: Vec<f64> = (0..self.joins).map(|n| self.place(n.into()).as_secs_f64() * 1e3).collect();
        let task = folder.path().join("task.json");
        let keyframe = self.lesson.next_keyframe(self.scene.began, SystemTime::now());
        let task_json = json!({
            "tokenUrl": token_url, "whep": whep, "placesMs": places, "seconds": self.seconds,
            "keyframeMs": keyframe.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64() * 1e3,
            "gopMs": self.lesson.gop_s * 1000, "output": file,
        });
        std::fs::write(&task, task_json.to_string())?;
        let log = folder.path().join("log");
        let command = chromium::command(self.frontend, "link", &task, |program| link.within(program));
        let mut browser = Group::start(&command, &[], Some(std::fs::File::create(&log)?))?;
        wait(&mut browser, self.watched(self.joins.into()))?;
        let bytes = std::fs::read(&file)
            .with_context(|| format!("Chromium: {}", std::fs::read_to_string(&log).unwrap_or_default()))?;
        let joins: Vec<Value> = serde_json::from_slice(&bytes)?;
        Ok(joins.iter().map(Join::of_chromium).collect())
    }

    fn place(&self, number: u32) -> Duration {
        self.lesson.place(number, self.joins.into())
    }

    /// How long so many joins in a row may take.
    fn watched(&self, joins: u32) -> Duration {
        Duration::from_secs(self.seconds + 3 * self.lesson.gop_s) * joins + SLACK
    }
}

fn wait(group: &mut Group, at_most: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + at_most;
    while group.status()?.is_none() {
        interrupt::check()?;
        ensure!(Instant::now() < deadline, "a player does not end");
        std::thread::sleep(LOOK);
    }
    Ok(())
}
