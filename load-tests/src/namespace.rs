//! Networks of our own: hosts that are network namespaces of this machine (network_namespaces(7)).
//!
//! Names, mounts and processes are this program's own: they go with it, however it ends, and the machine's network is not touched.
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::interrupt;

/// In the environment of the program that runs inside.
const INSIDE: &str = "LECTERN_LOAD_INSIDE";
/// Where `ip netns` keeps names (ip-netns(8)).
const NAMES: &str = "/run/netns";
/// What the program is moved with (unshare(1)). It is the first process there, and with it all others end; it ends with this one.
const MOVING: &str =
    "--pdeathsig KILL unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc";
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Moves this program into a network of its own by starting it again there, where this returns. `Err` says why that cannot be: it takes
/// root, a kernel that lets it, and these programs.
pub(crate) fn enter(programs: &[&str]) -> anyhow::Result<Result<(), String>> {
    if std::env::var_os(INSIDE).is_some() {
        std::fs::create_dir_all(NAMES)?;
        run("mount", "-t tmpfs none /run/netns")?;
        run("ip", "link set lo up")?;
        return Ok(Ok(()));
    }
    let versions = programs.iter().map(|program| (*program, "-V".to_owned()));
    for (program, arguments) in [("setpriv", format!("{MOVING} true"))].into_iter().chain(versions) {
        if let Err(error) = run(program, &arguments) {
            return Ok(Err(format!("no network namespaces here: {error:#}")));
        }
    }
    interrupt::watch()?;
    let moved = Command::new("setpriv")
        .args(MOVING.split_whitespace())
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .spawn()
        .context("setpriv")?;
    std::process::exit(see_out(moved)?)
}

/// Waits for the program that was moved, and passes on that somebody wants the end.
fn see_out(mut moved: Child) -> anyhow::Result<i32> {
    let mut is_told = false;
    loop {
        if let Some(status) = moved.try_wait()? {
            return Ok(status.code().unwrap_or(1));
        }
        if interrupt::check().is_err() && !is_told {
            is_told = true;
            // `unshare` itself does not heed it.
            let id = moved.id();
            let within = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            run("kill", &format!("-s TERM {within}"))?;
        }
        std::thread::sleep(LOOK);
    }
}

/// A host, until it is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
}

impl Host {
    /// With a loopback interface and no other.
    pub(crate) fn open(name: &str) -> anyhow::Result<Self> {
        run("ip", &format!("netns add {name}"))?;
        let host = Self { name: name.to_owned() };
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// A cable to the program's own network: `ours` is there, `theirs` on the host.
    pub(crate) fn connect(&self, ours: &str, theirs: &str) -> anyhow::Result<()> {
        run("ip", &format!("link add {ours} type veth peer name {theirs} netns {}", self.name))?;
        run("ip", &format!("link set {ours} up"))?;
        self.ip(&format!("link set {theirs} up"))
    }

    /// Runs `ip` on the host.
    pub(crate) fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        run("ip", &format!("-n {} {arguments}", self.name)).map(drop)
    }

    /// Runs any other program on the host to its end.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> anyhow::Result<String> {
        run("ip", &format!("netns exec {} {program} {arguments}", self.name))
    }

    /// What a shell runs to have `command` on the host.
    pub(crate) fn within(&self, command: &str) -> String {
        within(&self.name, command)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Cables go with the namespace at their end.
        let _ = run("ip", &format!("netns del {}", self.name));
    }
}

/// What a shell runs to have `command` on the host of this name.
pub(crate) fn within(host: &str, command: &str) -> String {
    format!("ip netns exec {host} {command}")
}

/// Runs a program to its end and returns what it printed.
pub(crate) fn run(program: &str, arguments: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
