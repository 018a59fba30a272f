//! A viewer in the crowd: one connection.

use anyhow::ensure;
use bytes::{Buf, Bytes};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use h2::RecvStream;
use reelmill_benches::{http2, http3};

use crate::client::{CONNECTION_WINDOW, Client, STREAM_WINDOW};
use crate::server::Server;

/// Handshakes at once, so that no server takes them for an attack.
const HANDSHAKES: usize = 50;

/// What viewers speak.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    Http2,
    Http3,
}

/// A connection.
pub enum Viewer {
    Http2(http2::Connection),
    Http3(http3::Connection),
}

/// What is left to be read of an answer.
pub enum Answer {
    Http2(RecvStream),
    Http3(Box<http3::Answer>),
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http2 => "HTTP/2",
            Self::Http3 => "HTTP/3",
        }
    }

    /// So many viewers who have asked for nothing yet.
    pub async fn viewers(self, server: &Server, count: usize) -> anyhow::Result<Vec<Viewer>> {
        let numbers = stream::iter(0..count);
        match self {
            Self::Http2 => {
                let tls = http2::connector(&server.certificate)?;
                let mut settings = h2::client::Builder::new();
                settings.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
                let open = |_| http2::Connection::open(&tls, &settings, server.address);
                numbers.map(open).buffered(HANDSHAKES).map_ok(Viewer::Http2).try_collect().await
            }
            Self::Http3 => {
                let client = Client::new(server)?;
                let open = |_| client.connect();
                numbers.map(open).buffered(HANDSHAKES).map_ok(Viewer::Http3).try_collect().await
            }
        }
    }
}

impl Viewer {
    /// Asks for what is there.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        Ok(match self {
            Self::Http2(connection) => Answer::Http2(connection.get(path).await?),
            Self::Http3(connection) => Answer::Http3(Box::new(connection.get(path).await?)),
        })
    }
}

impl Answer {
    /// The next bytes of it.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        Ok(match self {
            Self::Http2(body) => {
                let piece = body.data().await.transpose()?;
                if let Some(piece) = &piece {
                    body.flow_control().release_capacity(piece.len())?;
                }
                piece
            }
            Self::Http3(answer) => {
                answer.recv_data().await?.map(|mut piece| piece.copy_to_bytes(piece.remaining()))
            }
        })
    }

    /// The first bytes of it.
    pub async fn first(&mut self) -> anyhow::Result<Bytes> {
        let piece = self.next().await?.unwrap_or_default();
        ensure!(!piece.is_empty(), "an answer without content");
        Ok(piece)
    }

    /// All that is left of it.
    pub async fn rest(mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.next().await? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}
