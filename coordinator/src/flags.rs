//! What the process is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use reelmill_platform::config::{Common, Nats};

/// Takes uploads, plans them, drives their jobs and publishes presentations.
#[derive(Debug, Clone, Parser)]
#[command(name = "reelmill-coordinator", version)]
pub struct Flags {
    /// Address of the API
    #[arg(long, env = "REELMILL_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// JSON list of API keys: [{"tenant": "demo", "key_blake3": "<hex>", "webhook": {"url", "secret"}}]; webhook is optional
    #[arg(long, env = "REELMILL_KEYS_FILE", value_name = "PATH")]
    pub keys_file: PathBuf,

    /// No upload is longer, in bytes
    #[arg(long, env = "REELMILL_MAX_UPLOAD_BYTES", default_value_t = 256 << 30, value_name = "BYTES")]
    pub max_upload_bytes: u64,

    /// Uploads that take bytes at once; each needs up to 16 MiB of memory
    #[arg(long, env = "REELMILL_MAX_UPLOADS", default_value_t = 64, value_name = "N")]
    pub max_uploads: usize,

    /// Pause before a failed task is tried again, in milliseconds; each further one is four times as long
    #[arg(long, env = "REELMILL_RETRY_AFTER_MS", default_value_t = 1000, value_name = "MS",
          value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub retry_after_ms: u32,

    /// Lets webhooks go to private addresses too, which are those behind the firewall
    #[arg(long, env = "REELMILL_WEBHOOKS_ALLOW_PRIVATE")]
    pub webhooks_allow_private: bool,

    /// Where viewers reach the edge, as in https://cdn.example; stands in the answers of the API
    #[arg(long, env = "REELMILL_EDGE_URL", value_name = "URL")]
    pub edge_url: Option<String>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub nats: Nats,
}
