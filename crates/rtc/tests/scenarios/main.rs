//! Scenarios of the egress machine in virtual time: a lesson is published, viewers join over networks that lose, delay and
//! choke, and what they see is judged frame by frame.
mod bottleneck;
mod browser;
mod crowd;
mod hostile;
mod join;
mod keyed;
mod lesson;
mod network;
mod paths;
mod repair;
mod screen;
mod streams;
mod timing;
mod wire;
mod world;
