//! What the benchmarks share.

pub mod clip;
pub mod ffmpeg;
pub mod http2;
pub mod http3;
pub mod nats;
pub mod noise;
pub mod origin;
pub mod processes;
pub mod tls;
pub mod up;
pub mod usage;
