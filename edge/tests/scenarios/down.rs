//! Owners that do not answer, or have their hands full: the next in rank takes their place.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use futures_util::future::join_all;
use reelmill_media::keys::BlobKind;
use reelmill_platform::store::Store;

use crate::nats::Nats;
use crate::origin::Origin;
use crate::pop::{CACHE_STATUS, named, place, pop, secret, segments, sum};
use crate::process::start;
use crate::world::{Via, World, field, noise, path_of};

/// An address where nobody answers, and the socket that sees to it.
fn void() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_down_costs_one_wait_and_is_counted() {
    let origin = Origin::new();
    let (_socket, ghost) = void();
    let alone = World::with(
        Some(origin.store()),
        named("ams-1", |settings, folder| settings.pop = Some(place(folder, &[("ams-2", ghost)]))),
    );
    let segments = segments(&origin.store(), 16, 200).await;
    for (path, bytes) in &segments {
        assert!(*alone.get(Via::Http3, path).await.body() == bytes);
    }
    assert_eq!(origin.reads().len(), segments.len());
    let down = alone.metric("misses_total", &[("reason", "peer_down")]);
    assert!(down > 0 && down < 16, "{down} of 16 belong to the other one");
    assert_eq!(alone.metric("misses_total", &[]), 16);
}

/// One that is frozen, then goes on, then is killed: each time viewers get everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_freezes_or_dies_holds_up_nobody_for_long() {
    let shared = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("file://{}/store", shared.path().display())).unwrap();
    let secret = secret(shared.path()).display().to_string();
    let flags =
        ["--pop", "test", "--pop-secret-file", &secret, "--peer-listen", "127.0.0.1:0", "--name", "ams-2"];
    let (mut program, ready) = start(shared.path(), &flags);
    let address = ready["peer_listen"].as_str().unwrap().parse().unwrap();
    let edge = World::with(
        Some(store.clone()),
        named("ams-1", |settings, folder| settings.pop = Some(place(folder, &[("ams-2", address)]))),
    );
    let mut seed = 0;
    // Fetches blobs that nobody has had yet; says how many came from the peer.
    let mut fetch = async |count: u64| {
        seed += 1000;
        let mut from_peer = 0;
        for number in 0..count {
            let bytes = noise(200_000, seed + number);
            let hash = store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
            let response = edge.get(Via::Http3, &path_of(&hash, BlobKind::Segment)).await;
            assert_eq!(response.status(), 200);
            assert!(*response.body() == bytes);
            from_peer += usize::from(field(&response, CACHE_STATUS).ends_with("detail=peer"));
        }
        from_peer
    };
    assert!(fetch(20).await > 0);
    program.signal("-STOP");
    assert_eq!(fetch(20).await, 0);
    assert!(edge.metric("misses_total", &[("reason", "peer_down")]) > 0);
    program.signal("-CONT");
    let begun = Instant::now();
    while fetch(5).await == 0 {
        assert!(begun.elapsed().as_secs() < 20, "it is not asked again");
    }
    program.0.kill().unwrap();
    program.0.wait().unwrap();
    assert_eq!(fetch(20).await, 0);
}

/// More cold blobs at once than an owner takes on: the next in rank does, and still each is read once.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_with_its_hands_full_leaves_some_to_the_next_and_nothing_is_read_twice() {
    let (nats, origin) = (Nats::start(), Origin::new());
    let _coordinator = nats.bus().await;
    let edges = pop(&origin, &nats, &["ams-1", "ams-2", "ams-3", "ams-4"]).await;
    let count = 320;
    let store = origin.store();
    let put = async |number: u64| {
        let bytes = noise(3000, 9000 + number);
        let hash = store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        (path_of(&hash, BlobKind::Segment), bytes)
    };
    let blobs = join_all((0..count).map(put)).await;
    // So that all are on their way before the first one arrives.
    origin.release(0);
    let asking = join_all(blobs.iter().enumerate().map(|(number, (path, bytes))| {
        let edge = &edges[number % 2];
        async move {
            let response = edge.get(Via::ALL[number % 4], path).await;
            assert_eq!(response.status(), 200);
            assert!(*response.body() == *bytes);
        }
    }));
    let release = async {
        let begun = Instant::now();
        while sum(&edges[..2], "peer_answers_total", &[("answer", "refused")]) == 0 {
            assert!(begun.elapsed().as_secs() < 20, "nobody has its hands full");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        origin.release(u64::MAX);
    };
    tokio::join!(asking, release);
    assert!(sum(&edges, "misses_total", &[("reason", "overload")]) > 0);
    // The others of the PoP find all of them where they are.
    join_all(blobs.iter().map(|(path, bytes)| async {
        assert!(*edges[3].get(Via::Http2, path).await.body() == *bytes);
    }))
    .await;
    assert_eq!(origin.reads().len() as u64, count);
}
