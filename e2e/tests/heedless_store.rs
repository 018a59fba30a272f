//! The store is an S3 server that makes nothing of conditions, as Garage does: whoever writes, nobody's work is lost.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use reelmill_e2e::fixtures::{Kind, fixture};
use reelmill_e2e::fleet::Fleet;
use reelmill_e2e::judge::Expected;
use reelmill_e2e::published::{Published, from_server};

const READY: Duration = Duration::from_secs(240);

#[test]
fn many_who_upload_the_same_at_once_each_have_it_and_it_plays() {
    let source = fixture(Kind::Custom { width: 320, height: 180, seconds: 6 });
    let mut fleet = Fleet::on_s3();
    let coordinators = [fleet.coordinator(), fleet.coordinator()];
    let (_workers, edge) = ([fleet.worker(&[]), fleet.worker(&[])], fleet.edge());
    let assets: Vec<String> = thread::scope(|threads| {
        let upload = |n: usize| {
            let (fleet, to) = (&fleet, &coordinators[n % 2]);
            threads.spawn(|| fleet.put(to, &source.path))
        };
        let uploads: Vec<_> = (0..4).map(upload).collect();
        uploads.into_iter().map(|upload| upload.join().expect("an upload")).collect()
    });
    assert_eq!(assets.iter().collect::<BTreeSet<_>>().len(), assets.len());
    for asset in &assets {
        fleet.ready(&coordinators[0], asset, READY);
    }
    // What was put again and again is what it was.
    let blobs = fleet.must_be_right(&assets[0], &Expected::of(&source)).blobs();
    let get = from_server(&fleet.http, &edge.api);
    for asset in &assets {
        let index = format!("assets/{asset}/index.m3u8");
        let stored = fleet.published(asset);
        let served = Published::read(&get, &index).expect("the edge to serve it");
        assert_eq!((&stored.blobs(), &served.blobs()), (&blobs, &blobs), "the same source, the same bytes");
        let pairs = served.tracks().zip(stored.tracks());
        for (served, stored) in pairs.flat_map(|(a, b)| a.segments.iter().zip(&b.segments)) {
            assert!(served.fetched.bytes == stored.fetched.bytes, "{}", served.path);
        }
    }
}
