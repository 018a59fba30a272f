//! An edge that is there before any coordinator.

use std::time::{Duration, Instant};

use reelmill_media::keys;
use reelmill_platform::edges::EdgeRecord;
use reelmill_platform::topology::BucketName;
use tokio::time::sleep;

use crate::nats::Nats;
use crate::process::{start, url};
use crate::world::asset;

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_quietly_and_begins_with_the_first_coordinator() {
    let (nats, folder) = (Nats::start(), tempfile::tempdir().unwrap());
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "a secret of the tests").unwrap();
    let place =
        ["--pop", "test", "--peer-listen", "127.0.0.1:0", "--pop-secret-file", secret.to_str().unwrap()];
    let (_edge, ready) = start(folder.path(), &[&["--nats", &nats.url], &place[..]].concat());
    let said = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    until("it to wait", async || said().contains("waiting for the first")).await;
    let index = url(&ready, &format!("/{}", keys::multivariant_playlist(asset())));
    assert_eq!(reqwest::get(&index).await.unwrap().status(), 503, "nobody has said who may watch");

    let coordinator = nats.bus().await;
    let edges = coordinator.bucket::<EdgeRecord>(BucketName::Edges).await.unwrap();
    until("policies", async || reqwest::get(&index).await.unwrap().status() == 404).await;
    until("takedowns", async || said().contains("all takedowns are known")).await;
    until("its place in the PoP", async || !edges.list(">").await.unwrap().is_empty()).await;
    assert!(!said().contains(" WARN "), "{}", said());
    assert_eq!(said().matches("waiting for the first").count(), 1, "{}", said());
}
