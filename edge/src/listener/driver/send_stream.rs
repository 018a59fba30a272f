//! A stream on which this side speaks.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn_proto::{StreamId, VarInt, WriteError};

use super::link::Link;

/// The sending half of a stream. Whoever drops it has finished or reset it, or ends the connection.
#[derive(Debug)]
pub(in crate::listener) struct SendStream {
    link: Arc<Link>,
    id: StreamId,
}

/// The peer wants no more, or the stream or its connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody listens any more")]
pub(in crate::listener) struct Gone;

impl SendStream {
    pub(super) fn new(link: Arc<Link>, id: StreamId) -> Self {
        Self { link, id }
    }

    /// Writes as much of the pieces as there is room for, without copying them, and leaves the rest in them. Where there is no
    /// room at all, the last who asked is woken when there is some.
    pub(in crate::listener) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &mut [Bytes],
    ) -> Poll<Result<(), Gone>> {
        let mut state = self.link.lock();
        if state.lost.is_some() {
            return Poll::Ready(Err(Gone));
        }
        match state.quic.send_stream(self.id).write_chunks(pieces) {
            Ok(_) => {
                self.link.list(&mut state);
                Poll::Ready(Ok(()))
            }
            Err(WriteError::Blocked) => {
                state.writers.add(self.id, cx.waker());
                Poll::Pending
            }
            Err(WriteError::Stopped(_) | WriteError::ClosedStream) => Poll::Ready(Err(Gone)),
        }
    }

    /// True when the peer has acknowledged everything, or there is nobody left who could; false when it wants no more.
    pub(in crate::listener) fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.link.lock();
        match state.quic.send_stream(self.id).stopped() {
            Err(_) => Poll::Ready(true),
            Ok(Some(_)) => Poll::Ready(false),
            Ok(None) if state.lost.is_some() => Poll::Ready(true),
            Ok(None) => {
                state.finishers.add(self.id, cx.waker());
                Poll::Pending
            }
        }
    }

    /// Nothing follows. Without effect on a stream that is over.
    pub(in crate::listener) fn finish(&mut self) {
        let mut state = self.link.lock();
        if state.quic.send_stream(self.id).finish().is_ok() {
            self.link.list(&mut state);
        }
    }

    /// Ends the stream unfinished. Without effect on one that is over.
    pub(in crate::listener) fn reset(&mut self, code: VarInt) {
        let mut state = self.link.lock();
        if state.quic.send_stream(self.id).reset(code).is_ok() {
            self.link.list(&mut state);
        }
    }

    /// More goes first. Without effect on a stream that is over.
    pub(in crate::listener) fn set_priority(&mut self, priority: i32) {
        // The error says that it is over.
        let _ = self.link.lock().quic.send_stream(self.id).set_priority(priority);
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.writers.remove(self.id);
        state.finishers.remove(self.id);
    }
}
