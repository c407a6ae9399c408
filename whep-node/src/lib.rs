//! The WHEP side of a node: sessions over HTTP, frames from the hub to the WebRTC engine.
