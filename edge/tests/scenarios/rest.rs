//! A connection over which nobody asks for anything in a while ends in good order, whatever signs of life it gives.

use std::time::Duration;

use tokio::time::timeout;

use crate::drain::{LAST_STREAM, goaways};
use crate::priorities::ask;
use crate::world::{World, quic_client_with, tls_client};

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_no_requests() {
    let world = World::new();
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    let client = quic_client_with(tls_client(&[&world.certificate()], b"h3"), transport);
    let connection = client.connect(world.addresses.listen, "edge.test").unwrap().await.unwrap();
    ask(&connection, "/player/icon.svg", None).await.read_to_end(100_000).await.unwrap();
    let control = connection.accept_uni().await.unwrap();
    let pings = connection.stats().frame_tx.ping;
    // It may rest for 90 s.
    let heard = timeout(Duration::from_secs(180), goaways(control)).await.unwrap();
    assert_eq!(heard, [LAST_STREAM, 4]);
    assert!(connection.stats().frame_tx.ping > pings);
}
