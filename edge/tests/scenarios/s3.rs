//! An edge whose store is on S3.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reelmill_e2e::s3::S3;
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::{self, BlobKind};
use reelmill_platform::store::Store;
use reqwest::header::RANGE;
use tokio::time::sleep;

use crate::process::{start_over, url};
use crate::world::{asset, noise, path_of};

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_s3_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3::start(&folder.path().join("s3"));
    let (_edge, ready) = start_over(&s3.url(), &s3.environment(), folder.path(), &[]);
    let stored = Store::open(&format!("file://{}", s3.folder().display())).unwrap();
    let bytes = noise(300_000, 41);
    let hash = stored.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let (playlist, text) = (keys::multivariant_playlist(asset()), "#EXTM3U\n#EXT-X-ENDLIST\n");
    stored.put_object(&playlist, Bytes::from(text)).await.unwrap();

    let client = reqwest::Client::new();
    let segment = url(&ready, &path_of(&hash, BlobKind::Segment));
    let part = client.get(&segment).header(RANGE, "bytes=100000-100009").send().await.unwrap();
    assert_eq!((part.status().as_u16(), &part.bytes().await.unwrap()[..]), (206, &bytes[100_000..100_010]));
    assert!(client.get(&segment).send().await.unwrap().bytes().await.unwrap() == bytes);
    let answer = client.get(url(&ready, &format!("/{playlist}"))).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), text);
    let absent = url(&ready, &path_of(&BlobHash::of(b"nobody's"), BlobKind::Segment));
    assert_eq!(client.get(absent).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_bucket_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3::start(&folder.path().join("s3"));
    let mut environment = s3.environment();
    environment.iter_mut().find(|(name, _)| *name == "AWS_SECRET_ACCESS_KEY").unwrap().1 = "another";
    let (_edge, ready) = start_over(&s3.url(), &environment, folder.path(), &[]);
    let hash = BlobHash::of(b"whatever");
    let answer = reqwest::get(url(&ready, &path_of(&hash, BlobKind::Segment))).await.unwrap();
    assert_eq!(answer.status(), 503);
    // At the start, whenever that is answered, and for what was asked for.
    let words =
        ["the object store cannot be read yet", "privileges", &hash.to_string(), "SignatureDoesNotMatch"];
    let said = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    let begun = Instant::now();
    while let Some(word) = words.iter().find(|word| !said().contains(**word)) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{word}: {}", said());
        sleep(Duration::from_millis(20)).await;
    }
}
