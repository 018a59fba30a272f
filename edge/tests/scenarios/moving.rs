//! Viewers whose address changes: another network, or a router that forgot them.

use bytes::{Buf, BytesMut};
use http::{HeaderMap, Method};
use reelmill_media::keys::BlobKind;

use crate::world::{H3Client, World, noise, path_of, quic_client, read_rest};

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_when_its_viewer_moves() {
    let world = World::new();
    let bytes = noise(20_000_000, 1);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    let endpoint = quic_client(&[&world.folder.path().join("state/edge-certificate.pem")]);
    let connection = endpoint.connect(world.addresses.listen, "edge.test").unwrap().await.unwrap();
    let viewer = H3Client::over(connection).await;
    let mut stream = viewer.begin(Method::GET, &path, HeaderMap::new()).await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    // More than is in flight at once, so that it is in the middle each time.
    let mut taken = BytesMut::new();
    for moves in 1..=3 {
        let before = endpoint.local_addr().unwrap();
        endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        assert_ne!(endpoint.local_addr().unwrap(), before);
        while taken.len() < moves * 4_000_000 {
            let mut piece = stream.recv_data().await.unwrap().unwrap();
            taken.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
    }
    taken.extend_from_slice(&read_rest(&mut stream).await.unwrap());
    assert!(taken == bytes);
    // The same connection, not another one.
    assert_eq!(viewer.send(Method::HEAD, &path, HeaderMap::new()).await.unwrap().status(), 200);
    assert_eq!(world.metric("connections", &[("transport", "quic")]), 1);
}
