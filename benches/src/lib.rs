//! What the benchmarks share.

pub mod clip;
pub mod ffmpeg;
pub mod http3;
pub mod noise;
pub mod processes;
pub mod up;
pub mod usage;
