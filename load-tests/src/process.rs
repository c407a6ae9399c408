//! What a process costs: proc(5).
use std::fs;
use std::io;
use std::time::Duration;

/// Clock ticks per second in /proc: USER_HZ, 100 on every platform that Rust's Linux targets have in use.
const TICKS_PER_SECOND: u64 = 100;
/// Bytes of the kilobytes in /proc.
const KIB: u64 = 1024;
/// Processes of a group at most; no server has more.
const GROUP_MAX: usize = 4096;

/// What a process, or several, have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// In programs and in the kernel on their behalf. Counted in hundredths of a second.
    pub(crate) cpu: Duration,
    /// Memory held now.
    pub(crate) rss_bytes: u64,
    /// Processes that still run.
    pub(crate) running: usize,
}

/// What the processes of a group have used, with those of their children that have ended.
///
/// A child that has left the group is not counted while it runs.
pub(crate) fn group_usage(group: u32) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // Processes may end while they are looked at: what cannot be read is gone.
    let stats = ids.filter_map(|pid| Some((pid, Stat::of(pid).ok()?)));
    for (pid, stat) in stats.filter(|(_, stat)| stat.group == group).take(GROUP_MAX) {
        usage.cpu += stat.cpu;
        if stat.is_running {
            usage.running += 1;
            usage.rss_bytes += resident_bytes(pid).unwrap_or(0);
        }
    }
    Ok(usage)
}

/// Memory that a process holds.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * KIB).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no VmRSS"))
}

/// A line of /proc/PID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    group: u32,
    is_running: bool,
    cpu: Duration,
}

impl Stat {
    fn of(pid: u32) -> io::Result<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&line)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an unknown form of stat"))
    }

    fn parse(line: &str) -> Option<Self> {
        // The name, in parentheses, may itself hold parentheses and spaces.
        let (_, fields) = line.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // Fields 14 to 17 of the line: in the program, in the kernel, and both of children that were waited for.
        let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
        Some(Self {
            group: fields.get(2)?.parse().ok()?,
            is_running: !matches!(*fields.first()?, "Z" | "X" | "x"),
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn names_with_spaces_and_parentheses_are_no_trouble() {
        let line = "7 (a) S (b) R 1 5 5 0 -1 4194304 1 2 3 4 100 20 3 1 20 0 1 0 1 1 1";
        let expected = Stat { group: 5, is_running: true, cpu: Duration::from_millis(1240) };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn a_group_is_counted_with_its_children() {
        let mut child = Command::new("sh")
            .args(["-c", "cat & cat"])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut seen = 0;
        for _ in 0..10_000 {
            seen = seen.max(group_usage(child.id()).unwrap().running);
            if seen >= 2 {
                break;
            }
            std::thread::yield_now();
        }
        let usage = group_usage(child.id()).unwrap();
        assert!(usage.running >= 1 && usage.rss_bytes > 100 * KIB, "{usage:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(seen >= 2);
    }
}
