//! Requests in the first packets of a viewer who comes back (RFC 8470).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use reelmill_edge::clients::ClientLimits;
use reelmill_media::keys::BlobKind;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::relay::relay;
use crate::world::{CLIENT, H3Stream, World, asset, noise, path_of, quic_client_with, read_rest, tls_client};

/// A viewer who remembers sessions.
struct Viewer {
    endpoint: quinn::Endpoint,
    to: SocketAddr,
}

impl Viewer {
    fn new(world: &World, to: SocketAddr) -> Viewer {
        let mut tls = tls_client(&[&world.certificate()], b"h3");
        tls.enable_early_data = true;
        Viewer { endpoint: quic_client_with(tls, quinn::TransportConfig::default()), to }
    }

    /// Watches something, and so gets a session to come back with.
    async fn visit(&self, path: &str) {
        let connection = self.endpoint.connect(self.to, "edge.test").unwrap().await.unwrap();
        let mut requests = over(&connection).await;
        // What tells of the session is sent with the end of the handshake, before any answer.
        assert_eq!(whole(ask(&mut requests, Method::GET, path).await).await.0, 200);
        connection.close(0u32.into(), b"");
    }

    /// Comes back; also tells whether what is sent early counts.
    fn again(&self) -> (quinn::Connection, quinn::ZeroRttAccepted) {
        let connecting = self.endpoint.connect(self.to, "edge.test").unwrap();
        connecting.into_0rtt().map_err(|_| "there is no session").unwrap()
    }
}

async fn over(connection: &quinn::Connection) -> h3::client::SendRequest<h3_quinn::OpenStreams, Bytes> {
    let connection = h3_quinn::Connection::new(connection.clone());
    let (mut driver, requests) = h3::client::new(connection).await.unwrap();
    tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
    requests
}

async fn ask(
    requests: &mut h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    method: Method,
    path: &str,
) -> H3Stream {
    let request = Request::builder().method(method).uri(format!("https://edge.test{path}")).body(()).unwrap();
    let mut stream = requests.send_request(request).await.unwrap();
    stream.finish().await.unwrap();
    stream
}

async fn whole(mut stream: H3Stream) -> (StatusCode, Bytes) {
    let status = stream.recv_response().await.unwrap().status();
    (status, read_rest(&mut stream).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_never_changes_is_answered_early() {
    let world = World::new();
    let bytes = noise(5000, 1);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    let (blob, playlist) = (path_of(&hash, BlobKind::Segment), format!("/assets/{}/index.m3u8", asset()));
    let relay = relay(world.addresses.listen).await;
    let viewer = Viewer::new(&world, relay.address);
    viewer.visit(&blob).await;

    // The handshake is not over before all of them are answered: the viewer hears nothing until then.
    let before = world.metric("requests_total", &[("protocol", "h3")]);
    relay.answers.send_replace(false);
    let (connection, accepted) = viewer.again();
    let mut requests = over(&connection).await;
    let get = ask(&mut requests, Method::GET, &blob).await;
    let head = ask(&mut requests, Method::HEAD, &blob).await;
    let growing = ask(&mut requests, Method::GET, &playlist).await;
    let options = ask(&mut requests, Method::OPTIONS, &blob).await;
    world.until_metric("requests_total", &[("protocol", "h3")], before + 4).await;
    relay.answers.send_replace(true);
    assert!(accepted.await, "early data is refused");
    assert_eq!(whole(get).await, (StatusCode::OK, bytes));
    assert_eq!(whole(head).await, (StatusCode::OK, Bytes::new()));
    assert_eq!(whole(growing).await.0, StatusCode::TOO_EARLY);
    assert_eq!(whole(options).await.0, StatusCode::TOO_EARLY);
    // Now that the handshake is over, it is answered for what it is.
    let growing = ask(&mut requests, Method::GET, &playlist).await;
    assert_eq!(whole(growing).await.0, StatusCode::NOT_FOUND);
    connection.close(0u32.into(), b"");
}

/// Anybody with a session of their own can put another's address on its first packets.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_early_takes_nothing_from_what_the_address_may_ask() {
    let world = World::with(None, |settings, _| {
        settings.client = ClientLimits { requests_per_second: 5, ..CLIENT };
    });
    let icon = "/player/icon.svg";
    let relay = relay(world.addresses.listen).await;
    let viewer = Viewer::new(&world, relay.address);
    viewer.visit(icon).await;
    let before = world.metric("requests_total", &[("protocol", "h3")]);
    relay.answers.send_replace(false);
    let (connection, accepted) = viewer.again();
    let mut requests = over(&connection).await;
    let mut early = Vec::new();
    for _ in 0..40 {
        early.push(ask(&mut requests, Method::GET, icon).await);
    }
    world.until_metric("requests_total", &[("protocol", "h3")], before + 40).await;
    relay.answers.send_replace(true);
    assert!(accepted.await, "early data is refused");
    let mut answered = 0;
    for answer in early {
        match whole(answer).await.0 {
            StatusCode::OK => answered += 1,
            other => assert_eq!(other, StatusCode::TOO_EARLY),
        }
    }
    assert!((1..40).contains(&answered), "{answered} of 40");
    for _ in 0..5 {
        assert_eq!(whole(ask(&mut requests, Method::GET, icon).await).await.0, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_first_packets_is_not_answered() {
    let world = World::new();
    let hash = world.store.put_blob(BlobKind::Segment, noise(5000, 2)).await.unwrap();
    let blob = path_of(&hash, BlobKind::Segment);
    let relay = relay(world.addresses.listen).await;
    let viewer = Viewer::new(&world, relay.address);
    viewer.visit(&blob).await;
    relay.record.lock().unwrap().clear();
    let (connection, accepted) = viewer.again();
    let mut requests = over(&connection).await;
    let answer = ask(&mut requests, Method::GET, &blob).await;
    assert!(accepted.await);
    assert_eq!(whole(answer).await.0, StatusCode::OK);
    connection.close(0u32.into(), b"");
    world.until_metric("connections", &[("transport", "quic")], 0).await;
    let counted = world.metric("requests_total", &[("protocol", "h3")]);

    let again = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    again.connect(world.addresses.listen).await.unwrap();
    let recording = relay.record.lock().unwrap().clone();
    // The edge hears of the old connection's end a while after it, and takes these for its echo until then.
    let begins_anew = async {
        loop {
            for datagram in &recording {
                again.send(datagram).await.unwrap();
            }
            let mut answer = [0; 2048];
            if timeout(Duration::from_millis(100), again.recv(&mut answer)).await.is_ok() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), begins_anew).await.unwrap();
    // A request by somebody else comes after it.
    Viewer::new(&world, world.addresses.listen).visit(&blob).await;
    assert_eq!(world.metric("requests_total", &[("protocol", "h3")]), counted + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_does_not_know_the_session_says_so_and_goes_on() {
    let known = World::new();
    // As after a restart: the same certificate, and nothing remembered.
    let other = World::with(None, |_, folder| {
        std::fs::create_dir(folder.join("state")).unwrap();
        for file in std::fs::read_dir(known.folder.path().join("state")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.join("state").join(file.file_name())).unwrap();
        }
    });
    let hash = other.store.put_blob(BlobKind::Segment, noise(5000, 3)).await.unwrap();
    known.store.put_blob(BlobKind::Segment, noise(5000, 3)).await.unwrap();
    let blob = path_of(&hash, BlobKind::Segment);
    let mut viewer = Viewer::new(&known, known.addresses.listen);
    viewer.visit(&blob).await;
    viewer.to = other.addresses.listen;
    let (connection, accepted) = viewer.again();
    assert!(!accepted.await);
    let mut requests = over(&connection).await;
    assert_eq!(whole(ask(&mut requests, Method::GET, &blob).await).await.0, StatusCode::OK);
}
