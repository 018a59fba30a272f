//! HTTP/3 over QUIC.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context as TaskContext;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Shared;
use h3::error::Code;
use h3::server::RequestResolver;
use http::{HeaderMap, HeaderValue, header};
use quinn::{Connecting, Incoming, ServerConfig, VarInt, ZeroRttAccepted};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Context;
use super::endpoint::Listener;
use super::h3_streams::{Connection, LastAccepted};
use super::path_stats::PathWatch;
use super::peer::Peer;
use super::priority::Urgency;
use super::send_half::SendHalf;
use super::turns::Turn;
use crate::clients::{Address, ClientConnection, Excess};
use crate::limits::{
    CHUNK_BYTES, HANDSHAKE_DEADLINE, HANDSHAKES_BEFORE_RETRY, HEADER_DEADLINE, HEADER_SECTION_BYTES, STALL,
    STREAMS_PER_CONNECTION,
};
use crate::metrics::Transport;

/// Between the first GOAWAY and the last: at least this, or two round trips, for requests already on their way.
const GOAWAY_SETTLES: Duration = Duration::from_millis(50);

/// Fields that make an HTTP/3 request malformed (RFC 9114 §4.2).
const CONNECTION_SPECIFIC: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// How long closing may take to reach the peers at the very end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// How long a viewer may take to end its request after it has the answer.
const REQUEST_END: Duration = Duration::from_secs(1);

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
    listener.endpoint.close(VarInt::from_u64(Code::H3_NO_ERROR.value()).unwrap_or_default(), b"");
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
        Err(Excess::Handshakes) if !proven && incoming.may_retry() => {
            let _ = incoming.retry();
            return;
        }
        Err(excess @ Excess::Connections) => {
            context.metrics.excess(excess);
            return incoming.refuse();
        }
        // Told nothing, it comes again later; told so, it would come again at once.
        Err(excess @ (Excess::Handshakes | Excess::Requests | Excess::Resets | Excess::Slow)) => {
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
    context: &Arc<Context>,
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
    let state = Arc::new(Peer::new(client, &context.clients.limits()));
    let established = async {
        // What it says means nothing on this side.
        let in_time = timeout(HANDSHAKE_DEADLINE, shaken.clone()).await.is_ok();
        drop(handshake);
        match quic.close_reason() {
            Some(reason) => return failed(&reason),
            None if !in_time => return failed(&"it takes too long"),
            None => {}
        }
        let _open = context.metrics.connection(Transport::Quic);
        PathWatch::new(quic.clone(), context.metrics.clone()).run().await
    };
    let watched = async {
        let excess = state.watch().await;
        // Here, because the HTTP/3 layer gives a reason of its own when it is dropped.
        quic.close(VarInt::from_u64(Code::H3_EXCESSIVE_LOAD.value()).unwrap_or_default(), b"");
        excess
    };
    let ended = tokio::select! {
        biased;
        () = established => return,
        ended = requests(quic.clone(), shaken.clone(), state.clone(), context.clone()) => ended,
        excess = watched => return context.metrics.excess(excess),
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "HTTP/3 connection ended");
    }
}

type H3Connection = h3::server::Connection<Connection, Bytes>;
type H3Error = h3::error::ConnectionError;

/// Answers the requests of one connection; ends with the connection, or drained.
async fn requests(
    quic: quinn::Connection,
    shaken: Shared<ZeroRttAccepted>,
    peer: Arc<Peer>,
    context: Arc<Context>,
) -> Result<(), H3Error> {
    let last = LastAccepted::default();
    let mut builder = h3::server::builder();
    builder.max_field_section_size(HEADER_SECTION_BYTES.into()).send_grease(false);
    let building = builder.build(Connection::new(quic.clone(), last.clone()));
    // Boxed, as is what ends a connection: they are large, and otherwise kept room for while it lives.
    let mut connection: H3Connection = Box::pin(building).await?;
    let running = TaskTracker::new();
    running.close();

    let drain = context.drain.clone();
    // Who has just been let in hears of the drain as a request would, not by a handshake that fails.
    let drained = async {
        drain.cancelled().await;
        shaken.await;
    };
    let mut accept = Accept { quic: quic.clone(), last, running: &running, peer, context };
    if accept.until(&mut connection, drained).await? == Accepted::PeerIsDone {
        return Ok(());
    }
    // RFC 9114 §5.2: first announce, so that requests on their way are still taken, then say which was the last.
    Box::pin(connection.shutdown(STREAMS_PER_CONNECTION as usize)).await?;
    accept.until(&mut connection, sleep(GOAWAY_SETTLES.max(quic.rtt() * 2))).await?;
    // "Identifiers or higher were not processed": one above the last accepted.
    Box::pin(connection.shutdown(1)).await?;
    accept.until(&mut connection, running.wait()).await?;
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepted {
    /// The awaited event came first.
    Interrupted,
    /// The peer sent GOAWAY and has its answers.
    PeerIsDone,
}

struct Accept<'a> {
    quic: quinn::Connection,
    last: LastAccepted,
    running: &'a TaskTracker,
    peer: Arc<Peer>,
    context: Arc<Context>,
}

impl Accept<'_> {
    /// Starts a task per request until `event`.
    async fn until(
        &mut self,
        connection: &mut H3Connection,
        event: impl Future<Output = ()>,
    ) -> Result<Accepted, H3Error> {
        let mut event = std::pin::pin!(event);
        loop {
            let accepted = tokio::select! {
                accepted = connection.accept() => accepted?,
                () = &mut event => return Ok(Accepted::Interrupted),
            };
            let (Some(resolver), Some(half)) = (accepted, self.last.take()) else {
                return Ok(Accepted::PeerIsDone);
            };
            let context = self.context.clone();
            // Where it is now: connections move.
            let (peer, from) = (self.peer.clone(), self.quic.remote_address().ip());
            let answering = async move {
                tokio::select! {
                    () = request(resolver, half, from, &peer, &context) => {}
                    () = context.end.cancelled() => {}
                }
            };
            // Boxed, for tasks are moved about before and after they run, and this is a large one.
            self.running.spawn(self.context.tasks.track_future(Box::pin(answering)));
        }
    }
}

async fn request(
    resolver: RequestResolver<Connection, Bytes>,
    half: Arc<SendHalf>,
    from: IpAddr,
    peer: &Peer,
    context: &Context,
) {
    // The HTTP/3 layer itself answers what is malformed or too large.
    let (request, mut stream) = match timeout(HEADER_DEADLINE, resolver.resolve_request()).await {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(error)) => {
            tracing::debug!(%error, "request refused");
            peer.gave_up();
            // Too large a header section was answered with 431 just now, which still has to leave.
            half.finish();
            half.acknowledged().await;
            return;
        }
        Err(_) => return half.reset(Code::H3_REQUEST_INCOMPLETE.value()),
    };
    if is_malformed(request.headers()) {
        stream.stop_sending(Code::H3_MESSAGE_ERROR);
        return half.reset(Code::H3_MESSAGE_ERROR.value());
    }
    let (parts, ()) = request.into_parts();
    if let Some(urgency) = Urgency::of(&parts.headers) {
        half.set_urgency(urgency);
    }
    let mut entry = context.access_log.begin(&parts, from, context.protocol);
    let response = if !peer.may_ask() {
        context.metrics.excess(Excess::Requests);
        context.edge.too_many()
    } else if half.is_early() && !context.edge.takes_early(&parts) {
        context.edge.too_early()
    } else {
        context.edge.answer(&parts, from).await
    };
    if let Some(entry) = &mut entry {
        entry.answered(&response);
    }
    let (head, mut body) = response.into_parts();
    context.metrics.request(context.protocol, head.status, head.extensions.get().copied());
    let length = body.length();
    if length <= CHUNK_BYTES as u64 {
        half.set_small();
    }
    let mut revoked = std::pin::pin!(body.revoked());
    let content = async {
        stalls(half.begin(head.status, &head.headers, length)).await?;
        let mut turn = peer.turns.of(&half);
        let mut next = |cx: &mut TaskContext<'_>, turn: &mut Turn<'_>| {
            let polled = body.poll_next(cx);
            if polled.is_pending() {
                turn.rest();
            }
            polled
        };
        while let Some(chunk) = poll_fn(|cx| next(cx, &mut turn)).await {
            let chunk = chunk.map_err(|_| Unsent)?;
            let bytes = chunk.len();
            {
                turn.take().await;
                let _writing = peer.writing();
                stalls(half.write_content(chunk)).await?;
            }
            peer.took(bytes);
            if let Some(entry) = &mut entry {
                entry.took(bytes);
            }
            context.metrics.sent(context.protocol, bytes);
        }
        Ok(())
    };
    let content = tokio::select! {
        content = content => content,
        // A viewer may leave while there is nothing to send yet. Before the end there is no other news on this side.
        () = half.acknowledged() => {
            peer.gave_up();
            Err(Unsent)
        }
        () = &mut revoked => Err(Unsent),
    };
    let sent = async {
        content?;
        half.finish();
        tokio::select! {
            acknowledged = timeout(STALL, half.acknowledged()) => acknowledged.map_err(|_| Unsent),
            // QUIC still has some of it.
            () = &mut revoked => Err(Unsent),
        }
    };
    let sent = sent.await;
    if let Err(Unsent) = sent {
        context.metrics.aborted(context.protocol);
        half.reset(Code::H3_REQUEST_CANCELLED.value());
        return;
    }
    if let Some(entry) = &mut entry {
        entry.complete();
    }
    drop(entry);
    // A viewer may end its side a moment after it has the answer, and some clients take it for a failure when told
    // not to bother (RFC 9114 §4.1). So hear it out, briefly; a body is not wanted and stays in its window.
    let _ = timeout(REQUEST_END, stream.recv_data()).await;
}

/// What the HTTP/3 layer lets pass and RFC 9114 §4.1.2 and §4.2 do not.
fn is_malformed(headers: &HeaderMap) -> bool {
    let is_number = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.parse::<u64>().is_ok());
    CONNECTION_SPECIFIC.iter().any(|name| headers.contains_key(*name))
        || headers.get_all(header::TE).iter().any(|value| value != "trailers")
        || !headers.get_all(header::CONTENT_LENGTH).iter().all(is_number)
}

/// The viewer went away or took too little for too long, or the blob could not be completed or was taken down.
struct Unsent;

async fn stalls<T, E>(write: impl Future<Output = Result<T, E>>) -> Result<T, Unsent> {
    match timeout(STALL, write).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) | Err(_) => Err(Unsent),
    }
}
