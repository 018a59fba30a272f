//! Requests: too many, and too large.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Target;
use crate::client::{STREAM_WINDOW, connect, endpoint};
use crate::network::abuser;

/// Connections, and requests at once on each.
const CONNECTIONS: usize = 8;
const AT_ONCE: usize = 32;

const SMALL: &str = "/player/icon.svg";

/// Bytes of a header section: what an edge takes, and what it does not.
const LARGE: usize = 15 << 10;
const TOO_LARGE: usize = 20 << 10;

/// Asks for something small.
pub async fn requests(target: &Target) -> anyhow::Result<()> {
    repeat(target, &[]).await
}

/// Sends header sections that are nearly too large over HTTP/3, and too large ones straight on the wire.
pub async fn headers(target: &Target) -> anyhow::Result<()> {
    let large = "a".repeat(LARGE);
    let fields = [("x-long", large.as_str())];
    tokio::try_join!(repeat(target, &fields), too_large(target), too_large_over_tcp(target))?;
    Ok(())
}

async fn repeat(target: &Target, fields: &[(&str, &str)]) -> anyhow::Result<()> {
    let asking = (0..CONNECTIONS).map(|_| async {
        loop {
            let connected = connect(abuser(0), target.edge, &target.certificate, STREAM_WINDOW);
            let Ok(client) = connected.await else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let client = &client;
            let lanes = (0..AT_ONCE).map(|_| async move {
                while let Ok((_, mut answer)) = client.ask(SMALL, fields).await {
                    while let Ok(Some(_)) = answer.recv_data().await {}
                }
            });
            join_all(lanes).await;
        }
    });
    join_all(asking).await;
    Ok(())
}

/// `HEADERS` frames from a client that has read no SETTINGS.
async fn too_large(target: &Target) -> anyhow::Result<()> {
    // RFC 9204 §4.5: prefix, then one literal field line `a`, no Huffman; RFC 7541 §5.1: its length less 127.
    let mut section = vec![0, 0, 0x21, b'a', 0x7f, 0x81, 0x9f, 0x01];
    section.extend(vec![b'v'; TOO_LARGE]);
    let mut frame = vec![0x01];
    frame.extend((section.len() as u32 | 0x8000_0000).to_be_bytes());
    frame.extend(section);
    let endpoint = endpoint(abuser(1), &target.certificate, STREAM_WINDOW)?;
    loop {
        let Ok(connecting) = endpoint.connect(target.edge, "localhost") else { return Ok(()) };
        let Ok(connection) = connecting.await else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        while let Ok((mut send, mut receive)) = connection.open_bi().await {
            // Whatever it says to that.
            let _ = send.write_all(&frame).await;
            let _ = send.finish();
            let _ = receive.read_to_end(1 << 10).await;
        }
    }
}

/// The edge speaks TLS there, so this is what it makes of noise.
async fn too_large_over_tcp(target: &Target) -> anyhow::Result<()> {
    loop {
        if let Ok(mut stream) = TcpStream::connect(target.edge).await {
            // Whatever it says to that.
            let _ = stream.write_all(&vec![b'a'; TOO_LARGE]).await;
            let _ = stream.read(&mut [0; 64]).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
