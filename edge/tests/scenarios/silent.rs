//! An edge whose store does not answer.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::BlobKind;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;

use crate::process::{start_over, url};
use crate::world::path_of;

/// As many as are asked of an origin at once, and more.
const MISSES: u64 = 100;

/// Starts an edge over a store at this address, and asks for more than it asks of an origin at once.
async fn misses_are_answered_in_time(endpoint: &str, folder: &Path) {
    // Twice what it takes: a wait for a place at the origin, and two tries.
    const IN_TIME: Duration = Duration::from_secs(30);
    let environment =
        [("AWS_ENDPOINT", endpoint), ("AWS_ALLOW_HTTP", "true"), ("AWS_SKIP_SIGNATURE", "true")];
    let (_edge, ready) = start_over("s3://videos", &environment, folder, &[]);
    let asking = (0..MISSES).map(|number| {
        let hash = BlobHash::of(&number.to_le_bytes());
        reqwest::get(url(&ready, &path_of(&hash, BlobKind::Segment)))
    });
    for answer in timeout(IN_TIME, join_all(asking)).await.unwrap() {
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_long_for_a_store_that_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut taken = Vec::new();
        loop {
            taken.push(listener.accept().await.unwrap());
        }
    });
    misses_are_answered_in_time(&endpoint, folder.path()).await;
    silent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_long_for_a_store_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    // Taken, so that nobody else gets it, and not listened at.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    misses_are_answered_in_time(&format!("http://{}", socket.local_addr().unwrap()), folder.path()).await;
}
