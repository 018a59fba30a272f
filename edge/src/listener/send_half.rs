//! The sending half of a request's stream.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use h3::error::Code;
use h3::quic::StreamId;
use http::{HeaderMap, StatusCode};
use quinn::WriteError;

use super::field_section;
use super::h3_streams::{stream_id, varint};
use super::priority::Urgency;

/// The sending half of a stream, shared by the HTTP/3 layer and the response's own task. They take turns: header
/// section, content, end.
pub(crate) struct SendHalf {
    id: StreamId,
    /// The request came before the handshake was over: it may be somebody's recording (RFC 8470).
    early: bool,
    state: Mutex<SendState>,
}

pub(super) struct SendState {
    stream: quinn::SendStream,
    /// Finished or reset on purpose.
    ended: bool,
    urgency: Urgency,
    /// A frame said so, which counts for more than the request's field (RFC 9218 §5).
    updated: bool,
    small: bool,
}

impl SendHalf {
    pub(super) fn new(stream: quinn::SendStream, early: bool) -> Self {
        let id = stream_id(stream.id());
        let state =
            SendState { stream, ended: false, urgency: Urgency::default(), updated: false, small: false };
        Self { id, early, state: Mutex::new(state) }
    }

    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    pub(super) fn is_early(&self) -> bool {
        self.early
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SendState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the head, and begins content of `length` bytes as one DATA frame (RFC 9114 §7.2).
    pub(crate) async fn begin(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        length: u64,
    ) -> Result<(), WriteError> {
        const DATA: u8 = 0x00;
        const HEADERS: u8 = 0x01;
        let section = field_section::encode(status, fields);
        let mut head = Vec::with_capacity(section.len() + 2 * FRAME_HEADER_BYTES);
        frame_header(&mut head, HEADERS, section.len() as u64);
        head.extend_from_slice(&section);
        if length > 0 {
            frame_header(&mut head, DATA, length);
        }
        self.write_content(head.into()).await
    }

    /// Writes bytes without copying them.
    pub(crate) async fn write_content(&self, bytes: Bytes) -> Result<(), WriteError> {
        let mut rest = [bytes];
        while !rest[0].is_empty() {
            // quinn takes what there is room for and leaves the rest in `rest`. A dropped future loses nothing.
            poll_fn(|cx| pin!(self.lock().stream.write_chunks(&mut rest)).poll(cx)).await?;
        }
        Ok(())
    }

    /// The request's own field said how urgent its answer is.
    pub(crate) fn set_urgency(&self, urgency: Urgency) {
        let mut state = self.lock();
        if !state.updated {
            state.urgency = urgency;
            state.rank();
        }
    }

    pub(super) fn urgency(&self) -> Urgency {
        self.lock().urgency
    }

    /// A frame said how urgent the answer is.
    pub(super) fn update_urgency(&self, urgency: Urgency) {
        let mut state = self.lock();
        state.updated = true;
        state.urgency = urgency;
        state.rank();
    }

    /// The answer is small, and goes before others as urgent.
    pub(crate) fn set_small(&self) {
        let mut state = self.lock();
        state.small = true;
        state.rank();
    }

    /// Waits until the peer has acknowledged everything, or wants no more.
    pub(crate) async fn acknowledged(&self) {
        let stopped = self.lock().stream.stopped();
        // An error means that the connection is gone, which ends the wait as well.
        let _ = stopped.await;
    }

    /// Ends the stream after what was written, unless it has ended already.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        if !state.ended {
            state.ended = true;
            // An error means that the peer has ended it.
            let _ = state.stream.finish();
        }
    }

    /// Ends the stream unfinished.
    pub(crate) fn reset(&self, code: u64) {
        let mut state = self.lock();
        state.ended = true;
        // An error means that the stream is over already.
        let _ = state.stream.reset(varint(code));
    }
}

/// A frame's type and the longest number.
const FRAME_HEADER_BYTES: usize = 9;

/// RFC 9000 §16: two bits of length, then the number, most significant byte first.
fn frame_header(frame: &mut Vec<u8>, kind: u8, length: u64) {
    frame.push(kind);
    match length {
        0..=0x3f => frame.push(length as u8),
        0x40..=0x3fff => frame.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => frame.extend_from_slice(&(length as u32 | 0x8000_0000).to_be_bytes()),
        _ => frame.extend_from_slice(&(length | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

impl SendState {
    fn rank(&mut self) {
        // An error means that the stream is over already.
        let _ = self.stream.set_priority(self.urgency.rank(self.small));
    }

    /// Writes bytes of the HTTP/3 layer's own; gives how many were taken.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, WriteError>> {
        pin!(self.stream.write(bytes)).poll(cx)
    }

    /// Ends the stream after what was written.
    pub(super) fn end(&mut self) -> Result<(), quinn::ClosedStream> {
        self.ended = true;
        self.stream.finish()
    }
}

impl Drop for SendState {
    fn drop(&mut self) {
        if !self.ended {
            // Left alone, quinn would finish the stream, and half a response would look whole.
            let _ = self.stream.reset(varint(Code::H3_REQUEST_CANCELLED.value()));
        }
    }
}
