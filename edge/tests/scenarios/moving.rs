//! Viewers whose address changes: another network, or a router that forgot them.

use bytes::{Buf, BytesMut};
use http::{HeaderMap, Method};
use reelmill_media::keys::BlobKind;

use crate::world::{H3Client, World, noise, path_of, quic_client, read_rest};

/// More than is in flight at once, so that each move is in the middle of a download.
const BETWEEN_MOVES: usize = 600_000;

/// The kernel may give what comes from the new place to another endpoint than the one that has the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_when_its_viewer_moves() {
    for endpoints in [1, 2, 4] {
        let world = World::with(None, |settings, _| settings.endpoints = endpoints);
        let bytes = noise(20_000_000, 1);
        let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        let path = path_of(&hash, BlobKind::Segment);
        let endpoint = quic_client(&[&world.certificate()]);
        let connection = endpoint.connect(world.addresses.listen, "edge.test").unwrap().await.unwrap();
        let viewer = H3Client::over(connection).await;
        let mut stream = viewer.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
        assert_eq!(stream.recv_response().await.unwrap().status(), 200);
        let handed_over = |outcome| world.metric("quic_handed_over_total", &[("outcome", outcome)]);
        let (mut taken, mut moves) = (BytesMut::new(), 0);
        while moves < 3 || (endpoints > 1 && handed_over("handed") == 0) {
            let before = endpoint.local_addr().unwrap();
            endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            assert_ne!(endpoint.local_addr().unwrap(), before);
            moves += 1;
            while taken.len() < moves * BETWEEN_MOVES {
                let mut piece =
                    stream.recv_data().await.unwrap().expect("it moved often, and never elsewhere");
                taken.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
            }
        }
        taken.extend_from_slice(&read_rest(&mut stream).await.unwrap());
        assert!(taken == bytes);
        // The same connection, not another one.
        assert_eq!(viewer.send(Method::HEAD, &path, HeaderMap::new()).await.unwrap().status(), 200);
        assert_eq!(world.metric("connections", &[("transport", "quic")]), 1);
        assert_eq!((handed_over("handed") > 0, handed_over("lost")), (endpoints > 1, 0));
    }
}
