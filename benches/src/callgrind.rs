//! One case under callgrind.
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cases::Case;

/// The processor that valgrind imitates is much the same everywhere: it has AVX2 where the real one has. What is left
/// to choose is fixed here. AES-GCM has a path of its own for AVX-512 (bits 16, 17, 21, 28, 30 and 31 of leaf 7, in the
/// second word of aws-lc's `OPENSSL_ia32cap`, see its `cpu_intel.c`), which valgrind may learn one day; and a copy with
/// `rep movsb` counts an instruction for every byte, where a processor moves a cache line.
const PROCESSOR: [(&str, &str); 2] = [
    ("OPENSSL_ia32cap", "~0x0:~0xd0230000"),
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-FSRM,-AVX512F,-AVX512VL"),
];
/// Lines of valgrind's complaint that are worth showing.
const COMPLAINT_LINES: usize = 6;

/// What came of counting.
pub(crate) enum Counted {
    /// One iteration of the case.
    Instructions(u64),
    /// The case runs, but not under this machine's valgrind.
    Not(String),
}

/// Counts one iteration of a case. An error is the case's own: it fails without valgrind too.
pub(crate) fn count(case: &Case) -> Result<Counted> {
    let (once, twice) = (collected(case, case.times)?, collected(case, case.times.saturating_mul(2))?);
    let (once, twice) = match (once, twice) {
        (Counted::Instructions(once), Counted::Instructions(twice)) => (once, twice),
        (Counted::Not(why), _) | (_, Counted::Not(why)) => {
            run_alone(case)?;
            return Ok(Counted::Not(why));
        }
    };
    let difference = twice.checked_sub(once).context("twice the work took fewer instructions")?;
    Ok(Counted::Instructions(difference / u64::from(case.times)))
}

/// The instructions of one whole run, start-up included.
fn collected(case: &Case, times: u32) -> Result<Counted> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(case.without.map(|function| format!("--toggle-collect={function}")))
        .arg("--collect-atstart=yes")
        .arg(std::env::current_exe()?)
        .args(["run", case.name, &times.to_string()])
        .envs(PROCESSOR)
        .stdin(Stdio::null())
        .output()
        .context("valgrind cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(match instructions(&said).filter(|_| output.status.success()) {
        Some(instructions) => Counted::Instructions(instructions),
        None => {
            Counted::Not(format!("{} under valgrind: {}\n{}", case.name, output.status, complaint(&said)))
        }
    })
}

/// From `==123== Collected : 456`.
fn instructions(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

fn complaint(said: &str) -> String {
    let lines = said.lines().skip_while(|line| !line.contains("nhandled") && !line.contains("nrecognised"));
    let lines: Vec<_> = lines.take(COMPLAINT_LINES).collect();
    if lines.is_empty() { said.to_owned() } else { lines.join("\n") }
}

/// Whose fault is it? A case that fails by itself is broken, whatever the machine.
fn run_alone(case: &Case) -> Result<()> {
    let Output { status, stderr, .. } =
        Command::new(std::env::current_exe()?).args(["run", case.name, "1"]).output()?;
    if !status.success() {
        bail!("{} fails without valgrind too: {status}\n{}", case.name, String::from_utf8_lossy(&stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_callgrind_says() {
        let said =
            "==7== Events    : Ir\n==7== Collected : 12345678\n==7==\n==7== I   refs:      12,345,678\n";
        assert_eq!(instructions(said), Some(12_345_678));
        assert_eq!(instructions("==7== valgrind: Unrecognised instruction at address 0x1234."), None);
    }
}
