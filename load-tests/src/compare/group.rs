//! A command with all that it starts: a process group of its own, on cores of its own, ended as a whole.
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::limit::socket;
use crate::process::{self, Usage};

/// How long what was asked to end may take before it is made to.
const GRACE: Duration = Duration::from_secs(5);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// A running command.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    status: Option<ExitStatus>,
}

impl Group {
    /// Has a shell run `command` on these cores. What it prints goes to `log`, or nowhere.
    pub(crate) fn start(command: &str, cores: &[usize], log: Option<File>) -> anyhow::Result<Self> {
        let (out, err) = match log {
            Some(log) => (Stdio::from(log.try_clone()?), Stdio::from(log)),
            None => (Stdio::null(), Stdio::null()),
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        // A child may run where the thread may that starts it.
        let starting = std::thread::scope(|scope| {
            let starter = scope.spawn(|| {
                if !cores.is_empty() {
                    socket::pin(cores).with_context(|| format!("cores {cores:?} cannot be used"))?;
                }
                shell.spawn().context("no shell can be started")
            });
            starter.join()
        });
        let child = starting.map_err(|_| anyhow!("the starting thread broke down"))??;
        Ok(Self { child, status: None })
    }

    /// The number of the group, which is that of the shell.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has cost so far.
    pub(crate) fn usage(&self) -> std::io::Result<Usage> {
        process::group_usage(self.id())
    }

    /// How the shell has ended, if it has.
    pub(crate) fn status(&mut self) -> std::io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Asks everything in the group to end, and makes it if that takes too long.
    fn end(&mut self, grace: Duration) {
        if self.is_running() {
            self.signal("TERM");
            let asked = Instant::now();
            while self.is_running() && asked.elapsed() < grace {
                std::thread::sleep(LOOK);
            }
            if self.is_running() {
                self.signal("KILL");
            }
            // Nothing outlives this signal, but it takes a moment to arrive.
            while self.is_running() && asked.elapsed() < grace + GRACE {
                std::thread::sleep(LOOK);
            }
        }
        // Only now may the number be given to another process.
        let _ = self.child.wait();
    }

    fn is_running(&self) -> bool {
        self.usage().is_ok_and(|usage| usage.running > 0)
    }

    /// Ends everything in the group as if its power were cut.
    pub(crate) fn kill(self) {
        self.signal("KILL");
    }

    /// Sends a signal to members that are known to exist, so that the number is theirs.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own: procps takes a group whose number is small, as those of a PID namespace are, for a signal.
        let command = format!("kill -s {name} -- -{}", self.id());
        let _ = Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end(GRACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_pinned_and_ends_with_its_owner() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("log");
        let core = *socket::cores().unwrap().last().unwrap();
        let command = "grep Cpus_allowed_list /proc/self/status; sleep 600 & sleep 600";
        let group = Group::start(command, &[core], Some(File::create(&path).unwrap())).unwrap();
        let id = group.id();
        let deadline = Instant::now() + GRACE;
        while group.usage().unwrap().running < 3 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        drop(group);
        assert_eq!(process::group_usage(id).unwrap().running, 0);
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("Cpus_allowed_list:\t{core}\n"));
    }

    #[test]
    fn what_does_not_listen_is_made_to_end() {
        let mut group = Group::start("trap '' TERM; sleep 600 & wait; sleep 600", &[], None).unwrap();
        group.end(LOOK * 5);
        assert_eq!(group.usage().unwrap().running, 0);
    }
}
