//! Real clients, over a path that loses packets.

use std::future::poll_fn;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionError, EndpointConfig, ServerConfig};
use quinn_proto::VarInt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Connection, Endpoint, RecvStream, SendStream};
use crate::listener::shared_port::SharedPort;
use crate::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: u64 = 12;
const REQUESTS: u64 = 25;
/// One datagram in so many is lost, in each direction.
const LOST: usize = 40;

fn bound() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// What is answered to a request for so many bytes.
fn content(length: usize) -> Bytes {
    (0..length).map(|at| (at * 31 + at / 251 + length) as u8).collect()
}

/// Carries what one client and a server say to each other, but for what is lost.
fn lossy_path(server: SocketAddr) -> SocketAddr {
    let [near, far] = [(); 2].map(|()| tokio::net::UdpSocket::from_std(bound()).unwrap());
    let address = near.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, mut seen) = (None, 0usize);
        let (mut up, mut down) = ([0; 2048], [0; 2048]);
        loop {
            let (bytes, socket, to) = tokio::select! {
                read = near.recv_from(&mut up) => {
                    let (length, from) = read.unwrap();
                    client = Some(from);
                    (&up[..length], &far, Some(server))
                }
                read = far.recv(&mut down) => (&down[..read.unwrap()], &near, client),
            };
            seen += 1;
            if let Some(to) = to.filter(|_| seen % LOST != 0) {
                let _ = socket.send_to(bytes, to).await;
            }
        }
    });
    address
}

/// Settings of a server, and of clients that know its certificate.
fn tls() -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (
        ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap())),
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap())),
    )
}

/// Answers one request; says whether the client took it all.
async fn answer(mut send: SendStream, mut receive: RecvStream) -> bool {
    let mut request = Vec::new();
    while let Some(piece) = receive.read().await.unwrap() {
        request.extend_from_slice(&piece);
    }
    let length = u32::from_be_bytes(request.try_into().unwrap()) as usize;
    // In pieces, so that there are some for which there is no room.
    let whole = content(length);
    for piece in whole.chunks(30_000) {
        let mut pieces = [Bytes::copy_from_slice(piece), Bytes::new()];
        while pieces.iter().any(|piece| !piece.is_empty()) {
            if poll_fn(|cx| send.poll_write(cx, &mut pieces)).await.is_err() {
                return false;
            }
        }
    }
    send.finish();
    poll_fn(|cx| send.poll_taken(cx)).await
}

async fn serve(endpoint: Arc<Endpoint>) {
    let mut connections = JoinSet::new();
    loop {
        let connection: Arc<Connection> = Arc::new(endpoint.accept(endpoint.next().await, None).unwrap());
        connections.spawn(async move {
            let mut answers = JoinSet::new();
            connection.shaken().await;
            let mut control = connection.open_uni().await.unwrap();
            let _ = poll_fn(|cx| control.poll_write(cx, &mut [Bytes::from_static(b"hello")])).await;
            while let Ok((send, receive, _)) = connection.accept_bi().await {
                answers.spawn(answer(send, receive));
            }
            let taken = answers.join_all().await;
            assert_eq!(taken.len() as u64, REQUESTS);
        });
    }
}

async fn ask(client: &quinn::Connection, number: u64) {
    let length = (number * number * 4_001 % 400_000) as u32;
    let (mut send, mut receive) = client.open_bi().await.unwrap();
    send.write_all(&length.to_be_bytes()).await.unwrap();
    send.finish().unwrap();
    if number % 7 == 3 {
        // Enough of it.
        receive.stop(VarInt::from_u32(1)).unwrap();
    } else {
        let whole = receive.read_to_end(400_000).await.unwrap();
        assert!(whole == content(length as usize), "request {number} of {length} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_whole_over_a_path_that_loses_packets_and_all_hear_of_the_end() {
    let (server, client) = tls();
    let metrics = Metrics::register(&Registry::new()).unwrap().quic;
    let socket = bound();
    let at = socket.local_addr().unwrap();
    let port = SharedPort::new(1, vec![socket], vec![], metrics).unwrap();
    let (issuer, socket) = port.endpoints().next().unwrap();
    let mut settings = EndpointConfig::default();
    settings.cid_generator(move || Box::new(issuer));
    let endpoint = Arc::new(Endpoint::new(settings, server, socket));
    port.begin();
    let serving = tokio::spawn(serve(endpoint.clone()));

    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let config = client.clone();
        clients.spawn(async move {
            let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
            let client = endpoint.connect_with(config, lossy_path(at), "localhost").unwrap().await.unwrap();
            let mut control = client.accept_uni().await.unwrap();
            let mut hello = [0; 5];
            control.read_exact(&mut hello).await.unwrap();
            assert_eq!(&hello, b"hello");
            let all = (0..REQUESTS).map(|request| ask(&client, number * REQUESTS + request));
            futures_util::future::join_all(all).await;
            (endpoint, client)
        });
    }
    let clients = timeout(PATIENCE, clients.join_all()).await.unwrap();
    // Nobody is let in any more, and the others are told.
    timeout(PATIENCE, endpoint.close(VarInt::from_u32(7))).await.unwrap();
    for (_endpoint, client) in clients {
        let reason = timeout(PATIENCE, client.closed()).await.unwrap();
        assert!(
            matches!(&reason, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(7))
                || matches!(reason, ConnectionError::TimedOut | ConnectionError::Reset),
            "{reason}"
        );
    }
    serving.abort();
}
