//! Handshakes: begun and left, and many of them.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Target;
use crate::client::{STREAM_WINDOW, connect, endpoint};
use crate::network::abuser;

/// First packets per second, from so many addresses, and how many different ones there are.
const PACKETS_PER_SECOND: u64 = 5000;
const ADDRESSES: usize = 200;
const PACKETS: usize = 2000;

/// TCP connections that say nothing, so many at one address.
const SILENT: usize = 400;
const SILENT_PER_ADDRESS: usize = 40;

/// Connections that are opened over and over at once.
const CHURNING: usize = 16;

const SMALL: &str = "/player/icon.svg";

pub async fn half_open(target: &Target) -> anyhow::Result<()> {
    let packets = first_packets(target).await?;
    tokio::try_join!(flood(&packets, target.edge), silent(target.edge))?;
    Ok(())
}

/// Real first packets of handshakes, caught on their way to nobody.
async fn first_packets(target: &Target) -> anyhow::Result<Vec<Vec<u8>>> {
    let nobody = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    let endpoint = endpoint([127, 0, 0, 1].into(), &target.certificate, STREAM_WINDOW)?;
    let mut packets = Vec::new();
    while packets.len() < PACKETS {
        let connecting = endpoint.connect(nobody.local_addr()?, "localhost")?;
        let mut packet = vec![0; 1500];
        let length =
            timeout(Duration::from_secs(5), nobody.recv(&mut packet)).await.context("no packet")??;
        packet.truncate(length);
        // What ends a handshake, or repeats it, is shorter or known already.
        if length >= 1200 {
            packets.push(packet);
        }
        drop(connecting);
    }
    Ok(packets)
}

async fn flood(packets: &[Vec<u8>], edge: SocketAddr) -> anyhow::Result<()> {
    const PER_TICK: u64 = 10;
    let sockets: Vec<UdpSocket> =
        (0..ADDRESSES).map(|number| UdpSocket::bind((abuser(number), 0))).collect::<Result<_, _>>()?;
    let mut tick = interval(Duration::from_secs(1) / (PACKETS_PER_SECOND / PER_TICK) as u32);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut both = sockets.iter().cycle().zip(packets.iter().cycle());
    loop {
        tick.tick().await;
        for (socket, packet) in both.by_ref().take(PER_TICK as usize) {
            // A full buffer loses one; another one follows.
            let _ = socket.send_to(packet, edge);
        }
    }
}

async fn silent(edge: SocketAddr) -> anyhow::Result<()> {
    let holding = (0..SILENT).map(|number| async move {
        loop {
            if let Ok(stream) = connect_tcp(number / SILENT_PER_ADDRESS, edge).await {
                // Until the edge has had enough.
                let _ = stream.readable().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    join_all(holding).await;
    Ok(())
}

async fn connect_tcp(number: usize, edge: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((abuser(number), 0).into())?;
    socket.connect(edge).await
}

pub async fn churn(target: &Target) -> anyhow::Result<()> {
    let churning = (0..CHURNING).map(|_| async {
        loop {
            let connected = connect(abuser(0), target.edge, &target.certificate, STREAM_WINDOW);
            match connected.await {
                Ok(client) => {
                    // Whatever it says to that.
                    let _ = client.ask(SMALL, &[]).await;
                }
                // Refused: at once again.
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    });
    join_all(churning).await;
    Ok(())
}
