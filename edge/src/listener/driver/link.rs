//! What the driver of a connection and its users share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionError, ConnectionHandle, Dir, Event, StreamEvent, VarInt};
use tokio::sync::Notify;

use super::agenda::Agenda;
use super::waiters::Waiters;

/// One connection, between its driver and its users.
#[derive(Debug)]
pub(super) struct Link {
    state: Mutex<State>,
    agenda: Arc<Agenda>,
    /// Rung when the handshake is over, in whatever way.
    pub(super) shaken: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) quic: Connection,
    handle: ConnectionHandle,
    /// It is on the agenda, or on its way from there.
    pub(super) is_listed: bool,
    pub(super) is_established: bool,
    /// Why it is over.
    pub(super) lost: Option<ConnectionError>,
    pub(super) readers: Waiters,
    pub(super) writers: Waiters,
    /// Who waits until all was acknowledged, or is not wanted any more.
    pub(super) finishers: Waiters,
    /// Who waits for a stream of the peer's, by direction.
    pub(super) acceptors: [Option<Waker>; 2],
    /// Who waits for leave to open a stream that is not for answers.
    pub(super) opener: Option<Waker>,
}

impl Link {
    pub(super) fn new(handle: ConnectionHandle, quic: Connection, agenda: Arc<Agenda>) -> Arc<Self> {
        let state = State {
            quic,
            handle,
            is_listed: false,
            is_established: false,
            lost: None,
            readers: Waiters::default(),
            writers: Waiters::default(),
            finishers: Waiters::default(),
            acceptors: [None, None],
            opener: None,
        };
        Arc::new(Self { state: Mutex::new(state), agenda, shaken: Notify::new() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something to say.
    pub(super) fn list(&self, state: &mut State) {
        if !state.is_listed {
            state.is_listed = true;
            self.agenda.add(state.handle);
        }
    }

    /// Closes it from this side, unless it is over.
    pub(super) fn close(&self, code: VarInt, reason: Bytes) {
        let mut state = self.lock();
        if state.lost.is_none() {
            state.quic.close(Instant::now(), code, reason);
            self.lose(&mut state, ConnectionError::LocallyClosed);
            self.list(&mut state);
        }
    }

    /// Tells its users what has become known.
    pub(super) fn tell(&self, state: &mut State) {
        while let Some(event) = state.quic.poll() {
            match event {
                Event::Connected => {
                    state.is_established = true;
                    self.shaken.notify_waiters();
                }
                Event::ConnectionLost { reason } => self.lose(state, reason),
                Event::Stream(StreamEvent::Opened { dir }) => {
                    wake(&mut state.acceptors[dir as usize]);
                }
                Event::Stream(StreamEvent::Readable { id }) => state.readers.wake(id),
                Event::Stream(StreamEvent::Writable { id }) => state.writers.wake(id),
                Event::Stream(StreamEvent::Finished { id }) => state.finishers.wake(id),
                Event::Stream(StreamEvent::Stopped { id, .. }) => {
                    state.finishers.wake(id);
                    state.writers.wake(id);
                }
                Event::Stream(StreamEvent::Available { dir: Dir::Uni }) => wake(&mut state.opener),
                Event::Stream(StreamEvent::Available { dir: Dir::Bi })
                | Event::HandshakeDataReady
                | Event::DatagramReceived
                | Event::DatagramsUnblocked => {}
            }
        }
    }

    /// It is over: nobody waits any more.
    fn lose(&self, state: &mut State, reason: ConnectionError) {
        state.lost.get_or_insert(reason);
        self.shaken.notify_waiters();
        state.acceptors.iter_mut().for_each(wake);
        wake(&mut state.opener);
        state.readers.wake_all();
        state.writers.wake_all();
        state.finishers.wake_all();
    }
}

fn wake(waiter: &mut Option<Waker>) {
    if let Some(waker) = waiter.take() {
        waker.wake();
    }
}
