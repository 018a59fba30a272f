//! What the process is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use ipnet::IpNet;
use reelmill_media::ids::TenantId;
use reelmill_platform::config::{Common, Nats};

/// Takes uploads, plans them, drives their jobs and publishes presentations.
#[derive(Debug, Clone, Parser)]
#[command(name = "reelmill-coordinator", version)]
pub struct Flags {
    /// Address of the API
    #[arg(long, env = "REELMILL_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// JSON list of API keys: [{"tenant": "demo", "key_blake3": "<hex>"}], each with optional "roles", "limits" and "webhook"
    #[arg(long, env = "REELMILL_KEYS_FILE", value_name = "PATH")]
    pub keys_file: PathBuf,

    /// The tenant whose API keys may take down anything of any tenant
    #[arg(long, env = "REELMILL_OPERATOR", value_name = "TENANT")]
    pub operator: Option<TenantId>,

    /// Longest upload, in bytes
    #[arg(long, env = "REELMILL_MAX_UPLOAD_BYTES", default_value_t = 256 << 30, value_name = "BYTES")]
    pub max_upload_bytes: u64,

    /// Uploads that are received at once; each needs up to 16 MiB of memory
    #[arg(long, env = "REELMILL_MAX_UPLOADS", default_value_t = 64, value_name = "N")]
    pub max_uploads: usize,

    /// New uploads are refused for a while when more work waits than this, in CPU seconds per slot of the fleet
    #[arg(long, env = "REELMILL_MAX_BACKLOG_S", default_value_t = 6 * 3600, value_name = "S")]
    pub max_backlog_s: u32,

    /// Pause before a failed task is tried again, in milliseconds; each further one is four times as long
    #[arg(long, env = "REELMILL_RETRY_AFTER_MS", default_value_t = 1000, value_name = "MS",
          value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub retry_after_ms: u32,

    /// Blobs that nothing has named for so long go to the trash, and as long after that for good, in seconds; 0 keeps
    /// everything. Must be longer than an upload in one request, or a task, can take
    #[arg(long, env = "REELMILL_GARBAGE_GRACE_S", default_value_t = 72 * 3600, value_name = "S")]
    pub garbage_grace_s: u32,

    /// Lets webhooks go to private addresses too, such as those behind the firewall
    #[arg(long, env = "REELMILL_WEBHOOKS_ALLOW_PRIVATE")]
    pub webhooks_allow_private: bool,

    /// Networks that uploads may be pulled from besides public addresses, also over plain http, as in 10.1.0.0/16
    #[arg(long, env = "REELMILL_PULL_ALLOW", value_name = "NETWORK", value_delimiter = ',')]
    pub pull_allow: Vec<IpNet>,

    /// Object store whose keys may be imported; each tenant sees the folder of its own name
    #[arg(long, env = "REELMILL_IMPORT_STORE", value_name = "URL")]
    pub import_store: Option<String>,

    /// Pulls at once; each needs up to 16 MiB of memory
    #[arg(long, env = "REELMILL_MAX_PULLS", default_value_t = 16, value_name = "N")]
    pub max_pulls: usize,

    /// Longest time for a pull, in seconds
    #[arg(long, env = "REELMILL_PULL_DEADLINE_S", default_value_t = 24 * 3600, value_name = "S")]
    pub pull_deadline_s: u32,

    /// Origins that send fewer bytes per second are cut off, and tried again a few times
    #[arg(long, env = "REELMILL_PULL_LEAST_RATE", default_value_t = 16 << 10, value_name = "BYTES")]
    pub pull_least_rate: u32,

    /// Where viewers reach the edge, as in https://cdn.example; part of the API's answers
    #[arg(long, env = "REELMILL_EDGE_URL", value_name = "URL")]
    pub edge_url: Option<String>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub nats: Nats,
}
