//! Edges of one place ask the origin once, and get along without it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;
use reelmill_edge::pop::PopSettings;
use reelmill_edge::process::Settings;
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::purge::{Target, Tombstone};
use reelmill_platform::store::Store;

use crate::nats::Nats;
use crate::origin::Origin;
use crate::world::{Via, World, assert_problem, asset, field, noise, path_of};

pub const CACHE_STATUS: http::HeaderName = http::HeaderName::from_static("cache-status");

pub fn secret(folder: &Path) -> PathBuf {
    let file = folder.join("secret");
    std::fs::write(&file, "a secret of the tests\n").unwrap();
    file
}

pub fn place(folder: &Path, peers: &[(&str, SocketAddr)]) -> PopSettings {
    PopSettings {
        name: "test".into(),
        secret_file: secret(folder),
        listen: "127.0.0.1:0".parse().unwrap(),
        address: None,
        peers: peers.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect(),
        shield: None,
    }
}

pub fn named<'a>(
    name: &'a str,
    change: impl FnOnce(&mut Settings, &Path) + 'a,
) -> impl FnOnce(&mut Settings, &Path) + 'a {
    move |settings, folder| {
        settings.name = name.into();
        settings.pop = Some(place(folder, &[]));
        change(settings, folder);
    }
}

pub async fn joined(store: Store, nats: &Nats, name: &str) -> World {
    let bus = nats.observer().await;
    World::with(Some(store), named(name, |settings, _| settings.bus = Some(bus)))
}

/// Edges that have found each other.
pub async fn pop(origin: &Arc<Origin>, nats: &Nats, names: &[&str]) -> Vec<World> {
    let edges = join_all(names.iter().map(|name| joined(origin.store(), nats, name))).await;
    for edge in &edges {
        edge.until_metric("pop_members", &[], names.len() as u64 - 1).await;
    }
    edges
}

pub async fn segments(store: &Store, count: u64, seed: u64) -> Vec<(String, Bytes)> {
    let put = async |number: u64| {
        // Of one group, of several, and of an odd end.
        let bytes = noise(20_000 + 90_001 * number as usize, seed + number);
        let hash = store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        (path_of(&hash, BlobKind::Segment), bytes)
    };
    join_all((0..count).map(put)).await
}

pub fn sum(edges: &[World], name: &str, labels: &[(&str, &str)]) -> u64 {
    edges.iter().map(|edge| edge.metric(name, labels)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pop_asks_the_origin_once_for_each_blob() {
    let (nats, origin) = (Nats::start(), Origin::new());
    let _coordinator = nats.bus().await;
    let edges = pop(&origin, &nats, &["ams-1", "ams-2", "ams-3"]).await;
    let segments = segments(&origin.store(), 12, 100).await;
    let unique: usize = segments.iter().map(|(_, bytes)| bytes.len()).sum();
    // So that all edges ask while the first fill is still on its way.
    origin.release(10_000);
    let viewers = segments.iter().flat_map(|segment| edges.iter().map(move |edge| (edge, segment)));
    let viewers = viewers.flat_map(|both| [Via::Http3, Via::Http2, Via::Plain].map(|via| (via, both)));
    let asking = join_all(viewers.map(|(via, (edge, (path, bytes)))| async move {
        let response = edge.get(via, path).await;
        assert_eq!(response.status(), 200);
        assert!(*response.body() == bytes);
    }));
    let release = async {
        let begun = Instant::now();
        while origin.reads().len() < segments.len() {
            assert!(begun.elapsed().as_secs() < 20, "{} reads", origin.reads().len());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        origin.release(u64::MAX);
    };
    tokio::join!(asking, release);
    assert_eq!(origin.reads().len(), segments.len(), "one read per blob in the whole PoP");
    assert_eq!(sum(&edges, "fill_bytes_total", &[("source", "origin")]), unique as u64);
    assert_eq!(sum(&edges, "fill_bytes_total", &[("source", "peer")]), 2 * unique as u64);
    assert_eq!(sum(&edges, "misses_total", &[("reason", "cold")]), 3 * segments.len() as u64);
    assert_eq!(sum(&edges, "blob_bytes_total", &[]), 9 * unique as u64);
    assert!(edges.iter().all(|edge| edge.metric("fill_bytes_total", &[("source", "origin")]) > 0));
    assert_eq!(sum(&edges, "peer_answers_total", &[("answer", "missing")]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pop_asks_the_origin_once_for_a_playlist_and_sees_it_grow() {
    let (nats, origin) = (Nats::start(), Origin::new());
    let coordinator = nats.bus().await;
    let edges = pop(&origin, &nats, &["ams-1", "ams-2", "ams-3"]).await;
    let key = keys::multivariant_playlist(asset());
    let path = format!("/{key}");
    let closed: Bytes = "#EXTM3U\n#EXT-X-ENDLIST\n".into();
    origin.store().put_object(&key, closed.clone()).await.unwrap();
    let viewers = edges.iter().flat_map(|edge| Via::ALL.map(|via| (edge, via)));
    for response in join_all(viewers.map(|(edge, via)| edge.get(via, &path))).await {
        assert_eq!(response.body(), &closed);
    }
    assert_eq!(origin.other_reads(), 1);

    let key = keys::presentation(asset());
    let path = format!("/{key}");
    for version in 0..5 {
        let text = Bytes::from(format!("{{\"version\":{version}}}"));
        origin.store().put_object(&key, text.clone()).await.unwrap();
        coordinator.publish_published(asset()).await.unwrap();
        for edge in &edges {
            let begun = Instant::now();
            while *edge.get(Via::Http3, &path).await.body() != text {
                assert!(begun.elapsed().as_secs() < 10, "version {version} is not seen");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_secret_is_no_peer() {
    let origin = Origin::new();
    let stranger = World::with(
        Some(origin.store()),
        named("ams-2", |settings, folder| {
            let other = folder.join("other");
            std::fs::write(&other, "another secret of the tests").unwrap();
            settings.pop = Some(PopSettings { secret_file: other, ..place(folder, &[]) });
        }),
    );
    let address = stranger.addresses.peer_listen.unwrap();
    let edge = World::with(
        Some(origin.store()),
        named("ams-1", |settings, folder| settings.pop = Some(place(folder, &[("ams-2", address)]))),
    );
    for (path, bytes) in segments(&origin.store(), 8, 300).await {
        assert!(*edge.get(Via::Http3, &path).await.body() == bytes);
    }
    assert_eq!(edge.metric("peer_answers_total", &[("answer", "given")]), 0);
    assert!(edge.metric("misses_total", &[("reason", "peer_down")]) > 0);
    // The edge does not wait for the stranger to notice.
    let begun = Instant::now();
    while stranger.metric("handshake_failures_total", &[("transport", "quic")]) == 0 {
        assert!(begun.elapsed().as_secs() < 20, "the stranger's handshakes do not fail");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // Nor is a viewer, whatever it says: on the viewers' port the words of peers mean nothing.
    let (path, _) = &segments(&origin.store(), 1, 400).await[0];
    let word = http::HeaderName::from_static("reelmill-ask");
    let response = edge.send(Via::Http3, http::Method::GET, path, &[(word, "held")]).await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("reelmill-length"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shield_stands_before_the_origin() {
    let origin = Origin::new();
    let shield = World::with(Some(origin.store()), named("shield", |_, _| {}));
    let address = shield.addresses.peer_listen;
    // Two places that share nothing but the shield.
    let edges = ["ams", "fra"].map(|name| {
        World::with(
            Some(origin.store()),
            named(name, |settings, folder| {
                settings.pop = Some(PopSettings { shield: address, ..place(folder, &[]) });
            }),
        )
    });
    let segments = segments(&origin.store(), 6, 500).await;
    for edge in &edges {
        for (path, bytes) in &segments {
            let response = edge.get(Via::Http3, path).await;
            assert_eq!(field(&response, CACHE_STATUS), "reelmill; fwd=uri-miss; stored; detail=shield");
            assert!(*response.body() == bytes);
        }
    }
    assert_eq!(origin.reads().len(), segments.len());
    assert_eq!(sum(&edges, "origin_reads_total", &[]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_knows_to_be_taken_down_is_not_fetched_around_it() {
    let (nats, origin) = (Nats::start(), Origin::new());
    let coordinator = nats.bus().await;
    let owner = joined(origin.store(), &nats, "ams-2").await;
    let address = owner.addresses.peer_listen.unwrap();
    // It hears of no takedown, and keeps nothing.
    let deaf = World::with(
        Some(origin.store()),
        named("ams-1", |settings, folder| {
            settings.cache_bytes = 0;
            settings.pop = Some(place(folder, &[("ams-2", address)]));
        }),
    );
    let mut owned = Vec::new();
    for (path, _) in segments(&origin.store(), 16, 600).await {
        if field(&deaf.get(Via::Http3, &path).await, CACHE_STATUS).ends_with("detail=peer") {
            owned.push(path);
        }
    }
    assert!(!owned.is_empty());
    for path in &owned {
        let hash = path.rsplit('/').next().unwrap().strip_suffix(".m4s").unwrap().parse().unwrap();
        let tombstone =
            Tombstone { target: Target::Blob { hash }, reason: "test".into(), at: Timestamp::now() };
        tombstone.publish(&coordinator).await.unwrap();
    }
    owner.until_metric("takedowns_total", &[], owned.len() as u64).await;
    let reads = origin.reads().len();
    for path in &owned {
        assert_problem(&deaf.get(Via::Http2, path).await, 410);
    }
    assert_eq!(origin.reads().len(), reads);
}
