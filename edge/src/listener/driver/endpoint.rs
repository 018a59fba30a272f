//! One endpoint: what came in over one socket and is answered there.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{
    ConnectionError, ConnectionHandle, EndpointConfig, Incoming, ServerConfig, Transmit, VarInt,
};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::agenda::Agenda;
use super::connection::Connection;
use super::link::Link;
use super::task::{Driver, datagrams};
use crate::listener::shared_port::EndpointSocket;

/// What an endpoint's driver and its users share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) socket: EndpointSocket,
    pub(super) agenda: Arc<Agenda>,
    pub(super) inner: Mutex<Inner>,
    /// Who asks to be let in, in their order. The state machine bounds them.
    pub(super) incoming: Mutex<VecDeque<Incoming>>,
    pub(super) came: Notify,
    /// Rung when the last connection is gone.
    pub(super) emptied: Notify,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) quic: quinn_proto::Endpoint,
    /// By their handles, which are given out anew when they are free.
    pub(super) links: Vec<Option<Arc<Link>>>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, VecDeque<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what an endpoint says of itself, if there is room: whoever misses it asks again.
    pub(super) fn respond(&self, transmit: &Transmit, bytes: &[u8]) {
        let _ = self.socket.try_send(&datagrams(transmit, bytes));
    }
}

impl Inner {
    pub(super) fn link(&self, handle: ConnectionHandle) -> Option<&Arc<Link>> {
        self.links.get(handle.0)?.as_ref()
    }

    fn is_empty(&self) -> bool {
        self.links.iter().all(Option::is_none)
    }
}

/// An endpoint. Dropped, it ends: its connections are told nothing.
#[derive(Debug)]
pub(in crate::listener) struct Endpoint {
    shared: Arc<Shared>,
    driver: AbortHandle,
}

impl Endpoint {
    /// Begins to drive what comes in over the socket.
    pub(in crate::listener) fn new(
        config: EndpointConfig,
        server: ServerConfig,
        socket: EndpointSocket,
    ) -> Self {
        let may_probe = !socket.may_fragment();
        let quic = quinn_proto::Endpoint::new(Arc::new(config), Some(Arc::new(server)), may_probe, None);
        let shared = Arc::new(Shared {
            socket,
            agenda: Arc::default(),
            inner: Mutex::new(Inner { quic, links: Vec::new() }),
            incoming: Mutex::default(),
            came: Notify::new(),
            emptied: Notify::new(),
        });
        let driver = tokio::spawn(Driver::new(shared.clone()).run()).abort_handle();
        Self { shared, driver }
    }

    /// Who asks to be let in next. A dropped future loses nobody.
    pub(in crate::listener) async fn next(&self) -> Incoming {
        loop {
            if let Some(incoming) = self.shared.waiting().pop_front() {
                return incoming;
            }
            self.shared.came.notified().await;
        }
    }

    /// Lets a client in, with settings of its own where there are any.
    pub(in crate::listener) fn accept(
        &self,
        incoming: Incoming,
        settings: Option<Arc<ServerConfig>>,
    ) -> Result<Connection, ConnectionError> {
        let mut response = Vec::new();
        let mut inner = self.shared.lock();
        let (handle, quic) = match inner.quic.accept(incoming, Instant::now(), &mut response, settings) {
            Ok(begun) => begun,
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.shared.respond(&transmit, &response);
                }
                return Err(error.cause);
            }
        };
        let link = Link::new(handle, quic, self.shared.agenda.clone());
        if inner.links.len() <= handle.0 {
            inner.links.resize(handle.0 + 1, None);
        }
        inner.links[handle.0] = Some(link.clone());
        drop(inner);
        // It has an answer to the first packets.
        link.list(&mut link.lock());
        Ok(Connection::new(link))
    }

    /// Turns a client away.
    pub(in crate::listener) fn refuse(&self, incoming: Incoming) {
        let mut response = Vec::new();
        let transmit = self.shared.lock().quic.refuse(incoming, &mut response);
        self.shared.respond(&transmit, &response);
    }

    /// Has a client show that it is where it says it is; one that has done so is turned away.
    pub(in crate::listener) fn retry(&self, incoming: Incoming) {
        let mut response = Vec::new();
        let retried = self.shared.lock().quic.retry(incoming, &mut response);
        match retried {
            Ok(transmit) => self.shared.respond(&transmit, &response),
            Err(error) => self.refuse(error.into_incoming()),
        }
    }

    /// Says nothing to a client.
    pub(in crate::listener) fn ignore(&self, incoming: Incoming) {
        self.shared.lock().quic.ignore(incoming);
    }

    /// Closes all connections, and waits until the peers have had time to hear of it.
    pub(in crate::listener) async fn close(&self, code: VarInt) {
        let links: Vec<_> = self.shared.lock().links.iter().flatten().cloned().collect();
        links.iter().for_each(|link| link.close(code, Bytes::new()));
        loop {
            let mut emptied = pin!(self.shared.emptied.notified());
            // Before the look, so that no word is missed.
            emptied.as_mut().enable();
            if self.shared.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.driver.abort();
        let waiting = std::mem::take(&mut *self.shared.waiting());
        waiting.into_iter().for_each(|incoming| self.ignore(incoming));
    }
}
