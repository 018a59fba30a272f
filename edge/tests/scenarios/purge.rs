//! A takedown reaches every edge of a fleet, and what a withdrawn key had opened.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use jiff::Timestamp;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::BlobKind;
use reelmill_platform::access::{KeyId, TokenKey};
use reelmill_platform::bus::Bus;
use reelmill_platform::jwk::{Algorithm, Jwk};
use reelmill_platform::purge::{Receipt, Target, Tombstone};
use reelmill_platform::store::Store;
use reelmill_platform::token::{self, Claims};
use reelmill_platform::topology::BucketName;
use tokio::time::{sleep, timeout};

use crate::nats::Nats;
use crate::world::{Via, World, assert_problem, noise, path_of, read_rest, times};

const EDGES: usize = 8;
const LENGTH: usize = 4 << 20;

/// Takes down, and waits for the receipts of so many edges.
async fn take_down(bus: &Bus, target: Target, edges: usize) -> Vec<Receipt> {
    let tombstone = Tombstone { target, reason: "test".into(), at: Timestamp::now() };
    let revision = tombstone.publish(bus).await.unwrap();
    let bucket = bus.bucket::<Receipt>(BucketName::Receipts).await.unwrap();
    let begun = Instant::now();
    loop {
        let found = bucket.list(&Receipt::all_for(&tombstone.mark().to_string(), revision.0)).await.unwrap();
        if found.len() == edges {
            return found.into_iter().map(|(_, receipt)| receipt).collect();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{} receipts", found.len());
        sleep(Duration::from_millis(5)).await;
    }
}

/// Shows how long takedowns take until the last edge's receipt is there.
async fn measure(bus: &Bus, store: &Store, purges: u64) {
    let mut took = Vec::new();
    for number in 0..purges {
        let hash = store.put_blob(BlobKind::Segment, noise(1000, 100 + number)).await.unwrap();
        let begun = Timestamp::now();
        let receipts = take_down(bus, Target::Blob { hash }, EDGES).await;
        let last = receipts.iter().map(|receipt| receipt.at).max().unwrap();
        took.push((last - begun).total(jiff::Unit::Millisecond).unwrap());
    }
    took.sort_by(f64::total_cmp);
    let at = |part: f64| took[((took.len() - 1) as f64 * part).round() as usize];
    println!(
        "{purges} takedowns, milliseconds to the last of {EDGES} receipts: p50 {:.1}, p99 {:.1}, most {:.1}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Measures, and does not judge: the machine may be busy. `REELMILL_PURGES=200` measures more.
#[tokio::test(flavor = "multi_thread")]
async fn eight_edges_end_their_streams_and_confirm() {
    let nats = Nats::start();
    let coordinator = nats.bus().await;
    let first = World::new();
    let bytes = noise(LENGTH, 1);
    let hash = first.store.put_blob(BlobKind::Segment, bytes).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    let mut edges = Vec::new();
    for number in 0..EDGES {
        let bus = nats.observer().await;
        edges.push(World::with(Some(first.store.clone()), |settings, _| {
            settings.bus = Some(bus);
            settings.name = format!("edge-{number}");
        }));
    }
    measure(&coordinator, &first.store, times("REELMILL_PURGES", 5)).await;
    let mut streams = Vec::new();
    for edge in &edges {
        let mut stream = edge.h3().await.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
        assert_eq!(stream.recv_response().await.unwrap().status(), 200);
        streams.push(stream);
    }
    let begun = Timestamp::now();
    let receipts = take_down(&coordinator, Target::Blob { hash }, EDGES).await;
    let mut took: Vec<_> = receipts.iter().map(|r| (r.at - begun).total(jiff::Unit::Millisecond)).collect();
    took.sort_by(|a, b| a.as_ref().unwrap().total_cmp(b.as_ref().unwrap()));
    println!("receipts of {EDGES} edges, milliseconds after the takedown was asked for: {took:?}");
    for (edge, mut stream) in edges.iter().zip(streams) {
        let read = timeout(Duration::from_secs(10), read_rest(&mut stream)).await.unwrap();
        assert!(read.is_err(), "a stream in flight is reset");
        assert_problem(&edge.get(Via::Http3, &path).await, 410);
    }
    let mut names: Vec<_> = receipts.into_iter().map(|receipt| receipt.edge).collect();
    names.sort();
    assert_eq!(names, (0..EDGES).map(|n| format!("edge-{n}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_opened_ends_with_it() {
    let nats = Nats::start();
    let coordinator = nats.bus().await;
    let bus = nats.observer().await;
    let world = World::with(None, |settings, _| settings.bus = Some(bus));
    let hash = world.store.put_blob(BlobKind::Segment, noise(LENGTH, 2)).await.unwrap();
    let keys = coordinator.bucket::<TokenKey>(BucketName::TokenKeys).await.unwrap();
    let add = async |kid: &str| {
        let (kid, jwk): (KeyId, _) = (kid.parse().unwrap(), Jwk::generate(Algorithm::EdDSA).unwrap());
        keys.put(&kid.to_string(), &TokenKey { tenant: None, jwk: jwk.proving() }).await.unwrap();
        let claims = Claims {
            exp: Timestamp::now().as_second() + 600,
            nbf: None,
            asset: None,
            path: None,
            countries: None,
            networks: None,
            sub: None,
            iat: None,
        };
        format!("/t/{}{}", token::sign(&claims, &kid, &jwk).unwrap(), path_of(&hash, BlobKind::Segment))
    };
    let (purged, removed, kept) = (add("purged").await, add("removed").await, add("kept").await);
    let begin = async |path: &str| {
        let begun = Instant::now();
        loop {
            let mut stream = world.h3().await.begin(Method::GET, path, HeaderMap::new()).await.unwrap();
            if stream.recv_response().await.unwrap().status() == 200 {
                return stream;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "the key is not known");
            sleep(Duration::from_millis(5)).await;
        }
    };
    let mut of_kept = begin(&kept).await;
    for (path, kid) in [(&purged, "purged"), (&removed, "removed")] {
        let mut stream = begin(path).await;
        if kid == "purged" {
            take_down(&coordinator, Target::Key { kid: kid.parse().unwrap() }, 1).await;
        } else {
            keys.remove(kid).await.unwrap();
        }
        assert!(timeout(Duration::from_secs(10), read_rest(&mut stream)).await.unwrap().is_err());
        assert_problem(&world.get(Via::Http2, path).await, 401);
    }
    // A key under a name that was taken down stays worthless.
    let again = add("purged").await;
    let another = add("another").await;
    begin(&another).await;
    assert_problem(&world.get(Via::Http2, &again).await, 401);
    assert_eq!(BlobHash::of(&read_rest(&mut of_kept).await.unwrap()), hash, "other keys' streams go on");
}
