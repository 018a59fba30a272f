//! The device files that encoders are reached through.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files of `/dev` that belong to an encoder, by how their names begin: NVIDIA's, and Video4Linux's.
const PREFIXES: [&str; 2] = ["nvidia", "video"];

/// Where the render nodes are.
pub const RENDER_NODES: &str = "/dev/dri";

/// More than any machine has: what is listed at most of one folder.
const MOST: usize = 256;

/// Those there are now.
pub fn present() -> BTreeSet<PathBuf> {
    let named = names(Path::new("/dev")).filter(|name| PREFIXES.iter().any(|p| name.starts_with(p)));
    let nodes = names(Path::new(RENDER_NODES)).map(|name| Path::new(RENDER_NODES).join(name));
    named.map(|name| Path::new("/dev").join(name)).chain(nodes).collect()
}

/// Numbers of the render nodes, ascending.
pub fn render_nodes() -> BTreeSet<u32> {
    names(Path::new(RENDER_NODES)).filter_map(|n| n.strip_prefix("renderD")?.parse().ok()).collect()
}

/// Whether Video4Linux has any device.
pub fn has_video() -> bool {
    names(Path::new("/dev")).any(|name| name.starts_with("video"))
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).take(MOST)
}
