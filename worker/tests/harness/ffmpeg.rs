//! ffmpeg, for sources of a test's own.

use std::ffi::OsStr;
use std::process::Command;

use reelmill_e2e::fixtures::ffmpeg;

/// What it says on its standard output.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Vec<u8> {
    let output =
        Command::new(ffmpeg()).args(["-nostdin", "-v", "error", "-y"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
