//! Flags that all processes share. Environment variables are read here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::telemetry::LogFormat;

/// Flags of every process.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Object store: file:///folder, s3://bucket/prefix, gs://… or az://…
    #[arg(long, env = "REELMILL_STORE", value_name = "URL")]
    pub store: String,

    /// Address of the admin port: /metrics, /healthz, /readyz
    #[arg(long, env = "REELMILL_ADMIN_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,

    /// Written once the process is ready to work: a JSON object with its addresses
    #[arg(long, env = "REELMILL_READY_FILE", value_name = "PATH")]
    pub ready_file: Option<PathBuf>,

    /// Format of log lines
    #[arg(long, env = "REELMILL_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged, as in `info,reelmill_edge=debug`
    #[arg(long, env = "REELMILL_LOG", default_value = "info,async_nats=warn", value_name = "FILTER")]
    pub log: String,
}

/// Flags of the processes that talk over NATS.
#[derive(Debug, Clone, clap::Args)]
pub struct Nats {
    /// NATS servers, comma-separated
    #[arg(
        long = "nats",
        env = "REELMILL_NATS",
        default_value = "nats://127.0.0.1:4222",
        value_name = "URLS"
    )]
    pub nats: String,

    /// Replicas of streams and buckets: 1 on one machine, 3 in a fleet
    #[arg(long = "nats-replicas", env = "REELMILL_NATS_REPLICAS", default_value_t = 1, value_name = "N")]
    pub nats_replicas: usize,
}
