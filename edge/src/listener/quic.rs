//! QUIC connections, from their first packet until they are served.

use std::fmt::Display;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn_proto::{ConnectionError, Incoming};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Context;
use super::driver::Connection;
use super::endpoint::Listener;
use super::http3::{self, Code};
use super::path_stats::PathWatch;
use super::peer::Peer;
use crate::clients::{Address, ClientConnection, Excess};
use crate::limits::{HANDSHAKE_DEADLINE, HANDSHAKES_BEFORE_RETRY};
use crate::metrics::Transport;

/// How long closing may take to reach the peers at the very end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Takes connections until the drain, refuses new ones until the end. Lets go of the `door` after the last call.
pub(crate) async fn serve(listener: Listener, context: Arc<Context>, door: TaskTrackerToken) {
    loop {
        let incoming = tokio::select! {
            biased;
            () = context.end.cancelled() => None,
            // Who stands here before the last call is let in.
            incoming = listener.endpoint.next() => Some(incoming),
            () = context.last_call.cancelled() => None,
        };
        match incoming {
            // When a newer process has taken over, this is one that had begun before, and nobody else could answer it.
            Some(incoming) if context.drain.is_cancelled() && !context.succeeded.is_cancelled() => {
                listener.endpoint.refuse(incoming);
            }
            Some(incoming) => {
                admit(incoming, &listener, &context);
                // A handshake's beginning takes a while: others first, where many come at once.
                yield_now().await;
            }
            None => break,
        }
    }
    drop(door);
    context.end.cancelled().await;
    // Past the deadline the peers find out by themselves.
    let _ = timeout(CLOSE_DEADLINE, listener.endpoint.close(Code::NoError.into())).await;
}

fn admit(incoming: Incoming, listener: &Listener, context: &Arc<Context>) {
    let Ok(permit) = context.connections.clone().try_acquire_owned() else {
        context.metrics.refused_connection(Transport::Quic);
        return listener.endpoint.refuse(incoming);
    };
    let proven = incoming.remote_address_validated();
    let address = if proven { Address::Proven } else { Address::Claimed };
    let client = match context.clients.connect(incoming.remote_address().ip(), address) {
        Ok(client) => client,
        // Forged, perhaps: whoever is really there can show it.
        Err(Excess::Handshakes | Excess::Connections) if !proven && incoming.may_retry() => {
            return listener.endpoint.retry(incoming);
        }
        Err(excess @ Excess::Connections) => {
            context.metrics.excess(excess);
            return listener.endpoint.refuse(incoming);
        }
        // Told nothing, it comes again later; told so, it would come again at once.
        Err(
            excess @ (Excess::Handshakes | Excess::Holds | Excess::Requests | Excess::Resets | Excess::Slow),
        ) => {
            context.metrics.excess(excess);
            return listener.endpoint.ignore(incoming);
        }
    };
    let pressed = context.handshakes.load(Ordering::Relaxed) >= HANDSHAKES_BEFORE_RETRY;
    if pressed && !proven && incoming.may_retry() {
        return listener.endpoint.retry(incoming);
    }
    let peer = incoming.remote_address();
    let traced = context.traces.begin(peer).and_then(|trace| listener.traced(trace));
    // There may be requests in the first packets.
    let begun = listener.endpoint.accept(incoming, traced);
    let handshake = Handshake::begin(context.handshakes.clone());
    let context = context.clone();
    context.tasks.clone().spawn(async move {
        let _permit = permit;
        tokio::select! {
            () = connection(begun, peer, handshake, client, &context) => {}
            () = context.end.cancelled() => {}
        }
    });
}

/// One handshake in progress.
struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    fn begin(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(
    begun: Result<Connection, ConnectionError>,
    peer: SocketAddr,
    handshake: Handshake,
    client: ClientConnection,
    context: &Context,
) {
    let failed = |error: &dyn Display| {
        context.metrics.handshake_failure(Transport::Quic);
        tracing::debug!(%peer, %error, "QUIC handshake failed");
    };
    let quic = match begun {
        Ok(quic) => quic,
        Err(error) => return failed(&error),
    };
    let state = Peer::new(client, &context.clients.limits());
    let established = async {
        let in_time = timeout(HANDSHAKE_DEADLINE, quic.shaken()).await.is_ok();
        drop(handshake);
        match quic.close_reason() {
            Some(reason) => return failed(&reason),
            None if !in_time => return failed(&"it takes too long"),
            None => {}
        }
        if let Err(excess) = state.client.prove() {
            context.metrics.excess(excess);
            return quic.close(Code::ExcessiveLoad.into());
        }
        let _open = context.metrics.connection(Transport::Quic);
        PathWatch::new(&quic, context.metrics.clone()).run().await
    };
    let watched = async {
        context.metrics.excess(state.watch().await);
        quic.close(Code::ExcessiveLoad.into());
        // What is under way finds out by itself.
        pending().await
    };
    let drain = async {
        context.drain.cancelled().await;
        // Who has just been let in hears of the drain as a request would, not by a handshake that fails.
        quic.shaken().await;
    };
    tokio::select! {
        biased;
        () = established => {}
        () = watched => {}
        () = http3::connection::serve(&quic, &state, context, drain) => {}
    }
}
