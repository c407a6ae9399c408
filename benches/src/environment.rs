//! What besides our code decides over a count.
use std::fmt;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Compiler, C library (its allocator and its copies), valgrind and kind of processor. Counts of different environments
/// are not compared: a difference may be theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    /// As `rustc --version` says: the one that has just built this program.
    pub(crate) rustc: String,
    /// All the rest.
    pub(crate) machine: String,
}

impl Environment {
    /// This machine's; `None` where there is no valgrind.
    pub(crate) fn here() -> Result<Option<Self>> {
        let Ok(valgrind) = said_by("valgrind", &["--version"]) else { return Ok(None) };
        let rustc = said_by("rustc", &["--version"])?;
        let rustc = rustc.split_whitespace().nth(1).context("rustc without a version")?.to_owned();
        let libc = said_by("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(|_| "another libc".to_owned());
        Ok(Some(Self { rustc, machine: format!("{}, {libc}, {valgrind}", processor()) }))
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rustc {}, {}", self.rustc, self.machine)
    }
}

/// Today, in the form that TOML and people read.
pub(crate) fn today() -> Result<String> {
    said_by("date", &["-u", "+%F"])
}

/// Copies and AES-GCM take other paths without AVX2.
fn processor() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return "x86_64 with AVX2";
    }
    std::env::consts::ARCH
}

fn said_by(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    anyhow::ensure!(output.status.success(), "{program}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
