//! Memory that a server takes for a connection.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;

use crate::client::Client;
use crate::server::{Object, Server};

/// Connections opened at once, so that no server takes it for an attack.
const BATCH: usize = 50;

/// Time for what a server does after a handshake, and with what was freed.
const SETTLES: Duration = Duration::from_secs(2);

/// KiB per connection that has asked for `small` and rests, and that has asked for `large` and does not read the answer.
pub async fn per_connection(
    server: &Server,
    small: &Object,
    large: &Object,
    connections: usize,
) -> anyhow::Result<(f64, f64)> {
    let client = Client::new(server)?;
    // What is made once, for the first connections.
    let first = try_join_all((0..BATCH).map(|_| client.rest(small))).await?;
    let before = settled(server).await?;
    let mut resting = Vec::new();
    while resting.len() < connections {
        resting.extend(try_join_all((0..BATCH).map(|_| client.rest(small))).await?);
    }
    let idle = (settled(server).await? - before) / connections as f64;
    drop((first, resting));
    client.close().await;

    let client = Client::new(server)?;
    let first = try_join_all((0..BATCH).map(|_| client.hold(large))).await?;
    let before = settled(server).await?;
    let mut held = Vec::new();
    while held.len() < connections {
        held.extend(try_join_all((0..BATCH).map(|_| client.hold(large))).await?);
    }
    let streaming = (settled(server).await? - before) / connections as f64;
    drop((first, held));
    client.close().await;
    Ok((idle, streaming))
}

/// Resident memory in KiB, shared files aside, a while after the last word.
async fn settled(server: &Server) -> anyhow::Result<f64> {
    tokio::time::sleep(SETTLES).await;
    let text = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("not a number: {line:?}"))
}
