//! Whether a TCP connection is worth keeping.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::clients::ClientConnection;
use crate::limits::{IDLE, STALL};

/// What goes on on one connection, noted by its requests and read by its task.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    in_flight: AtomicUsize,
    /// Milliseconds from `opened` to the last time the peer asked for or took something.
    last_ms: AtomicU64,
    taken: AtomicU64,
    /// Responses with more to give than the peer takes.
    pressed: AtomicUsize,
    client: ClientConnection,
}

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is in use.
    Keep,
    /// Nobody asked for anything in a while: close it in good order.
    Idle,
    /// The peer does not take its answers, or its goodbye.
    Stalled,
}

impl Activity {
    pub(super) fn new(client: ClientConnection) -> Self {
        Self {
            opened: Instant::now(),
            in_flight: AtomicUsize::new(0),
            last_ms: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            pressed: AtomicUsize::new(0),
            client,
        }
    }

    pub(super) fn client(&self) -> &ClientConnection {
        &self.client
    }

    pub(super) fn took(&self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many bytes the peer took.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// One response more, or one less, has more to give than the peer takes.
    pub(super) fn press(&self, more: bool) {
        if more {
            self.pressed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.pressed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether the peer holds things up.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed) > 0
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.progress();
    }

    pub(super) fn progress(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.progress();
    }

    pub(super) fn judge(&self) -> Judgement {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        let quiet = self.opened.elapsed().saturating_sub(last);
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            if quiet > STALL { Judgement::Stalled } else { Judgement::Keep }
        } else if quiet > IDLE + STALL {
            Judgement::Stalled
        } else if quiet > IDLE {
            Judgement::Idle
        } else {
            Judgement::Keep
        }
    }
}
