//! A crowd that asks for a segment that nobody has yet: when the first and the last of them have something of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reelmill_benches::http3::Connection;
use reelmill_benches::origin::Origin;

use crate::client::{STREAM_WINDOW, connect};
use crate::edge::Edge;
use crate::network;

const SEGMENT_BYTES: usize = 4 << 20;
/// Between two pieces of 64 KiB: 4 MiB in about a second.
const ORIGIN_PAUSE: Duration = Duration::from_millis(15);
/// Handshakes at once.
const HANDSHAKES: usize = 32;

pub async fn row(binaries: &Path, viewers: usize, origin_ms: u64) -> anyhow::Result<()> {
    let origin = Origin::start(1, SEGMENT_BYTES, (Duration::from_millis(origin_ms), ORIGIN_PAUSE)).await?;
    let edge = Edge::start(binaries, &origin, &[]).await?;
    let open = |number| connect(network::viewer(number), edge.address, &edge.certificate, STREAM_WINDOW);
    let clients: Vec<Connection> =
        stream::iter(0..viewers).map(open).buffered(HANDSHAKES).try_collect().await?;
    let begun = Instant::now();
    let asking = clients.iter().map(|client| {
        let path = &origin.paths[0];
        async move {
            client.get(path).await?.recv_data().await?.context("no content")?;
            anyhow::Ok(begun.elapsed())
        }
    });
    let mut firsts = try_join_all(asking).await?;
    firsts.sort();
    let [first, middle, last] = [0, viewers / 2, viewers - 1].map(|place| firsts[place].as_secs_f64() * 1e3);
    println!(
        "\nfirst bytes of a cold segment for {viewers} connections, its origin's after {origin_ms} ms: \
         first {first:.0} ms, middle {middle:.0} ms, last {last:.0} ms, {:.2} times the first; {} reads of the origin",
        last / first,
        origin.reads()
    );
    Ok(())
}
