//! Makes NATS anew from the object store: the coordinator's own program does it, with the addresses of the Reelmill that
//! runs here.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tokio::process::Command;
use url::Url;

use crate::up::state::{Layout, State};

/// Of which Reelmill.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Folder of a Reelmill that runs on this machine
    #[arg(long, env = "REELMILL_DATA", default_value = "data", value_name = "FOLDER")]
    data: PathBuf,
    /// Object store of a fleet; by default that of `--data`
    #[arg(long, env = "REELMILL_STORE", value_name = "URL", requires = "nats")]
    store: Option<String>,
    /// NATS servers of a fleet, comma-separated
    #[arg(long, env = "REELMILL_NATS", value_name = "URLS", requires = "store")]
    nats: Option<String>,
}

/// Brings back what NATS does not have, and says what that was.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let (store, nats) = match (options.store, options.nats) {
        (Some(store), Some(nats)) => (store, nats),
        (Some(_) | None, Some(_) | None) => {
            let state =
                State::read(&options.data).context("`reelmill up` must run, on a NATS that is empty")?;
            let store = Url::from_directory_path(Layout::create(&options.data)?.store());
            let store = store.map_err(|()| anyhow::anyhow!("the data folder is not absolute"))?;
            (store.as_str().trim_end_matches('/').to_owned(), state.nats)
        }
    };
    let program = std::env::current_exe()?.with_file_name("reelmill-coordinator");
    let mut command = Command::new(&program);
    command.args(["rebuild", "--store", &store, "--nats", &nats]).kill_on_drop(true);
    let ended = command.status().await.with_context(|| format!("cannot run {}", program.display()))?;
    if !ended.success() {
        bail!("not all was brought back; doing it again goes on where this ended");
    }
    Ok(())
}
