//! The shell of a process: configuration, telemetry, metrics, admin HTTP, drain.
