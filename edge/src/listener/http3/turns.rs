//! Who may write on a connection: while an urgent answer has bytes in hand, less urgent ones hold theirs back.
//!
//! QUIC's layer sends urgent bytes first among those that it has been given; here it is seen to that the room for them is
//! not taken up by others.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::priority::Urgency;

/// So long, at most, one piece is held back: a client may not read what it called urgent.
const PATIENCE: Duration = Duration::from_millis(250);

/// Answers with bytes in hand.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// By their streams' numbers.
    in_hand: Mutex<BTreeMap<u64, Urgency>>,
    changed: Notify,
}

/// One answer's part in it.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    stream: u64,
}

impl Turns {
    pub(super) fn of(&self, stream: u64) -> Turn<'_> {
        Turn { turns: self, stream }
    }

    /// A frame says how urgent an answer is, which counts at once for all that have bytes in hand.
    pub(super) fn update(&self, stream: u64, urgency: Urgency) {
        if let Some(known) = self.lock().get_mut(&stream) {
            *known = urgency;
            self.changed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Urgency>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// There is a piece to write, this urgent. Completes when nobody more urgent has one, or has had its time.
    pub(super) async fn take(&self, urgency: Urgency) {
        self.turns.lock().insert(self.stream, urgency);
        if self.is_first() {
            return;
        }
        let until_first = async {
            loop {
                let mut changed = pin!(self.turns.changed.notified());
                // Before the look, so that no change is missed.
                changed.as_mut().enable();
                if self.is_first() {
                    return;
                }
                changed.await;
            }
        };
        // Past its time it goes on all the same.
        let _ = timeout(PATIENCE, until_first).await;
    }

    /// There is nothing to write for now.
    pub(super) fn rest(&self) {
        if self.turns.lock().remove(&self.stream).is_some() {
            self.turns.changed.notify_waiters();
        }
    }

    fn is_first(&self) -> bool {
        let in_hand = self.turns.lock();
        in_hand.get(&self.stream).is_none_or(|own| in_hand.values().all(|other| other >= own))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;
    use crate::listener::http3::control_stream::ControlStream;
    use crate::listener::http3::priority::Priorities;

    /// RFC 9218 §7.2: `stream` is now this urgent. After SETTINGS.
    fn update(priorities: &Priorities, stream: u8, urgency: u8) {
        let frames = [0x04, 0x00, 0x80, 0x0f, 0x07, 0x00, 0x04, stream, b'u', b'=', b'0' + urgency];
        ControlStream::new(priorities).read(frames.to_vec().into()).unwrap();
    }

    #[tokio::test]
    async fn what_a_frame_says_counts_at_once_for_what_is_held_back_and_for_what_holds_it_back() {
        let urgency = |value: u8| Urgency::read(&[b'u', b'=', b'0' + value]);
        let priorities = Priorities::default();
        let [first, second] = [0, 4].map(|stream| priorities.turns.of(stream));
        first.take(urgency(1)).await;
        {
            let mut held_back = pin!(second.take(urgency(5)));
            assert!(poll!(&mut held_back).is_pending());
            update(&priorities, 4, 2);
            assert!(poll!(&mut held_back).is_pending(), "still less urgent");
            update(&priorities, 4, 1);
            assert!(poll!(&mut held_back).is_ready(), "it was raised");
        }
        {
            let mut held_back = pin!(second.take(urgency(5)));
            assert!(poll!(&mut held_back).is_pending());
            update(&priorities, 0, 6);
            assert!(poll!(&mut held_back).is_ready(), "the other was lowered");
        }
        let mut held_back = pin!(first.take(urgency(6)));
        assert!(poll!(&mut held_back).is_pending());
        second.rest();
        assert!(poll!(&mut held_back).is_ready(), "the other has nothing more in hand");
    }
}
