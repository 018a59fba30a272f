//! Structured logs on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Starts logging. `filter` as in `info,reelmill_edge=debug`; what cannot be read falls back to `info`.
pub fn init(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal();
    let base = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    match format {
        LogFormat::Text => base.compact().init(),
        LogFormat::Json => base.json().flatten_event(true).init(),
    }
}

/// Installs the one crypto provider of the whole workspace. Call first thing in `main`: two libraries that each
/// bring their own would make the first TLS connection panic.
pub fn install_crypto_provider() {
    // An error means that it is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
