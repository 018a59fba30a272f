//! The sending half of a request's stream.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::fault::Code;
use super::priority::Urgency;
use super::rota::{Place, Rota};
use super::{number, qpack};
use crate::listener::driver::{Gone, SendStream};

/// The sending half of a stream, shared by the answer and by what frames say of it.
#[derive(Debug)]
pub(super) struct SendHalf {
    state: Mutex<SendState>,
    place: Arc<Place>,
}

#[derive(Debug)]
struct SendState {
    stream: SendStream,
    /// Finished or reset on purpose.
    ended: bool,
    urgency: Urgency,
    /// A frame said so, which counts for more than the request's field (RFC 9218 §5).
    updated: bool,
    small: bool,
}

/// A frame's type and the longest number.
const FRAME_HEADER_BYTES: usize = 9;

/// The head of an answer with content of `length` bytes, up to where the content begins, which is one DATA frame
/// (RFC 9114 §7.2).
pub(super) fn head(status: StatusCode, fields: &HeaderMap, length: u64) -> Bytes {
    const DATA: u8 = 0x00;
    const HEADERS: u8 = 0x01;
    let section = qpack::encode(status, fields);
    let mut head = Vec::with_capacity(section.len() + 2 * FRAME_HEADER_BYTES);
    head.push(HEADERS);
    number::write(&mut head, section.len() as u64);
    head.extend_from_slice(&section);
    if length > 0 {
        head.push(DATA);
        number::write(&mut head, length);
    }
    head.into()
}

impl SendHalf {
    pub(super) fn new(stream: SendStream, rota: Arc<Rota>) -> Self {
        let mut state =
            SendState { stream, ended: false, urgency: Urgency::default(), updated: false, small: false };
        state.rank();
        Self { state: Mutex::new(state), place: Place::new(rota) }
    }

    fn lock(&self) -> MutexGuard<'_, SendState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes these pieces one after the other without copying them, and leaves them empty. A dropped future leaves there
    /// what was not written.
    pub(super) async fn write(&self, pieces: &mut [Bytes]) -> Result<(), Gone> {
        while pieces.iter().any(|piece| !piece.is_empty()) {
            poll_fn(|cx| {
                let mut state = self.lock();
                let rank = state.urgency.rank(state.small);
                self.place.poll(rank, cx, |cx| state.stream.poll_write(cx, pieces))
            })
            .await?;
        }
        Ok(())
    }

    /// The request's own field said how urgent its answer is.
    pub(super) fn set_urgency(&self, urgency: Urgency) {
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
    pub(super) fn set_small(&self) {
        let mut state = self.lock();
        state.small = true;
        state.rank();
    }

    /// Waits until the peer has acknowledged everything; false when it says that it wants no more.
    pub(super) async fn taken(&self) -> bool {
        poll_fn(|cx| self.lock().stream.poll_taken(cx)).await
    }

    /// Ends the stream after what was written, unless it has ended already.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        if !state.ended {
            state.ended = true;
            state.stream.finish();
        }
    }

    /// Ends the stream unfinished.
    pub(super) fn reset(&self, code: Code) {
        let mut state = self.lock();
        state.ended = true;
        state.stream.reset(code.into());
    }
}

impl SendState {
    fn rank(&mut self) {
        self.stream.set_priority(self.urgency.rank(self.small));
    }
}

impl Drop for SendState {
    fn drop(&mut self) {
        if !self.ended {
            // Or the client would wait for the rest.
            self.stream.reset(Code::RequestCancelled.into());
        }
    }
}
