//! Edges come and go: what others hold is not asked of the origin again.

use std::sync::Arc;

use bytes::Bytes;

use crate::nats::Nats;
use crate::origin::Origin;
use crate::pop::{joined, pop, segments, sum};
use crate::world::{Via, World};

/// Asks every edge for every blob.
async fn ask_all(edges: &[World], blobs: &[(String, Bytes)]) {
    for edge in edges {
        for (path, bytes) in blobs {
            assert!(*edge.get(Via::Http3, path).await.body() == *bytes);
        }
    }
}

/// Asks the first edge for new blobs: it holds them then, as does whoever owns them.
async fn held_by_first(edges: &[World], origin: &Arc<Origin>, seed: u64) -> Vec<(String, Bytes)> {
    let blobs = segments(&origin.store(), 16, seed).await;
    ask_all(&edges[..1], &blobs).await;
    edges[0].until_metric("fills_total", &[("outcome", "stored")], blobs.len() as u64).await;
    assert_eq!(origin.reads().len(), blobs.len());
    blobs
}

/// Waits until each edge knows of so many others.
async fn until_members(edges: &[World], others: u64) {
    for edge in edges {
        edge.until_metric("pop_members", &[], others).await;
    }
}

/// Drains the last of three edges, until the others have noticed.
async fn last_goes(edges: &mut Vec<World>) {
    edges.pop().unwrap().begin_drain().await;
    until_members(edges, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_drains_leaves_the_pop_and_what_it_owned_goes_to_others() {
    let (nats, origin) = (Nats::start(), Origin::new());
    let _coordinator = nats.bus().await;
    let mut edges = pop(&origin, &nats, &["ams-1", "ams-2", "ams-3"]).await;
    last_goes(&mut edges).await;
    let blobs = segments(&origin.store(), 12, 2500).await;
    ask_all(&edges, &blobs).await;
    assert_eq!(origin.reads().len(), blobs.len());
    assert_eq!(sum(&edges, "misses_total", &[("reason", "peer_down")]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_holds_is_not_read_again_when_another_comes() {
    let (nats, origin) = (Nats::start(), Origin::new());
    let _coordinator = nats.bus().await;
    let mut edges = pop(&origin, &nats, &["ams-1", "ams-2", "ams-3"]).await;
    let blobs = held_by_first(&edges, &origin, 5000).await;
    edges.push(joined(origin.store(), &nats, "ams-4").await);
    until_members(&edges, 3).await;
    // It owns some of them now, and asks who owned them before.
    ask_all(&edges[3..], &blobs).await;
    ask_all(&edges[1..3], &blobs).await;
    assert_eq!(origin.reads().len(), blobs.len());
    assert_eq!(sum(&edges[3..], "origin_reads_total", &[]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_holds_is_not_read_again_when_its_owner_goes() {
    let (nats, origin) = (Nats::start(), Origin::new());
    let _coordinator = nats.bus().await;
    let mut edges = pop(&origin, &nats, &["ams-1", "ams-2", "ams-3"]).await;
    let blobs = held_by_first(&edges, &origin, 5100).await;
    last_goes(&mut edges).await;
    // Of what the third one owned the second one owns about half now, and has nothing of it.
    ask_all(&edges[1..], &blobs).await;
    ask_all(&edges[..1], &blobs).await;
    assert_eq!(origin.reads().len(), blobs.len());
}
