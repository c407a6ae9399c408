//! The streams of this process: publish, subscribe, GOP cache, drop policy.
