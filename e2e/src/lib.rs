//! Test support for the whole system: sources to transcode, a system to run, and judges that prove what came out.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod barcode;
pub mod boxes;
pub mod fixtures;
pub mod fleet;
pub mod gate;
pub mod http;
pub mod judge;
pub mod media_dir;
pub mod published;
pub mod s3;
pub mod sound;
pub mod system;
pub mod tools;
