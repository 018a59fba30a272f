//! Who waits for word of a stream.

use std::task::Waker;

use quinn_proto::StreamId;

/// At most one for each stream. A connection has a hundred streams at most, and usually a few.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<(StreamId, Waker)>);

impl Waiters {
    /// This one waits now, instead of another.
    pub(super) fn add(&mut self, stream: StreamId, waker: &Waker) {
        match self.0.iter_mut().find(|(waited_for, _)| *waited_for == stream) {
            Some((_, known)) => known.clone_from(waker),
            None => self.0.push((stream, waker.clone())),
        }
    }

    /// Nobody waits any more.
    pub(super) fn remove(&mut self, stream: StreamId) -> Option<Waker> {
        let at = self.0.iter().position(|(waited_for, _)| *waited_for == stream)?;
        Some(self.0.swap_remove(at).1)
    }

    pub(super) fn wake(&mut self, stream: StreamId) {
        if let Some(waker) = self.remove(stream) {
            waker.wake();
        }
    }

    pub(super) fn wake_all(&mut self) {
        self.0.drain(..).for_each(|(_, waker)| waker.wake());
    }
}
