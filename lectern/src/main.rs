//! Lectern: a teacher's RTMP stream in, a class of browsers out.
fn main() {}
