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

/// Blobs by path, each with one bit of the answer flipped.
type Lies = HashMap<String, (BlobHead, Bytes)>;

fn lie(bytes: &Bytes, number: usize) -> (BlobHash, (BlobHead, Bytes)) {
    let hash = BlobHash::of(bytes);
    let tree = HashTree::of(hash, bytes).map(|tree| tree.encode()).unwrap_or_default();
    let mut answer = [tree.clone(), bytes.clone()].concat();
    // Somewhere else each time: in the tree, in the first group, in the last one.
    let bit = number * 7919 * answer.len() % (answer.len() * 8);
    answer[bit / 8] ^= 1 << (bit % 8);
    let head = BlobHead { length: bytes.len() as u64, tree_bytes: tree.len() as u64 };
    (hash, (head, answer.into()))
}

fn liar(lies: Lies, told: Arc<AtomicUsize>) -> SocketAddr {
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
            let (head, answer) = &lies[request.uri().path()];
            let mut response = Response::new(());
            head.write(response.headers_mut());
            stream.send_response(response).await.unwrap();
            // The edge hangs up when it has heard enough.
            let _ = stream.send_data(answer.clone()).await;
            let _ = stream.finish().await;
            told.fetch_add(1, Ordering::Relaxed);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_liar_says_is_repaired_from_the_origin_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let store = Store::over(Arc::new(InMemory::new()));
    let (mut blobs, mut lies) = (Vec::new(), Lies::new());
    for number in 1..60 {
        let bytes: Bytes = (0..number * 9973).map(|i| (i * 31 / 7 + number) as u8).collect();
        let (hash, answer) = lie(&bytes, number);
        store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        let path = format!("/{}", keys::blob(&hash, BlobKind::Segment));
        lies.insert(path, answer);
        blobs.push((PublicBlob::new(hash, BlobKind::Segment).unwrap(), bytes));
    }
    let told = Arc::new(AtomicUsize::new(0));
    let address = liar(lies, told.clone());
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
        1 << 30,
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
    assert!(told > 10, "{told} of {} belong to the liar", blobs.len());
    assert_eq!(metrics.corrupt_blobs(Tier::Peer), told as u64, "every lie is counted");
    end.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(20), tasks.wait()).await.unwrap();
}
