//! Debian's PostgreSQL in a temporary folder, reached through a Unix socket there: no port, no password, nobody else's data.
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Where Debian has the programs, a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Who runs it when the tests are root's, for whom it does not run.
const USER: &str = "postgres";
/// The role that everything in it belongs to, which is no superuser.
const ROLE: &str = "lectern";

/// Does what its input says. That ends with the process that writes it, however that goes, and then the server and its folder go too.
/// Ctrl-C and time limits reach the whole group of processes, and are not for the keeper.
const KEEPER: &str = r#"
trap '' HUP INT TERM
cd "$FOLDER" || exit
runs() { for pid; do grep -qs '^State:.[^XZ]' "/proc/$pid/status" && return; done; return 1; }
settings="-c listen_addresses= -c unix_socket_directories='$FOLDER' -c fsync=off"
"$PROGRAMS/initdb" --pgdata data --username admin --auth trust --encoding UTF8 --locale C --no-sync >log 2>&1 &&
    echo done || echo failed
while read -r asked; do
    case $asked in
    start) "$PROGRAMS/pg_ctl" start --silent --wait --pgdata data --log log --options "$settings" >>log 2>&1 ;;
    kill)
        pid=$(head -n 1 data/postmaster.pid)
        all="$pid $(cat "/proc/$pid/task/$pid/children")"
        kill -KILL $all
        while runs $all; do sleep 0.01; done
        # Whoever does not reap its orphans lets them look alive.
        rm data/postmaster.pid .s.PGSQL.*
        ;;
    esac && echo done || echo failed
done
"$PROGRAMS/pg_ctl" stop --silent --mode immediate --pgdata data >>log 2>&1
rm -rf "$FOLDER"
"#;

/// A server that ends with its owner.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    programs: PathBuf,
    keeper: Child,
    asked: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    /// The server that all tests of a program share: it is started by the first, and ends with the program.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server for one test.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start() -> Self {
        let programs = programs();
        let folder = TempDir::new().expect("a temporary folder").keep();
        let mut command = Command::new("sh");
        if fs::metadata(&folder).expect("the folder").uid() == 0 {
            run(Command::new("chown").arg(USER).arg(&folder));
            command = Command::new("setpriv");
            command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "sh"]);
        }
        command.args(["-c", KEEPER]).env("FOLDER", &folder).env("PROGRAMS", &programs).current_dir(&folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().expect("a shell");
        let answers = BufReader::new(keeper.stdout.take().expect("its output is ours"));
        let asked = keeper.stdin.take();
        let mut server = Self { folder, programs, keeper, asked, answers };
        server.on_done("initdb");
        server.start_again();
        server.client("createuser", &["--username", "admin", ROLE]);
        server
    }

    /// Makes a database and returns its URL.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn create_database(&self) -> String {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", MADE.fetch_add(1, Ordering::Relaxed));
        self.client("createdb", &["--username", "admin", "--owner", ROLE, &name]);
        format!("postgres:///{name}?host={}&user={ROLE}", self.folder.display())
    }

    /// Kills every process of the server at once.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.ask("kill");
    }

    /// Starts it after it was killed, with what it had.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_again(&mut self) {
        self.ask("start");
    }

    fn ask(&mut self, what: &str) {
        let asked = self.asked.as_mut().expect("it is not dropped");
        writeln!(asked, "{what}").expect("the keeper listens");
        self.on_done(what);
    }

    fn on_done(&mut self, what: &str) {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the keeper's answer");
        let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert_eq!(answer, "done\n", "{what}:\n{}", log());
    }

    fn client(&self, program: &str, arguments: &[&str]) {
        run(Command::new(self.programs.join(program)).arg("--host").arg(&self.folder).args(arguments));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.asked = None;
        let _ = self.keeper.wait();
    }
}

/// The programs of the newest version that is installed.
fn programs() -> PathBuf {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versions.filter(|path| path.join("bin/postgres").exists()).max_by_key(|path| version(path));
    newest.expect("PostgreSQL is missing: scripts/setup.sh test installs it").join("bin")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_outlives_a_kill_and_nothing_outlives_the_owner() {
        let mut server = Postgres::start();
        server.create_database();
        server.kill();
        server.start_again();
        server.client("dropdb", &["--username", "admin", "test0"]);
        let folder = server.folder.clone();
        let pid = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
        let status = Path::new("/proc").join(pid.lines().next().unwrap()).join("status");
        // What nobody reaps is there and does not run.
        let runs = || fs::read_to_string(&status).is_ok_and(|status| !status.contains("State:\tZ"));
        assert!(runs());
        drop(server);
        assert!(!runs() && !folder.exists());
    }
}
