//! Test support for the whole system: sources to transcode, and readers that prove what came out.

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod barcode;
pub mod fixtures;
pub mod media_dir;
pub mod sound;
