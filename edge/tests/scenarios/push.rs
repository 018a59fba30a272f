//! Word of new playlists: seen at once, asked for less; without it all goes on as before.

use std::time::{Duration, Instant};

use reelmill_media::keys;

use crate::nats::Nats;
use crate::world::{Via, World, asset};

const GROWING: &str = "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:EVENT\n";

async fn write(world: &World, text: &str) {
    world.store.put_object(&keys::multivariant_playlist(asset()), text.to_owned().into()).await.unwrap();
}

async fn read(world: &World) -> String {
    let path = format!("/{}", keys::multivariant_playlist(asset()));
    String::from_utf8(world.get(Via::Http2, &path).await.body().to_vec()).unwrap()
}

/// Asks until the text is the new one, and says how long that took.
async fn seen(world: &World, text: &str) -> Duration {
    let begun = Instant::now();
    while read(world).await != text {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_playlists_are_seen_at_once_and_read_rarely() {
    let mut nats = Nats::start();
    let (coordinator, bus) = (nats.bus().await, nats.observer().await);
    let world = World::with(None, |settings, _| settings.bus = Some(bus));
    write(&world, GROWING).await;
    // Until the subscription stands, word may be lost.
    let begun = Instant::now();
    let mut reads = 0;
    while begun.elapsed() < Duration::from_secs(10) {
        coordinator.publish_published(asset()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        read(&world).await;
        let before = world.metric("origin_reads_total", &[("what", "text")]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        read(&world).await;
        reads = world.metric("origin_reads_total", &[("what", "text")]);
        if reads == before {
            break;
        }
    }
    let mut longest = Duration::ZERO;
    for length in 0..10 {
        let text = format!("{GROWING}#{length}\n");
        write(&world, &text).await;
        coordinator.publish_published(asset()).await.unwrap();
        longest = longest.max(seen(&world, &text).await);
    }
    println!("an announced playlist was seen after {longest:?} at the latest");
    let now = world.metric("origin_reads_total", &[("what", "text")]);
    assert!((10..=12).contains(&(now - reads)), "{} reads for 10 changes", now - reads);

    // Word that is lost costs two seconds, a dead server nothing.
    write(&world, GROWING).await;
    assert!(seen(&world, GROWING).await > Duration::from_millis(200));
    nats.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    write(&world, "#EXTM3U\n").await;
    let took = seen(&world, "#EXTM3U\n").await;
    assert!(took < Duration::from_secs(1), "{took:?} with polling alone");
}
