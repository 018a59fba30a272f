//! QUIC connections, from their first packet until they are served.

use std::fmt::Display;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use quinn::{Connecting, Incoming, ServerConfig};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Context;
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
            incoming = listener.endpoint.accept() => incoming,
            () = context.last_call.cancelled() => None,
        };
        match incoming {
            // When a newer process has taken over, this is one that had begun before, and nobody else could answer it.
            Some(incoming) if context.drain.is_cancelled() && !context.succeeded.is_cancelled() => {
                incoming.refuse();
            }
            Some(incoming) => admit(incoming, &listener, &context),
            None => break,
        }
    }
    drop(door);
    context.end.cancelled().await;
    listener.endpoint.close(Code::NoError.into(), b"");
    // Past the deadline the peers find out by themselves.
    let _ = timeout(CLOSE_DEADLINE, listener.endpoint.wait_idle()).await;
}

fn admit(incoming: Incoming, listener: &Listener, context: &Arc<Context>) {
    let Ok(permit) = context.connections.clone().try_acquire_owned() else {
        context.metrics.refused_connection(Transport::Quic);
        incoming.refuse();
        return;
    };
    let proven = incoming.remote_address_validated();
    let address = if proven { Address::Proven } else { Address::Claimed };
    let client = match context.clients.connect(incoming.remote_address().ip(), address) {
        Ok(client) => client,
        // Forged, perhaps: whoever is really there can show it.
        Err(Excess::Handshakes | Excess::Connections) if !proven && incoming.may_retry() => {
            let _ = incoming.retry();
            return;
        }
        Err(excess @ Excess::Connections) => {
            context.metrics.excess(excess);
            return incoming.refuse();
        }
        // Told nothing, it comes again later; told so, it would come again at once.
        Err(
            excess @ (Excess::Handshakes | Excess::Holds | Excess::Requests | Excess::Resets | Excess::Slow),
        ) => {
            context.metrics.excess(excess);
            return incoming.ignore();
        }
    };
    let pressed = context.handshakes.load(Ordering::Relaxed) >= HANDSHAKES_BEFORE_RETRY;
    if pressed && !proven && incoming.may_retry() {
        // It may retry, so this cannot fail.
        let _ = incoming.retry();
        return;
    }
    let traced = context.traces.begin(incoming.remote_address()).and_then(|trace| listener.traced(trace));
    let handshake = Handshake::begin(context.handshakes.clone());
    let context = context.clone();
    context.tasks.clone().spawn(async move {
        let _permit = permit;
        tokio::select! {
            () = connection(incoming, traced, handshake, client, &context) => {}
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
    incoming: Incoming,
    traced: Option<Arc<ServerConfig>>,
    handshake: Handshake,
    client: ClientConnection,
    context: &Context,
) {
    let peer = incoming.remote_address();
    let failed = |error: &dyn Display| {
        context.metrics.handshake_failure(Transport::Quic);
        tracing::debug!(%peer, %error, "QUIC handshake failed");
    };
    let accepted = match traced {
        Some(config) => incoming.accept_with(config),
        None => incoming.accept(),
    };
    // At once, for there may be requests in the first packets.
    let (quic, shaken) = match accepted.map(Connecting::into_0rtt) {
        Ok(Ok((quic, shaken))) => (quic, shaken.shared()),
        // The connections of a server can always be begun with.
        Ok(Err(_)) => return failed(&"it cannot be begun with"),
        Err(error) => return failed(&error),
    };
    let state = Peer::new(client, &context.clients.limits());
    let established = async {
        // What it says means nothing on this side.
        let in_time = timeout(HANDSHAKE_DEADLINE, shaken.clone()).await.is_ok();
        drop(handshake);
        match quic.close_reason() {
            Some(reason) => return failed(&reason),
            None if !in_time => return failed(&"it takes too long"),
            None => {}
        }
        if let Err(excess) = state.client.prove() {
            context.metrics.excess(excess);
            return quic.close(Code::ExcessiveLoad.into(), b"");
        }
        let _open = context.metrics.connection(Transport::Quic);
        PathWatch::new(quic.clone(), context.metrics.clone()).run().await
    };
    let watched = async {
        context.metrics.excess(state.watch().await);
        quic.close(Code::ExcessiveLoad.into(), b"");
        // What is under way finds out by itself.
        pending().await
    };
    let drain = async {
        context.drain.cancelled().await;
        // Who has just been let in hears of the drain as a request would, not by a handshake that fails.
        shaken.clone().await
    };
    tokio::select! {
        biased;
        () = established => {}
        () = watched => {}
        () = http3::connection::serve(&quic, &state, context, drain) => {}
    }
}
