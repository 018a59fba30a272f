//! A connection, to those who use it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use quinn_proto::{ConnectionError, Dir, PathStats, StreamId, VarInt};

use super::link::Link;
use super::recv_stream::RecvStream;
use super::send_stream::SendStream;

/// A connection that a client has begun. Dropped, it is closed.
#[derive(Debug)]
pub(in crate::listener) struct Connection(Arc<Link>);

impl Connection {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self(link)
    }

    /// Waits for the end of the handshake, or of the connection.
    pub(in crate::listener) async fn shaken(&self) {
        let mut shaken = pin!(self.0.shaken.notified());
        // Before the look, so that no word is missed.
        shaken.as_mut().enable();
        let is_over = {
            let state = self.0.lock();
            state.is_established || state.lost.is_some()
        };
        if !is_over {
            shaken.await;
        }
    }

    /// The next request's stream, and whether it came before the handshake was over. By one task at a time.
    pub(in crate::listener) async fn accept_bi(
        &self,
    ) -> Result<(SendStream, RecvStream, bool), ConnectionError> {
        let (stream, is_early) = self.accept(Dir::Bi).await?;
        let send = SendStream::new(self.0.clone(), stream);
        Ok((send, RecvStream::new(self.0.clone(), stream), is_early))
    }

    /// The next stream on which only the client speaks. By one task at a time.
    pub(in crate::listener) async fn accept_uni(&self) -> Result<RecvStream, ConnectionError> {
        let (stream, _) = self.accept(Dir::Uni).await?;
        Ok(RecvStream::new(self.0.clone(), stream))
    }

    async fn accept(&self, dir: Dir) -> Result<(StreamId, bool), ConnectionError> {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            // First, since what has come may still be read after the end.
            if let Some(stream) = state.quic.streams().accept(dir) {
                // Leave for one more may be given now.
                self.0.list(&mut state);
                return Poll::Ready(Ok((stream, state.quic.is_handshaking())));
            }
            if let Some(reason) = &state.lost {
                return Poll::Ready(Err(reason.clone()));
            }
            state.acceptors[dir as usize] = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Opens a stream on which only this side speaks, when the client gives leave. By one task at a time.
    pub(in crate::listener) async fn open_uni(&self) -> Result<SendStream, ConnectionError> {
        let stream = poll_fn(|cx| {
            let mut state = self.0.lock();
            if let Some(reason) = &state.lost {
                return Poll::Ready(Err(reason.clone()));
            }
            if let Some(stream) = state.quic.streams().open(Dir::Uni) {
                return Poll::Ready(Ok(stream));
            }
            state.opener = Some(cx.waker().clone());
            Poll::Pending
        });
        Ok(SendStream::new(self.0.clone(), stream.await?))
    }

    /// Closes it at once; its users hear so.
    pub(in crate::listener) fn close(&self, code: VarInt) {
        self.0.close(code, [].as_slice().into());
    }

    /// Why it is over, if it is.
    pub(in crate::listener) fn close_reason(&self) -> Option<ConnectionError> {
        self.0.lock().lost.clone()
    }

    /// Where the client is now: connections move.
    pub(in crate::listener) fn remote_address(&self) -> SocketAddr {
        self.0.lock().quic.remote_address()
    }

    /// How long a packet and its acknowledgement take, as far as is known.
    pub(in crate::listener) fn rtt(&self) -> Duration {
        self.0.lock().quic.rtt()
    }

    /// What was counted on its path.
    pub(in crate::listener) fn path_stats(&self) -> PathStats {
        self.0.lock().quic.stats().path
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close(VarInt::from_u32(0));
    }
}
