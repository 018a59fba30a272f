//! What viewers make an edge hold in memory stays within what it was given.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, Method};
use quinn::ConnectionError;
use reelmill_media::keys::BlobKind;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::origin::Origin;
use crate::world::{
    H3Client, Via, World, noise, path_of, quic_client, quic_client_with, read_rest, times, tls_client,
};

/// 500 viewers, each of a cold blob of its own (as large as `REELMILL_SLOW_KIB` says) of which it reads next to nothing; the
/// edge has memory for 32 of them.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_slow_readers_of_cold_blobs_hold_no_more_than_there_is() {
    const READERS: u64 = 500;
    const AT_ONCE: usize = 8;
    /// How many of the blobs the cache keeps, and how many more there is memory for.
    const ROOM: u64 = 16;
    const WINDOW_BYTES: u32 = 4 << 10;
    let length = times("REELMILL_SLOW_KIB", 256) << 10;
    let (kept, in_flight) = (ROOM * length, ROOM * length);
    let origin = Origin::new();
    let world = World::with(Some(origin.store()), |settings, _| {
        (settings.cache_bytes, settings.in_flight_bytes) = (kept, in_flight);
        settings.max_connections = 2 * READERS as usize;
    });
    let content = noise(length as usize + READERS as usize + 1, 21);
    let put = async |number: usize| {
        let bytes = content.slice(number..number + length as usize);
        let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        (path_of(&hash, BlobKind::Segment), bytes)
    };
    let (held, limit) = (|| world.metric("blob_memory_bytes", &[]), kept + in_flight);
    assert_eq!(world.metric("blob_memory_limit_bytes", &[]), limit);

    let begin = async |number: u64| {
        let (path, _) = put(number as usize).await;
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(WINDOW_BYTES.into());
        let client = quic_client_with(tls_client(&[&world.certificate()], b"h3"), transport);
        let quic = client.connect(world.addresses.listen, "edge.test").unwrap().await.unwrap();
        let viewer = H3Client::over(quic).await;
        let mut stream = viewer.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
        let status = stream.recv_response().await.unwrap().status();
        let now = held();
        assert!(status == 200 && now <= limit, "{status}, {now} of {limit} bytes");
        (viewer, stream)
    };
    let readers: Vec<_> = stream::iter(0..READERS).map(begin).buffered(AT_ONCE).collect().await;
    assert!(world.metric("blobs_taken_away_total", &[]) >= READERS - 2 * ROOM - AT_ONCE as u64);
    assert_eq!(world.metric("fills_total", &[("outcome", "no_room")]), 0);

    // Who reads as usual is not held up by them, and gets all.
    let (path, bytes) = put(READERS as usize).await;
    for via in Via::ALL {
        assert!(*world.get(via, &path).await.body() == bytes);
    }
    // Most were told that they will not get the rest, and those who do are no more than there is room for.
    let (viewers, mut streams): (Vec<_>, Vec<_>) = readers.into_iter().unzip();
    let ended = join_all(streams.iter_mut().map(read_rest)).await;
    let served = ended.iter().filter(|rest| rest.is_ok()).count();
    assert!((1..=2 * ROOM as usize).contains(&served), "{served} of {READERS}");
    drop((viewers, streams));
    // All that is left is what the cache keeps.
    let begun = std::time::Instant::now();
    while held() > kept {
        assert!(begun.elapsed().as_secs() < 20, "{} of {kept} bytes are kept", held());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Memory of this process, which is the edge's, in bytes.
fn used() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn while_memory_is_short_who_is_there_is_served_and_nobody_else_is_let_in() {
    const STEP: usize = 64 << 20;
    let world = World::with(None, |settings, _| settings.memory_bytes = used() + STEP as u64);
    let places = world.settings.max_connections as u64;
    let bytes = noise(1 << 20, 31);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    let stays = H3Client::connect(&world).await;
    let shortage = vec![1u8; 2 * STEP];
    world.until_metric("withheld_connections", &[], places - 1).await;

    let client = || quic_client(&[&world.certificate()]);
    let refused = client().connect(world.addresses.listen, "edge.test").unwrap().await.unwrap_err();
    let ConnectionError::ConnectionClosed(close) = refused else { panic!("{refused}") };
    assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
    let mut over_tcp = TcpStream::connect(world.addresses.plain_listen.unwrap()).await.unwrap();
    let closed = timeout(Duration::from_secs(10), over_tcp.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    for transport in ["quic", "plain"] {
        assert_eq!(world.metric("refused_connections_total", &[("transport", transport)]), 1);
    }
    // Also what is not here yet.
    let answer = stays.send(Method::GET, &path, HeaderMap::new()).await.unwrap();
    assert!(*answer.body() == bytes);

    // Who leaves makes room for one.
    stays.connection.close(0u32.into(), b"");
    let begun = std::time::Instant::now();
    let follows = loop {
        match client().connect(world.addresses.listen, "edge.test").unwrap().await {
            Ok(connection) => break H3Client::over(connection).await,
            Err(error) => assert!(begun.elapsed().as_secs() < 10, "{error}"),
        }
    };
    assert!(client().connect(world.addresses.listen, "edge.test").unwrap().await.is_err());
    drop(std::hint::black_box(shortage));
    world.until_metric("withheld_connections", &[], 0).await;
    let another = H3Client::connect(&world).await;
    for viewer in [follows, another] {
        assert!(*viewer.send(Method::GET, &path, HeaderMap::new()).await.unwrap().body() == bytes);
    }
}
