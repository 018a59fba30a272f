//! A connection that the edge closes loses nothing that the peer had yet to read, whatever the peer still sends.

use std::net::SocketAddr;
use std::sync::Arc;

use reelmill_media::keys::BlobKind;
use rustls_pki_types::ServerName;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::{World, noise, path_of, tls_client};

/// Fits into the sending socket, so that the edge is done with it long before the peer is.
const LENGTH: usize = 1 << 20;

/// A connection that holds little, so that most of a body waits on the edge's side.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

async fn segment(world: &World, seed: u64) -> (String, bytes::Bytes) {
    let bytes = noise(LENGTH, seed);
    let hash = world.store.put_blob(BlobKind::Segment, bytes.clone()).await.unwrap();
    (path_of(&hash, BlobKind::Segment), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_bytes_of_the_peer_cost_it_nothing_over_http1() {
    let world = World::new();
    let (path, bytes) = segment(&world, 1).await;
    let mut stream = narrow(world.addresses.plain_listen.unwrap()).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // More than the edge takes in beside a request.
    stream.write_all(&[b'x'; 100_000]).await.unwrap();
    world.until_metric("body_bytes_total", &[], LENGTH as u64).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(&bytes), "{} bytes came", answer.len());
    drop(stream);
    world.until_metric("connections", &[], 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_sends_for_ever_is_let_go() {
    let world = World::new();
    let mut stream = TcpStream::connect(world.addresses.plain_listen.unwrap()).await.unwrap();
    let request = "GET /player/icon.svg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    while stream.write_all(&[b'x'; 100_000]).await.is_ok() {}
    world.until_metric("connections", &[], 0).await;
}

/// A client of HTTP/2 tells of each piece that it has read, also of the last ones.
#[tokio::test(flavor = "multi_thread")]
async fn window_updates_after_the_end_cost_nothing_over_http2() {
    let world = World::new();
    let (path, bytes) = segment(&world, 2).await;
    let tls = Arc::new(tls_client(&[&world.certificate()], b"h2"));
    let tcp = narrow(world.addresses.listen).await;
    let name = ServerName::try_from("edge.test").unwrap();
    let mut stream = TlsConnector::from(tls).connect(name, tcp).await.unwrap();

    // RFC 9113 §3.4, §6.5, §6.9, §6.2: preface, a stream window of 16 MiB, as much for the connection, a request.
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(0x4, 0, 0, &[0, 4, 1, 0, 0, 0]));
    begin.extend(frame(0x8, 0, 0, &(1_u32 << 24).to_be_bytes()));
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "edge.test"), (":path", &path)];
    // RFC 7541 §6.2.2: literals without indexing, all of them shorter than 127 bytes.
    let block = fields.into_iter().flat_map(|(name, value)| {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    });
    begin.extend(frame(0x1, 0x5, 1, &block.collect::<Vec<_>>()));
    // RFC 9113 §6.8: nothing more will be asked for, so that the edge closes after this answer.
    begin.extend(frame(0x7, 0, 0, &[0; 8]));
    stream.write_all(&begin).await.unwrap();
    world.until_metric("body_bytes_total", &[], LENGTH as u64).await;

    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == 0 {
            body.extend(payload);
            if head[4] & 1 == 1 {
                break;
            }
            stream.write_all(&frame(0x8, 0, 0, &(length as u32).to_be_bytes())).await.unwrap();
            stream.flush().await.unwrap();
        }
    }
    assert!(body == bytes, "{} bytes came", body.len());
    drop(stream);
    world.until_metric("connections", &[], 0).await;
}

/// RFC 9113 §4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], payload].concat()
}
