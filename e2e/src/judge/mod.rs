//! Judges a published tree against its source: what came out is what went in, and every number that is said is true.
//!
//! No single player or tool sees every fault (a decode time that is one frame late plays without a word), so clocks,
//! rates and hashes are checked here from the bytes, and decoding is left to programs by others.

mod clock;
mod declared;
mod expected;
mod picture;
mod sound;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use expected::{Expected, Sound};

use crate::published::{Get, Published};

/// What is wrong, one sentence each.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    /// Notes a fault unless `right`.
    fn check(&mut self, right: bool, fault: impl FnOnce() -> String) {
        if !right {
            self.0.push(fault());
        }
    }

    fn add(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }

    /// Notes an error as a fault, and hands on the value if there is none.
    fn catch<T>(&mut self, place: &str, result: anyhow::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(format!("{place}: {error:#}"))).ok()
    }
}

/// Judges the tree under a multivariant playlist. Returns it with what is wrong with it.
pub fn judge(get: &Get<'_>, path: &str, expected: &Expected) -> (Option<Published>, Vec<String>) {
    let mut faults = Faults::default();
    let Some(published) = faults.catch("published tree", Published::read(get, path)) else {
        return (None, faults.0);
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    declared::judge(&published, folder.path(), &mut faults);
    clock::judge(&published, expected, &mut faults);
    picture::judge(&published, expected, folder.path(), &mut faults);
    sound::judge(&published, expected, folder.path(), &mut faults);
    (Some(published), faults.0)
}

/// Judges, and panics with all faults when there are any.
pub fn must_be_right(get: &Get<'_>, path: &str, expected: &Expected) -> Published {
    let (published, faults) = judge(get, path, expected);
    assert!(faults.is_empty(), "{path} has {} faults:\n  {}", faults.len(), faults.join("\n  "));
    published.expect("a tree without faults was read")
}

/// Writes bytes for a program to read.
fn file(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    path
}
