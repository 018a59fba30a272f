//! Playlists: fresh enough, asked for once, kept when the origin is away.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::header;
use reelmill_media::keys;

use crate::web::WebServer;
use crate::world::{Via, World, assert_problem, asset, field};

const GROWING: &str = "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:EVENT\n";

async fn publish(world: &World, text: String) {
    world.store.put_object(&keys::multivariant_playlist(asset()), text.into()).await.unwrap();
}

fn path() -> String {
    format!("/{}", keys::multivariant_playlist(asset()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_playlist_is_seen_to_grow() {
    let world = World::new();
    assert_problem(&world.get(Via::Http3, &path()).await, 404);
    for length in 0..5 {
        let text = format!("{GROWING}#{length}\n");
        publish(&world, text.clone()).await;
        let published = Instant::now();
        loop {
            let asked = Instant::now();
            let response = world.get(Via::Http3, &path()).await;
            if *response.body() == text {
                assert_eq!(field(&response, header::CONTENT_TYPE), "application/vnd.apple.mpegurl");
                assert_eq!(field(&response, header::CACHE_CONTROL), "public, max-age=1");
                break;
            }
            assert!(asked - published <= Duration::from_millis(200), "older than 200 ms");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_poll_cost_little() {
    let world = World::new();
    publish(&world, format!("{GROWING}#EXT-X-ENDLIST\n")).await;
    for _ in 0..5 {
        for response in join_all((0..40).map(|n| world.get_owned(n))).await {
            assert_eq!(response.status(), 200);
            assert_eq!(field(&response, header::CACHE_CONTROL), "public, max-age=60");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.metric("origin_reads_total", &[("what", "text")]), 1, "it is closed");
}

impl World {
    async fn get_owned(&self, viewer: usize) -> http::Response<Bytes> {
        self.get(Via::ALL[viewer % 4], &path()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_origin_leaves_the_last_playlist_and_a_takedown_does_not() {
    let world = World::new();
    publish(&world, GROWING.to_owned()).await;
    assert_eq!(world.get(Via::Http2, &path()).await.body(), GROWING);
    let file = world.file(&keys::multivariant_playlist(asset()));
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    let stale = world.get(Via::Http2, &path()).await;
    assert_eq!(stale.body(), GROWING);
    assert_eq!(world.metric("stale_texts_total", &[]), 1);

    std::fs::remove_file(&file).unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_problem(&world.get(Via::Http2, &path()).await, 404);
    std::os::unix::fs::symlink(&file, &file).unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_problem(&world.get(Via::Http2, &path()).await, 503);
}

/// So many requests are made, one after the other, while an origin is silent.
const IN_SILENCE: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn while_an_origin_is_silent_viewers_get_the_last_playlist_and_do_not_wait_for_it() {
    let origin = WebServer::start();
    let world = World::with(Some(origin.store()), |_, _| {});
    let key = keys::multivariant_playlist(asset());
    origin.folder().put_object(&key, GROWING.into()).await.unwrap();
    assert_eq!(world.get(Via::Http3, &path()).await.body(), GROWING);
    let reads = || world.metric("origin_reads_total", &[("what", "text")]);
    let before = reads();
    origin.process.signal("-STOP");
    for _ in 0..IN_SILENCE {
        // Past the time for which it is fresh.
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(world.get(Via::Http3, &path()).await.body(), GROWING);
    }
    assert!(reads() - before <= IN_SILENCE / 2, "{} reads", reads() - before);
    origin.process.signal("-CONT");
    let grown = format!("{GROWING}#more\n");
    origin.folder().put_object(&key, grown.clone().into()).await.unwrap();
    let begun = Instant::now();
    while *world.get(Via::Http3, &path()).await.body() != grown {
        assert!(begun.elapsed().as_secs() < 10, "still the old one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_takes_nobodys_playlist_along() {
    let origin = WebServer::start();
    let world = World::with(Some(origin.store()), |_, _| {});
    let closed = format!("{GROWING}#EXT-X-ENDLIST\n");
    origin.folder().put_object(&keys::multivariant_playlist(asset()), closed.clone().into()).await.unwrap();
    origin.process.signal("-STOP");
    let path = path();
    let mut first = Box::pin(world.get(Via::Http3, &path));
    let begun = Instant::now();
    while world.metric("origin_reads_total", &[("what", "text")]) == 0 {
        let waited = tokio::time::timeout(Duration::from_millis(5), &mut first).await;
        assert!(waited.is_err() && begun.elapsed().as_secs() < 20, "{waited:?}");
    }
    drop(first);
    origin.process.signal("-CONT");
    assert_eq!(*world.get(Via::Http3, &path).await.body(), closed);
    assert_eq!(world.metric("origin_reads_total", &[("what", "text")]), 1);
}
