//! Logs.
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line, for collectors.
    Json,
}

/// What is logged when the filter cannot be read.
const FALLBACK: &str = "info";

/// Starts logging to the standard error. `filter` is in the form of `tracing_subscriber`'s `EnvFilter`; one that cannot
/// be read is complained of and replaced by `info`, because a typing error must not keep a lesson from beginning.
pub fn init(format: Format, filter: &str) {
    let parsed = EnvFilter::try_new(filter);
    let complaint = parsed.as_ref().err().map(ToString::to_string);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed.unwrap_or_else(|_| EnvFilter::new(FALLBACK)))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second call, as tests in one process make, changes nothing.
    let _ = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
    if let Some(complaint) = complaint {
        tracing::warn!(filter, complaint, "the log filter cannot be read");
    }
}

/// Makes every panic a line of the log: which thread, where, and why. What becomes of the process is for whoever owns the
/// thread to say.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("");
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace =
            (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(thread = thread.name(), location, message, backtrace, "thread panicked");
    }));
}
