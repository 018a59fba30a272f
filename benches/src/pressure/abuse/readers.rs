//! Answers that are taken slowly, or in pieces.

use std::time::Duration;

use futures_util::future::join_all;

use super::Target;
use crate::client::{STREAM_WINDOW, connect};
use crate::network::abuser;

/// Slow readers, so many at one address.
const READERS: usize = 500;
const READERS_PER_ADDRESS: usize = 50;
/// What they take at most, in bytes.
const WINDOW: u32 = 4 << 10;

/// Connections that ask for ranges.
const CONNECTIONS: usize = 8;
/// As many as an edge takes, and many more.
const RANGES: [usize; 2] = [16, 600];

/// Asks for segments and leaves them, over and over.
pub async fn slow(target: &Target) -> anyhow::Result<()> {
    let reading = (0..READERS).map(|number| async move {
        let path = &target.paths[number % target.paths.len()];
        let from = abuser(number / READERS_PER_ADDRESS);
        loop {
            // Those that are refused or let go come again.
            if let Ok(client) = connect(from, target.edge, &target.certificate, WINDOW).await
                && let Ok(_unread) = client.ask(path, &[]).await
            {
                client.quic.closed().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    join_all(reading).await;
    Ok(())
}

/// Asks for many ranges at once, as fast as answers come.
pub async fn ranges(target: &Target) -> anyhow::Result<()> {
    let list = |count: usize| {
        (0..count).map(|at| format!("{}-{}", at * 200, at * 200)).collect::<Vec<_>>().join(",")
    };
    let fields = RANGES.map(|count| format!("bytes={}", list(count)));
    let asking = (0..CONNECTIONS).map(|number| {
        let (fields, path) = (&fields, &target.paths[number % target.paths.len()]);
        async move {
            loop {
                let connected = connect(abuser(0), target.edge, &target.certificate, STREAM_WINDOW);
                let Ok(client) = connected.await else {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                };
                for field in fields.iter().cycle() {
                    // Of what is too many ranges it does not want the whole: that would be a download like any other.
                    let Ok((status, mut answer)) = client.ask(path, &[("range", field)]).await else { break };
                    while status == 206 && answer.recv_data().await.is_ok_and(|piece| piece.is_some()) {}
                }
            }
        }
    });
    join_all(asking).await;
    Ok(())
}
