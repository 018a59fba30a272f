//! Real clips from cameras, phones and encoders, in a folder outside the repository.

use std::path::PathBuf;

/// The folder that `REELMILL_MEDIA` names. Tests on real clips are skipped when it is not set.
pub fn real_clips() -> Option<PathBuf> {
    let folder = std::env::var_os("REELMILL_MEDIA").filter(|value| !value.is_empty())?;
    Some(PathBuf::from(folder))
}

/// One real clip by its file name, or `None` when no folder is set.
///
/// Panics when a folder is set and has no such clip: a misspelt name must not skip a test.
pub fn clip(name: &str) -> Option<PathBuf> {
    let path = real_clips()?.join(name);
    assert!(path.is_file(), "REELMILL_MEDIA is set, but {} is not a file", path.display());
    Some(path)
}
