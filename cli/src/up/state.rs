//! What a running Reelmill leaves in its data folder, so that other commands find it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Addresses and key of the Reelmill that runs on a data folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The coordinator's address: `http://…`.
    pub api: String,
    /// The key of its one tenant.
    pub api_key: String,
    /// The edge's address for viewers: `https://…`.
    pub edge: String,
    /// The edge's port, for QUIC and TCP alike.
    pub edge_port: u16,
    /// The edge without TLS, for tools on this machine: `http://…`.
    pub edge_plain: String,
    /// SHA-256 of the certificate's public key, base64: by it Chromium trusts a self-made certificate over QUIC.
    pub spki_sha256: String,
    /// NATS.
    pub nats: String,
    /// Admin port of each process, by name.
    pub admin: Vec<(String, String)>,
}

/// Where things lie in a data folder.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the folders that are missing.
    pub fn create(root: &Path) -> anyhow::Result<Layout> {
        let unusable = || format!("cannot use {} as the data folder", root.display());
        std::fs::create_dir_all(root).with_context(unusable)?;
        let layout = Layout { root: root.canonicalize().with_context(unusable)? };
        for folder in [layout.store(), layout.nats(), layout.edge(), layout.run(), layout.logs()] {
            std::fs::create_dir_all(&folder).with_context(unusable)?;
        }
        Ok(layout)
    }

    /// The object store.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// JetStream's files.
    pub fn nats(&self) -> PathBuf {
        self.root.join("nats")
    }

    /// The edge's certificate.
    pub fn edge(&self) -> PathBuf {
        self.root.join("edge")
    }

    /// What lives as long as the processes.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// A log file per process.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The tenant's key, as its owner types it.
    pub fn key(&self) -> PathBuf {
        self.root.join("api-key")
    }

    /// The keys that the coordinator accepts, hashed.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys.json")
    }

    /// Held while a Reelmill runs here: two servers would share one folder without a word.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    fn state(root: &Path) -> PathBuf {
        root.join("run").join("state.json")
    }
}

impl State {
    /// Of the Reelmill on `root`.
    pub fn read(root: &Path) -> anyhow::Result<State> {
        let file = Layout::state(root);
        let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("cannot understand {}", file.display()))
    }

    /// Says where everything is.
    pub fn write(&self, layout: &Layout) -> anyhow::Result<()> {
        let file = Layout::state(&layout.root);
        let partial = file.with_extension("partial");
        std::fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(&partial, &file).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Nothing runs here any more.
    pub fn remove(layout: &Layout) {
        // If it stays, the next start overwrites it.
        let _ = std::fs::remove_file(Layout::state(&layout.root));
    }
}
