//! The hub through its public door.
mod keyframe;
mod lesson;
mod relay;
mod streams;
