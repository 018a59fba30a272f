//! The disk cache: proven at each read, mended from the origin, warm after any end of the process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, Method, header};
use prometheus::Registry;
use reelmill_edge::cache::{DiskError, DiskSettings};
use reelmill_edge::process::{self, StartError};
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::BlobKind;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::world::{Via, World, field, noise, path_of, times};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Of one group, of several, and of an odd end.
const LENGTHS: [usize; 10] = [1, 1000, 30_000, 65_535, 65_536, 65_537, 100_000, 131_072, 200_000, 400_001];

/// An edge that keeps nothing in memory.
fn on_disk(capacity_bytes: u64) -> World {
    World::with(None, |settings, folder| {
        settings.cache_bytes = 0;
        settings.disk = Some(DiskSettings { folder: folder.join("cache"), capacity_bytes });
    })
}

fn cached(folder: &Path, hash: &BlobHash) -> PathBuf {
    let hash = hash.to_string();
    folder.join("cache").join(&hash[..2]).join(format!("{hash}.m4s"))
}

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bit_flipped_on_disk_reaches_anybody() {
    let rounds = times("REELMILL_FLIPS", 3400).div_ceil(LENGTHS.len() as u64);
    let world = on_disk(64 << 20);
    let mut blobs: Vec<(BlobHash, Bytes)> = Vec::new();
    for length in LENGTHS {
        let bytes = noise(length, length as u64);
        blobs.push((world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap(), bytes));
    }
    for (hash, bytes) in &blobs {
        assert!(*world.get(Via::Http3, &path_of(hash, BlobKind::Segment)).await.body() == bytes);
    }
    world.until_metric("disk_writes_total", &[("outcome", "stored")], blobs.len() as u64).await;
    let (mut state, mut flips) = (1, 0);
    for round in 0..rounds {
        for (hash, _) in &blobs {
            let file = cached(world.folder.path(), hash);
            let mut content = std::fs::read(&file).unwrap();
            let bit = random(&mut state) % (content.len() * 8);
            content[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file, content).unwrap();
        }
        for (hash, bytes) in &blobs {
            // The writer may still hold the blob for a moment, and then the file is not read.
            while world.metric("corrupt_files_total", &[]) == flips {
                let response =
                    world.get(Via::ALL[round as usize % 4], &path_of(hash, BlobKind::Segment)).await;
                assert!(response.status() == 200 && *response.body() == bytes);
            }
            flips += 1;
        }
        let written = blobs.len() as u64 + flips;
        world.until_metric("disk_writes_total", &[("outcome", "stored")], written).await;
    }
    assert_eq!(world.metric("corrupt_files_total", &[]), flips);
    assert_eq!(world.metric("misses_total", &[("reason", "corrupt")]), flips);
    assert_eq!(world.metric("misses_total", &[("reason", "cold")]), blobs.len() as u64);
    assert_eq!(world.metric("corrupt_blobs_total", &[]), 0);
    let reads = world.metric("origin_reads_total", &[("what", "blob")]);
    for (hash, bytes) in &blobs {
        let range = [(header::RANGE, "bytes=0-")];
        let response = world.send(Via::Http2, Method::GET, &path_of(hash, BlobKind::Segment), &range).await;
        assert_eq!(field(&response, CACHE_STATUS), "reelmill; hit; detail=disk");
        assert!(*response.body() == bytes);
    }
    assert_eq!(world.metric("origin_reads_total", &[("what", "blob")]), reads, "all is mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_to_its_size() {
    const CAPACITY: u64 = 1 << 20;
    let world = on_disk(CAPACITY);
    let mut first = None;
    for number in 0..40 {
        let hash = world.store.put_blob(BlobKind::Segment, noise(100_000, number)).await.unwrap();
        first.get_or_insert(hash);
        assert_eq!(world.get(Via::Http3, &path_of(&hash, BlobKind::Segment)).await.status(), 200);
        world.until_metric("disk_writes_total", &[("outcome", "stored")], number + 1).await;
    }
    let files = || walk(&world.folder.path().join("cache")).iter().sum::<u64>();
    // The count of writes goes up a moment before the oldest files go.
    let begun = Instant::now();
    while world.metric("disk_cache_bytes", &[]) != files() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} bytes of files", files());
        sleep(Duration::from_millis(5)).await;
    }
    assert!((CAPACITY / 2..=CAPACITY).contains(&files()), "{} bytes of files", files());
    let path = path_of(&first.unwrap(), BlobKind::Segment);
    assert_eq!(world.get(Via::Http3, &path).await.status(), 200);
    assert_eq!(world.metric("misses_total", &[("reason", "evicted")]), 1);
}

fn walk(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .flat_map(|entry| {
            let data = entry.metadata().unwrap();
            if data.is_dir() { walk(&entry.path()) } else { vec![data.len()] }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_edge() {
    let world = on_disk(1 << 20);
    let mut settings = world.settings.clone();
    settings.disk = Some(DiskSettings { folder: world.folder.path().join("cache"), capacity_bytes: 1 });
    let second = process::start(settings, world.store.clone(), &Registry::new(), CancellationToken::new())
        .unwrap_err();
    assert!(matches!(second, StartError::Disk(DiskError::InUse(_))), "{second}");
}
