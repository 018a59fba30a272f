//! A peer that has the key and lies: nothing of it may reach a viewer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use object_store::memory::InMemory;
use prometheus::Registry;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use reelmill_media::ids::BlobHash;
use reelmill_media::keys::BlobKind;
use reelmill_platform::hash_tree::HashTree;
use reelmill_platform::store::Store;

use super::ask::BlobHead;
use super::key::PeerKey;
use super::*;
use crate::body::Body;
use crate::cache::{BlobCache, Tier};
use crate::takedown::Takedowns;

const SECRET: &str = "the secret that the liar has";

/// What is asked for, by path.
type Truths = HashMap<String, (BlobHash, Bytes)>;

/// An answer with one bit flipped.
fn lie(hash: BlobHash, bytes: &Bytes, number: usize) -> (BlobHead, Bytes) {
    let tree = HashTree::of(hash, bytes).map(|tree| tree.encode()).unwrap_or_default();
    let mut answer = [tree.clone(), bytes.clone()].concat();
    // Somewhere else each time: in the tree, in the first group, in the last one.
    let bit = number * 7919 * (answer.len() / 3 + 1) % (answer.len() * 8);
    answer[bit / 8] ^= 1 << (bit % 8);
    (BlobHead { length: bytes.len() as u64, tree_bytes: tree.len() as u64 }, answer.into())
}

fn liar(truths: Truths, told: Arc<AtomicUsize>) -> SocketAddr {
    let tls = PeerKey::from_secret(SECRET.as_bytes()).unwrap().server_config().unwrap();
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let endpoint =
        Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime)).unwrap();
    tokio::spawn(async move {
        let quic = endpoint.accept().await.unwrap().await.unwrap();
        let mut connection = h3::server::Connection::new(h3_quinn::Connection::new(quic)).await.unwrap();
        while let Ok(Some(resolver)) = connection.accept().await {
            let (request, mut stream) = resolver.resolve_request().await.unwrap();
            let (hash, bytes) = &truths[request.uri().path()];
            let asks_whether_it_is_held = Question::read(request.headers()).unwrap().from == u64::MAX;
            let (head, answer) = if asks_whether_it_is_held {
                (BlobHead { length: bytes.len() as u64, tree_bytes: 0 }, Bytes::new())
            } else {
                lie(*hash, bytes, told.fetch_add(1, Ordering::Relaxed))
            };
            let mut response = Response::new(());
            head.write(response.headers_mut());
            stream.send_response(response).await.unwrap();
            // The edge hangs up when it has heard enough.
            let _ = stream.send_data(answer).await;
            let _ = stream.finish().await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_liar_says_is_repaired_from_the_origin_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let store = Store::over(Arc::new(InMemory::new()));
    let (mut blobs, mut truths) = (Vec::new(), Truths::new());
    // About half of them belong to the liar, and of the others it says that it holds them.
    let lies = std::env::var("REELMILL_FLIPS").map_or(3400, |text| text.parse().unwrap());
    let content: Bytes = (0..200_000 + 2 * lies).map(|i| ((i * i) >> 5) as u8).collect();
    for number in 0..2 * lies {
        let length = [1, 1000, 65_536, 65_537, 131_073, 200_000][number % 6];
        let bytes = [&number.to_le_bytes()[..], &content[number..number + length]].concat();
        let bytes = Bytes::from(bytes);
        let hash = store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        let path = format!("/{}", keys::blob(&hash, BlobKind::Segment));
        truths.insert(path, (hash, bytes.clone()));
        blobs.push((PublicBlob::new(hash, BlobKind::Segment).unwrap(), bytes));
    }
    let told = Arc::new(AtomicUsize::new(0));
    let address = liar(truths, told.clone());
    let settings = PopSettings {
        name: "test".into(),
        secret_file: folder.path().join("secret"),
        listen: "127.0.0.1:0".parse().unwrap(),
        address: None,
        peers: vec![("liar".into(), address)],
        shield: None,
    };
    let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let pop = Pop::new(&settings, "honest", tasks.clone(), end.clone(), metrics.clone()).unwrap();
    let cache = BlobCache::new(
        store,
        Some(pop),
        16 << 20,
        16 << 20,
        None,
        Takedowns::new(true),
        tasks.clone(),
        CancellationToken::new(),
        end.clone(),
        metrics.clone(),
    );
    for (name, bytes) in &blobs {
        let (blob, _) = cache.get(*name, Asked::ByViewer).await;
        let mut body = Body::proven(Bytes::new(), &blob.unwrap(), 0);
        let mut read = Vec::new();
        while let Some(piece) = poll_fn(|cx| body.poll_next(cx)).await {
            read.extend_from_slice(&piece.unwrap());
        }
        assert!(read == *bytes);
    }
    let told = told.load(Ordering::Relaxed);
    println!("{told} lies");
    assert!(told * 3 > blobs.len(), "{told} of {} belong to the liar", blobs.len());
    assert_eq!(metrics.corrupt_blobs(Tier::Peer), told as u64, "every lie is counted");
    end.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(20), tasks.wait()).await.unwrap();
}
