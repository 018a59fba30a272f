//! A takedown reaches every edge of a fleet, and what a withdrawn key had opened.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::BlobKind;
use reelmill_platform::access::{KeyId, TokenKey};
use reelmill_platform::bus::Bus;
use reelmill_platform::jwk::{Algorithm, Jwk};
use reelmill_platform::purge::{Target, Tombstone};
use reelmill_platform::receipt::{EdgeKey, Judged, Proof, Receipt};
use reelmill_platform::store::Store;
use reelmill_platform::token::{self, Claims};
use reelmill_platform::topology::BucketName;
use tokio::time::{sleep, timeout};

use crate::nats::Nats;
use crate::world::{Via, World, assert_problem, noise, path_of, read_rest, times};

const EDGES: usize = 8;
const LENGTH: usize = 4 << 20;

/// Takes down, and waits until the receipts of so many edges lie in the bucket; gives them, and how long that took.
async fn take_down(bus: &Bus, target: Target, edges: usize) -> (Vec<Receipt>, Duration) {
    let receipts = bus.bucket::<Receipt>(BucketName::Receipts).await.unwrap();
    let keys = bus.bucket::<EdgeKey>(BucketName::EdgeKeys).await.unwrap();
    let mut arriving = std::pin::pin!(receipts.changes().await.unwrap());
    let tombstone = Tombstone { target, reason: "test".into(), at: Timestamp::now() };
    let begun = Instant::now();
    let revision = tombstone.publish(bus).await.unwrap();
    let ours = format!("{}.{}.", tombstone.mark(), revision.0);
    let mut found = Vec::new();
    while found.len() < edges {
        let next = timeout(Duration::from_secs(20), arriving.next()).await;
        assert!(next.is_ok(), "{} receipts", found.len());
        let change = next.unwrap().unwrap().unwrap();
        if change.key.starts_with(&ours) {
            found.push((change.key, change.value.unwrap()));
        }
    }
    let took = begun.elapsed();
    let mut signed = Vec::new();
    for (key, receipt) in found {
        let Judged { receipt, proof } = receipt.judge(&key, &keys).await.unwrap();
        assert_eq!(proof, Proof::Signed);
        signed.push(receipt);
    }
    (signed, took)
}

/// Shows how long takedowns take until the last edge's signed receipt is there.
async fn measure(bus: &Bus, store: &Store, purges: u64) {
    let mut took = Vec::new();
    for number in 0..purges {
        let hash = store.put_blob(BlobKind::Segment, noise(1000, 100 + number)).await.unwrap();
        took.push(take_down(bus, Target::Blob { hash }, EDGES).await.1);
    }
    took.sort();
    let at = |part: f64| took[((took.len() - 1) as f64 * part).round() as usize];
    println!(
        "{purges} takedowns, until the last of {EDGES} signed receipts is there: p50 {:.1?}, p99 {:.1?}, most {:.1?}",
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
    let (receipts, took) = take_down(&coordinator, Target::Blob { hash }, EDGES).await;
    println!("with a stream in flight at each of {EDGES} edges: {took:.1?}");
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
