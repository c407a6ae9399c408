//! The cases: a step of the path of a frame each, fed as in a lesson.
mod egress;
mod ingest;

use anyhow::{Context as _, Result};

/// One step of the path.
pub(crate) struct Case {
    /// What it is called on the command line and in `counts.toml`.
    pub(crate) name: &'static str,
    /// Iterations of the shorter run: enough for tens of millions of instructions.
    pub(crate) times: u32,
    /// A function that is not counted, nor what it calls.
    pub(crate) without: Option<&'static str>,
    /// Makes what one iteration is run on. The number that comes back tells the compiler that the work is needed.
    pub(crate) prepare: fn() -> Box<dyn FnMut() -> usize>,
}

const CASES: &[Case] = &[
    Case { name: "chunk_128", times: 10, without: None, prepare: || ingest::chunk(128) },
    Case { name: "chunk_4096", times: 100, without: None, prepare: || ingest::chunk(4096) },
    Case { name: "session", times: 50, without: None, prepare: ingest::session },
    Case { name: "split", times: 500, without: None, prepare: ingest::split },
    Case { name: "fanout", times: 1, without: None, prepare: egress::fanout },
    Case { name: "packetise", times: 200, without: None, prepare: egress::packetise },
    Case { name: "protect", times: 5, without: None, prepare: egress::protect },
    Case { name: "join", times: 100, without: CIPHER, prepare: egress::join },
    Case { name: "watch", times: 100, without: CIPHER, prepare: egress::watch },
];
/// AES-GCM is five sixths of what a packet costs, and would hide a copy too many; `protect` counts it.
const CIPHER: Option<&str> = Some("*EVP_AEAD_CTX_seal_scatter");

/// The case of this name.
pub(crate) fn find(name: &str) -> Result<&'static Case> {
    CASES.iter().find(|case| case.name == name).with_context(|| format!("there is no case {name}"))
}

/// The cases of these names; all of them for none.
pub(crate) fn select(names: &[&str]) -> Result<Vec<&'static Case>> {
    if names.is_empty() {
        return Ok(CASES.iter().collect());
    }
    names.iter().map(|name| find(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_does_the_same_work_in_every_iteration() {
        for case in CASES {
            let mut once = (case.prepare)();
            let first = once();
            assert!(first > 0 && once() == first && once() == first, "{}", case.name);
        }
    }
}
