//! Readers of a cold segment each, who take next to nothing of it: what the edge then holds in memory.

use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use reelmill_benches::origin::Origin;

use crate::client::connect;
use crate::edge::Edge;
use crate::network;

const SEGMENT_BYTES: usize = 4 << 20;
/// What they take at most, in bytes.
const WINDOW: u32 = 16 << 10;
/// Memory for blobs that are kept, and for others, in bytes.
const MEMORY: [usize; 2] = [256 << 20, 128 << 20];
/// Readers at once that wait for the head of an answer.
const AT_ONCE: usize = 8;

pub async fn row(binaries: &Path, readers: usize) -> anyhow::Result<()> {
    let origin = Origin::start(readers, SEGMENT_BYTES, (Duration::ZERO, Duration::ZERO)).await?;
    let [kept, in_flight] = MEMORY.map(|bytes| bytes.to_string());
    let edge =
        Edge::start(binaries, &origin, &["--cache-bytes", &kept, "--in-flight-bytes", &in_flight]).await?;
    let (before, _) = edge.memory()?;
    let (edge, origin) = (&edge, &origin);
    let read = |number| async move {
        let client = connect(network::viewer(number), edge.address, &edge.certificate, WINDOW).await?;
        let answer = client.ask(&origin.paths[number], &[]).await?;
        anyhow::Ok((client, answer))
    };
    let held: Vec<_> = stream::iter(0..readers).map(read).buffered(AT_ONCE).collect().await;
    let begun =
        held.iter().filter(|reader| reader.as_ref().is_ok_and(|(_, (status, _))| *status == 200)).count();
    let (after, most) = edge.memory()?;
    println!(
        "\n{readers} slow readers of a cold segment of {} MiB each: {begun} answers begun, {:.0} of {} MiB of blobs, \
         {:.0} MiB of memory more than before, {most:.0} MiB at most; {} blobs taken away, {} fills without room",
        SEGMENT_BYTES >> 20,
        edge.metric("blob_memory_bytes").await? / f64::from(1 << 20),
        MEMORY.iter().sum::<usize>() >> 20,
        after - before,
        edge.metric("blobs_taken_away_total").await?,
        edge.metric("fills_total{outcome=\"no_room\"}").await?,
    );
    Ok(())
}
