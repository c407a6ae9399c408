//! Where streams come from that nobody publishes here.
use std::fmt::Debug;
use std::pin::Pin;

/// Brings streams of other nodes into the hub of this one.
pub trait Source: Debug + Send + Sync {
    /// Has the stream of a class come here if it is anywhere, and returns when it can be taken or there is none.
    fn ensure<'a>(&'a self, class: &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}
