//! A stream on which the client speaks.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use quinn_proto::{ReadError as Unread, StreamId, VarInt};

use super::link::Link;

/// The receiving half of a stream. Dropped before its end, it tells the client to stop.
#[derive(Debug)]
pub(in crate::listener) struct RecvStream {
    link: Arc<Link>,
    id: StreamId,
    /// There is nothing more to hear.
    is_over: bool,
}

/// Why there is nothing more to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::listener) enum ReadError {
    /// The client gave the stream up, or was told to.
    #[error("the stream was given up")]
    GivenUp,
    /// The connection is over.
    #[error("the connection is over")]
    ConnectionLost,
}

impl RecvStream {
    pub(super) fn new(link: Arc<Link>, id: StreamId) -> Self {
        Self { link, id, is_over: false }
    }

    /// The number of the stream (RFC 9000 §2.1).
    pub(in crate::listener) fn id(&self) -> u64 {
        self.id.into()
    }

    /// What comes next, as it came in; `None` at the end. A dropped future loses nothing.
    pub(in crate::listener) async fn read(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.is_over {
            return Ok(None);
        }
        let read = poll_fn(|cx| {
            let mut state = self.link.lock();
            let mut stream = state.quic.recv_stream(self.id);
            let Ok(mut chunks) = stream.read(true) else { return Poll::Ready(Err(ReadError::GivenUp)) };
            let read = chunks.next(usize::MAX);
            if chunks.finalize().should_transmit() {
                self.link.list(&mut state);
            }
            match read {
                Ok(chunk) => Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes))),
                Err(Unread::Reset(_)) => Poll::Ready(Err(ReadError::GivenUp)),
                Err(Unread::Blocked) if state.lost.is_some() => Poll::Ready(Err(ReadError::ConnectionLost)),
                Err(Unread::Blocked) => {
                    state.readers.add(self.id, cx.waker());
                    Poll::Pending
                }
            }
        })
        .await;
        self.is_over = !matches!(read, Ok(Some(_)));
        read
    }

    /// Tells the client to stop. Without effect on a stream that is over.
    pub(in crate::listener) fn stop(&mut self, code: VarInt) {
        self.is_over = true;
        let mut state = self.link.lock();
        if state.quic.recv_stream(self.id).stop(code).is_ok() {
            self.link.list(&mut state);
        }
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.link.lock().readers.remove(self.id);
        if !self.is_over {
            self.stop(VarInt::from_u32(0));
        }
    }
}
