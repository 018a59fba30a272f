//! What an operator chooses for QUIC, and sees of it.

use reelmill_edge::process::Congestion;
use reelmill_media::keys::BlobKind;

use crate::world::{Via, World, noise, path_of};

#[tokio::test(flavor = "multi_thread")]
async fn every_congestion_controller_delivers() {
    for congestion in [Congestion::Cubic, Congestion::Bbr, Congestion::NewReno] {
        let world = World::with(None, |settings, _| settings.congestion = congestion);
        let bytes = noise(3_000_000, 1);
        let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
        let response = world.get(Via::Http3, &path_of(&hash, BlobKind::Segment)).await;
        assert!(*response.body() == bytes, "{congestion:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_whether_the_kernel_cuts_packets() {
    let world = World::new();
    // Every Linux since 4.18 does on loopback.
    world.until_metric("udp_gso_segments", &[("protocol", "h3")], 64).await;
}
