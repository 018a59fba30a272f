//! Whether the other end of an HTTP/3 connection takes its answers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::bucket::Bucket;
use crate::clients::{ClientConnection, ClientLimits, Excess};
use crate::pace::Pace;

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What goes on on one connection, noted by its requests.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) client: ClientConnection,
    limits: ClientLimits,
    taken: AtomicU64,
    /// Responses that wait for the peer to take something.
    writing: AtomicUsize,
    resets: Mutex<Bucket>,
    too_many_resets: Notify,
    shut_out: Notify,
}

impl Peer {
    pub(super) fn new(client: ClientConnection, limits: &ClientLimits) -> Self {
        Self {
            client,
            limits: *limits,
            taken: AtomicU64::new(0),
            writing: AtomicUsize::new(0),
            resets: Mutex::new(Bucket::new(limits.resets_per_second, Instant::now())),
            too_many_resets: Notify::new(),
            shut_out: Notify::new(),
        }
    }

    /// The peer took so many bytes.
    pub(super) fn took(&self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A response waits for the peer for as long as the guard lives.
    pub(super) fn writing(&self) -> Writing<'_> {
        self.writing.fetch_add(1, Ordering::Relaxed);
        Writing(self)
    }

    /// The peer does not want the answer to what it asked.
    pub(super) fn gave_up(&self) {
        if !self.resets.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            self.too_many_resets.notify_one();
        }
    }

    /// Whether the peer may ask for one more thing now. Who goes on although it is told so is not told again.
    pub(super) fn may_ask(&self) -> bool {
        let may = self.client.may_ask();
        if !may && self.client.is_shut_out() {
            self.shut_out.notify_one();
        }
        may
    }

    /// Completes when the connection should be ended.
    pub(super) async fn watch(&self) -> Excess {
        let mut pace = Pace::new(&self.limits);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.too_many_resets.notified() => return Excess::Resets,
                () = self.shut_out.notified() => return Excess::Requests,
                _ = look.tick() => {}
            }
            let pressed = self.writing.load(Ordering::Relaxed) > 0;
            if pace.is_too_slow(Instant::now(), self.taken.load(Ordering::Relaxed), pressed) {
                return Excess::Slow;
            }
        }
    }
}

/// One response that waits for its peer.
pub(super) struct Writing<'a>(&'a Peer);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.fetch_sub(1, Ordering::Relaxed);
    }
}
