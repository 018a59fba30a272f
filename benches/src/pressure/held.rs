//! Requests that are held until a playlist changes: what each takes in memory, and how soon those who wait have the new one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reelmill_benches::http3::Connection;
use reelmill_benches::nats::Server;
use reelmill_benches::origin::Origin;
use reelmill_media::ids::AssetId;
use reelmill_media::keys;
use tokio::time::{sleep, timeout};

use crate::client::{STREAM_WINDOW, connect};
use crate::edge::Edge;
use crate::network;

/// Handshakes at once.
const HANDSHAKES: usize = 32;
/// Changes, after one that does not count.
const CHANGES: usize = 5;
/// An edge has heard who may watch what, and holds all that ask, in less.
const SETTLES: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

pub async fn row(binaries: &Path, nats_server: &Path, viewers: usize) -> anyhow::Result<()> {
    let nats = Server::start(nats_server).await?;
    let coordinator = nats.connect().await?;
    let origin = Origin::start(0, 0, (Duration::ZERO, Duration::ZERO)).await?;
    let edge = Edge::start(binaries, &origin, &["--nats", &nats.url]).await?;
    let asset = AssetId::from_parts(1, 1);
    let key = keys::multivariant_playlist(asset);
    let (path, edge) = (format!("/{key}"), &edge);
    origin.write(key.clone(), text(0));
    let open = |number| connect(network::viewer(number), edge.address, &edge.certificate, STREAM_WINDOW);
    let clients: Vec<Connection> =
        stream::iter(0..viewers).map(open).buffered(HANDSHAKES).try_collect().await?;
    let until = async |what: &str, held: Option<f64>| {
        let look = async {
            while match held {
                Some(held) => edge.metric("held_requests").await? != held,
                None => clients[0].ask(&path, &[]).await?.0 != 200,
            } {
                sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        timeout(SETTLES, look).await.with_context(|| what.to_owned())?
    };
    until("the playlist is not served", None).await?;

    let (mut firsts, mut middles, mut lasts, mut reads) = (vec![], vec![], vec![], vec![]);
    // Of the first time, for later ones find the memory of those before.
    let mut each = None;
    for change in 0..=CHANGES {
        let tags = try_join_all(clients.iter().map(|client| tag(client, &path))).await?;
        let (before, _) = edge.memory()?;
        let read_before = origin.text_reads();
        let waiting = try_join_all(clients.iter().zip(&tags).map(|(client, tag)| wait(client, &path, tag)));
        let changing = async {
            until("not all are held", Some(viewers as f64)).await?;
            let (holding, _) = edge.memory()?;
            origin.write(key.clone(), text(change + 1));
            let said = Instant::now();
            coordinator.publish_published(asset).await?;
            anyhow::Ok((holding, said))
        };
        let (heard, (holding, said)) = tokio::try_join!(waiting, changing)?;
        let mut waits: Vec<f64> =
            heard.iter().map(|heard| heard.duration_since(said).as_secs_f64() * 1e3).collect();
        waits.sort_by(f64::total_cmp);
        each.get_or_insert((holding - before) * 1024.0 / viewers as f64);
        if change > 0 {
            firsts.push(waits[0]);
            middles.push(waits[viewers / 2]);
            lasts.push(waits[viewers - 1]);
            reads.push((origin.text_reads() - read_before) as f64);
        }
    }
    let [first, middle, last, reads] = [firsts, middles, lasts, reads].map(median);
    println!(
        "\n{viewers} held requests for a playlist, {:.1} KiB of memory each; it changes {CHANGES} times, and from the word \
         of that until they have it pass {first:.1} ms for the first, {middle:.1} ms for the middle and {last:.1} ms for \
         the last of them, with {reads:.0} reads of the origin (medians)",
        each.unwrap_or_default(),
    );
    Ok(())
}

fn text(number: usize) -> String {
    format!("#EXTM3U\n# {number}\n")
}

/// The tag of the playlist as it is now.
async fn tag(client: &Connection, path: &str) -> anyhow::Result<String> {
    let (head, _) = client.ask_for_head(path, &[]).await?;
    Ok(head.headers().get("etag").context("no tag")?.to_str()?.to_owned())
}

/// When another text than this has come.
async fn wait(client: &Connection, path: &str, tag: &str) -> anyhow::Result<Instant> {
    let (status, mut answer) = client.ask(path, &[("if-none-match", tag), ("prefer", "wait=30")]).await?;
    ensure!(status == 200, "{status} for a request that was held");
    answer.recv_data().await?.context("no content")?;
    Ok(Instant::now())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
