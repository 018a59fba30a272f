//! Passes datagrams on between one viewer and the edge, and holds back what it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::sync::watch;

/// A way between one viewer and the edge.
pub struct Relay {
    pub address: SocketAddr,
    /// What the viewer sent.
    pub record: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Whether what the edge sends gets through, or waits.
    pub answers: watch::Sender<bool>,
}

pub async fn relay(edge: SocketAddr) -> Relay {
    let (front, back) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    back.connect(edge).await.unwrap();
    let (address, record) = (front.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = record.clone();
    let (answers, mut pass) = watch::channel(true);
    tokio::spawn(async move {
        let (mut there, mut here, mut viewer) = (vec![0; 65536], vec![0; 65536], None);
        loop {
            let passes = *pass.borrow_and_update();
            tokio::select! {
                Ok(()) = pass.changed() => {}
                received = front.recv_from(&mut there) => {
                    let (length, from) = received.unwrap();
                    viewer = Some(from);
                    kept.lock().unwrap().push(there[..length].to_vec());
                    back.send(&there[..length]).await.unwrap();
                }
                received = back.recv(&mut here), if passes => {
                    let length = received.unwrap();
                    front.send_to(&here[..length], viewer.unwrap()).await.unwrap();
                }
            }
        }
    });
    Relay { address, record, answers }
}
