//! Edges of one place go on when all others are gone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header;
use jiff::Timestamp;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::purge::{Target, Tombstone};

use crate::nats::Nats;
use crate::pop::{joined, segments, sum};
use crate::web::WebServer;
use crate::world::{Via, asset, field, path_of, times};

/// An origin that does not even say no.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_hangs_holds_up_nobody_who_can_be_served_by_peers() {
    let (nats, origin) = (Nats::start(), WebServer::start());
    let _coordinator = nats.bus().await;
    let first = joined(origin.store(), &nats, "ams-1").await;
    let held = segments(&origin.folder(), 10, 1700).await;
    let key = keys::multivariant_playlist(asset());
    let (playlist, text) = (format!("/{key}"), Bytes::from("#EXTM3U\n"));
    origin.folder().put_object(&key, text.clone()).await.unwrap();
    for path in held.iter().map(|(path, _)| path).chain([&playlist]) {
        assert_eq!(first.get(Via::Http3, path).await.status(), 200);
    }
    let edges = [joined(origin.store(), &nats, "ams-2").await, first];
    edges[0].until_metric("pop_members", &[], 1).await;
    edges[1].until_metric("pop_members", &[], 1).await;
    origin.process.signal("-STOP");
    for edge in &edges {
        for (path, bytes) in &held {
            assert!(*edge.get(Via::Http3, path).await.body() == *bytes);
        }
        assert_eq!(edge.get(Via::Http2, &playlist).await.body(), &text);
    }
    // Peers are asked first; only who hears nothing of them in time asks the origin.
    let reads: u64 = edges.iter().map(|edge| edge.metric("origin_reads_total", &[("what", "blob")])).sum();
    assert!(reads <= 10 + 2, "{reads} reads");
}

/// With origin and NATS gone, all serve what any one holds, for as long as `REELMILL_DARK_SECONDS` says; and all is well
/// again when they are back.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_holds_all_serve_in_the_dark() {
    let (mut nats, mut origin) = (Nats::start(), WebServer::start());
    let coordinator = nats.bus().await;
    let mut edges = vec![joined(origin.store(), &nats, "ams-1").await];
    let held = segments(&origin.folder(), 10, 700).await;
    let playlist: Bytes = "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:EVENT\n".into();
    let keys = [keys::multivariant_playlist(asset()), keys::presentation(asset())];
    let texts = keys.map(|key| (format!("/{key}"), key));
    for (_, key) in &texts {
        origin.folder().put_object(key, playlist.clone()).await.unwrap();
    }
    // Held by the first one alone.
    for path in held.iter().map(|(path, _)| path).chain(texts.iter().map(|(path, _)| path)) {
        assert_eq!(edges[0].get(Via::Http3, path).await.status(), 200);
    }
    for name in ["ams-2", "ams-3"] {
        edges.push(joined(origin.store(), &nats, name).await);
    }
    let absent = path_of(&BlobHash::of(b"nothing"), BlobKind::Segment);
    for edge in &edges {
        edge.until_metric("pop_members", &[], 2).await;
        // Who never heard who may have what serves nothing.
        assert_eq!(edge.get(Via::Http3, &absent).await.status(), 404);
    }

    origin.kill();
    nats.kill();
    drop(coordinator);
    let (dark_since, dark_for) = (Instant::now(), Duration::from_secs(times("REELMILL_DARK_SECONDS", 1)));
    let mut rounds = 0;
    while rounds < 2 || dark_since.elapsed() < dark_for {
        rounds += 1;
        for edge in edges.iter().rev() {
            for (path, bytes) in &held {
                let response = edge.get(Via::Http3, path).await;
                assert_eq!(response.status(), 200);
                assert!(*response.body() == bytes);
            }
            for (path, _) in &texts {
                let response = edge.get(Via::Http2, path).await;
                assert_eq!((response.status().as_u16(), response.body()), (200, &playlist));
            }
        }
        // Past the time for which a growing playlist is fresh.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    println!("{rounds} rounds in the dark");
    assert!(sum(&edges, "stale_texts_total", &[]) > 0);

    origin.restart();
    nats.restart();
    let grown: Bytes = "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-ENDLIST\n".into();
    let fresh = segments(&origin.folder(), 4, 800).await;
    for (_, key) in &texts {
        origin.folder().put_object(key, grown.clone()).await.unwrap();
    }
    let reads = origin.reads();
    for edge in &edges {
        for (path, bytes) in &fresh {
            assert!(*edge.get(Via::Http3, path).await.body() == bytes);
        }
        for (path, _) in &texts {
            let begun = Instant::now();
            while *edge.get(Via::Http3, path).await.body() != grown {
                assert!(begun.elapsed().as_secs() < 10, "still the old one");
            }
        }
    }
    assert_eq!(origin.reads(), reads + fresh.len());
    // Word over NATS comes through again.
    let tombstone = Tombstone {
        target: Target::Asset { asset: asset(), blobs: None },
        reason: "test".into(),
        at: Timestamp::now(),
    };
    tombstone.publish(&nats.bus().await).await.unwrap();
    for edge in &edges {
        let begun = Instant::now();
        while edge.get(Via::Http3, &texts[0].0).await.status() != 410 {
            assert!(begun.elapsed().as_secs() < 20, "the takedown is not heard of");
        }
    }
    assert_eq!(field(&edges[0].get(Via::Http3, &held[0].0).await, header::CONTENT_TYPE), "video/iso.segment");
}
