//! `lectern-load bottleneck`: viewers behind links that are hardly fast enough for the stream, with a long queue.
//!
//! Server, publisher and viewers run in network namespaces; `tc tbf` stands between the server and each viewer. Viewers
//! join at places spread evenly over the group of pictures.
mod lesson;
mod link;
mod outcome;
mod player;
mod server;

use std::path::PathBuf;

use anyhow::ensure;
use serde_json::json;

use self::lesson::Lesson;
use self::link::Quality;
use self::outcome::Series;
use self::player::{Player, Watching};
use self::server::{Kind, Programs, Scene};
use crate::{chromium, interrupt, namespace, report};

/// What the tables leave unsaid.
const NOTE: &str = "\nMediaMTX does not turn AAC into Opus: without sound, its links carry 0.15 Mbit/s less.";

/// The command line of `bottleneck`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which servers.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "lectern,mediamtx")]
    servers: Vec<Kind>,
    /// Lectern's program.
    #[arg(long, value_name = "FILE", default_value = "target/release/lectern")]
    lectern: PathBuf,
    /// MediaMTX's program, as scripts/rivals.sh builds it.
    #[arg(long, value_name = "FILE", default_value = "target/rivals/mediamtx-v1.20.1")]
    mediamtx: PathBuf,
    /// Who watches.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "load,chromium")]
    players: Vec<Player>,
    /// Links, in Mbit/s.
    #[arg(long, value_name = "MBPS", value_delimiter = ',', default_value = "6,4,3")]
    links: Vec<f64>,
    /// How long a packet waits in the full queue of a link.
    #[arg(long, value_name = "MS", default_value_t = 300)]
    queue_ms: u64,
    /// From one keyframe to the next.
    #[arg(long, value_name = "SECONDS", value_delimiter = ',', default_value = "2,10")]
    gops: Vec<u64>,
    /// Joins of this program's viewer, at places spread over the GOP.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    joins: u8,
    /// Joins of Chromium.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    chromium_joins: u8,
    /// How long each watches.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where lessons and figures are kept.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench-link")]
    folder: PathBuf,
}

/// Measures and prints the tables.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Err(reason) = namespace::enter(&["ip", "tc"])? {
        report::result(&format!("skipped: {reason}"));
        return Ok(());
    }
    interrupt::watch()?;
    link::take_address()?;
    let bench = Bench::new(arguments)?;
    let mut measured = Vec::new();
    for gop_s in &arguments.gops {
        let lesson = Lesson::prepare(&bench.folder, *gop_s)?;
        for kind in &bench.servers {
            for player in &arguments.players {
                for link_kbps in &bench.links_kbps {
                    measured.push(bench.measure(*kind, *player, *link_kbps, &lesson)?);
                    // Whoever stops it early has what was measured so far.
                    report::write_json(&bench.folder.join("link.json"), &json!({ "measured": measured }))?;
                }
            }
        }
    }
    report::result(&outcome::joins(&measured));
    report::result("");
    report::result(&outcome::summary(&measured));
    if bench.servers.contains(&Kind::Mediamtx) {
        report::result(NOTE);
    }
    Ok(())
}

/// What all measurements share.
#[derive(Debug)]
struct Bench<'a> {
    arguments: &'a Arguments,
    programs: Programs,
    servers: Vec<Kind>,
    links_kbps: Vec<u64>,
    folder: PathBuf,
    frontend: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(arguments: &'a Arguments) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&arguments.folder)?;
        let file = |kind: Kind| match kind {
            Kind::Lectern => &arguments.lectern,
            Kind::Mediamtx => &arguments.mediamtx,
        };
        let (servers, missing): (Vec<Kind>, Vec<Kind>) =
            arguments.servers.iter().partition(|kind| file(**kind).exists());
        for kind in missing {
            report::progress(&format!("{} is left out: there is no {}", kind.name(), file(kind).display()));
        }
        ensure!(!servers.is_empty(), "no server is there to be measured");
        let has_chromium = arguments.players.contains(&Player::Chromium);
        // Absolute, because each server has a folder of its own.
        let program = |kind: Kind| file(kind).canonicalize().unwrap_or_default();
        Ok(Self {
            arguments,
            programs: Programs {
                lectern: program(Kind::Lectern),
                mediamtx: program(Kind::Mediamtx),
                own: std::env::current_exe()?,
            },
            servers,
            links_kbps: arguments.links.iter().map(|mbps| kbps(*mbps)).collect::<anyhow::Result<_>>()?,
            folder: arguments.folder.canonicalize()?,
            frontend: if has_chromium { chromium::frontend()? } else { PathBuf::new() },
        })
    }

    /// All joins behind one kind of link, with a server of their own.
    fn measure(&self, kind: Kind, player: Player, link_kbps: u64, lesson: &Lesson) -> anyhow::Result<Series> {
        let (server, gop_s) = (kind.name(), lesson.gop_s);
        report::progress(&format!("{server}, {}, {link_kbps} kbit/s, GOP {gop_s} s", player.name()));
        let scene = Scene::set(kind, &self.programs, lesson)?;
        let Arguments { joins, chromium_joins, seconds, queue_ms, .. } = *self.arguments;
        let watching = Watching {
            scene: &scene,
            lesson,
            quality: Quality { kbps: link_kbps, queue_ms },
            joins: if player == Player::Load { joins } else { chromium_joins },
            seconds,
            own: &self.programs.own,
            frontend: &self.frontend,
        };
        let own_queue_ms = lesson.queue_ms(link_kbps)?;
        Ok(Series {
            server,
            player: player.name(),
            link_kbps,
            gop_s,
            own_queue_ms,
            joins: watching.play(player)?,
        })
    }
}

fn kbps(mbps: f64) -> anyhow::Result<u64> {
    ensure!((0.05..=10_000.0).contains(&mbps), "{mbps} Mbit/s is no link");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked above")]
    Ok((mbps * 1000.0).round() as u64)
}
