//! The servers that are measured, each started anew for each scene.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::lesson::Lesson;
use super::link::SERVER;
use crate::compare::group::Group;
use crate::interrupt;

/// How long a server may take to be ready, and the publisher to be let in.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// From the first keyframe to a server that has told everybody who should know.
const WARM: Duration = Duration::from_secs(2);

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    Lectern,
    /// It does not turn AAC into Opus, so its viewers hear nothing and its links carry less.
    Mediamtx,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lectern => "Lectern",
            Self::Mediamtx => "MediaMTX",
        }
    }
}

/// Where the programs are.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) lectern: PathBuf,
    pub(super) mediamtx: PathBuf,
    pub(super) own: PathBuf,
}

/// How viewers get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// A token is asked for here, and names the endpoint.
    Token(String),
    Whep(String),
}

/// A server that somebody publishes to.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) door: Door,
    /// When the publisher began.
    pub(super) began: SystemTime,
    _server: Group,
    _publisher: Group,
    _folder: TempDir,
}

impl Scene {
    /// Starts a server and a publisher, and returns when the lesson has its first keyframe.
    pub(super) fn set(kind: Kind, programs: &Programs, lesson: &Lesson) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let (server, rtmp, door) = match kind {
            Kind::Lectern => start_lectern(&programs.lectern, folder.path())?,
            Kind::Mediamtx => start_mediamtx(&programs.mediamtx, folder.path())?,
        };
        let file = folder.path().join("publishing");
        let command = format!(
            "exec {} publish --rtmp '{rtmp}' --file {} --ready-file {}",
            programs.own.display(),
            lesson.file.display(),
            file.display()
        );
        let mut publisher = Group::start(&command, &[], None)?;
        let began = wait_for(&mut publisher, "the publisher", || {
            Ok(std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()))
        })?;
        interrupt::sleep_until(SystemTime::now() + WARM)?;
        let began = SystemTime::UNIX_EPOCH + Duration::from_micros(began);
        Ok(Self { door, began, _server: server, _publisher: publisher, _folder: folder })
    }
}

fn start_lectern(program: &Path, folder: &Path) -> anyhow::Result<(Group, String, Door)> {
    let command = format!(
        "cd {} && exec env LECTERN_LOG=warn {} up --open --bind {SERVER} --data-dir data --ready-file ready.json",
        folder.display(),
        program.display()
    );
    let mut server = Group::start(&command, &[], None)?;
    let file = folder.join("ready.json");
    let ready: Value = wait_for(&mut server, "Lectern", || {
        Ok(std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    })?;
    let field = |name: &str| ready[name].as_str().unwrap_or_default();
    let rtmp = format!("{}/{}", field("rtmp_url"), field("key"));
    let token = format!(
        "http://{}/api/token?user_type=student&user_id=s{{n}}&class_id={}",
        field("http"),
        field("class")
    );
    Ok((server, rtmp, Door::Token(token)))
}

fn start_mediamtx(program: &Path, folder: &Path) -> anyhow::Result<(Group, String, Door)> {
    let settings = format!(
        "logLevel: warn\nrtsp: false\nhls: false\nsrt: false\nmoq: false\nwebrtcIPsFromInterfaces: false\n\
         webrtcAdditionalHosts: [{SERVER}]\nwebrtcLocalUDPAddress: {SERVER}:8189\npaths:\n  all_others:\n"
    );
    std::fs::write(folder.join("mediamtx.yml"), settings)?;
    let command = format!("cd {} && exec {} mediamtx.yml", folder.display(), program.display());
    let mut server = Group::start(&command, &[], None)?;
    for port in [1935, 8889] {
        let address = SocketAddr::from((SERVER, port));
        wait_for(&mut server, "MediaMTX", || Ok(std::net::TcpStream::connect(address).ok()))?;
    }
    let whep = format!("http://{SERVER}:8889/live/lesson/whep");
    Ok((server, format!("rtmp://{SERVER}:1935/live/lesson"), Door::Whep(whep)))
}

/// Looks until something is there.
pub(super) fn wait_for<T>(
    group: &mut Group,
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if let Some(status) = group.status()? {
            bail!("{what} has ended: {status}");
        }
        interrupt::check()?;
        ensure!(Instant::now() < deadline, "{what} is not ready");
        std::thread::sleep(LOOK);
    }
}
