//! Debian's PostgreSQL on a machine of the lab, in a temporary folder.
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::cluster::wait;
use super::network::Network;
use crate::compare::group::Group;
use crate::namespace::{run, within};

/// The machine.
const MACHINE: &str = "database";
/// Where Debian has the programs, a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Who runs it: it does not run as root.
const USER: &str = "postgres";
/// Who owns everything in it.
const ROLE: &str = "lectern";
/// Whom it lets in: whoever is in the lab.
const ACCESS: &str = "host all all 10.77.0.0/24 trust\n";

/// A server that ends with its owner.
#[derive(Debug)]
pub(super) struct Database {
    programs: PathBuf,
    address: Ipv4Addr,
    command: String,
    made: u32,
    server: Option<Group>,
    folder: TempDir,
}

impl Database {
    /// Starts an empty one.
    pub(super) fn start(network: &mut Network) -> anyhow::Result<Self> {
        let (programs, folder) = (programs()?, TempDir::new()?);
        let address = network.machine(MACHINE)?;
        let data = folder.path().join("data");
        let user = format!("setpriv --reuid {USER} --regid {USER} --clear-groups");
        run("chown", &format!("{USER} {}", folder.path().display()))?;
        run(
            "setpriv",
            &format!(
                "--reuid {USER} --regid {USER} --clear-groups {}/initdb --pgdata {} --username admin --auth trust --encoding UTF8 \
             --locale C --no-sync",
                programs.display(),
                data.display()
            ),
        )?;
        std::fs::write(data.join("pg_hba.conf"), ACCESS)?;
        // Its processes leave the group, so they have a namespace of which the shell is the first: they end with it, whatever ends
        // it, and so does the memory that they share.
        let server = format!(
            "unshare --pid --ipc --fork --kill-child sh -c 'cd {}; rm -f data/postmaster.pid; \
             {user} {}/postgres -D data -c listen_addresses={address} -c unix_socket_directories= -c fsync=off \
             -c dynamic_shared_memory_type=mmap >>log 2>&1; :'",
            folder.path().display(),
            programs.display(),
        );
        let command = format!("exec {}", within(MACHINE, &server));
        let mut database = Self { programs, address, command, made: 0, server: None, folder };
        database.start_again()?;
        database.ask("createuser", ROLE)?;
        Ok(database)
    }

    /// As if its power were cut.
    pub(super) fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts it with what it had.
    pub(super) fn start_again(&mut self) -> anyhow::Result<()> {
        let mut server = Group::start(&self.command, &[], None)?;
        let ready = wait("PostgreSQL", || {
            ensure!(server.status()?.is_none(), "PostgreSQL has ended");
            Ok(self.ask("pg_isready", "").ok())
        });
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        ready.with_context(log)?;
        self.server = Some(server);
        Ok(())
    }

    /// Makes a database and returns its URL.
    pub(super) fn create(&mut self) -> anyhow::Result<String> {
        let name = format!("cluster{}", self.made);
        self.made += 1;
        self.ask("createdb", &format!("--owner {ROLE} {name}"))?;
        Ok(format!("postgres://{ROLE}@{}/{name}", self.address))
    }

    fn ask(&self, program: &str, arguments: &str) -> anyhow::Result<String> {
        let program = self.programs.join(program).display().to_string();
        run(&program, &format!("--host {} --username admin {arguments}", self.address))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Nobody needs what it has.
        self.kill();
    }
}

/// The programs of the newest version that is installed.
fn programs() -> anyhow::Result<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versions.filter(|path| path.join("bin/postgres").exists()).max_by_key(|path| version(path));
    Ok(newest.context("PostgreSQL is missing: scripts/setup.sh test installs it")?.join("bin"))
}
