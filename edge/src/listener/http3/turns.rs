//! Who may write on a connection: while an urgent answer has bytes in hand, less urgent ones hold theirs back.
//!
//! QUIC's layer sends urgent bytes first among those that it has been given; here it is seen to that the room for them is
//! not taken up by others.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::priority::Urgency;
use super::send_half::SendHalf;

/// So long, at most, one piece is held back: a client may not read what it called urgent.
const PATIENCE: Duration = Duration::from_millis(250);

/// Answers with bytes in hand, by urgency.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: Mutex<[usize; Urgency::LEVELS]>,
    changed: Notify,
}

/// One answer's part in it.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    half: &'a SendHalf,
    /// Said to have bytes in hand, as this urgent.
    registered: Option<Urgency>,
}

impl Turns {
    pub(super) fn of<'a>(&'a self, half: &'a SendHalf) -> Turn<'a> {
        Turn { turns: self, half, registered: None }
    }

    fn lock(&self) -> MutexGuard<'_, [usize; Urgency::LEVELS]> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// There is a piece to write. Completes when nobody more urgent has one, or has had its time.
    pub(super) async fn take(&mut self) {
        if self.is_first() {
            return;
        }
        let turns = self.turns;
        let until_first = async {
            loop {
                let mut changed = std::pin::pin!(turns.changed.notified());
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
    pub(super) fn rest(&mut self) {
        if let Some(urgency) = self.registered.take() {
            self.turns.lock()[urgency.level()] -= 1;
            self.turns.changed.notify_waiters();
        }
    }

    fn is_first(&mut self) -> bool {
        let urgency = self.half.urgency();
        if self.registered != Some(urgency) {
            self.rest();
            self.turns.lock()[urgency.level()] += 1;
            self.registered = Some(urgency);
        }
        self.turns.lock().iter().take(urgency.level()).all(|count| *count == 0)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.rest();
    }
}
