//! What an edge may say over NATS, by the permissions that `deploy/nats/users.conf` gives it.

use std::time::{Duration, Instant};

use http::StatusCode;
use jiff::Timestamp;
use reelmill_media::keys::BlobKind;
use reelmill_platform::bus::Bus;
use reelmill_platform::edges::EdgeRecord;
use reelmill_platform::jwk::{Algorithm, Jwk};
use reelmill_platform::purge::{Target, Tombstone};
use reelmill_platform::receipt::{EdgeKey, Proof, Receipt};
use reelmill_platform::topology::BucketName;

use crate::nats::{Nats, Users};
use crate::pop::named;
use crate::world::{Via, World, noise, path_of};

const USERS: Users = Users {
    file: concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/nats/users.conf"),
    variables: &["NATS_COORDINATOR", "NATS_WORKER", "NATS_EDGE_AMS_1"],
};

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_does_its_work_and_speaks_for_no_other() {
    let nats = Nats::guarded(USERS);
    let coordinator = nats.bus_of("coordinator:NATS_COORDINATOR").await;
    let bus = Bus::observe(&nats.url_of("edge-ams-1:NATS_EDGE_AMS_1"), "edge").await.unwrap();
    let own = bus.clone();
    let edge = World::with(None, named("ams-1", |settings, _| settings.bus = Some(own)));

    // It joins its place, …
    let edges = coordinator.bucket::<EdgeRecord>(BucketName::Edges).await.unwrap();
    let begun = Instant::now();
    while edges.get("test.ams-1").await.unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the edge does not say that it lives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // … learns who may have what, …
    let hash = edge.store.put_blob(BlobKind::Segment, noise(1000, 1)).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    let begun = Instant::now();
    while edge.get(Via::Http3, &path).await.status() != StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_secs(20), "the edge hears of no policies");
    }
    // … and obeys takedowns with receipts that hold.
    let target = Target::Blob { hash };
    let tombstone = Tombstone { target, reason: "test".into(), at: Timestamp::now() };
    let revision = tombstone.publish(&coordinator).await.unwrap();
    let receipts = coordinator.bucket::<Receipt>(BucketName::Receipts).await.unwrap();
    let keys = coordinator.bucket::<EdgeKey>(BucketName::EdgeKeys).await.unwrap();
    let key = format!("{}.{}.ams-1", tombstone.mark(), revision.0);
    let begun = Instant::now();
    let receipt = loop {
        match receipts.get(&key).await.unwrap() {
            Some((receipt, _)) => break receipt,
            None => assert!(begun.elapsed() < Duration::from_secs(20), "the edge signs no receipt"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(receipt.judge(&key, &keys).await.unwrap().proof, Proof::Signed);

    // It shows no key as another edge's, signs for none, and takes nothing down itself.
    let pair = Jwk::generate(Algorithm::EdDSA).unwrap();
    let foreign = EdgeKey::of("ams-2", &pair, Timestamp::now()).unwrap();
    let forged = Receipt {
        edge: "ams-2".into(),
        tombstone: tombstone.mark().to_string(),
        revision: revision.0,
        at: Timestamp::now(),
        dropped: 0,
        signature: None,
    };
    let (own_keys, own_receipts) =
        (bus.bucket(BucketName::EdgeKeys).await.unwrap(), bus.bucket(BucketName::Receipts).await.unwrap());
    let (foreign_key, forged_key) = (foreign.key(), forged.key());
    let (shown, signed, put_up) = tokio::join!(
        own_keys.put(&foreign_key, &foreign),
        own_receipts.put(&forged_key, &forged),
        tombstone.publish(&bus),
    );
    assert!(shown.is_err() && signed.is_err() && put_up.is_err());
    assert!(keys.get(&foreign_key).await.unwrap().is_none());
    assert!(receipts.get(&forged_key).await.unwrap().is_none());
}
