//! Which connections have something to say.

use std::mem;
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use quinn_proto::ConnectionHandle;

/// Connections that want to speak, each at most once, and the driver that is to let them.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    listed: Mutex<Vec<ConnectionHandle>>,
    driver: AtomicWaker,
}

impl Agenda {
    /// Says who is woken when somebody is put down. Comes before each [`Self::take`].
    pub(super) fn register(&self, driver: &Waker) {
        self.driver.register(driver);
    }

    /// Puts a connection down, and wakes the driver for the first one.
    pub(super) fn add(&self, connection: ConnectionHandle) {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.push(connection);
        let is_first = listed.len() == 1;
        drop(listed);
        if is_first {
            self.driver.wake();
        }
    }

    /// Takes all that were put down, in their order, and leaves `room` for others.
    pub(super) fn take(&self, room: &mut Vec<ConnectionHandle>) {
        mem::swap(&mut *self.listed.lock().unwrap_or_else(PoisonError::into_inner), room);
    }
}
