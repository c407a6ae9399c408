//! The RTMP side of a node: publishers in, frames out to the hub.
