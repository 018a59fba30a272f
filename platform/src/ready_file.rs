//! The file by which a process tells whoever started it that it is ready, and where it listens.

use std::path::Path;

use serde::Serialize;

/// Writes `addresses` as JSON to `path`, whole or not at all.
pub fn write(path: &Path, addresses: &impl Serialize) -> std::io::Result<()> {
    let text = serde_json::to_vec(addresses).map_err(std::io::Error::other)?;
    let temporary = path.with_extension("partial");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}
