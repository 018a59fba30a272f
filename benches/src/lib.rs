//! What the benchmarks share.

pub mod clip;
pub mod ffmpeg;
pub mod up;
pub mod usage;
