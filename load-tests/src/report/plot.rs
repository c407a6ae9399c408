//! stub
#[derive(serde::Deserialize)] pub(crate) struct Plot {}
impl Plot { pub(crate) fn draw(&self) -> anyhow::Result<String> { Ok(String::new()) } }
