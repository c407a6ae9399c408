//! stub
#[derive(Debug, clap::Args)] pub(crate) struct Arguments {}
pub(crate) fn run(_a: &Arguments) -> anyhow::Result<()> { Ok(()) }
