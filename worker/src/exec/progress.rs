//! Tells the parent how far a job is, not too often.

use std::time::{Duration, Instant};

use reelmill_media::task::Failure;

use super::parent::Parent;
use super::protocol::FromChild;

/// Time between two messages.
const EVERY: Duration = Duration::from_millis(250);

/// When it was last told.
pub struct Progress(Instant);

impl Progress {
    /// Begins now.
    pub fn new(now: Instant) -> Self {
        Self(now)
    }

    /// Tells it, if it is time.
    pub fn tell(&mut self, parent: &Parent, permille: usize) -> Result<(), Failure> {
        if self.0.elapsed() < EVERY {
            return Ok(());
        }
        self.0 = Instant::now();
        parent.say(&FromChild::Progress { permille: permille.min(1000) as u16 })
    }
}
