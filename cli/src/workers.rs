//! `reelmill workers`: who works, and who is kept from it.

use clap::Subcommand;
use console::style;
use jiff::Timestamp;
use reelmill_media::ids::WorkerId;
use reqwest::Method;
use serde::Deserialize;

use crate::api::Api;

/// What is to be done about a worker.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Let a worker in quarantine work again; nothing is held against it
    Release {
        /// Its id
        worker: WorkerId,
    },
}

/// A worker as the API shows it.
#[derive(Debug, Deserialize)]
struct Worker {
    id: String,
    host: String,
    version: String,
    slots: u32,
    busy: u32,
    #[serde(default)]
    quarantined_at: Option<Timestamp>,
    #[serde(default)]
    blames: Vec<Blame>,
}

#[derive(Debug, Deserialize)]
struct Blame {
    asset: String,
    number: u32,
    at: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Workers {
    workers: Vec<Worker>,
}

/// Lists workers, or does something about one.
pub async fn run(api: &Api, command: Option<Command>) -> anyhow::Result<()> {
    match command {
        None => list(api).await,
        Some(Command::Release { worker }) => {
            let path = format!("/v1/workers/{worker}/quarantine");
            api.send(api.request(Method::DELETE, &path)).await?;
            println!("{worker}  released: it takes tasks again within seconds");
            Ok(())
        }
    }
}

/// One line a worker, and one for each task held against it.
async fn list(api: &Api) -> anyhow::Result<()> {
    let Workers { workers } = api.send(api.request(Method::GET, "/v1/workers")).await?.json().await?;
    for Worker { id, host, version, slots, busy, quarantined_at, blames } in workers {
        let state = match quarantined_at {
            Some(since) => style(format!("in quarantine since {since:.0}")).red().to_string(),
            None if slots == 0 => "draining".to_owned(),
            None => format!("{busy} of {slots} busy"),
        };
        println!("{id}  {host}  {version}  {state}");
        for Blame { asset, number, at } in blames {
            println!("  {at:.0}  failed at task {number} of {asset}, which another worker did");
        }
    }
    Ok(())
}
