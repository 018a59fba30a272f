//! How soon a crowd that asks at once for what a server has yet to fetch gets its first bytes.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::client::Client;
use crate::server::{Object, Server};

/// Connections opened at once, so that no server takes it for an attack.
const BATCH: usize = 50;

/// Times from the moment when all ask for `cold` to the first bytes of each.
pub async fn first_bytes(server: &Server, cold: &Object, size: usize) -> anyhow::Result<Vec<Duration>> {
    let client = Client::new(server)?;
    let mut crowd = Vec::new();
    while crowd.len() < size {
        crowd.extend(try_join_all((0..BATCH.min(size - crowd.len())).map(|_| client.connect())).await?);
    }
    let begun = Instant::now();
    let asking = crowd.iter().map(async |connection| {
        connection.get(&cold.path).await?.recv_data().await?;
        anyhow::Ok(begun.elapsed())
    });
    let times = try_join_all(asking).await?;
    client.close().await;
    Ok(times)
}

/// The middle of the times, and the one that 99 of 100 do not exceed, in milliseconds.
pub fn line(mut times: Vec<Duration>) -> String {
    times.sort();
    let at =
        |part: f64| times.get((times.len() as f64 * part) as usize).map_or(0.0, Duration::as_secs_f64) * 1e3;
    format!("{:>7.1} {:>7.1}", at(0.5), at(0.99))
}
